//! Building paths by name alone, breadth first and bounded (RFC 4158 is the long story).

use std::collections::VecDeque;

use super::anchor::Anchor;
use super::certificate::Certificate;
use super::chain::INTERMEDIATES_MAX;

/// Partial paths that are looked at. An honest chain needs as many as it has certificates; one made of certificates
/// that all bear the same name would need 16!.
const STEPS_MAX: usize = 256;
/// Candidates that are kept.
const CANDIDATES_MAX: usize = 128;

/// A path by names: places of certificates from the leaf upward, and the place of an anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: Vec<usize>,
    pub(super) anchor: usize,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Shortest first; of one length those whose key identifiers agree first.
    pub(super) candidates: Vec<Candidate>,
    /// Certificates whose issuer was not there, those of the longest paths first.
    pub(super) ends: Vec<usize>,
    /// There were more partial paths than are looked at.
    pub(super) exhausted: bool,
    /// A path grew beyond what is followed.
    pub(super) too_deep: bool,
}

/// Whether `child`'s key identifiers speak for `issuer` (RFC 5280 4.2.1.1): a hint, used for order only.
fn identifiers_agree(child: &Certificate, issuer: &Certificate) -> bool {
    let wanted = child.extensions().authority_key_id.as_ref();
    wanted.is_some() && wanted == issuer.extensions().subject_key_id.as_ref()
}

pub(super) fn walk(certificates: &[Certificate], anchors: &[Anchor]) -> Walk {
    let mut out = Walk::default();
    let mut ends = Vec::new();
    let mut queue = VecDeque::from([vec![0_usize]]);
    let mut steps = 0;
    while let Some(path) = queue.pop_front() {
        steps += 1;
        if steps > STEPS_MAX {
            out.exhausted = true;
            break;
        }
        let Some(top) = path.last().and_then(|at| certificates.get(*at)) else { continue };
        let passes = |entity: &Certificate| path.iter().any(|at| certificates[*at].is_same_entity(entity));
        let mut issuers: Vec<(bool, usize)> = anchors
            .iter()
            .enumerate()
            .filter(|(_, anchor)| {
                anchor.certificate().subject_der() == top.issuer_der() && !passes(anchor.certificate())
            })
            .map(|(at, anchor)| (!identifiers_agree(top, anchor.certificate()), at))
            .collect();
        issuers.sort_by_key(|(disagree, _)| *disagree);
        let reached = !issuers.is_empty();
        let room = CANDIDATES_MAX.saturating_sub(out.candidates.len());
        let found = issuers.into_iter().take(room).map(|(_, anchor)| Candidate { path: path.clone(), anchor });
        out.candidates.extend(found);
        let (mut named, mut longer) = (top.is_self_issued(), Vec::new());
        for (at, issuer) in certificates.iter().enumerate() {
            if issuer.subject_der() != top.issuer_der() || path.last() == Some(&at) {
                continue;
            }
            named = true;
            if !passes(issuer) {
                longer.push((!identifiers_agree(top, issuer), at));
            }
        }
        longer.sort_by_key(|(disagree, _)| *disagree);
        if !reached && longer.is_empty() && (!named || top.is_self_issued()) {
            ends.extend(path.last());
        }
        if path.len() > INTERMEDIATES_MAX {
            out.too_deep |= !longer.is_empty();
            continue;
        }
        queue.extend(longer.into_iter().map(|(_, at)| [&path[..], &[at]].concat()));
    }
    ends.reverse();
    out.ends = ends;
    out
}
