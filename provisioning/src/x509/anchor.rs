//! Trust anchors: the authorities that operators named, in an enrollment group or in the store of verified CAs.
//!
//! An anchor may be a root or an intermediate: what stands above it is of no interest. RFC 5280 6.2 leaves it open
//! whether an anchor's own extensions count; here they do (basic constraints, key usage, path length, name constraints,
//! dates), since an operator who uploads an intermediate expects its limits to hold.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::certificate::Certificate;
use super::memo::{DeviceMemo, SignatureMemo};
use super::weak::Weakness;

/// Why a certificate cannot be an authority here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// Basic constraints are missing or say no.
    #[error("it is not marked as an authority (basic constraints CA:TRUE, RFC 5280 4.2.1.9)")]
    NotCa,
    /// Key usage lacks keyCertSign.
    #[error("its key usage does not allow to sign certificates (keyCertSign, RFC 5280 4.2.1.3)")]
    NoKeyCertSign,
    /// Extended key usage excludes TLS clients.
    #[error("its extended key usage {found:?} lacks clientAuth, which holds for all that it issues")]
    ExtendedKeyUsage {
        /// The purposes found.
        found: Vec<String>,
    },
    /// Anyone can find its private key.
    #[error("it has {0}")]
    Weak(#[from] Weakness),
    /// A critical extension that is not processed.
    #[error("its critical extension {oid} is not processed here (RFC 5280 4.2)")]
    UnknownCritical {
        /// Which.
        oid: String,
    },
    /// Name constraints on directory names.
    #[error("its name constraints are on directory names, which are not processed here, so it could issue nothing")]
    DirectoryNameConstraints,
    /// Not version 3.
    #[error("it is an X.509 v{version} certificate, and only v3 has the extensions that mark an authority")]
    Version {
        /// Its version.
        version: u32,
    },
    /// Path validation does not take it.
    #[error("path validation cannot use it: {0}")]
    Unusable(String),
}

impl AnchorError {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotCa | Self::Version { .. } => {
                "if it is a device's own certificate, use an individual enrollment; else issue the authority anew with \
                 `basicConstraints=critical,CA:TRUE` and `keyUsage=critical,keyCertSign,cRLSign`"
            }
            Self::NoKeyCertSign => "issue it anew with `keyUsage=critical,keyCertSign,cRLSign`",
            Self::ExtendedKeyUsage { .. } => "issue it anew without extended key usage, or with clientAuth in it",
            Self::Weak(weakness) => weakness.remedy(),
            Self::UnknownCritical { .. } => "issue it anew without that extension, or with the extension not critical",
            Self::DirectoryNameConstraints => "issue it anew without constraints on directory names",
            Self::Unusable(_) => "issue it anew; the software that made it breaks RFC 5280",
        }
    }
}

/// An authority that may vouch for devices.
#[derive(Clone)]
pub struct Anchor {
    name: String,
    certificate: Certificate,
    verified: bool,
    trust: TrustAnchor<'static>,
    /// Shared by clones.
    memo: Arc<SignatureMemo>,
    devices: Arc<DeviceMemo>,
}

impl Anchor {
    /// Makes an anchor of an authority's certificate. `name` is for evidence: the group's or the CA's. `verified`:
    /// someone proved to hold its key, or an operator vouched for it.
    ///
    /// # Errors
    /// [`AnchorError`] if it cannot be an authority. Dates are not judged here: they change.
    pub fn new(name: impl Into<String>, certificate: Certificate, verified: bool) -> Result<Self, AnchorError> {
        check_authority(&certificate)?;
        let trust = webpki::anchor_from_trusted_cert(&CertificateDer::from(certificate.der()))
            .map_err(|error| AnchorError::Unusable(error.to_string()))?
            .to_owned();
        Ok(Self { name: name.into(), certificate, verified, trust, memo: Arc::default(), devices: Arc::default() })
    }

    /// The same with a memory of devices that other anchors share.
    pub(crate) fn with_devices(self, devices: Arc<DeviceMemo>) -> Self {
        Self { devices, ..self }
    }

    /// The group's or the CA's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whether someone proved to hold its key, or an operator vouched for it.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.verified
    }

    pub(super) fn trust(&self) -> &TrustAnchor<'static> {
        &self.trust
    }

    pub(super) fn memo(&self) -> &SignatureMemo {
        &self.memo
    }

    pub(super) fn devices(&self) -> &DeviceMemo {
        &self.devices
    }
}

impl std::fmt::Debug for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Anchor")
            .field("name", &self.name)
            .field("certificate", &self.certificate)
            .field("verified", &self.verified)
            .finish_non_exhaustive()
    }
}

/// Whether a certificate may issue others: what [`Anchor::new`] and every intermediate of a path must fulfil.
///
/// # Errors
/// [`AnchorError`] with the first thing missing.
pub fn check_authority(certificate: &Certificate) -> Result<(), AnchorError> {
    let extensions = certificate.extensions();
    if certificate.summary().version != 3 {
        return Err(AnchorError::Version { version: certificate.summary().version });
    }
    if let Some(weakness) = certificate.weakness() {
        return Err(weakness.clone().into());
    }
    if let Some(oid) = extensions.unknown_critical.first() {
        return Err(AnchorError::UnknownCritical { oid: oid.clone() });
    }
    if !certificate.is_ca() {
        return Err(AnchorError::NotCa);
    }
    if extensions.key_usage.is_some_and(|usage| !usage.key_cert_sign) {
        return Err(AnchorError::NoKeyCertSign);
    }
    if let Some(usage) = extensions.extended_key_usage.as_ref().filter(|usage| !usage.allows_client()) {
        return Err(AnchorError::ExtendedKeyUsage { found: usage.purposes() });
    }
    if extensions.name_constraints.as_ref().is_some_and(|constraints| constraints.on_directory_names) {
        return Err(AnchorError::DirectoryNameConstraints);
    }
    Ok(())
}
