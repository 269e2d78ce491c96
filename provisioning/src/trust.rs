//! Whom the service trusts to vouch for devices: the authorities of groups and those uploaded, revocation lists, and what an
//! operator denied; made of the registry's records, and kept until one of them changes.

use std::sync::{Arc, Mutex};

use unicity_identity::enrollment::{ProvisioningStatus, StoredCertificate};
use unicity_identity::{
    Attestation, DenyRule, ETag, EnrollmentGroup, EnrollmentGroupId, Facets, KeyFingerprint, Refusal, Timestamp,
};

use crate::registry::{Fault, RegistryView};
use crate::revocation_list;
use crate::x509::{
    Anchor, Certificate, ChainRefusal, CrlSet, DeniedBy, DenyList, DeviceChain, DeviceMemo, RevocationRefusal,
    StalePolicy, Verified, line_of, nearest_anchor, verify,
};

/// The certificates that a client sent in its handshake, read once a connection.
#[derive(Debug, Clone)]
pub struct PresentedChain(Result<DeviceChain, Box<ChainRefusal>>);

impl PresentedChain {
    /// Reads what came in the handshake; `None` if nothing did.
    #[must_use]
    pub fn parse<D: AsRef<[u8]>>(presented: &[D]) -> Option<Self> {
        (!presented.is_empty()).then(|| Self(DeviceChain::parse(presented)))
    }

    /// The chain.
    ///
    /// # Errors
    /// The refusal that explains why it could not be read.
    pub fn chain(&self) -> Result<&DeviceChain, Refusal> {
        self.0.as_ref().map_err(|refusal| chain_refusal(refusal))
    }

    /// The certificates that could be read, to parse them again: a tenth of what they take when they are parsed.
    #[must_use]
    pub fn ders(&self) -> Box<[Box<[u8]>]> {
        let certificates = self.0.as_ref().map_or_else(|_| [].as_slice(), DeviceChain::certificates);
        certificates.iter().map(|certificate| certificate.der().into()).collect()
    }

    /// What was shown, as JSON, for a refusal by `check` that looks at more than the chain.
    #[must_use]
    pub fn evidence(&self, check: &'static str) -> String {
        let Ok(chain) = &self.0 else { return serde_json::json!({"check": check}).to_string() };
        chain_evidence(check, chain)
    }
}

fn chain_evidence(check: &'static str, chain: &DeviceChain) -> String {
    let seen: Vec<_> =
        chain.certificates().iter().map(|certificate| certificate.summary().short().evidence()).collect();
    serde_json::json!({"check": check, "chain": seen}).to_string()
}

/// A refused chain as a refusal with its evidence.
pub(crate) fn chain_refusal(refusal: &ChainRefusal) -> Refusal {
    let near = refusal.nearest.as_ref().map(|near| format!("; nearest authority: {} ({})", near.anchor, near.why));
    Refusal::Certificate {
        name: refusal.problem.name(),
        cause: format!("{refusal}{}", near.unwrap_or_default()),
        remedy: refusal.remedy(),
        evidence: refusal.evidence().to_string(),
    }
}

fn revocation_refusal(refusal: &RevocationRefusal, chain: &DeviceChain) -> Refusal {
    Refusal::Certificate {
        name: refusal.name(),
        cause: refusal.to_string(),
        remedy: refusal.remedy().to_owned(),
        evidence: chain_evidence(refusal.name(), chain),
    }
}

/// A denied key told as such where it is one of a certificate that was shown: its place in the chain explains more.
pub(crate) fn with_chain(refusal: Refusal, presented: Option<&PresentedChain>) -> Refusal {
    let Refusal::KeyDenied { fingerprint, .. } = &refusal else { return refusal };
    let Some(chain) = presented.and_then(|presented| presented.chain().ok()) else { return refusal };
    let mut shown = chain.certificates().iter().map(Certificate::summary).zip(0..);
    match shown.find(|(summary, _)| summary.key_fingerprint == *fingerprint) {
        Some((summary, depth)) => {
            let certificate = Box::new(summary.short());
            revocation_refusal(&RevocationRefusal::Denied { certificate, depth, by: DeniedBy::Key }, chain)
        }
        None => refusal,
    }
}

/// The certificates of a path that holds, and the keys of who vouches in it.
fn path_facets(trust: &Trust, verified: &Verified<'_>) -> Facets {
    let sha256 = |certificate: &Certificate| <[u8; 32]>::try_from(certificate.summary().sha256.as_bytes()).ok();
    let all = verified.path.iter().copied().chain([verified.anchor.certificate()]);
    let above = verified.path.iter().skip(1).map(|certificate| certificate.key_fingerprint());
    let mut authorities: Vec<KeyFingerprint> = above.collect();
    authorities.extend(trust.above(verified.anchor.certificate()));
    Facets { certificates: all.filter_map(sha256).collect(), authorities, ..Facets::default() }
}

/// The same of a line of issuers that leads nowhere: each signature in it was checked.
fn line_facets(line: &[&Certificate]) -> Facets {
    let sha256 = |certificate: &&Certificate| <[u8; 32]>::try_from(certificate.summary().sha256.as_bytes()).ok();
    Facets {
        certificates: line.iter().filter_map(sha256).collect(),
        authorities: line.iter().skip(1).map(|certificate| certificate.key_fingerprint()).collect(),
        ..Facets::default()
    }
}

/// A group whose authority a chain leads to.
#[derive(Debug, Clone)]
pub struct TrustedGroup {
    /// Which.
    pub group_id: EnrollmentGroupId,
    /// In which version.
    pub etag: ETag,
    /// Whether its devices may register.
    pub enabled: bool,
}

/// Authorities that are looked for above an authority.
const ABOVE_MAX: usize = 8;

/// Everything that chains are judged by.
#[derive(Default)]
pub struct Trust {
    /// Authorities of groups, with the group of each at the same place.
    group_anchors: Vec<Anchor>,
    groups: Vec<TrustedGroup>,
    /// All authorities that may vouch at a hub: verified ones, and those of groups.
    hub_anchors: Vec<Anchor>,
    crls: CrlSet,
    deny: DenyList,
    /// Signatures on devices' certificates that were found valid.
    devices: Arc<DeviceMemo>,
    /// Records that could not be used, for the log.
    pub unusable: Vec<String>,
}

impl Trust {
    /// Makes it of the registry's records. One that cannot be used is left out and named in [`Trust::unusable`].
    ///
    /// # Errors
    /// [`Fault`] if the registry could not be read.
    pub fn load(view: &dyn RegistryView) -> Result<Self, Fault> {
        Self::load_with(view, Arc::default())
    }

    fn load_with(view: &dyn RegistryView, devices: Arc<DeviceMemo>) -> Result<Self, Fault> {
        let mut trust = Self { devices, ..Self::default() };
        for authority in view.authorities()? {
            let anchor = trust.anchor(authority.name.as_str(), &authority.der, authority.verified);
            trust.hub_anchors.extend(anchor);
        }
        for group in view.groups()? {
            trust.add_group(view, &group)?;
        }
        for list in view.revocation_lists()? {
            match revocation_list::read_stored(&list) {
                Ok(Some(list)) => drop(trust.crls.add(list)),
                Ok(None) => {}
                Err(why) => trust.unusable.push(format!("revocation list of key {}: {why}", list.issuer_key)),
            }
        }
        for rule in view.denied_serials()? {
            // Denied keys are not a matter of certificates alone, and may be many: see `revoked.rs`.
            if let DenyRule::Serial { issuer, serial } = rule {
                trust.deny.deny_serial(&issuer, &serial);
            }
        }
        Ok(trust)
    }

    fn anchor(&mut self, name: &str, der: &[u8], verified: bool) -> Option<Anchor> {
        let made = Certificate::parse(der)
            .map_err(|error| error.to_string())
            .and_then(|certificate| Anchor::new(name, certificate, verified).map_err(|error| error.to_string()));
        match made {
            Ok(anchor) => Some(anchor.with_devices(Arc::clone(&self.devices))),
            Err(why) => {
                self.unusable.push(format!("authority {name}: {why}"));
                None
            }
        }
    }

    fn add_group(&mut self, view: &dyn RegistryView, group: &EnrollmentGroup) -> Result<(), Fault> {
        let mut anchors = Vec::new();
        match &group.terms.attestation {
            Attestation::SigningCertificates { primary, secondary } => {
                for StoredCertificate { der, .. } in [primary, secondary].into_iter().flatten() {
                    anchors.extend(self.anchor(group.group_id.as_str(), der, true));
                }
            }
            Attestation::CaReferences { primary, secondary } => {
                for reference in [primary, secondary].into_iter().flatten() {
                    if let Some(authority) = view.authority(&reference.name)? {
                        anchors.extend(self.anchor(authority.name.as_str(), &authority.der, authority.verified));
                    }
                }
            }
            _ => {}
        }
        for anchor in anchors {
            self.hub_anchors.push(anchor.clone());
            self.group_anchors.push(anchor);
            self.groups.push(TrustedGroup {
                group_id: group.group_id.clone(),
                etag: group.etag,
                enabled: group.terms.status == ProvisioningStatus::Enabled,
            });
        }
        Ok(())
    }

    /// Whether any group has an authority.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The group that a chain leads to: that of the authority nearest to the leaf.
    ///
    /// # Errors
    /// The first check that failed, with its evidence.
    pub fn group_of(
        &self,
        chain: &DeviceChain,
        stale: StalePolicy,
        now: Timestamp,
        skew_seconds: u64,
    ) -> Result<(&TrustedGroup, Facets), Refusal> {
        let verified = self.judge(chain, &self.group_anchors, stale, now, skew_seconds)?;
        let chosen = verified.anchor_index;
        // A disabled group between the device and the group that vouches for it blocks it (`service-rest.md` 7.3), also when its
        // own certificate can vouch for nobody any more.
        let blocking = nearest_anchor(&verified, &self.group_anchors)
            .into_iter()
            .take_while(|found| found.distance <= verified.depth)
            .find(|found| !self.groups[found.anchor].enabled);
        Ok((&self.groups[blocking.map_or(chosen, |found| found.anchor)], path_facets(self, &verified)))
    }

    /// An authority's key, and those of the known authorities above it: who revokes a root means what its intermediates vouch for.
    fn above(&self, authority: &Certificate) -> Vec<KeyFingerprint> {
        let mut keys = vec![authority.key_fingerprint()];
        let mut at = authority;
        // As deep as paths go; longer, or in a ring, it is no chain of authorities.
        while keys.len() <= ABOVE_MAX && !at.is_self_issued() {
            let mut anchors = self.hub_anchors.iter().map(Anchor::certificate);
            match anchors.find(|anchor| anchor.subject_der() == at.issuer_der() && at.is_signed_by(anchor)) {
                Some(issuer) if !keys.contains(&issuer.key_fingerprint()) => {
                    keys.push(issuer.key_fingerprint());
                    at = issuer;
                }
                _ => break,
            }
        }
        keys
    }

    /// Whether a chain leads to a verified authority of the service at all: what a hub identity of type
    /// `certificateAuthority` asks for.
    ///
    /// # Errors
    /// The first check that failed, with its evidence.
    pub fn vouches(
        &self,
        chain: &DeviceChain,
        stale: StalePolicy,
        now: Timestamp,
        skew_seconds: u64,
    ) -> Result<Facets, Refusal> {
        let verified = self.judge(chain, &self.hub_anchors, stale, now, skew_seconds)?;
        Ok(path_facets(self, &verified))
    }

    /// For a certificate that is trusted by itself: it must not be denied, and if its authority is known here, not revoked by it.
    ///
    /// # Errors
    /// The refusal with its evidence.
    pub fn check_leaf(
        &self,
        chain: &DeviceChain,
        stale: StalePolicy,
        now: Timestamp,
        skew_seconds: u64,
    ) -> Result<Facets, Refusal> {
        let leaf = chain.leaf().summary();
        if let Some(by) = self.deny.denies(leaf) {
            let certificate = Box::new(leaf.short());
            return Err(revocation_refusal(&RevocationRefusal::Denied { certificate, depth: 0, by }, chain));
        }
        // A pinned certificate needs nobody to vouch for it; but whoever issued it may take it back, also when the chain leads
        // nowhere: a device may have left it out, and an authority's list outlives the authority's certificate.
        let verified = verify(chain, &self.hub_anchors, now, skew_seconds);
        let line = match &verified {
            Ok(verified) => verified.line(),
            Err(_) => line_of(chain, self.hub_anchors.iter().map(Anchor::certificate)),
        };
        let revoked = |refusal: RevocationRefusal| revocation_refusal(&refusal, chain);
        self.deny.check_line(&line).map_err(revoked)?;
        self.crls.check_line(&line, stale, now, skew_seconds).map_err(revoked)?;
        Ok(match &verified {
            Ok(verified) => path_facets(self, verified),
            Err(_) => line_facets(&line),
        })
    }

    fn judge<'a>(
        &'a self,
        chain: &'a DeviceChain,
        anchors: &'a [Anchor],
        stale: StalePolicy,
        now: Timestamp,
        skew_seconds: u64,
    ) -> Result<Verified<'a>, Refusal> {
        let verified = verify(chain, anchors, now, skew_seconds).map_err(|refusal| chain_refusal(&refusal))?;
        self.deny.check(&verified).map_err(|refusal| revocation_refusal(&refusal, chain))?;
        self.crls.check(&verified, stale, now, skew_seconds).map_err(|refusal| revocation_refusal(&refusal, chain))?;
        Ok(verified)
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("groups", &self.groups.len())
            .field("authorities", &self.hub_anchors.len())
            .finish()
    }
}

/// Keeps the newest [`Trust`] until the registry says that it changed.
#[derive(Debug, Default)]
pub struct TrustCache(Mutex<Option<(u64, Arc<Trust>)>>);

impl TrustCache {
    /// The trust of this moment.
    ///
    /// # Errors
    /// [`Fault`] if the registry could not be read.
    pub fn get(&self, view: &dyn RegistryView) -> Result<Arc<Trust>, Fault> {
        // The version is read first: a change in between makes the next look load again, never keep the old.
        let Some(version) = view.trust_version() else { return Ok(Arc::new(Trust::load(view)?)) };
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((of, trust)) = &*kept
            && *of == version
        {
            return Ok(Arc::clone(trust));
        }
        // Whom one trusts has changed, not which signatures are right.
        let devices = kept.as_ref().map(|(_, trust)| Arc::clone(&trust.devices)).unwrap_or_default();
        let trust = Arc::new(Trust::load_with(view, devices)?);
        *kept = Some((version, Arc::clone(&trust)));
        Ok(trust)
    }
}
