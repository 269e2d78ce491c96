//! How a hub device proves itself, as a request's body gives it and as answers show it (`service-rest.md` 12.1).

use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::Entropy;
use unicity_identity::Vault;
use unicity_identity::device::{CertificateBinding, DeviceAuthentication};

use crate::api::Shared;
use crate::dps::word;
use crate::failure::Failure;
use crate::keys::{GivenKey, KeysBody, shown, slots};

/// `authentication` of a body.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthenticationBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    symmetric_key: Option<KeysBody>,
    x509_thumbprint: Option<ThumbprintsBody>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ThumbprintsBody {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sas,
    SelfSigned,
    Authority,
    None,
}

/// Reads how a device is to prove itself, and whether the body says so at all: if not, an update keeps what is stored.
///
/// # Errors
/// 400 with the member and what is wrong with it.
pub(super) fn read(
    shared: &Shared,
    body: Option<AuthenticationBody>,
    stored: Option<&DeviceAuthentication>,
    entropy: &mut Entropy,
) -> Result<(DeviceAuthentication, bool), Failure> {
    let AuthenticationBody { kind, symmetric_key, x509_thumbprint } = body.unwrap_or_default();
    let keys = symmetric_key.unwrap_or_default().given(shared.provisioning.vault(), "authentication.symmetricKey")?;
    let certificates = thumbprints(x509_thumbprint.unwrap_or_default(), stored)?;
    let kind = match kind.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => word(
            "authentication.type",
            text,
            &[
                ("sas", Kind::Sas),
                ("selfSigned", Kind::SelfSigned),
                ("certificateAuthority", Kind::Authority),
                ("none", Kind::None),
            ],
        )?,
        None if certificates.is_some() => Kind::SelfSigned,
        None => match (stored, &keys) {
            // A body that says nothing changes nothing.
            (Some(stored), [GivenKey::Absent, GivenKey::Absent]) => return Ok((stored.clone(), false)),
            _ => Kind::Sas,
        },
    };
    match (kind, certificates, stored) {
        (Kind::Sas, ..) => {
            let stored_slots = match stored {
                Some(DeviceAuthentication::Sas { primary, secondary }) => Some([primary, secondary]),
                _ => None,
            };
            let ([primary, secondary], given) = slots(shared.provisioning.vault(), keys, stored_slots, entropy);
            // Where another type is stored, there are no keys to keep: generated ones are new.
            let changes_type = stored.is_some() && stored_slots.is_none();
            Ok((DeviceAuthentication::Sas { primary, secondary }, given || changes_type))
        }
        (Kind::SelfSigned, Some(certificates), _) => Ok((certificates, true)),
        (Kind::SelfSigned, None, Some(stored @ DeviceAuthentication::Certificates { .. })) => {
            Ok((stored.clone(), false))
        }
        (Kind::SelfSigned, None, _) => Err(Failure::invalid(
            "authentication.x509Thumbprint.primaryThumbprint",
            "it is missing: the SHA-256 (64 hexadecimal digits) or SHA-1 (40) of the device's certificate".into(),
        )),
        (Kind::Authority, ..) => Ok((DeviceAuthentication::Authority, true)),
        (Kind::None, ..) => Err(Failure::invalid(
            "authentication.type",
            "none is not supported; sas, selfSigned and certificateAuthority are".into(),
        )),
    }
}

/// The certificates that a body names. A secondary one alone is the only one, and so the first.
fn thumbprints(
    body: ThumbprintsBody,
    stored: Option<&DeviceAuthentication>,
) -> Result<Option<DeviceAuthentication>, Failure> {
    let known = stored.map(DeviceAuthentication::certificates).unwrap_or_default();
    let read = |name: &str, text: Option<String>| {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        let thumbprint =
            thumbprint(&text).map_err(|why| Failure::invalid(format!("authentication.x509Thumbprint.{name}"), why))?;
        // The key that was seen with this certificate goes on to be known: clients send back what they were shown.
        let key = known.iter().find(|known| known.thumbprint == thumbprint).and_then(|known| known.key);
        Ok::<_, Failure>(Some(CertificateBinding { thumbprint, key }))
    };
    let primary = read("primaryThumbprint", body.primary_thumbprint)?;
    let secondary = read("secondaryThumbprint", body.secondary_thumbprint)?;
    Ok(match (primary, secondary) {
        (Some(primary), secondary) => Some(DeviceAuthentication::Certificates { primary, secondary }),
        (None, Some(only)) => Some(DeviceAuthentication::Certificates { primary: only, secondary: None }),
        (None, None) => None,
    })
}

/// 40 or 64 hexadecimal digits, in any case, with the `:` that tools put between them.
fn thumbprint(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|char| *char != ':' && !char.is_whitespace())
        .map(|char| char.to_digit(16).ok_or_else(|| format!("it has {char:?}, which is no hexadecimal digit")))
        .collect::<Result<_, _>>()?;
    if ![40, 64].contains(&digits.len()) {
        return Err(format!("it has {} digits; a SHA-1 has 40, a SHA-256 has 64", digits.len()));
    }
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

/// As answers show it; symmetric keys only if `vault` is there to open them.
///
/// # Errors
/// 503 if a key does not open.
pub(super) fn show(authentication: &DeviceAuthentication, vault: Option<&Vault>) -> Result<Value, Failure> {
    let keys = match (authentication, vault) {
        (DeviceAuthentication::Sas { primary, secondary }, Some(vault)) => shown(vault, [primary, secondary])?,
        _ => json!({"primaryKey": null, "secondaryKey": null}),
    };
    Ok(json!({
        "symmetricKey": keys,
        "x509Thumbprint": show_thumbprints(authentication),
        "type": authentication.kind(),
    }))
}

/// The thumbprints of the certificates; `null` where there is none.
pub(super) fn show_thumbprints(authentication: &DeviceAuthentication) -> Value {
    let thumbprint = |binding: Option<&CertificateBinding>| {
        binding.map(|binding| binding.thumbprint.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
    };
    let [primary, secondary] = match authentication {
        DeviceAuthentication::Certificates { primary, secondary } => {
            [thumbprint(Some(primary)), thumbprint(secondary.as_ref())]
        }
        _ => [None, None],
    };
    json!({"primaryThumbprint": primary, "secondaryThumbprint": secondary})
}

/// Whether a device proves itself by the same things as before. A key that was sealed anew is the same key.
pub(super) fn is_same(before: &DeviceAuthentication, after: &DeviceAuthentication) -> bool {
    let keys = |of: &DeviceAuthentication| of.slots().iter().map(|slot| slot.fingerprint).collect::<Vec<_>>();
    let certificates =
        |of: &DeviceAuthentication| of.certificates().iter().map(|it| it.thumbprint.clone()).collect::<Vec<_>>();
    before.kind() == after.kind() && keys(before) == keys(after) && certificates(before) == certificates(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprints_in_the_spellings_of_tools() {
        let sha1 = vec![0xAB; 20];
        for text in ["ab".repeat(20), "AB".repeat(20), ["Ab"; 20].join(":"), format!(" {} ", "aB".repeat(20))] {
            assert_eq!(thumbprint(&text).as_ref(), Ok(&sha1), "{text}");
        }
        assert_eq!(thumbprint(&"00ff".repeat(16)).unwrap().len(), 32);
        for text in ["", "ab", &"ab".repeat(21), &"gg".repeat(20), &"ä".repeat(40)] {
            assert!(thumbprint(text).is_err(), "{text}");
        }
    }
}
