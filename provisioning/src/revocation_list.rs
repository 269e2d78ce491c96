//! Which revocation lists are taken in, whether somebody uploads them or the server reads them from files: one an authority, signed
//! by an authority that the service knows, and never an older one for a newer one.
//!
//! A stored list without content is one that an operator withdrew: it revokes nothing, and any other may follow it.

use unicity_identity::enrollment::StoredCertificate;
use unicity_identity::{Attestation, KeyFingerprint, RevocationList, Timestamp};

use crate::registry::{Fault, RegistryView};
use crate::x509::revocation::Added;
use crate::x509::{Certificate, Crl, CrlError, CrlSet, UnverifiedCrl};

/// Why a list is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ListRefusal {
    /// It cannot be read, is of a kind that is not supported, or its authority did not sign it.
    #[error(transparent)]
    Unusable(#[from] CrlError),
    /// Nobody here has its issuer's name.
    #[error("its issuer {issuer} is neither an uploaded authority nor one of an enrollment group")]
    UnknownIssuer {
        /// The name, cut to 256 characters.
        issuer: String,
    },
    /// It was made after now: nothing newer could replace it until then.
    #[error("it was made at {made}, and it is {now}")]
    FromTheFuture {
        /// When it says that it was made.
        made: Timestamp,
        /// The server's clock.
        now: Timestamp,
    },
    /// The one that is there is newer, or as old.
    #[error(
        "the list sent is {sent}, the one that is there {there}: only a newer one may replace it, or revoked certificates would be \
         good again"
    )]
    NotNewer {
        /// Number and date.
        sent: String,
        /// Number and date.
        there: String,
    },
    /// The registry could not be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ListRefusal {
    /// A stable name for logs and states.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unusable(_) => "RevocationListUnusable",
            Self::UnknownIssuer { .. } => "RevocationListIssuerUnknown",
            Self::FromTheFuture { .. } => "RevocationListFromTheFuture",
            Self::NotNewer { .. } => "RevocationListNotNewer",
            Self::Fault(_) => "Unavailable",
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unusable(error) => error.remedy(),
            Self::UnknownIssuer { .. } => {
                "upload it first with PUT /unicity/certificates/NAME (`unicity ca add`), verified or not"
            }
            Self::FromTheFuture { .. } => "set the clock of who makes it",
            Self::NotNewer { .. } => {
                "make a new one with a later thisUpdate; `unicity crl remove` gives up the one that is there"
            }
            Self::Fault(_) => "see the server's log",
        }
    }
}

/// A list that may be stored.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The list.
    pub list: RevocationList,
    /// Whether it is another than the one that is there.
    pub is_new: bool,
}

/// A stored list, read again; `None` if an operator withdrew it.
///
/// # Errors
/// Why it cannot be read any more.
pub fn read_stored(stored: &RevocationList) -> Result<Option<Crl>, String> {
    if stored.der.is_empty() {
        return Ok(None);
    }
    let issuer = Certificate::parse(&stored.issuer_der).map_err(|error| error.to_string())?;
    let list = UnverifiedCrl::parse(&stored.der).map_err(|error| error.to_string())?;
    list.verify(&issuer).map(Some).map_err(|error| error.to_string())
}

/// Judges a list in PEM, base64 or DER.
///
/// # Errors
/// The [`ListRefusal`].
pub fn judge(
    view: &dyn RegistryView,
    bytes: &[u8],
    now: Timestamp,
    skew_seconds: u64,
) -> Result<Accepted, ListRefusal> {
    let unverified = UnverifiedCrl::parse(bytes)?;
    let mut nearest = None;
    let mut found = None;
    for authority in issuers(view)? {
        // Of another name: nothing to try.
        if authority.summary().subject != unverified.issuer() {
            continue;
        }
        match unverified.clone().verify(&authority) {
            Ok(list) => {
                found = Some((authority, list));
                break;
            }
            Err(error) => nearest = Some(error),
        }
    }
    let Some((authority, list)) = found else {
        let issuer = unverified.issuer().chars().take(256).collect();
        return Err(nearest.map_or(ListRefusal::UnknownIssuer { issuer }, ListRefusal::Unusable));
    };
    if list.this_update() > now.plus_ms(skew_seconds.saturating_mul(1000)) {
        return Err(ListRefusal::FromTheFuture { made: list.this_update(), now });
    }
    let stored = RevocationList {
        issuer_key: authority.key_fingerprint(),
        issuer_der: authority.der().to_vec(),
        der: unverified.der().to_vec(),
        added: now,
    };
    if let Some(known) = stored_of(view, stored.issuer_key)? {
        if known.der == stored.der {
            return Ok(Accepted { list: known, is_new: false });
        }
        // One that cannot be read protects nobody, and may be replaced.
        if let Ok(Some(known)) = read_stored(&known) {
            check_newer(known, list)?;
        }
    }
    Ok(Accepted { list: stored, is_new: true })
}

/// The record that withdraws an authority's list; `None` if there is none.
///
/// # Errors
/// [`Fault`] if the registry could not be read.
pub fn withdrawal(
    view: &dyn RegistryView,
    issuer: KeyFingerprint,
    now: Timestamp,
) -> Result<Option<RevocationList>, Fault> {
    let known = stored_of(view, issuer)?.filter(|known| !known.der.is_empty());
    Ok(known.map(|known| RevocationList { der: Vec::new(), added: now, ..known }))
}

fn stored_of(view: &dyn RegistryView, issuer: KeyFingerprint) -> Result<Option<RevocationList>, Fault> {
    Ok(view.revocation_lists()?.into_iter().find(|known| known.issuer_key == issuer))
}

fn check_newer(known: Crl, list: Crl) -> Result<(), ListRefusal> {
    let describe = |list: &Crl| match list.number() {
        number if number.is_empty() => format!("of {}", list.this_update()),
        number => format!("number {number} of {}", list.this_update()),
    };
    let (there, sent) = (describe(&known), describe(&list));
    let mut set = CrlSet::default();
    set.add(known);
    match set.add(list) {
        Added::NotNewer => Err(ListRefusal::NotNewer { sent, there }),
        Added::First | Added::Replaced => Ok(()),
    }
}

/// All who may have signed a list: uploaded authorities, verified or not, and those of groups.
fn issuers(view: &dyn RegistryView) -> Result<Vec<Certificate>, Fault> {
    let mut ders: Vec<Vec<u8>> = view.authorities()?.into_iter().map(|authority| authority.der).collect();
    for group in view.groups()? {
        if let Attestation::SigningCertificates { primary, secondary } = group.terms.attestation {
            ders.extend([primary, secondary].into_iter().flatten().map(|StoredCertificate { der, .. }| der));
        }
    }
    Ok(ders.iter().filter_map(|der| Certificate::parse(der).ok()).collect())
}
