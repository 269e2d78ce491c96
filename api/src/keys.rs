//! Symmetric keys of a request's body on their way into the registry: sealed at once, generated where none are given.

use serde::Deserialize;
use unicity_identity::{Entropy, KeySlot, Refusal, SharedAccessKey, Vault};

use crate::failure::Failure;

/// `symmetricKey` of a body.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeysBody {
    #[serde(default)]
    primary_key: Option<String>,
    #[serde(default)]
    secondary_key: Option<String>,
}

/// What a body says of one key.
pub(crate) enum GivenKey {
    /// Nothing: keep the stored one, or make one if there is none.
    Absent,
    /// An empty text.
    Empty,
    /// A key.
    Key(SharedAccessKey),
}

impl KeysBody {
    /// Both keys, parsed. Every key of a request comes through here, so a weak one is refused whatever it is for.
    ///
    /// # Errors
    /// 400 with the member's name if one is not base64 of 16 to 64 bytes, or if anyone can look it up or guess it.
    pub(crate) fn given(self, vault: &Vault, path: &str) -> Result<[GivenKey; 2], Failure> {
        let parse = |name: &str, text: Option<String>| match text {
            None => Ok::<_, Failure>(GivenKey::Absent),
            Some(text) if text.trim().is_empty() => Ok(GivenKey::Empty),
            Some(text) => {
                let key = SharedAccessKey::from_base64(&text)
                    .map_err(|error| Failure::invalid(format!("{path}.{name}"), error.to_string()))?;
                match key.weakness() {
                    Some(weakness) => {
                        let why = format!("{path}.{name}: {weakness}");
                        Err(Refusal::WeakKey { fingerprint: vault.fingerprint(&key), why }.into())
                    }
                    None => Ok(GivenKey::Key(key)),
                }
            }
        };
        Ok([parse("primaryKey", self.primary_key)?, parse("secondaryKey", self.secondary_key)?])
    }
}

/// The two slots to store, and whether the request named keys at all. One key given alone leaves the other as it is stored, and a
/// new record gets a generated one.
pub(crate) fn slots(
    vault: &Vault,
    given: [GivenKey; 2],
    stored: Option<[&KeySlot; 2]>,
    entropy: &mut Entropy,
) -> ([KeySlot; 2], bool) {
    let keys_given = !matches!(given, [GivenKey::Absent, GivenKey::Absent]);
    let [first_stored, second_stored] = stored.map_or([None, None], |[first, second]| [Some(first), Some(second)]);
    let [first, second] = given;
    let mut slot = |given: GivenKey, stored: Option<&KeySlot>| match (given, stored) {
        (GivenKey::Key(key), _) => seal(vault, &key, entropy),
        (GivenKey::Absent, Some(stored)) => stored.clone(),
        (GivenKey::Absent | GivenKey::Empty, _) => {
            let key = generate(entropy);
            seal(vault, &key, entropy)
        }
    };
    ([slot(first, first_stored), slot(second, second_stored)], keys_given)
}

fn seal(vault: &Vault, key: &SharedAccessKey, entropy: &mut Entropy) -> KeySlot {
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&entropy.draw()[..12]);
    vault.store(key, nonce)
}

/// A key of 64 random bytes, as the real service makes them (`service-rest.md` 3.2).
fn generate(entropy: &mut Entropy) -> SharedAccessKey {
    let mut bytes = entropy.draw().to_vec();
    bytes.extend_from_slice(&entropy.draw());
    SharedAccessKey::from_bytes(bytes).expect("64 bytes are a key's allowed length")
}

/// `{"primaryKey", "secondaryKey"}` in the clear, for the few answers that show keys.
///
/// # Errors
/// 503 if a key does not open: the master key is another, or the store is damaged.
pub(crate) fn shown(vault: &Vault, [primary, secondary]: [&KeySlot; 2]) -> Result<serde_json::Value, Failure> {
    let open = |slot: &KeySlot| {
        vault
            .open(slot)
            .map(|key| key.expose_base64().to_string())
            .map_err(|error| Failure::from(unicity_identity::Refusal::Unavailable { why: format!("a key: {error}") }))
    };
    Ok(serde_json::json!({"primaryKey": open(primary)?, "secondaryKey": open(secondary)?}))
}
