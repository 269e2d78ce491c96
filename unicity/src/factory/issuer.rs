//! The authority that signs a batch: its certificate, its key, and what devices send between their certificate and the root.

use std::path::Path;

use rcgen::{ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData};
use unicity_identity::{RegistrationId, Timestamp};
use unicity_provisioning::x509::anchor::check_authority;
use unicity_provisioning::x509::{Certificate, PublicKey};

use crate::cli::files;
use crate::devcert;
use crate::error::{CommandError, Context as _, Outcome};

const DAY_MS: u64 = 86_400_000;
/// How long a device's certificate lives when nothing else is said, in days; never longer than its issuer.
const DEFAULT_DAYS: u32 = 3650;

/// An authority with its key.
pub(crate) struct BatchAuthority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    intermediates: String,
    days: u32,
}

/// A private key from a PEM file.
pub(super) fn private_key(path: &Path) -> Outcome<KeyPair> {
    let text = zeroize::Zeroizing::new(files::read(path)?);
    let text = std::str::from_utf8(&text).unwrap_or_default();
    KeyPair::from_pem(text).map_err(|error| {
        CommandError::new(format!("{} cannot be used: {error}", path.display()))
            .hint(format!("write it as PKCS#8: openssl pkcs8 -topk8 -nocrypt -in {} -out NEW", path.display()))
    })
}

impl BatchAuthority {
    /// Reads the issuer's chain, its own certificate first, and its key. `days`: how long devices' certificates live.
    pub(crate) fn open(chain: &Path, key: &Path, days: Option<u32>, now: Timestamp) -> Outcome<Self> {
        let certificates = files::certificates(chain)?;
        let refused = |why: String| CommandError::new(format!("{}: {why}", chain.display()));
        let first = certificates.first().ok_or_else(|| refused("it holds no certificate".into()))?.clone();
        check_authority(&first).map_err(|error| {
            refused(format!("{} cannot be an authority: {error}", first.summary().short().subject)).hint(error.remedy())
        })?;
        for pair in certificates.windows(2) {
            if let [below, above] = pair
                && !below.is_signed_by(above)
            {
                let subject = |certificate: &Certificate| certificate.summary().short().subject;
                return Err(refused(format!("{} did not sign {}", subject(above), subject(below)))
                    .hint("put the batch's authority first, and each issuer behind what it signed"));
            }
        }
        let pair = private_key(key)?;
        let public = PublicKey::from_spki(&pair.subject_public_key_info()).context(key.display())?;
        if public != *first.key() {
            return Err(CommandError::new(format!(
                "{} is not the key of the first certificate of {}",
                key.display(),
                chain.display()
            ))
            .hint("put the batch's authority first in the chain, and give its key"));
        }
        let left = first.summary().not_after.0.saturating_sub(now.0) / DAY_MS;
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        if left == 0 || first.summary().not_before > now {
            return Err(refused("the authority is not valid now".into()).hint("make one: unicity factory batch-ca"));
        }
        let days = match days {
            Some(days) if days > left => {
                return Err(CommandError::usage(format!(
                    "certificates for {days} days would outlive their authority, which ends in {left}"
                ))
                .hint(format!("give --valid-days {left} or less, or an authority that lives longer")));
            }
            Some(days) => days,
            None => DEFAULT_DAYS.min(left),
        };
        let issuer = Issuer::from_ca_cert_pem(&files::pem(first.der()), pair).context(chain.display())?;
        let sent = certificates.iter().filter(|certificate| !certificate.is_self_issued());
        let intermediates = sent.map(|certificate| files::pem(certificate.der())).collect();
        Ok(Self { certificate: first, issuer, intermediates, days })
    }

    pub(super) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What a device sends behind its own certificate, PEM: no root.
    pub(super) fn intermediates(&self) -> &str {
        &self.intermediates
    }

    /// How long devices' certificates live.
    pub(crate) fn days(&self) -> u32 {
        self.days
    }

    /// A device's certificate, PEM: its subject is its registration id and nothing else, whatever a request asked for.
    pub(super) fn issue(&self, id: &RegistrationId, key: &impl PublicKeyData, now: Timestamp) -> Outcome<String> {
        let mut params = devcert::params(id.as_str(), self.days, now);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let issued = params.signed_by(key, &self.issuer).context(format!("cannot sign the certificate of {id}"))?;
        Ok(issued.pem())
    }
}
