//! What `init` made once and every start needs: the id scope, the host names, and two sealed secrets.

use std::path::Path;
use std::sync::Arc;

use ring::hmac;
use serde::{Deserialize, Serialize};
use unicity_identity::{IdScope, MasterKey, Sealed, SharedAccessKey, Vault};
use zeroize::Zeroizing;

use crate::clock;
use crate::datadir::{DataDir, write_private};
use crate::error::{CommandError, Context as _, Outcome};

const PURPOSE_FINGERPRINT: &str = "fingerprint key 1";
const PURPOSE_SERVICE: &str = "service secret 1";

/// The stored form (`instance.json`). The secrets are under the master key, so a copy of it alone opens nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    id_scope: IdScope,
    hostnames: Vec<String>,
    fingerprint_key: String,
    service_secret: String,
}

/// An instance with its secrets opened.
pub(crate) struct Instance {
    /// The id scope that devices name.
    pub(crate) id_scope: IdScope,
    /// The host names given at `init`; empty if none were.
    pub(crate) hostnames: Vec<String>,
    /// What opens and names keys.
    pub(crate) vault: Arc<Vault>,
    service_secret: Zeroizing<Vec<u8>>,
    stored: Stored,
}

/// Derives the keys of service policies, so that nothing has to be stored for them but a number.
pub(crate) struct ServiceKeys(Zeroizing<Vec<u8>>);

impl ServiceKeys {
    /// The primary and the secondary key of a policy. `audience` is `dps` or `hub/NAME`.
    ///
    /// The secondary key of a generation is the primary one of the generation before. Generation 0 has none before, and has the
    /// keys that every policy had before there were generations.
    pub(crate) fn pair(&self, audience: &str, policy: &str, generation: u64) -> (SharedAccessKey, SharedAccessKey) {
        let primary = |generation| self.derive(audience, policy, "primary", generation);
        let secondary = match generation.checked_sub(1) {
            Some(before) => primary(before),
            None => self.derive(audience, policy, "secondary", 0),
        };
        (primary(generation), secondary)
    }

    fn derive(&self, audience: &str, policy: &str, which: &str, generation: u64) -> SharedAccessKey {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut text = format!("service key 1\n{audience}\n{policy}\n{which}");
        if generation > 0 {
            text.push_str(&format!("\n{generation}"));
        }
        let tag = hmac::sign(&key, text.as_bytes());
        SharedAccessKey::from_bytes(tag.as_ref().to_vec()).expect("a SHA-256 tag has 32 bytes, which a key may have")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}

impl Instance {
    /// Makes a new instance and writes it, with a new master key unless one is there.
    pub(crate) fn create(data: &DataDir, hostnames: Vec<String>) -> Outcome<Self> {
        let master_path = data.pki("master.key");
        if !master_path.exists() {
            let key = Zeroizing::new(clock::random::<32>());
            write_private(&master_path, Zeroizing::new(hex(&*key)).as_bytes())?;
        }
        let master = read_master_key(&master_path)?;
        let id_scope = format!("0ne{}", hex(&clock::random::<4>()).to_uppercase());
        let seal = |purpose: &str| {
            let secret = Zeroizing::new(clock::random::<32>());
            hex(master.seal(purpose, &*secret, clock::random::<12>()).as_bytes())
        };
        let stored = Stored {
            format: 1,
            id_scope: id_scope.parse().context("the new id scope")?,
            hostnames,
            fingerprint_key: seal(PURPOSE_FINGERPRINT),
            service_secret: seal(PURPOSE_SERVICE),
        };
        let instance = Self::open_stored(stored, master, &data.instance())?;
        instance.write(data)?;
        Ok(instance)
    }

    /// Opens what `init` made.
    pub(crate) fn open(data: &DataDir) -> Outcome<Self> {
        if !data.is_initialized() {
            return Err(CommandError::new(format!("{} holds no Unicity data", data.path().display()))
                .hint(format!("make it with `unicity init --data {}`", data.path().display())));
        }
        let path = data.instance();
        let bytes = std::fs::read(&path).context(format!("cannot read {}", path.display()))?;
        let head: serde_json::Value =
            serde_json::from_slice(&bytes).context(format!("{} is damaged", path.display()))?;
        match head.get("format").and_then(serde_json::Value::as_u64) {
            Some(1) => {}
            other => {
                let found = other.map_or_else(|| "none".to_owned(), |format| format.to_string());
                return Err(CommandError::new(format!("{} has format {found}, this version reads 1", path.display()))
                    .hint("use the version that wrote it"));
            }
        }
        let stored: Stored = serde_json::from_slice(&bytes).context(format!("{} is damaged", path.display()))?;
        let master = read_master_key(&data.pki("master.key"))?;
        Self::open_stored(stored, master, &path)
    }

    fn open_stored(stored: Stored, master: MasterKey, path: &Path) -> Outcome<Self> {
        let open = |purpose: &str, text: &str| {
            let sealed = unhex(text)
                .map(Sealed::from_bytes)
                .ok_or_else(|| CommandError::new(format!("{}: {purpose} is damaged", path.display())))?;
            master.open(purpose, &sealed).map_err(|error| {
                CommandError::new(format!("{}: {purpose}: {error}", path.display()))
                    .hint("pki/master.key must be the one that this data was made with")
            })
        };
        let fingerprint = open(PURPOSE_FINGERPRINT, &stored.fingerprint_key)?;
        let service_secret = open(PURPOSE_SERVICE, &stored.service_secret)?;
        let mut fingerprint_key = Zeroizing::new([0; 32]);
        if fingerprint.len() != 32 {
            return Err(CommandError::new(format!("{}: the fingerprint key is damaged", path.display())));
        }
        fingerprint_key.copy_from_slice(&fingerprint);
        let vault = Arc::new(Vault::new(master, &fingerprint_key));
        Ok(Self {
            id_scope: stored.id_scope.clone(),
            hostnames: stored.hostnames.clone(),
            vault,
            service_secret,
            stored,
        })
    }

    fn write(&self, data: &DataDir) -> Outcome {
        let text = serde_json::to_vec_pretty(&self.stored).context("cannot describe the instance")?;
        write_private(&data.instance(), &text)
    }

    /// Replaces the remembered host names.
    pub(crate) fn set_hostnames(&mut self, data: &DataDir, hostnames: Vec<String>) -> Outcome {
        self.hostnames.clone_from(&hostnames);
        self.stored.hostnames = hostnames;
        self.write(data)
    }

    /// What the keys of service policies are derived from.
    pub(crate) fn service_keys(&self) -> ServiceKeys {
        ServiceKeys(self.service_secret.clone())
    }
}

fn read_master_key(path: &Path) -> Outcome<MasterKey> {
    let text = std::fs::read_to_string(path).context(format!("cannot read the master key {}", path.display()))?;
    let text = Zeroizing::new(text);
    let bytes = unhex(text.trim()).map(Zeroizing::new).filter(|bytes| bytes.len() == 32).ok_or_else(|| {
        CommandError::new(format!("{} does not hold 64 hexadecimal digits", path.display()))
            .hint("restore it from where you keep it safe; without it no stored key can be opened")
    })?;
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(&bytes);
    Ok(MasterKey::from_bytes(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches keys that change with a version of this program: no back end would get in any more.
    #[test]
    fn the_primary_key_becomes_the_secondary_one() {
        let keys = ServiceKeys(Zeroizing::new(vec![7; 32]));
        let tag =
            |text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), text.as_bytes()).as_ref().to_vec();
        for (generation, primary, secondary) in [
            (0, "primary", "secondary"),
            (1, "primary\n1", "primary"),
            (2, "primary\n2", "primary\n1"),
            (9, "primary\n9", "primary\n8"),
        ] {
            let (found, before) = keys.pair("hub/h", "p", generation);
            assert_eq!(found.expose_bytes(), tag(&format!("service key 1\nhub/h\np\n{primary}")), "{generation}");
            assert_eq!(before.expose_bytes(), tag(&format!("service key 1\nhub/h\np\n{secondary}")), "{generation}");
        }
    }

    #[test]
    fn opens_with_its_master_key_and_with_no_other() {
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDir::new(temporary.path());
        data.create().unwrap();
        let made = Instance::create(&data, vec!["h.example".into()]).unwrap();
        let opened = Instance::open(&data).unwrap();
        assert_eq!(made.id_scope, opened.id_scope);
        assert!(made.id_scope.as_str().starts_with("0ne") && made.id_scope.as_str().len() == 11);
        let primary = |instance: &Instance| instance.service_keys().pair("dps", "p", 0).0;
        assert_eq!(primary(&made).expose_bytes(), primary(&opened).expose_bytes());
        write_private(&data.pki("master.key"), hex(&[1; 32]).as_bytes()).unwrap();
        let error = Instance::open(&data).err().unwrap().to_string();
        assert!(error.contains("master key"), "{error}");
    }
}
