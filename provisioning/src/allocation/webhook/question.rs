//! What a function is asked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use unicity_identity::device::{CertificateBinding, DeviceAuthentication};
use unicity_identity::registration::AttestationKind;
use unicity_identity::{Attestation, EnrollmentRef, HubDirectory, HubHost};

use crate::transfer::Transfer;
use crate::x509::Certificate;

/// What a question rests on.
pub struct Question<'a> {
    /// The transfer that waits for the answer.
    pub transfer: &'a Transfer,
    /// Its enrollment as GET shows it, without keys.
    pub enrollment: Value,
    /// That enrollment's attestation.
    pub attestation: &'a Attestation,
    /// The linked hubs.
    pub hubs: &'a HubDirectory,
}

/// The hosts that the function may name: the allocation's candidates, as far as they are linked still.
#[must_use]
pub fn linked_hubs<'a>(transfer: &Transfer, hubs: &'a HubDirectory) -> Vec<&'a HubHost> {
    let candidates = transfer.allocation.candidates.iter();
    candidates.filter_map(|candidate| hubs.by_name(&candidate.hub)).map(|hub| &hub.host).collect()
}

/// The body of the request. It holds no key: neither the enrollment's nor that of the webhook's URL.
#[must_use]
pub fn question(asked: Question<'_>) -> Value {
    let Question { transfer, enrollment, attestation, hubs } = asked;
    let mut context = Map::new();
    context.insert("registrationId".into(), json!(transfer.registration_id));
    if let Some(source) = &transfer.source
        && let Some(hub) = hubs.by_name(&source.hub)
    {
        context.insert("currentIotHubHostName".into(), json!(hub.host));
        context.insert("currentDeviceId".into(), json!(source.device_id));
    }
    let proof = match (transfer.kind, attestation) {
        (AttestationKind::X509, _) => certificates(&transfer.authentication, attestation),
        (AttestationKind::Tpm, Attestation::Tpm { endorsement_key, storage_root_key, .. }) => {
            let mut tpm = json!({"endorsementKey": STANDARD.encode(endorsement_key)});
            if let Some(key) = storage_root_key {
                tpm["storageRootKey"] = json!(STANDARD.encode(key));
            }
            tpm
        }
        (AttestationKind::SymmetricKey | AttestationKind::Tpm, _) => json!({}),
    };
    context.insert(transfer.kind.as_str().into(), proof);
    if let Some(payload) = &transfer.device_payload {
        context.insert("payload".into(), payload.to_value());
    }
    let member = match transfer.enrollment {
        EnrollmentRef::Individual(_) => "individualEnrollment",
        EnrollmentRef::Group(_) => "enrollmentGroup",
    };
    json!({
        member: enrollment,
        "deviceRuntimeContext": context,
        "linkedHubs": linked_hubs(transfer, hubs),
    })
}

/// `{"clientCertificates": {"primary": {"info"}, "secondary": {"info"}}}` of the certificates that the device will use at its hub: all
/// of `info` where the enrollment holds the certificate, else its thumbprint.
fn certificates(authentication: &DeviceAuthentication, attestation: &Attestation) -> Value {
    let DeviceAuthentication::Certificates { primary, secondary } = authentication else { return json!({}) };
    let mut all = Map::new();
    for (slot, binding) in [("primary", Some(primary)), ("secondary", secondary.as_ref())] {
        if let Some(binding) = binding {
            all.insert(slot.into(), json!({"info": info(binding, attestation)}));
        }
    }
    json!({"clientCertificates": all})
}

fn info(binding: &CertificateBinding, attestation: &Attestation) -> Value {
    let hex: String = binding.thumbprint.iter().map(|byte| format!("{byte:02X}")).collect();
    if let Attestation::ClientCertificates { primary, secondary } = attestation {
        let parsed =
            [primary, secondary].into_iter().flatten().filter_map(|stored| Certificate::parse(&stored.der).ok());
        let own = parsed.map(|certificate| certificate.info()).find(|info| {
            [&info["sha256Thumbprint"], &info["sha1Thumbprint"]]
                .into_iter()
                .any(|shown| shown.as_str().is_some_and(|shown| shown.eq_ignore_ascii_case(&hex)))
        });
        if let Some(info) = own {
            return info;
        }
    }
    match binding.thumbprint.len() {
        20 => json!({"sha1Thumbprint": hex}),
        _ => json!({"sha256Thumbprint": hex}),
    }
}
