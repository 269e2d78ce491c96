//! May this device connect to this hub? (`device-mqtt.md` 1; design rules 11, 12 and 17.)

use unicity_identity::error::Subject;
use unicity_identity::{
    ClientIdentity, DeviceId, DeviceStatus, GenerationId, HubDirectory, KeyFingerprint, ModuleId, Refusal, SasToken,
    Timestamp, Vault,
};

use crate::{AuthMethod, DeviceDirectory};

/// What a device claims when it connects in the hub role.
#[derive(Debug, Clone, Copy)]
pub struct HubClaim<'a> {
    /// The host of its user name.
    pub host: &'a str,
    /// The device of its user name.
    pub device_id: &'a str,
    /// The module of its user name.
    pub module_id: Option<&'a str>,
    /// Its password.
    pub token: Option<&'a str>,
}

/// A proven hub client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubGrant {
    /// Who.
    pub client: ClientIdentity,
    /// In which life.
    pub generation: GenerationId,
    /// Proven how.
    pub auth_method: AuthMethod,
    /// By which key.
    pub key_fingerprint: KeyFingerprint,
    /// When the token ends, in seconds since the Unix epoch.
    pub token_expiry_seconds: u64,
}

/// Checks a device's credential against its hub identity. Call it at CONNECT, and once more after the session is in the table: a
/// disabling in between then finds either the session or the refusal.
///
/// # Errors
/// The first check that failed.
pub fn authenticate(
    devices: &dyn DeviceDirectory,
    vault: &Vault,
    hubs: &HubDirectory,
    token_skew_seconds: u64,
    claim: HubClaim<'_>,
    now: Timestamp,
) -> Result<HubGrant, Refusal> {
    let hub = hubs
        .by_host(claim.host)
        .ok_or_else(|| Refusal::NotFound(Subject::Hub(claim.host.chars().take(253).collect())))?;
    let invalid = |what: &str| {
        let what = what.to_owned();
        move |error: unicity_identity::InvalidId| Refusal::Invalid { what, why: error.to_string() }
    };
    let device_id: DeviceId = claim.device_id.parse().map_err(invalid("device id"))?;
    let module_id: Option<ModuleId> = claim.module_id.map(str::parse).transpose().map_err(invalid("module id"))?;
    let token = claim.token.filter(|text| !text.is_empty()).ok_or(Refusal::NoCredential)?;
    let token = SasToken::parse(token)?;
    if !token.is_for_device(claim.host, device_id.as_str(), claim.module_id) {
        let module = claim.module_id.map(|module| format!("/modules/{module}")).unwrap_or_default();
        return Err(Refusal::TokenForOther {
            found: token.resource_raw().chars().take(256).collect(),
            expected: format!("{}/devices/{device_id}{module}", claim.host),
        });
    }
    if let Some(policy) = token.policy() {
        return Err(Refusal::PolicyToken { policy: policy.chars().take(64).collect() });
    }
    if module_id.is_some() {
        // Module identities are made by the service API, which does not offer them yet: none exists.
        return Err(Refusal::NotFound(Subject::Device(hub.name.clone(), device_id)));
    }
    let device = devices
        .device(&hub.name, &device_id)
        .map_err(|why| Refusal::Unavailable { why })?
        .ok_or_else(|| Refusal::NotFound(Subject::Device(hub.name.clone(), device_id.clone())))?;
    let slot = device
        .authentication
        .slots()
        .into_iter()
        .find_map(|slot| match vault.open(slot) {
            Ok(key) => token.verify(&key).then_some(Ok(slot)),
            Err(error) => Some(Err(Refusal::Unavailable { why: format!("key of device {device_id}: {error}") })),
        })
        .ok_or_else(|| Refusal::WrongKey { subject: format!("device {device_id} of hub {}", hub.name) })??;
    if token.is_expired(now, token_skew_seconds) {
        return Err(Refusal::TokenExpired {
            ended: Timestamp(token.expiry_seconds().saturating_mul(1000)),
            now,
            skew_seconds: token_skew_seconds,
        });
    }
    if device.status == DeviceStatus::Disabled {
        return Err(Refusal::DeviceDisabled { hub: hub.name.clone(), device_id });
    }
    Ok(HubGrant {
        client: ClientIdentity { hub: hub.name.clone(), device_id, module_id },
        generation: device.generation,
        auth_method: AuthMethod::Sas,
        key_fingerprint: slot.fingerprint,
        token_expiry_seconds: token.expiry_seconds(),
    })
}
