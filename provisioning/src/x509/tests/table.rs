//! The shape of a table of chains: what was sent, against which authorities, and the verdict with its reason.

use rcgen::CertificateParams;
use rustls_pki_types::CertificateDer;

use super::super::*;
use super::*;

/// Where a refusal shows: rustls cannot read some certificates, so their handshakes fail; all others are judged by us. That is as far
/// as a certificate's form decides: a key that TLS has no signature scheme for fails in the handshake as well, which the table over
/// sockets shows (`unicity/tests/x509`).
#[derive(Debug, PartialEq, Clone, Copy)]
pub(super) enum Stage {
    Handshake,
    Identity,
}
pub(super) use Stage::{Handshake, Identity};

pub(super) enum Expect {
    Accepted {
        depth: usize,
        anchor: &'static str,
    },
    /// The check's name and a part of the cause.
    Refused(Stage, &'static str, &'static str),
}
pub(super) use Expect::{Accepted, Refused};

pub(super) struct Case {
    pub(super) what: &'static str,
    pub(super) sent: Vec<Vec<u8>>,
    pub(super) anchors: Vec<Anchor>,
    pub(super) expect: Expect,
}

pub(super) fn case(what: &'static str, sent: &[&[u8]], anchors: &[&Anchor], expect: Expect) -> Case {
    Case {
        what,
        sent: sent.iter().map(|der| der.to_vec()).collect(),
        anchors: anchors.iter().map(|anchor| (*anchor).clone()).collect(),
        expect,
    }
}

fn stage(leaf: &[u8]) -> Stage {
    match webpki::EndEntityCert::try_from(&CertificateDer::from(leaf)) {
        Ok(_) => Identity,
        Err(_) => Handshake,
    }
}

pub(super) fn run(cases: Vec<Case>) -> usize {
    let count = cases.len();
    for Case { what, sent, anchors, expect } in cases {
        let outcome = DeviceChain::parse(&sent).and_then(|chain| {
            verify(&chain, &anchors, NOW, SKEW_SECONDS)
                .map(|verified| (verified.depth, verified.anchor.name().to_owned(), verified.path.len()))
        });
        match (expect, outcome) {
            (Accepted { depth, anchor }, Ok(found)) => {
                assert_eq!((depth, anchor, depth), (found.0, found.1.as_str(), found.2), "{what}");
                assert_eq!(stage(&sent[0]), Identity, "{what}: the handshake would fail");
            }
            (Refused(at, name, part), Err(refusal)) => {
                let cause = refusal.to_string();
                assert_eq!(refusal.problem.name(), name, "{what}: {cause}");
                assert!(cause.contains(part), "{what}: {cause:?} lacks {part:?}");
                assert!(refusal.remedy().len() > 15, "{what}: {}", refusal.remedy());
                assert!(refusal.evidence()["cause"].is_string());
                if let Some(leaf) = sent.first() {
                    assert_eq!(stage(leaf), at, "{what}");
                }
            }
            (Accepted { .. }, Err(refusal)) => panic!("{what}: refused: {refusal}"),
            (Refused(_, name, _), Ok(found)) => panic!("{what}: accepted ({found:?}), not refused as {name}"),
        }
    }
    count
}

pub(super) const fn ok(depth: usize, anchor: &'static str) -> Expect {
    Accepted { depth, anchor }
}

pub(super) const fn no(name: &'static str, part: &'static str) -> Expect {
    Refused(Identity, name, part)
}

pub(super) fn with(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    change(&mut params);
    params
}
