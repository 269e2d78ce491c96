//! How a device proves itself, as a request's body gives it and as answers show it (`service-rest.md` 3.2).
//!
//! A certificate comes in as PEM, base64 of DER or base64 of PEM, one to a member, and goes out as PEM. What clients send back as
//! they got it stays what it is: symmetric keys that are not there, and slots that have `info` and no certificate.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use unicity_identity::enrollment::{AuthorityRef, StoredCertificate};
use unicity_identity::{Attestation, AuthorityName, Entropy};
use unicity_provisioning::tpm::{EndorsementKey, StorageRootKey};
use unicity_provisioning::x509::Certificate;

use crate::api::Shared;
use crate::certificate;
use crate::failure::Failure;
use crate::keys::{self, GivenKey, KeysBody};

/// What an attestation is for: not every type is for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Individual,
    Group,
}

/// `attestation` of a body. Members of other types than `type` names are let pass: some serialisers send empty ones.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttestationBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    symmetric_key: Option<KeysBody>,
    x509: Option<X509Body>,
    tpm: Option<TpmBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct X509Body {
    client_certificates: Option<CertificatesBody>,
    signing_certificates: Option<CertificatesBody>,
    ca_references: Option<ReferencesBody>,
}

#[derive(Deserialize)]
struct CertificatesBody {
    primary: Option<CertificateBody>,
    secondary: Option<CertificateBody>,
}

#[derive(Deserialize)]
struct CertificateBody {
    certificate: Option<String>,
    info: Option<InfoBody>,
}

#[derive(Deserialize)]
struct InfoBody {
    #[serde(rename = "sha256Thumbprint")]
    sha256: Option<String>,
}

#[derive(Deserialize)]
struct ReferencesBody {
    primary: Option<String>,
    secondary: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TpmBody {
    endorsement_key: Option<String>,
    storage_root_key: Option<String>,
}

/// An attestation of a body, and whether the body gave one: if not, an update keeps what is stored.
pub(super) struct Given {
    pub(super) attestation: Attestation,
    pub(super) given: bool,
}

impl Given {
    fn new(attestation: Attestation) -> Self {
        Self { attestation, given: true }
    }

    fn kept(stored: &Attestation) -> Self {
        Self { attestation: stored.clone(), given: false }
    }
}

/// Reads the attestation of a body. `stored` is what an update replaces.
///
/// # Errors
/// 400 with the member, what is wrong with it, and what would be right.
pub(super) fn read(
    shared: &Shared,
    body: Option<AttestationBody>,
    scope: Scope,
    stored: Option<&Attestation>,
    is_update: bool,
    entropy: &mut Entropy,
) -> Result<Given, Failure> {
    let Some(body) = body else {
        return match stored {
            Some(stored) if is_update => Ok(Given::kept(stored)),
            // An update of what is not there: the registry says so.
            _ if is_update => symmetric(shared, KeysBody::default(), None, entropy),
            _ => Err(Failure::invalid("attestation", "it is missing, such as {\"type\":\"symmetricKey\"}".into())),
        };
    };
    let kind = body.kind.as_deref().filter(|text| !text.is_empty()).unwrap_or(match &body {
        AttestationBody { symmetric_key: Some(_), .. } => "symmetricKey",
        AttestationBody { x509: Some(_), .. } => "x509",
        AttestationBody { tpm: Some(_), .. } => "tpm",
        _ => "",
    });
    let same_kind = stored.filter(|stored| is_update && stored.kind().eq_ignore_ascii_case(kind));
    match (kind.to_ascii_lowercase().as_str(), same_kind) {
        ("symmetrickey", _) => symmetric(shared, body.symmetric_key.unwrap_or_default(), stored, entropy),
        ("x509", Some(stored)) if body.x509.is_none() => Ok(Given::kept(stored)),
        ("tpm", Some(stored)) if body.tpm.is_none() => Ok(Given::kept(stored)),
        ("x509", same_kind) => x509(shared, body.x509, scope, same_kind).map(Given::new),
        ("tpm", _) if scope == Scope::Group => Err(Failure::invalid(
            "attestation.type",
            "tpm is for individual enrollments: each TPM has an endorsement key of its own".into(),
        )),
        ("tpm", _) => tpm(body.tpm).map(Given::new),
        ("", _) => {
            Err(Failure::invalid("attestation.type", "it is missing; symmetricKey, x509 and tpm are supported".into()))
        }
        (other, _) => {
            let shown: String = other.chars().take(40).collect();
            let why = format!("it is {shown:?}; symmetricKey, x509 and tpm are supported");
            Err(Failure::invalid("attestation.type", why))
        }
    }
}

fn symmetric(
    shared: &Shared,
    body: KeysBody,
    stored: Option<&Attestation>,
    entropy: &mut Entropy,
) -> Result<Given, Failure> {
    let given = body.given(shared.provisioning.vault(), "attestation.symmetricKey")?;
    // .NET puts empty texts where a GET showed no keys: they mean none here.
    let given = given.map(|key| if matches!(key, GivenKey::Empty) { GivenKey::Absent } else { key });
    let stored_slots = match stored {
        Some(Attestation::SymmetricKey { primary, secondary }) => Some([primary, secondary]),
        _ => None,
    };
    let ([primary, secondary], keys_given) = keys::slots(shared.provisioning.vault(), given, stored_slots, entropy);
    // Where another type is stored, there are no keys to keep: generated ones are new.
    let changes_type = stored.is_some() && stored_slots.is_none();
    Ok(Given { attestation: Attestation::SymmetricKey { primary, secondary }, given: keys_given || changes_type })
}

fn x509(
    shared: &Shared,
    body: Option<X509Body>,
    scope: Scope,
    stored: Option<&Attestation>,
) -> Result<Attestation, Failure> {
    let allowed = match scope {
        Scope::Individual => "clientCertificates",
        Scope::Group => "signingCertificates or caReferences",
    };
    let invalid = |why: String| Failure::invalid("attestation.x509", why);
    let Some(X509Body { client_certificates, signing_certificates, ca_references }) = body else {
        return Err(invalid(format!("it is missing; {allowed} belongs in it")));
    };
    match (scope, client_certificates, signing_certificates, ca_references) {
        (Scope::Individual, Some(clients), None, None) => {
            let stored = match stored {
                Some(Attestation::ClientCertificates { primary, secondary }) => [primary.as_ref(), secondary.as_ref()],
                _ => [None, None],
            };
            let check = certificate::check_device;
            let [primary, secondary] = certificates("attestation.x509.clientCertificates", clients, stored, check)?;
            Ok(Attestation::ClientCertificates { primary, secondary })
        }
        (Scope::Group, None, Some(signers), None) => {
            let stored = match stored {
                Some(Attestation::SigningCertificates { primary, secondary }) => [primary.as_ref(), secondary.as_ref()],
                _ => [None, None],
            };
            let check = certificate::check_authority;
            let [primary, secondary] = certificates("attestation.x509.signingCertificates", signers, stored, check)?;
            Ok(Attestation::SigningCertificates { primary, secondary })
        }
        (Scope::Group, None, None, Some(references)) => {
            let reference = |name: &str, text: Option<String>| {
                let text = text.filter(|text| !text.trim().is_empty());
                text.map(|text| authority(shared, name, text.trim())).transpose()
            };
            let primary = reference("primary", references.primary)?;
            let secondary = reference("secondary", references.secondary)?;
            if primary.is_none() && secondary.is_none() {
                return Err(invalid("caReferences names neither a primary nor a secondary authority".into()));
            }
            Ok(Attestation::CaReferences { primary, secondary })
        }
        (_, None, None, None) => Err(invalid(format!("it is empty; {allowed} belongs in it"))),
        (Scope::Individual, None, ..) => Err(invalid(format!(
            "an individual enrollment has {allowed}; signingCertificates and caReferences are for groups"
        ))),
        (Scope::Group, Some(_), None, None) => {
            Err(invalid(format!("a group has {allowed}; clientCertificates is for individual enrollments")))
        }
        _ => Err(invalid(format!("exactly one of its members may be there: {allowed}"))),
    }
}

/// The two certificates of a body. Which one a slot keeps if it has `info` alone is what is stored in it.
fn certificates(
    path: &str,
    body: CertificatesBody,
    stored: [Option<&StoredCertificate>; 2],
    check: impl Fn(&str, &Certificate) -> Result<(), Failure>,
) -> Result<[Option<StoredCertificate>; 2], Failure> {
    let read = |name: &str, body: Option<CertificateBody>, stored: Option<&StoredCertificate>| {
        let Some(CertificateBody { certificate, info }) = body else { return Ok(None) };
        let what = format!("{path}.{name}.certificate");
        match (certificate.filter(|text| !text.trim().is_empty()), info) {
            (Some(text), _) => {
                let certificate = certificate::one(&what, &text)?;
                check(&what, &certificate)?;
                Ok(Some(certificate::stored(&certificate)))
            }
            (None, None) => Ok(None),
            (None, Some(info)) => match stored.filter(|stored| is_named(stored, &info)) {
                Some(stored) => Ok(Some(stored.clone())),
                None => Err(Failure::invalid(what, "it is missing, and its info is not that of the stored one".into())),
            },
        }
    };
    let [first, second] = stored;
    let found = [read("primary", body.primary, first)?, read("secondary", body.secondary, second)?];
    if found.iter().all(Option::is_none) {
        return Err(Failure::invalid(path, "neither a primary nor a secondary certificate is there".into()));
    }
    Ok(found)
}

fn is_named(stored: &StoredCertificate, info: &InfoBody) -> bool {
    let Some(thumbprint) = &info.sha256 else { return false };
    Certificate::parse(&stored.der).is_ok_and(|stored| stored.summary().sha256.matches(thumbprint))
}

/// An uploaded authority by its name. It need not be verified yet: devices are refused until it is.
fn authority(shared: &Shared, name: &str, text: &str) -> Result<AuthorityRef, Failure> {
    let what = format!("attestation.x509.caReferences.{name}");
    let invalid = |why: String| Failure::invalid(what.clone(), why);
    let name: AuthorityName = text.parse().map_err(|error| invalid(format!("{error}")))?;
    match shared.provisioning.registry().authority(&name)? {
        Some(authority) => Ok(AuthorityRef { name, key: authority.key }),
        None => Err(invalid(format!(
            "there is no certificate authority {name}; upload it with PUT /unicity/certificates/{name} (`unicity ca add`)"
        ))),
    }
}

fn tpm(body: Option<TpmBody>) -> Result<Attestation, Failure> {
    let Some(TpmBody { endorsement_key, storage_root_key }) = body else {
        return Err(Failure::invalid("attestation.tpm", "it is missing; endorsementKey belongs in it".into()));
    };
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let what = "attestation.tpm.endorsementKey";
    let text = given(endorsement_key).ok_or_else(|| {
        Failure::invalid(what, "it is missing: the base64 of the TPM2B_PUBLIC of the TPM's endorsement key".into())
    })?;
    let key = EndorsementKey::from_base64(&text).map_err(|error| Failure::invalid(what, error.to_string()))?;
    let storage_root_key = given(storage_root_key)
        .map(|text| StorageRootKey::from_base64(&text))
        .transpose()
        .map_err(|error| Failure::invalid("attestation.tpm.storageRootKey", error.to_string()))?;
    Ok(Attestation::Tpm {
        endorsement_key: key.as_bytes().to_vec(),
        key: key.fingerprint(),
        storage_root_key: storage_root_key.map(|key| key.as_bytes().to_vec()),
    })
}

/// As answers show it: without symmetric keys, but with their member, which Java does not do without.
pub(super) fn show(attestation: &Attestation) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let two = |primary: Option<Value>, secondary: Option<Value>| {
        let named = [("primary", primary), ("secondary", secondary)];
        let there = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(there.collect::<Map<_, _>>())
    };
    let certificate = |stored: &Option<StoredCertificate>| stored.as_ref().map(|it| certificate::shown(&it.der));
    let name = |reference: &Option<AuthorityRef>| reference.as_ref().map(|it| json!(it.name));
    let member = match attestation {
        Attestation::SymmetricKey { .. } => json!({}),
        Attestation::ClientCertificates { primary, secondary } => {
            json!({"clientCertificates": two(certificate(primary), certificate(secondary))})
        }
        Attestation::SigningCertificates { primary, secondary } => {
            json!({"signingCertificates": two(certificate(primary), certificate(secondary))})
        }
        Attestation::CaReferences { primary, secondary } => {
            json!({"caReferences": two(name(primary), name(secondary))})
        }
        Attestation::Tpm { endorsement_key, storage_root_key, .. } => {
            let mut tpm = json!({"endorsementKey": STANDARD.encode(endorsement_key)});
            if let Some(key) = storage_root_key {
                tpm["storageRootKey"] = json!(STANDARD.encode(key));
            }
            tpm
        }
    };
    let mut out = json!({"type": attestation.kind()});
    out[attestation.kind()] = member;
    out
}

/// The same with symmetric keys in the clear: what `attestationmechanism` answers, and nothing else.
pub(crate) fn show_with_keys(shared: &Shared, attestation: &Attestation) -> Result<Value, Failure> {
    let mut out = show(attestation);
    if let Attestation::SymmetricKey { primary, secondary } = attestation {
        out["symmetricKey"] = keys::shown(shared.provisioning.vault(), [primary, secondary])?;
    }
    Ok(out)
}
