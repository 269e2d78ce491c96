//! From what a device sends to an authority that an operator named.
//!
//! Two steps. *Building* follows names from the leaf upward, breadth first, so that the enrollment nearest to the leaf
//! is found first; it is cheap, proves nothing and is bounded, since a stranger chooses what it walks through.
//! *Validation* takes the candidates in that order: our own checks, which know reasons, then the path validation of
//! rustls-webpki with exactly that path (RFC 5280 6.1: signatures, dates, basic constraints, path length, name
//! constraints, extended key usage, critical extensions), whose word is final. So each signature is verified once on
//! the way to a yes, and an intermediate's once for all devices below it.
//!
//! What rustls-webpki lacks and is checked here: key usage, the anchor's own dates and path length, weak keys, broken
//! signature algorithms by name, clocks that differ, and reasons. Stricter than RFC 5280: names are compared byte for
//! byte, self-issued certificates count in path lengths, and constraints on directory names refuse the path (RFC 5280
//! 4.2.1.10 allows that). Not here: revocation, see [`super::crl`].

use unicity_identity::Timestamp;

use super::anchor::Anchor;
use super::build::{Candidate, Walk, walk};
use super::certificate::{Certificate, CertificateError};
use super::judge::{Failure, judge};
use super::refusal::{ChainProblem, ChainRefusal, NearMiss, NearMissReason};
use super::summary::CertificateSummary;

/// Most certificates of one chain, before duplicates are dropped.
pub const PRESENTED_MAX: usize = 16;
/// Most bytes of one chain.
pub const PRESENTED_BYTES_MAX: usize = 64 * 1024;
/// Most intermediates between a leaf and an anchor; rustls-webpki follows no more.
pub const INTERMEDIATES_MAX: usize = 6;
/// Candidates that are validated. A forged one costs a few signatures; honest devices have one or two, and those whose
/// key identifiers agree come first.
const CANDIDATES_JUDGED_MAX: usize = 16;

/// What a device sent in its handshake: its own certificate first, then others in any order.
#[derive(Debug, Clone)]
pub struct DeviceChain {
    certificates: Vec<Certificate>,
    unreadable: Vec<(usize, CertificateError)>,
}

impl DeviceChain {
    /// Reads the certificates of a handshake. Exact duplicates are dropped. One that cannot be read is set aside and
    /// named in a refusal, unless it is the first: a device may send more than is needed.
    ///
    /// # Errors
    /// [`ChainRefusal`] if there are none, too many, too large ones, or the device's own cannot be read.
    pub fn parse<D: AsRef<[u8]>>(presented: &[D]) -> Result<Self, Box<ChainRefusal>> {
        let refuse =
            |problem| Box::new(ChainRefusal { problem, at: None, chain: vec![], unreadable: vec![], nearest: None });
        if presented.is_empty() {
            return Err(refuse(ChainProblem::Empty));
        }
        if presented.len() > PRESENTED_MAX {
            return Err(refuse(ChainProblem::TooMany { found: presented.len() }));
        }
        let bytes = presented.iter().map(|der| der.as_ref().len()).sum();
        if bytes > PRESENTED_BYTES_MAX {
            return Err(refuse(ChainProblem::TooLarge { found: bytes }));
        }
        let mut chain = Self { certificates: Vec::with_capacity(presented.len()), unreadable: vec![] };
        for (der, place) in presented.iter().zip(1..) {
            if chain.certificates.iter().any(|known| known.der() == der.as_ref()) {
                continue;
            }
            match Certificate::parse(der.as_ref()) {
                Ok(certificate) => chain.certificates.push(certificate),
                Err(error) if place == 1 => return Err(refuse(error.into())),
                Err(error) => chain.unreadable.push((place, error)),
            }
        }
        Ok(chain)
    }

    /// The device's own certificate, whose key the handshake proved.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.certificates[0]
    }

    /// All that could be read, the device's own first, without duplicates.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    fn refusal(&self, failure: Failure<'_>, nearest: Option<NearMiss>) -> Box<ChainRefusal> {
        Box::new(ChainRefusal {
            problem: failure.problem,
            at: failure.at.map(|at| at.summary().short()),
            chain: self.certificates.iter().map(|certificate| certificate.summary().short()).collect(),
            unreadable: self.unreadable.clone(),
            nearest,
        })
    }
}

/// A valid path.
#[derive(Debug, Clone)]
pub struct Verified<'a> {
    /// The device's certificate, then intermediates; the anchor is not among them.
    pub path: Vec<&'a Certificate>,
    /// The authority that the path leads to.
    pub anchor: &'a Anchor,
    /// Its place in the list of anchors given.
    pub anchor_index: usize,
    /// Steps from the leaf to the anchor: 1 if the anchor issued the leaf.
    pub depth: usize,
}

impl<'a> Verified<'a> {
    /// The path and the anchor.
    #[must_use]
    pub fn line(&self) -> Vec<&'a Certificate> {
        self.path.iter().copied().chain([self.anchor.certificate()]).collect()
    }

    /// The path and the anchor, as evidence.
    #[must_use]
    pub fn summaries(&self) -> Vec<CertificateSummary> {
        self.line().into_iter().map(|certificate| certificate.summary().short()).collect()
    }
}

/// The line of issuers of a chain that leads nowhere: the leaf, who signed it, and so on as far as it can be followed
/// among what was sent and what is `known`. Says nothing about dates, rights or trust.
///
/// For a certificate that is trusted by itself: whoever stands above it may still take it back, and a device must not
/// get around that by showing an outdated chain, or none.
#[must_use]
pub fn line_of<'a>(
    chain: &'a DeviceChain,
    known: impl Iterator<Item = &'a Certificate> + Clone,
) -> Vec<&'a Certificate> {
    let mut line = vec![chain.leaf()];
    while line.len() <= INTERMEDIATES_MAX + 1
        && let Some(top) = line.last().copied()
    {
        let issuer = chain.certificates.iter().chain(known.clone()).find(|issuer| {
            issuer.subject_der() == top.issuer_der()
                && !line.iter().any(|passed| passed.is_same_entity(issuer))
                && top.is_signed_by(issuer)
        });
        let Some(issuer) = issuer else { break };
        line.push(issuer);
    }
    line
}

/// Verifies a chain against the anchors; the one nearest to the leaf wins, then the one listed first.
///
/// An anchor that is not verified vouches for nobody; it is named when everything else would have been well.
///
/// # Errors
/// [`ChainRefusal`] with the first check that failed on the most promising path.
pub fn verify<'a>(
    chain: &'a DeviceChain,
    anchors: &'a [Anchor],
    now: Timestamp,
    skew_seconds: u64,
) -> Result<Verified<'a>, Box<ChainRefusal>> {
    let leaf = chain.leaf();
    if let Err(problem) = super::judge::check_leaf(leaf) {
        return Err(chain.refusal(Failure { problem, at: Some(leaf) }, None));
    }
    let walk = walk(&chain.certificates, anchors);
    let mut refused: Option<(Failure<'a>, usize)> = None;
    for Candidate { path, anchor: anchor_index } in walk.candidates.iter().take(CANDIDATES_JUDGED_MAX) {
        let path: Vec<&Certificate> = path.iter().map(|at| &chain.certificates[*at]).collect();
        let anchor = &anchors[*anchor_index];
        match judge(&path, anchor, now, skew_seconds) {
            Ok(()) => return Ok(Verified { depth: path.len(), path, anchor, anchor_index: *anchor_index }),
            Err(failure) => {
                let forged = |failure: &Failure<'_>| matches!(failure.problem, ChainProblem::Signature { .. });
                // A path whose signatures hold explains more than one that only has the right names.
                if refused.as_ref().is_none_or(|(first, _)| forged(first) && !forged(&failure)) {
                    refused = Some((failure, *anchor_index));
                }
            }
        }
    }
    match refused {
        Some((failure, anchor_index)) => {
            let other_key = matches!(failure.problem, ChainProblem::Signature { .. });
            let why = if other_key { NearMissReason::OtherKey } else { NearMissReason::Refused };
            Err(chain.refusal(failure, Some(near(&anchors[anchor_index], why))))
        }
        None => Err(chain.refusal(dead_end(chain, &walk), nearest_miss(chain, anchors))),
    }
}

fn near(anchor: &Anchor, why: NearMissReason) -> NearMiss {
    NearMiss { anchor: anchor.name().to_owned(), certificate: anchor.certificate().summary().short(), why }
}

/// Why no path reached an anchor.
fn dead_end<'a>(chain: &'a DeviceChain, walk: &Walk) -> Failure<'a> {
    let leaf = chain.leaf();
    if leaf.is_self_issued() {
        return Failure { problem: ChainProblem::SelfSigned, at: Some(leaf) };
    }
    if walk.exhausted {
        return Failure { problem: ChainProblem::TooManyPaths, at: None };
    }
    if walk.too_deep {
        return Failure { problem: ChainProblem::TooDeep, at: None };
    }
    let top = walk.ends.first().map_or(leaf, |at| &chain.certificates[*at]);
    let problem = if top.is_self_issued() {
        ChainProblem::UnknownRoot { subject: top.summary().short().subject }
    } else if walk.ends.is_empty() {
        ChainProblem::Loop
    } else {
        ChainProblem::UnknownIssuer { issuer: top.summary().short().issuer }
    };
    Failure { problem, at: Some(top) }
}

/// The anchor that would have matched but for one thing.
fn nearest_miss(chain: &DeviceChain, anchors: &[Anchor]) -> Option<NearMiss> {
    chain.certificates.iter().find_map(|sent| {
        anchors.iter().find_map(|anchor| {
            let authority = anchor.certificate();
            let why = if authority.subject_der() == sent.subject_der() && authority.key() != sent.key() {
                NearMissReason::OtherKey
            } else if authority.key() == sent.key() && authority.subject_der() != sent.subject_der() {
                NearMissReason::OtherName
            } else if authority.subject_der() != sent.issuer_der()
                && authority.summary().subject.eq_ignore_ascii_case(&sent.summary().issuer)
            {
                NearMissReason::OtherEncoding
            } else {
                return None;
            };
            Some(near(anchor, why))
        })
    })
}

/// An anchor above a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorMatch {
    /// Its place in the list of anchors given.
    pub anchor: usize,
    /// Steps from the leaf: 1 if it issued the leaf.
    pub distance: usize,
}

/// The anchors on a valid path, nearest to the leaf first, then in the order listed; the one that [`verify`] chose is
/// among them. An anchor is on the path by name and key, whatever its own dates and whether or not it is verified.
///
/// So a disabled group is found also when its own certificate has expired, or was renewed over the same key and the
/// device sends the new one: `verify` then goes on to a farther group, and the nearer one, disabled, must refuse the
/// device.
#[must_use]
pub fn nearest_anchor(verified: &Verified<'_>, anchors: &[Anchor]) -> Vec<AnchorMatch> {
    let issuers = verified.path.iter().copied().skip(1).chain([verified.anchor.certificate()]);
    issuers
        .zip(1..)
        .flat_map(|(issuer, distance)| {
            let here = anchors.iter().enumerate().filter(|(_, anchor)| anchor.certificate().is_same_entity(issuer));
            here.map(move |(anchor, _)| AnchorMatch { anchor, distance })
        })
        .collect()
}
