//! Whatever bytes come: no panic, bounded work, and nothing that is not canonical is taken.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::super::*;
use super::*;
use crate::damaged::{any_bytes, damaged, seeds};

struct World {
    anchors: Vec<Anchor>,
    chain: Vec<Vec<u8>>,
    crl: Vec<u8>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let root = Ca::root("root");
        let mid = root.sub("mid");
        let crl = rcgen::CertificateRevocationListParams {
            this_update: at(NOW, -DAY),
            next_update: at(NOW, DAY),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: 9_u64.into(),
                revocation_time: at(NOW, -60),
                reason_code: Some(rcgen::RevocationReason::KeyCompromise),
                invalidity_date: Some(at(NOW, -120)),
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let crl = crl.signed_by(&root.issuer).unwrap().der().to_vec();
        World { anchors: vec![root.anchor("root")], chain: vec![mid.issue(device("dev")), mid.der.clone()], crl }
    })
}

fn mutate(mut bytes: Vec<u8>, changes: &[(usize, u8)], cut: Option<usize>) -> Vec<u8> {
    for (place, value) in changes {
        let place = place % bytes.len();
        bytes[place] ^= value;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut % bytes.len());
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    proptest::collection::vec((any::<usize>(), 1_u8..), 1..6)
}

/// Everything that takes a stranger's bytes.
fn feed(bytes: &[u8]) {
    fuzzing::certificate(bytes);
    let _ = fuzzing::chain(bytes);
    let _ = fuzzing::revocation_list(bytes);
}

#[test]
fn every_seed_of_the_fuzz_targets_is_one() {
    for (name, seed) in seeds("certificate") {
        feed(&seed);
        assert!(parse_certificates(&seed).is_ok(), "{name}");
    }
    for (name, seed) in seeds("chain") {
        assert!(fuzzing::chain(&seed), "{name}");
    }
    for (name, seed) in seeds("revocation_list") {
        assert!(fuzzing::revocation_list(&seed), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in any_bytes()) {
        feed(&bytes);
        feed(&[&[0x30, 0x82, 0x01, 0x00], &bytes[..]].concat());
        let _ = DeviceChain::parse(&[bytes]);
    }

    #[test]
    fn damaged_seeds_never_panic(
        certificate in damaged("certificate"), chain in damaged("chain"), list in damaged("revocation_list"),
    ) {
        feed(&certificate);
        feed(&chain);
        feed(&list);
    }

    #[test]
    fn random_text_never_panics(
        text in "(-----BEGIN [A-Z 0-9]{0,12}-----)?[A-Za-z0-9+/=\\s]{0,200}(-----END [A-Z 0-9]{0,12}-----)?",
    ) {
        feed(text.as_bytes());
    }

    #[test]
    fn a_changed_certificate_or_list_is_never_believed(
        which in 0_usize..3, changes in changes(), cut in proptest::option::weighted(0.2, any::<usize>()),
    ) {
        let world = world();
        let original = [&world.chain[0], &world.chain[1], &world.crl][which];
        let bytes = mutate(original.clone(), &changes, cut);
        feed(&bytes);
        prop_assume!(bytes != *original);
        if which == 2 {
            let list = UnverifiedCrl::parse(&bytes).and_then(|list| list.verify(world.anchors[0].certificate()));
            // An ECDSA signature can be written as (r, s) or (r, -s): not by chance.
            prop_assert!(list.is_err());
        } else {
            let mut sent = world.chain.clone();
            sent[which] = bytes;
            let believed = DeviceChain::parse(&sent)
                .is_ok_and(|chain| verify(&chain, &world.anchors, NOW, SKEW_SECONDS).is_ok());
            prop_assert!(!believed);
        }
    }

    #[test]
    fn the_order_of_what_is_sent_does_not_matter(seed in any::<u64>(), extra in 0_usize..4) {
        let world = world();
        let mut rest: Vec<Vec<u8>> = vec![world.chain[1].clone(); 1 + extra];
        rest.push(world.anchors[0].certificate().der().to_vec());
        let length = rest.len();
        rest.rotate_left(usize::try_from(seed).unwrap_or(0) % length);
        rest.insert(0, world.chain[0].clone());
        let chain = DeviceChain::parse(&rest).unwrap();
        prop_assert_eq!(verify(&chain, &world.anchors, NOW, SKEW_SECONDS).unwrap().depth, 2);
    }
}
