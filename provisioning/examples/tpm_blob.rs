//! Makes an activation blob for a TPM: `tpm_blob EK SRK KEY outer|inner [NUMBER]`, the first three in base64; prints the
//! blob in base64. For tests with a real TPM: its randomness comes from NUMBER, so nothing it makes is secret.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use unicity_identity::{Entropy, SharedAccessKey};
use unicity_provisioning::tpm::{EndorsementKey, OuterWrapper, StorageRootKey, activation_blob};

fn main() -> ExitCode {
    match blob(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn blob(args: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    let [ek, srk, key, outer, rest @ ..] = args else {
        return Err("usage: tpm_blob EK SRK KEY outer|inner [NUMBER]".into());
    };
    let (ek, srk) = (EndorsementKey::from_base64(ek)?, StorageRootKey::from_base64(srk)?);
    eprintln!("{ek:?}, fingerprint {}\n{srk:?}", ek.fingerprint());
    let key = SharedAccessKey::from_base64(key)?;
    let outer = match outer.as_str() {
        "outer" => OuterWrapper::ToStorageRoot,
        "inner" => OuterWrapper::None,
        other => return Err(format!("{other}: outer or inner").into()),
    };
    let number: u8 = rest.first().map_or(Ok(0), |text| text.parse())?;
    let blob = activation_blob(&ek, &srk, &key, outer, &mut Entropy::from_seed([number; 32]));
    Ok(STANDARD.encode(blob.to_bytes()))
}
