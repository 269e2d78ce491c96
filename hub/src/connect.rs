//! May this device connect to this hub? (`device-mqtt.md` 1; design rules 11, 12 and 17.)

use unicity_identity::device::{CertificateBinding, DeviceAuthentication};
use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{
    ClientIdentity, DeviceId, DeviceStatus, GenerationId, HubDirectory, HubName, KeyFingerprint, KeySlot, ModuleId,
    Refusal, RegistrationId, SasToken, Timestamp, Vault,
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
    /// The certificate of its handshake, whose key is proven.
    pub certificate: Option<HubCertificate<'a>>,
}

/// A client certificate as far as a hub needs to know it. Chains, dates and revocation are the provisioning service's subject: it
/// gives its word through `check`.
#[derive(Clone, Copy)]
pub struct HubCertificate<'a> {
    /// SHA-256 of the certificate.
    pub sha256: &'a [u8],
    /// SHA-1 of the certificate: what some identities made by hand name.
    pub sha1: &'a [u8],
    /// Its key's fingerprint.
    pub key: KeyFingerprint,
    /// Its subject's CN.
    pub common_name: Option<&'a str>,
    /// Whether it may be used now: in its time, not denied, not revoked; with `true`, its chain must lead to a verified authority.
    pub check: &'a dyn Fn(bool) -> Result<(), Refusal>,
    /// The chain shown as JSON, for a refusal under this name.
    pub evidence: &'a dyn Fn(&'static str) -> String,
}

impl std::fmt::Debug for HubCertificate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubCertificate")
            .field("key", &self.key)
            .field("common_name", &self.common_name)
            .finish_non_exhaustive()
    }
}

/// A proven hub client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubGrant {
    /// Who.
    pub client: ClientIdentity,
    /// In which life.
    pub generation: GenerationId,
    /// The registration that it came from; `None`: an identity made by hand.
    pub registration: Option<RegistrationId>,
    /// Proven how.
    pub auth_method: AuthMethod,
    /// By which key.
    pub key_fingerprint: KeyFingerprint,
    /// When the token ends, in seconds since the Unix epoch; `None` for a certificate.
    pub token_expiry_seconds: Option<u64>,
    /// All keys of the identity.
    pub keys: Vec<KeyFingerprint>,
}

impl HubGrant {
    /// The identity whose standing counts: the registration's, or the hub identity's own.
    #[must_use]
    pub fn owner(&self) -> KeyOwner {
        match &self.registration {
            Some(id) => KeyOwner::Registration(id.clone()),
            None => KeyOwner::Device(self.client.hub.clone(), self.client.device_id.clone()),
        }
    }
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
    let missing = || Refusal::NotFound(Subject::Device(hub.name.clone(), device_id.clone()));
    if module_id.is_some() {
        // Module identities are made by the service API; sessions of their own are still to come.
        return Err(missing());
    }
    let proof = Proof { claim, vault, token_skew_seconds, now, device_id: &device_id };
    // A malformed token is told as such, whoever sent it.
    let token = proof.token()?;
    let device =
        devices.device(&hub.name, &device_id).map_err(|why| Refusal::Unavailable { why })?.ok_or_else(missing)?;
    let (auth_method, key_fingerprint, token_expiry_seconds) = match &device.authentication {
        DeviceAuthentication::Sas { primary, secondary } => {
            let token = token.ok_or(Refusal::NoCredential)?;
            (AuthMethod::Sas, proof.signing_key(&token, [primary, secondary], &hub.name)?, Some(token.expiry_seconds()))
        }
        DeviceAuthentication::Certificates { primary, secondary } => {
            (AuthMethod::X509Bound, proof.bound_certificate(primary, secondary.as_ref())?, None)
        }
        DeviceAuthentication::Authority => (AuthMethod::X509Authority, proof.vouched_certificate()?, None),
    };
    // A thumbprint or an authority says nothing of the key, which may be a copy of another identity's.
    if !device.authentication.keys().contains(&key_fingerprint)
        && let Some(holder) =
            devices.other_holder(&device, &key_fingerprint).map_err(|why| Refusal::Unavailable { why })?
    {
        return Err(Refusal::KeyInUse { fingerprint: key_fingerprint, holder });
    }
    if device.status == DeviceStatus::Disabled {
        let revoked = device.is_ended_by_revocation();
        return Err(Refusal::DeviceDisabled { hub: hub.name.clone(), device_id, revoked });
    }
    Ok(HubGrant {
        client: ClientIdentity { hub: hub.name.clone(), device_id, module_id },
        generation: device.generation,
        registration: device.registration,
        auth_method,
        key_fingerprint,
        token_expiry_seconds,
        keys: device.authentication.keys().into_iter().collect(),
    })
}

/// One client's credential, and what it is checked with.
struct Proof<'a> {
    claim: HubClaim<'a>,
    vault: &'a Vault,
    token_skew_seconds: u64,
    now: Timestamp,
    device_id: &'a DeviceId,
}

impl Proof<'_> {
    /// The token, found to be for this device and by no service policy. Its signature is yet to be checked.
    fn token(&self) -> Result<Option<SasToken>, Refusal> {
        let Some(text) = self.claim.token.filter(|text| !text.is_empty()) else { return Ok(None) };
        let token = SasToken::parse(text)?;
        if !token.is_for_device(self.claim.host, self.device_id.as_str(), self.claim.module_id) {
            let module = self.claim.module_id.map(|module| format!("/modules/{module}")).unwrap_or_default();
            return Err(Refusal::TokenForOther {
                found: token.resource_raw().chars().take(256).collect(),
                expected: format!("{}/devices/{}{module}", self.claim.host, self.device_id),
            });
        }
        if let Some(policy) = token.policy() {
            return Err(Refusal::PolicyToken { policy: policy.chars().take(64).collect() });
        }
        Ok(Some(token))
    }

    fn signing_key(&self, token: &SasToken, slots: [&KeySlot; 2], hub: &HubName) -> Result<KeyFingerprint, Refusal> {
        let mut proven = None;
        for slot in slots {
            let key = self
                .vault
                .open(slot)
                .map_err(|error| Refusal::Unavailable { why: format!("key of device {}: {error}", self.device_id) })?;
            if token.verify(&key) {
                proven = Some(slot.fingerprint);
                break;
            }
        }
        let proven =
            proven.ok_or_else(|| Refusal::WrongKey { subject: format!("device {} of hub {hub}", self.device_id) })?;
        if token.is_expired(self.now, self.token_skew_seconds) {
            return Err(Refusal::TokenExpired {
                ended: Timestamp(token.expiry_seconds().saturating_mul(1000)),
                now: self.now,
                skew_seconds: self.token_skew_seconds,
            });
        }
        Ok(proven)
    }

    fn certificate(&self) -> Result<HubCertificate<'_>, Refusal> {
        self.claim.certificate.ok_or(Refusal::NoCredential)
    }

    /// The very certificate, or a renewed one over the same key.
    fn bound_certificate(
        &self,
        primary: &CertificateBinding,
        secondary: Option<&CertificateBinding>,
    ) -> Result<KeyFingerprint, Refusal> {
        let shown = self.certificate()?;
        let mut bindings = std::iter::once(primary).chain(secondary);
        let bound = bindings.any(|binding| {
            binding.thumbprint == shown.sha256 || binding.thumbprint == shown.sha1 || binding.key == Some(shown.key)
        });
        if !bound {
            return Err(Refusal::Certificate {
                name: "OtherCertificate",
                cause: format!(
                    "the certificate of device {} has key {}, and is none of those bound to it",
                    self.device_id, shown.key
                ),
                remedy: "a device with a new key registers again; else compare thumbprints with `unicity device show`"
                    .into(),
                evidence: (shown.evidence)("OtherCertificate"),
            });
        }
        (shown.check)(false)?;
        Ok(shown.key)
    }

    /// Any certificate for this device that a verified authority vouches for.
    fn vouched_certificate(&self) -> Result<KeyFingerprint, Refusal> {
        let shown = self.certificate()?;
        (shown.check)(true)?;
        if shown.common_name != Some(self.device_id.as_str()) {
            return Err(Refusal::Certificate {
                name: "CommonName",
                cause: format!(
                    "the certificate's CN is {:?}, the device is {}",
                    shown.common_name.unwrap_or(""),
                    self.device_id
                ),
                remedy: "issue the device a certificate whose CN is its device id".into(),
                evidence: (shown.evidence)("CommonName"),
            });
        }
        Ok(shown.key)
    }
}
