//! `unicity dev-cert`: a device's certificate under a test factory of its own.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use unicity_identity::RegistrationId;

use super::{Global, output};
use crate::clock;
use crate::devcert::{Algorithm, Request, make};
use crate::error::Outcome;

#[derive(Debug, Args)]
pub(crate) struct DevCertArgs {
    /// The device; its certificate's common name.
    #[arg(long, value_name = "ID")]
    registration_id: RegistrationId,
    /// Folder for device.pem, device-chain.pem and device.key.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of the factory, root.pem, intermediate.pem and their keys: made if missing, else shared; --out if not given.
    #[arg(long, value_name = "DIR")]
    ca_dir: Option<PathBuf>,
    /// Kind of the keys that are made; keys that are there are used as they are.
    #[arg(long, value_enum, default_value = "p256")]
    algorithm: Algorithm,
    /// Intermediates between the root and the device.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    depth: u8,
    /// How long the device's certificate lives.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// A new certificate over the key that is there.
    #[arg(long)]
    renew: bool,
}

pub(crate) fn run(global: &Global, args: &DevCertArgs) -> Outcome {
    let made = make(
        &Request {
            registration_id: &args.registration_id,
            out: &args.out,
            factory: args.ca_dir.as_ref().unwrap_or(&args.out),
            algorithm: args.algorithm,
            depth: usize::from(args.depth),
            days: args.days,
            renew: args.renew,
        },
        clock::now(),
    )?;
    if global.json {
        return output::json(&json!({
            "registrationId": args.registration_id,
            "certificate": made.certificate,
            "chain": made.chain,
            "key": made.key,
            "issuer": made.issuer,
            "issuerKey": made.issuer_key,
            "root": made.root,
        }));
    }
    eprintln!("made a certificate for {}, for tests only: its factory's keys lie beside it", args.registration_id);
    for (name, path) in [
        ("certificate", &made.certificate),
        ("chain", &made.chain),
        ("key", &made.key),
        ("issuer", &made.issuer),
        ("root", &made.root),
    ] {
        output::line(&format!("{name:12} {}", path.display()))?;
    }
    let option = if args.depth == 0 { "ca" } else { "intermediate" };
    eprintln!(
        "\nnext, this device alone:   unicity enroll add --registration-id {} --x509 {}",
        args.registration_id,
        made.certificate.display()
    );
    eprintln!(
        "or all that its issuer signs: unicity enroll add-group --group-id ID --{option} {}",
        made.issuer.display()
    );
    Ok(())
}
