//! Is one path valid? Our own checks, which know reasons, then rustls-webpki's (RFC 5280 6.1).

use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use unicity_identity::Timestamp;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter};

use super::anchor::{Anchor, AnchorError, check_authority};
use super::certificate::Certificate;
use super::memo::Remembering;
use super::refusal::ChainProblem;
use super::signature::Standing;
use super::validity::check_validity;

/// A check that failed, and the certificate that failed it.
#[derive(Debug)]
pub(super) struct Failure<'a> {
    pub(super) problem: ChainProblem,
    pub(super) at: Option<&'a Certificate>,
}

fn check_signature_algorithm(certificate: &Certificate) -> Result<(), ChainProblem> {
    let algorithm = certificate.signature_algorithm();
    match algorithm.standing {
        Standing::Accepted => Ok(()),
        Standing::Broken => Err(ChainProblem::BrokenSignature { algorithm: algorithm.name.clone() }),
        Standing::Unsupported => Err(ChainProblem::UnsupportedSignature { algorithm: algorithm.name.clone() }),
    }
}

/// What can be said of a device's certificate without its issuer.
pub(super) fn check_leaf(leaf: &Certificate) -> Result<(), ChainProblem> {
    let extensions = leaf.extensions();
    if let Some(weakness) = leaf.weakness() {
        return Err(weakness.clone().into());
    }
    check_signature_algorithm(leaf)?;
    if leaf.summary().version != 3 {
        return Err(ChainProblem::Version { version: leaf.summary().version });
    }
    if let Some(oid) = extensions.unknown_critical.first() {
        return Err(ChainProblem::UnknownCritical { oid: oid.clone() });
    }
    if leaf.is_ca() {
        return Err(ChainProblem::LeafIsCa);
    }
    if extensions.key_usage.is_some_and(|usage| !usage.digital_signature) {
        return Err(ChainProblem::LeafKeyUsage);
    }
    if let Some(usage) = extensions.extended_key_usage.as_ref().filter(|usage| !usage.allows_client()) {
        return Err(ChainProblem::ExtendedKeyUsage { found: usage.purposes() });
    }
    Ok(())
}

/// A check on an issuer, in the words of a path.
fn not_authority(error: AnchorError) -> ChainProblem {
    match error {
        AnchorError::Weak(weakness) => ChainProblem::Weak(weakness),
        AnchorError::UnknownCritical { oid } => ChainProblem::UnknownCritical { oid },
        AnchorError::Version { version } => ChainProblem::Version { version },
        AnchorError::ExtendedKeyUsage { found } => ChainProblem::ExtendedKeyUsage { found },
        other => ChainProblem::NotAuthority(other),
    }
}

/// The first certificate of a path that its issuer's key did not sign.
fn forged<'a>(path: &[&'a Certificate], anchor: &'a Anchor) -> Option<Failure<'a>> {
    let issuers = path.iter().copied().skip(1).chain([anchor.certificate()]);
    let (at, issuer) = path.iter().copied().zip(issuers).find(|(child, issuer)| !child.is_signed_by(issuer))?;
    let issuer = issuer.summary().short();
    let issuer = format!("{} (key {})", issuer.subject, issuer.key_fingerprint);
    Some(Failure { problem: ChainProblem::Signature { issuer }, at: Some(at) })
}

/// Judges a path; the leaf by itself has been judged by [`check_leaf`].
pub(super) fn judge<'a>(
    path: &[&'a Certificate],
    anchor: &'a Anchor,
    now: Timestamp,
    skew_seconds: u64,
) -> Result<(), Failure<'a>> {
    if let Err(failure) = check_path(path, anchor, now, skew_seconds) {
        // Whoever only borrows our names is told so, rather than about dates that the forger chose.
        return Err(match failure.problem {
            ChainProblem::BrokenSignature { .. } | ChainProblem::UnsupportedSignature { .. } => failure,
            _ => forged(path, anchor).unwrap_or(failure),
        });
    }
    validate(path, anchor, now)?;
    if !anchor.is_verified() {
        let problem = ChainProblem::AnchorUnverified { name: anchor.name().to_owned() };
        return Err(Failure { problem, at: Some(anchor.certificate()) });
    }
    Ok(())
}

fn check_path<'a>(
    path: &[&'a Certificate],
    anchor: &'a Anchor,
    now: Timestamp,
    skew_seconds: u64,
) -> Result<(), Failure<'a>> {
    for (below, certificate) in path.iter().copied().chain([anchor.certificate()]).enumerate() {
        let failed = |problem| Failure { problem, at: Some(certificate) };
        // An anchor is trusted by itself: nobody asks what it is signed with.
        if below < path.len() {
            check_signature_algorithm(certificate).map_err(failed)?;
        }
        if below > 0 {
            check_authority(certificate).map_err(|error| failed(not_authority(error)))?;
            let found = u32::try_from(below - 1).unwrap_or(u32::MAX);
            let allowed = certificate.extensions().basic_constraints.and_then(|constraints| constraints.path_length);
            if let Some(allowed) = allowed.filter(|allowed| found > *allowed) {
                return Err(failed(ChainProblem::PathLength { allowed, found }));
            }
        }
        check_validity(certificate.summary(), now, skew_seconds).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// `clientAuth`, `anyExtendedKeyUsage`, or no extended key usage at all (RFC 5280 4.2.1.12).
struct ClientPurpose;

const CLIENT_AUTH: KeyPurposeId<'static> = KeyPurposeId::new(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02]);
const ANY_PURPOSE: KeyPurposeId<'static> = KeyPurposeId::new(&[0x55, 0x1d, 0x25, 0x00]);

impl ExtendedKeyUsageValidator for ClientPurpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut none = true;
        for purpose in purposes {
            none = false;
            let purpose = purpose?;
            if purpose == CLIENT_AUTH || purpose == ANY_PURPOSE {
                return Ok(());
            }
        }
        // Ours has named the purposes already; what is returned here only has to be an error.
        if none { Ok(()) } else { Err(webpki::Error::EmptyEkuExtension) }
    }
}

/// The moment nearest to `now` at which every certificate of the path is valid: the skew has been allowed for already,
/// and rustls-webpki knows none.
fn moment_in(path: &[&Certificate], now: Timestamp) -> UnixTime {
    let first = path.iter().map(|certificate| certificate.summary().not_before.unix_seconds()).max().unwrap_or(0);
    let last = path.iter().map(|certificate| certificate.summary().not_after.unix_seconds()).min().unwrap_or(u64::MAX);
    let seconds = now.unix_seconds().max(first).min(last);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn validate<'a>(path: &[&'a Certificate], anchor: &'a Anchor, now: Timestamp) -> Result<(), Failure<'a>> {
    let ders: Vec<CertificateDer<'_>> =
        path.iter().map(|certificate| CertificateDer::from(certificate.der())).collect();
    let Some((leaf, intermediates)) = ders.split_first() else {
        return Err(Failure { problem: ChainProblem::Empty, at: None });
    };
    let remembering: Vec<Remembering<'_>> = ALL_VERIFICATION_ALGS
        .iter()
        .map(|algorithm| Remembering { algorithm: *algorithm, memo: anchor.memo(), devices: anchor.devices(), leaf })
        .collect();
    let algorithms: Vec<&dyn SignatureVerificationAlgorithm> =
        remembering.iter().map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm).collect();
    let validated = EndEntityCert::try_from(leaf).and_then(|leaf| {
        let anchors = std::slice::from_ref(anchor.trust());
        let time = moment_in(path, now);
        leaf.verify_for_usage(&algorithms, anchors, intermediates, time, ClientPurpose, None, None).map(|_| ())
    });
    let Err(error) = validated else { return Ok(()) };
    Err(forged(path, anchor).unwrap_or_else(|| match error {
        webpki::Error::NameConstraintViolation => {
            let all = path.iter().copied().chain([anchor.certificate()]);
            let issuer = all.skip(1).find(|issuer| issuer.extensions().name_constraints.is_some());
            let name = issuer.map_or_else(String::new, |issuer| issuer.summary().short().subject);
            Failure { problem: ChainProblem::NameConstraints { issuer: name }, at: path.first().copied() }
        }
        other => Failure { problem: ChainProblem::Other(other.to_string()), at: path.first().copied() },
    }))
}
