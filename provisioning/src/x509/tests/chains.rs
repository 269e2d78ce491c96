//! Chains of every shape.

use rcgen::{CustomExtension, DnType, DnValue};

use super::super::*;
use super::table::*;
use super::*;

#[test]
fn chains_of_every_shape() {
    let root = Ca::root("root");
    let mid = root.sub("mid");
    let low = mid.sub("low");
    let (r, m, l) = (root.anchor("root"), mid.anchor("mid"), low.anchor("low"));
    let by_root = root.issue(device("dev"));
    let by_mid = mid.issue(device("dev"));
    let leaf = low.issue(device("dev"));
    let stranger = Ca::root("stranger");
    let unrelated = stranger.sub("unrelated").der;
    let renewed_mid = root.sub_over(with(authority("mid"), |p| p.not_after = at(NOW, 700 * DAY)), mid.key());
    let crossed_mid = stranger.sub_over(authority("mid"), mid.key());
    let over_other_key = root.sub("mid");
    // Two authorities that vouch for each other, and for nobody else.
    let a = Ca::root("a");
    let b = Ca::root("b");
    let (a_by_b, b_by_a) = (b.sub_over(authority("a"), a.key()), a.sub_over(authority("b"), b.key()));
    let in_a_loop = a.issue(device("dev"));
    let mut deep = vec![Ca::root("deep 0")];
    for level in 1..=20 {
        deep.push(deep.last().unwrap().sub(&format!("deep {level}")));
    }
    let deep_leaf = |from: usize| deep[from].issue(device("dev"));
    let deep_chain = |from: usize| {
        let mut sent = vec![deep_leaf(from)];
        sent.extend(deep[1..=from].iter().rev().map(|ca| ca.der.clone()));
        sent
    };
    let deep_case =
        |what, from, expect| Case { what, sent: deep_chain(from), anchors: vec![deep[0].anchor("deep")], expect };
    let same_names: Vec<Vec<u8>> = (0..14).map(|_| Ca::root("same").sub("same").der).collect();
    let among_same = Ca::root("same").issue(device("dev"));
    let mut pile = vec![among_same.as_slice()];
    pile.extend(same_names.iter().map(Vec::as_slice));
    let long = with(device("dev"), |p| {
        p.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 2], vec![0x05; 60_000])];
    });
    let long = mid.issue(long);
    let garbage = vec![0x30, 0x82, 0x01, 0x00, 0xde, 0xad];
    let self_made = self_signed(device("dev"));
    let unverified = Anchor::new("fresh", root.certificate(), false).unwrap();
    let same_name_root = Ca::root("root").anchor("impostor");
    let printable = Ca::root_with(with(authority("x"), |p| {
        p.distinguished_name.push(DnType::CommonName, DnValue::PrintableString("root".try_into().unwrap()));
    }));
    let renamed = Ca::root("elsewhere").sub_over(authority("mid, renamed"), mid.key()).anchor("renamed");
    let mut changed = by_root.clone();
    let name = changed.windows(3).rposition(|window| window == b"dev").unwrap();
    changed[name + 2] = b'w';

    let count = run(vec![
        case("issued by the anchor itself", &[&by_root], &[&r], ok(1, "root")),
        case("one intermediate", &[&by_mid, &mid.der], &[&r], ok(2, "root")),
        case("two intermediates", &[&leaf, &low.der, &mid.der], &[&r], ok(3, "root")),
        case("the root is sent too", &[&leaf, &low.der, &mid.der, &root.der], &[&r], ok(3, "root")),
        case("wrong order", &[&leaf, &root.der, &mid.der, &low.der], &[&r], ok(3, "root")),
        case("an intermediate twice", &[&leaf, &low.der, &low.der, &mid.der, &mid.der], &[&r], ok(3, "root")),
        case("the leaf twice", &[&by_root, &by_root], &[&r], ok(1, "root")),
        case("extra certificates", &[&by_mid, &unrelated, &mid.der, &stranger.der], &[&r], ok(2, "root")),
        case("extra garbage", &[&by_mid, &garbage, &mid.der], &[&r], ok(2, "root")),
        case("the anchor is an intermediate", &[&by_mid], &[&m], ok(1, "mid")),
        case("the anchor is an intermediate, and is sent", &[&by_mid, &mid.der], &[&m], ok(1, "mid")),
        case("the nearest of three wins", &[&leaf, &low.der, &mid.der], &[&r, &m, &l], ok(1, "low")),
        case("the nearest of two wins", &[&leaf, &low.der, &mid.der], &[&r, &m], ok(2, "mid")),
        case("the first listed of equals wins", &[&by_root], &[&r, &root.anchor("again")], ok(1, "root")),
        case("an intermediate renewed over its key", &[&by_mid, &renewed_mid.der], &[&r], ok(2, "root")),
        case("an anchor renewed over its key", &[&by_mid], &[&renewed_mid.anchor("renewed")], ok(1, "renewed")),
        case("cross-signed, both ways sent", &[&by_mid, &crossed_mid.der, &mid.der], &[&r], ok(2, "root")),
        case("an issuer of the same name first", &[&by_mid, &over_other_key.der, &mid.der], &[&r], ok(2, "root")),
        case("an anchor of the same name first", &[&by_root], &[&same_name_root, &r], ok(1, "root")),
        case("unverified anchor beside a verified one", &[&by_root], &[&unverified, &r], ok(1, "root")),
        deep_case("six intermediates", 6, ok(7, "deep")),
        deep_case("seven intermediates", 7, no("ChainTooDeep", "more than 6")),
        deep_case("twenty deep", 20, no("ChainTooLong", "21 certificates")),
        case("nothing", &[], &[&r], Refused(Identity, "NoCertificate", "no certificate")),
        case("no anchors at all", &[&by_root], &[], no("UnknownIssuer", "CN=root")),
        case("another's root", &[&by_mid, &mid.der], &[&stranger.anchor("stranger")], no("UnknownIssuer", "CN=root")),
        case(
            "another's root, all sent",
            &[&by_mid, &mid.der, &root.der],
            &[&stranger.anchor("s")],
            no("UnknownRoot", "CN=root"),
        ),
        case("a missing intermediate", &[&leaf, &low.der], &[&r], no("UnknownIssuer", "issuer CN=mid was not sent")),
        case("self-signed leaf in a group", &[&self_made], &[&r], no("SelfSigned", "self-signed")),
        case("self-signed leaf with a chain", &[&self_made, &mid.der], &[&r], no("SelfSigned", "self-signed")),
        case("an unverified CA", &[&by_root], &[&unverified], no("CaUnverified", "\"fresh\"")),
        case("the same subject with another key", &[&by_root], &[&same_name_root], no("SignatureInvalid", "CN=root")),
        case(
            "an intermediate of another key",
            &[&by_mid, &over_other_key.der],
            &[&r],
            no("SignatureInvalid", "CN=mid"),
        ),
        case(
            "the anchor's name in another encoding",
            &[&by_root],
            &[&printable.anchor("p")],
            no("UnknownIssuer", "CN=root"),
        ),
        case("the anchor's key under another name", &[&by_mid, &mid.der], &[&renamed], no("UnknownIssuer", "CN=root")),
        case("a loop", &[&in_a_loop, &a_by_b.der, &b_by_a.der], &[&r], no("ChainLoop", "back into itself")),
        case("a loop and a way out", &[&in_a_loop, &a_by_b.der, &b_by_a.der], &[&b.anchor("b")], ok(2, "b")),
        case("fifteen of one name", &pile, &[&r], no("ChainAmbiguous", "too many ways")),
        case("a certificate of 64 KiB", &[&long], &[&m], Refused(Identity, "CertificateUnreadable", "at most 16384")),
        case(
            "64 KiB of certificates",
            &[&by_mid, &long, &garbage, &vec![0; 6000]],
            &[&m],
            no("ChainTooLarge", "65536"),
        ),
        case("garbage", &[&garbage], &[&r], Refused(Handshake, "CertificateUnreadable", "no certificate in DER")),
        case("an empty certificate", &[&[]], &[&r], Refused(Handshake, "CertificateUnreadable", "ends where")),
        case(
            "a trailing byte",
            &[&[&by_root[..], &[0]].concat()],
            &[&r],
            Refused(Handshake, "CertificateUnreadable", "after the end"),
        ),
        case("a changed leaf", &[&changed], &[&r], no("SignatureInvalid", "was changed")),
    ]);
    assert!(count >= 40, "{count}");
}

#[test]
fn a_near_miss_is_named() {
    let root = Ca::root("root");
    let mid = root.sub("mid");
    let sent = [mid.issue(device("dev")), mid.der.clone()];
    let near = |anchor: Anchor| {
        let chain = DeviceChain::parse(&sent).unwrap();
        let refusal = verify(&chain, &[Ca::root("far").anchor("far"), anchor], NOW, SKEW_SECONDS).unwrap_err();
        refusal.nearest.map(|near| (near.anchor, near.why))
    };
    let printable = Ca::root_with(with(authority("x"), |p| {
        p.distinguished_name.push(DnType::CommonName, DnValue::PrintableString("ROOT".try_into().unwrap()));
    }));
    let renamed = Ca::root("elsewhere").sub_over(authority("renamed"), mid.key());
    let short = Ca::root_with(with(authority("old"), |p| p.not_after = at(NOW, -20 * DAY)));
    for (anchor, why) in [
        (Ca::root("root").anchor("near"), NearMissReason::OtherKey),
        (Ca::root("x").sub("mid").anchor("near"), NearMissReason::OtherKey),
        (printable.anchor("near"), NearMissReason::OtherEncoding),
        (renamed.anchor("near"), NearMissReason::OtherName),
        (Anchor::new("near", root.certificate(), false).unwrap(), NearMissReason::Refused),
    ] {
        assert_eq!(near(anchor), Some(("near".into(), why)));
    }
    assert_eq!(near(short.anchor("near")), None);
}

#[test]
fn a_forged_path_does_not_hide_why_the_true_one_failed() {
    let root = Ca::root("root");
    let old = root.issue(with(device("dev"), |p| p.not_after = at(NOW, -DAY)));
    let chain = DeviceChain::parse(&[old]).unwrap();
    let anchors = [Ca::root("root").anchor("impostor"), root.anchor("root")];
    let refusal = verify(&chain, &anchors, NOW, SKEW_SECONDS).unwrap_err();
    assert_eq!(refusal.problem.name(), "CertificateExpired", "{refusal}");
    assert_eq!(refusal.nearest.unwrap().anchor, "root");
    let refusal = verify(&chain, &anchors[..1], NOW, SKEW_SECONDS).unwrap_err();
    assert_eq!(refusal.problem.name(), "SignatureInvalid", "dates of a forgery are the forger's: {refusal}");
}

#[test]
fn enrollments_above_a_leaf_are_listed_nearest_first_whatever_their_state() {
    let root = Ca::root("root");
    let mid = root.sub_with(with(authority("mid"), |p| p.not_after = at(NOW, -DAY)));
    let renewed = root.sub_over(authority("mid"), mid.key());
    let leaf = renewed.issue(device("dev"));
    let chain = DeviceChain::parse(&[leaf, renewed.der.clone()]).unwrap();
    let namesake = Ca::root("mid").anchor("another mid");
    let anchors = [root.anchor("root"), Ca::root("other").anchor("other"), namesake, mid.anchor("old mid")];
    let verified = verify(&chain, &anchors, NOW, SKEW_SECONDS).unwrap();
    assert_eq!(verified.anchor.name(), "root");
    let found: Vec<_> =
        nearest_anchor(&verified, &anchors).iter().map(|found| (found.anchor, found.distance)).collect();
    assert_eq!(found, [(3, 1), (0, 2)], "the expired one of the same key still names its group");
}

/// The signature on an intermediate is remembered; what differs from it in one bit is not it.
#[test]
fn an_intermediate_known_from_an_earlier_chain_vouches_for_itself_only() {
    let root = Ca::root("root");
    let mid = root.sub("mid");
    let anchors = [root.anchor("root")];
    let leaf = mid.issue(device("dev"));
    let judged = |sent: &[&[u8]]| {
        let chain = DeviceChain::parse(sent).map_err(|refusal| refusal.problem.name())?;
        verify(&chain, &anchors, NOW, SKEW_SECONDS).map(drop).map_err(|refusal| refusal.problem.name())
    };
    for _ in 0..2 {
        assert_eq!(judged(&[&leaf, &mid.der]), Ok(()));
        assert_eq!(anchors[0].memo().len(), 1, "the intermediate's, and not the device's own");
    }
    for at in 0..mid.der.len() {
        let mut forged = mid.der.clone();
        forged[at] ^= 1;
        judged(&[&leaf, &forged]).expect_err("a changed intermediate vouches for nobody");
    }
    let impostor = Ca::root("root").sub_over(authority("mid"), mid.key());
    judged(&[&leaf, &impostor.der]).expect_err("the same name and key, signed by another root");
    let thief = Ca::root("thief").sub("mid");
    judged(&[&thief.issue(device("dev")), &mid.der]).expect_err("a leaf by another key of the same name");
    assert_eq!(anchors[0].memo().len(), 1, "nothing that failed is remembered");
    assert_eq!(judged(&[&leaf, &mid.der]), Ok(()));
}
