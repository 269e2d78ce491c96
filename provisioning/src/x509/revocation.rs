//! Is a certificate of a valid path revoked? By its authority's list, or by an operator's own word.
//!
//! Every certificate of the path is looked up but the anchor, which an operator trusts by itself. An authority without
//! a list revokes nothing: who wants lists, uploads them.

use std::collections::HashSet;

use unicity_identity::{KeyFingerprint, Timestamp};

use super::certificate::Certificate;
use super::chain::Verified;
use super::crl::{Crl, Revocation};
use super::summary::{CertificateSummary, Thumbprint};

/// What becomes of devices whose authority's list is out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StalePolicy {
    /// They are let in, and a warning is given: a list that nobody renewed must not stop a factory.
    #[default]
    Warn,
    /// They are refused until a new list comes.
    Refuse,
}

/// An authority's list is out of date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the revocation list of {issuer} is out of date: made {this_update}, next due {next_update}, and it is {now} \
     ({difference_seconds} s off)"
)]
pub struct StaleCrl {
    /// The authority.
    pub issuer: String,
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one was due.
    pub next_update: Timestamp,
    /// The server's clock.
    pub now: Timestamp,
    /// How far out of its time, in seconds.
    pub difference_seconds: u64,
}

/// Why a valid path is refused all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationRefusal {
    /// Its authority revoked it.
    #[error("{} was revoked by {} at {} ({})", .certificate, .issuer, .revocation.since, .revocation.reason_text())]
    Revoked {
        /// Which certificate of the path.
        certificate: Box<CertificateSummary>,
        /// 0 for the device's own, 1 for its issuer, and so on.
        depth: usize,
        /// The authority whose list says so.
        issuer: String,
        /// Since when and why.
        revocation: Revocation,
    },
    /// A list is out of date, and the policy is to refuse.
    #[error(transparent)]
    Stale(#[from] StaleCrl),
    /// An operator denied it.
    #[error("{certificate} is denied by its {by}")]
    Denied {
        /// Which certificate of the path, or the anchor.
        certificate: Box<CertificateSummary>,
        /// 0 for the device's own, 1 for its issuer, and so on.
        depth: usize,
        /// What the operator named.
        by: DeniedBy,
    },
}

/// What an operator named to deny a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedBy {
    /// The key's fingerprint.
    Key,
    /// The certificate's SHA-256 thumbprint.
    Thumbprint,
    /// Issuer and serial number.
    Serial,
}

impl std::fmt::Display for DeniedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "key fingerprint",
            Self::Thumbprint => "thumbprint",
            Self::Serial => "issuer and serial number",
        })
    }
}

impl RevocationRefusal {
    /// A stable name for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Revoked { .. } => "CertificateRevoked",
            Self::Stale(_) => "CrlStale",
            Self::Denied { .. } => "CertificateDenied",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Revoked { .. } => "if this is no mistake, nothing; else issue a new certificate over a new key",
            Self::Stale(_) => {
                "add the authority's current list: `unicity crl add FILE`, or let `[x509] stale_crl = \"warn\"`"
            }
            Self::Denied { .. } => {
                "if this is no mistake, nothing; make a new key for the device, or lift it with `unicity allow`"
            }
        }
    }
}

/// What became of a list that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is the first of its authority.
    First,
    /// It replaced an older one.
    Replaced,
    /// The one that is there is newer, or the same: an old list would make revoked certificates good again.
    NotNewer,
}

/// The lists of all authorities, the newest of each.
#[derive(Clone, Default)]
pub struct CrlSet {
    lists: Vec<Crl>,
}

impl CrlSet {
    /// Adds a list, unless there is a newer one of the same authority.
    pub fn add(&mut self, list: Crl) -> Added {
        match self.lists.iter_mut().find(|known| known.is_same_source(&list)) {
            None => {
                self.lists.push(list);
                Added::First
            }
            Some(known) if known.age() < list.age() => {
                *known = list;
                Added::Replaced
            }
            Some(_) => Added::NotNewer,
        }
    }

    /// Removes the lists of an authority by its name as text, and says how many there were: the way back from a list
    /// whose date was wrong, which nothing newer could replace.
    pub fn remove(&mut self, issuer: &str) -> usize {
        let before = self.lists.len();
        self.lists.retain(|list| list.issuer() != issuer);
        before - self.lists.len()
    }

    /// The lists.
    #[must_use]
    pub fn lists(&self) -> &[Crl] {
        &self.lists
    }

    /// Looks up every certificate of a valid path but the anchor. Returns the lists that are out of date, if the policy
    /// is to warn. A certificate that an outdated list revokes is revoked.
    ///
    /// # Errors
    /// [`RevocationRefusal`], that of the certificate nearest to the anchor first: it explains the others.
    pub fn check(
        &self,
        verified: &Verified<'_>,
        policy: StalePolicy,
        now: Timestamp,
        skew_seconds: u64,
    ) -> Result<Vec<StaleCrl>, RevocationRefusal> {
        self.check_line(&verified.line(), policy, now, skew_seconds)
    }

    /// The same for a line of certificates, each signed by the next; the last one is not looked up.
    ///
    /// # Errors
    /// [`RevocationRefusal`], that of the certificate farthest from the first.
    pub fn check_line(
        &self,
        line: &[&Certificate],
        policy: StalePolicy,
        now: Timestamp,
        skew_seconds: u64,
    ) -> Result<Vec<StaleCrl>, RevocationRefusal> {
        let (mut stale, mut refused) = (Vec::new(), None);
        for (depth, pair) in line.windows(2).enumerate().rev() {
            let (certificate, issuer) = (pair[0], pair[1]);
            let Some(list) = self.lists.iter().find(|list| list.is_of(issuer.summary(), issuer.subject_der())) else {
                continue;
            };
            if let Some(revocation) = list.find(certificate) {
                return Err(RevocationRefusal::Revoked {
                    certificate: Box::new(certificate.summary().short()),
                    depth,
                    issuer: issuer.summary().short().subject,
                    revocation,
                });
            }
            if let Some(found) = out_of_date(list, now, skew_seconds) {
                match policy {
                    StalePolicy::Warn => stale.push(found),
                    StalePolicy::Refuse => refused = refused.or(Some(found)),
                }
            }
        }
        refused.map_or(Ok(stale), |found| Err(found.into()))
    }
}

fn out_of_date(list: &Crl, now: Timestamp, skew_seconds: u64) -> Option<StaleCrl> {
    let at = now.unix_seconds();
    let early = list.this_update().unix_seconds().saturating_sub(at);
    let late = at.saturating_sub(list.next_update().unix_seconds());
    let difference_seconds = early.max(late);
    (difference_seconds > skew_seconds).then(|| StaleCrl {
        issuer: list.issuer().chars().take(256).collect(),
        this_update: list.this_update(),
        next_update: list.next_update(),
        now,
        difference_seconds,
    })
}

/// Certificates and keys that an operator denied.
#[derive(Debug, Clone, Default)]
pub struct DenyList {
    keys: HashSet<KeyFingerprint>,
    thumbprints: HashSet<Thumbprint>,
    serials: HashSet<(String, String)>,
}

impl DenyList {
    /// Denies a key, under any certificate.
    pub fn deny_key(&mut self, key: KeyFingerprint) {
        self.keys.insert(key);
    }

    /// Denies one certificate by its SHA-256 thumbprint.
    pub fn deny_thumbprint(&mut self, thumbprint: Thumbprint) {
        self.thumbprints.insert(thumbprint);
    }

    /// Denies one certificate by issuer (as text, see [`CertificateSummary::issuer`]) and serial number (hexadecimal;
    /// case, separators and leading zeros do not count).
    pub fn deny_serial(&mut self, issuer: &str, serial: &str) {
        self.serials.insert((issuer.to_owned(), canonical_serial(serial)));
    }

    /// Whether one certificate is denied.
    #[must_use]
    pub fn denies(&self, certificate: &CertificateSummary) -> Option<DeniedBy> {
        if self.keys.contains(&certificate.key_fingerprint) {
            return Some(DeniedBy::Key);
        }
        if self.thumbprints.contains(&certificate.sha256) {
            return Some(DeniedBy::Thumbprint);
        }
        let name = (certificate.issuer.clone(), canonical_serial(&certificate.serial));
        self.serials.contains(&name).then_some(DeniedBy::Serial)
    }

    /// Whether any certificate of a valid path is denied, the anchor among them: an operator may deny an authority
    /// without touching its groups.
    ///
    /// # Errors
    /// [`RevocationRefusal::Denied`].
    pub fn check(&self, verified: &Verified<'_>) -> Result<(), RevocationRefusal> {
        self.check_line(&verified.line())
    }

    /// The same for a line of certificates, the last one included.
    ///
    /// # Errors
    /// [`RevocationRefusal::Denied`].
    pub fn check_line(&self, line: &[&Certificate]) -> Result<(), RevocationRefusal> {
        for (depth, certificate) in line.iter().enumerate() {
            if let Some(by) = self.denies(certificate.summary()) {
                let certificate = Box::new(certificate.summary().short());
                return Err(RevocationRefusal::Denied { certificate, depth, by });
            }
        }
        Ok(())
    }
}

fn canonical_serial(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.trim_start_matches('0').to_ascii_uppercase()
}
