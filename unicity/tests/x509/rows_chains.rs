//! Chains of every shape, and handshakes that prove nothing.

use rcgen::{CustomExtension, DnType, DnValue};

use crate::device::Verdict::Ended;
use crate::factory::{Ca, DAY, Sent, at, authority, device, self_signed, with};
use crate::server::Server;
use crate::signing::Garbage;
use crate::table::{Handshake, Identity, NO_REASON, NOT_AUTHORIZED, Passed, Row, assigned, row};

/// A certificate with so many bytes more than it needs.
fn padded(ca: &Ca, id: &str, bytes: usize) -> Sent {
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 2], vec![0x05; bytes]);
    ca.issue(with(device(id), |p| p.custom_extensions = vec![extension]))
}

pub(crate) fn rows(server: &Server) -> Vec<Row> {
    let root = Ca::root("root");
    let mid = root.sub("mid");
    let low = mid.sub("low");
    server.enrol_group("all", &root.der);
    let (r, m, l) = (&root.der[..], &mid.der[..], &low.der[..]);
    let by_root = |id: &str| root.issue(device(id));
    let by_mid = |id: &str| mid.issue(device(id));
    let by_low = |id: &str| low.issue(device(id));

    // A factory whose root nobody enrolled, but two of its intermediates.
    let far = Ca::root("far root");
    let line = far.sub("line");
    let cell = line.sub("cell");
    server.enrol_group("line", &line.der);
    server.enrol_group("cell", &cell.der);

    let stranger = Ca::root("stranger");
    let unrelated = stranger.sub("unrelated");
    let impostor = Ca::root("root");
    let same_name = root.sub("mid");
    let renewed = root.sub_over(with(authority("mid"), |p| p.not_after = at(700 * DAY)), mid.key());
    let crossed = stranger.sub_over(authority("mid"), mid.key());
    let (a, b) = (Ca::root("a"), Ca::root("b"));
    let (a_by_b, b_by_a) = (b.sub_over(authority("a"), a.key()), a.sub_over(authority("b"), b.key()));
    let printable = Ca::root_with(with(authority("x"), |p| {
        p.distinguished_name.push(DnType::CommonName, DnValue::PrintableString("spelt".try_into().unwrap()));
    }));
    let other_spelling = Ca::root("spelt");
    server.enrol_group("spelt", &printable.der);

    let mut deep = vec![Ca::root("deep 0")];
    for level in 1..=20 {
        deep.push(deep[level - 1].sub(&format!("deep {level}")));
    }
    server.enrol_group("deep", &deep[0].der);
    let from = |level: usize| {
        let deep = &deep;
        move |id: &str| {
            let mut sent = deep[level].issue(device(id));
            sent.chain.extend(deep[1..=level].iter().rev().map(|ca| ca.der.clone()));
            sent
        }
    };
    let namesakes: Vec<Ca> = (0..14).map(|_| Ca::root("same").sub("same")).collect();
    let among_namesakes = |id: &str| {
        let mut sent = Ca::root("same").issue(device(id));
        sent.chain.extend(namesakes.iter().map(|ca| ca.der.clone()));
        sent
    };
    let (fresh, proven) = (Ca::root("fresh"), Ca::root("proven"));
    server.enrol_group_by_name("fresh", &fresh.der, false);
    server.enrol_group_by_name("proven", &proven.der, true);
    let garbage = [0x30, 0x82, 0x01, 0x00, 0xde, 0xad];
    let changed = |mut der: Vec<u8>| {
        let name = der.windows(12).rposition(|window| window == b"changed-leaf").unwrap();
        der[name] = b'C';
        der
    };
    let nothing = |_: &str| Sent { chain: vec![], key: std::sync::Arc::new(Garbage) };
    let all = || assigned("all");

    #[rustfmt::skip] // a row a line
    let rows = vec![
        row("chain-without-root", |id| by_low(id).then([l, m]), Passed, all(), NO_REASON),
        row("root-included", |id| by_low(id).then([l, m, r]), Passed, all(), NO_REASON),
        row("issued-by-the-root", by_root, Passed, all(), NO_REASON),
        row("one-intermediate", |id| by_mid(id).then([m]), Passed, all(), NO_REASON),
        row("wrong-order", |id| by_low(id).then([r, m, l]), Passed, all(), NO_REASON),
        row("intermediate-twice", |id| by_low(id).then([l, l, m, m]), Passed, all(), NO_REASON),
        row("leaf-twice", |id| { let sent = by_root(id); let leaf = sent.leaf().to_vec(); sent.then([&leaf]) }, Passed, all(), NO_REASON),
        row("extra-certificates", |id| by_mid(id).then([&unrelated.der, m, &stranger.der]), Passed, all(), NO_REASON),
        row("extra-garbage", |id| by_mid(id).then([&garbage, m]), Passed, all(), NO_REASON),
        row("renewed-intermediate", |id| by_mid(id).then([&renewed.der]), Passed, all(), NO_REASON),
        row("cross-signed", |id| by_mid(id).then([&crossed.der, m]), Passed, all(), NO_REASON),
        row("namesake-issuer-first", |id| by_mid(id).then([&same_name.der, m]), Passed, all(), NO_REASON),
        row("group-of-an-intermediate", |id| line.issue(device(id)), Passed, assigned("line"), NO_REASON),
        row("nearest-group-wins", |id| cell.issue(device(id)).then([&cell.der, &line.der, &far.der]), Passed, assigned("cell"), NO_REASON),
        row("farther-group-below-another", |id| line.sub("other").issue(device(id)), Identity, NOT_AUTHORIZED, "UnknownIssuer"),
        row("verified-authority", |id| proven.issue(device(id)), Passed, assigned("proven"), NO_REASON),
        row("unverified-authority", |id| fresh.issue(device(id)), Identity, NOT_AUTHORIZED, "CaUnverified"),
        row("six-intermediates", from(6), Passed, assigned("deep"), NO_REASON),
        row("seven-intermediates", from(7), Identity, NOT_AUTHORIZED, "ChainTooDeep"),
        row("twenty-deep", from(20), Identity, NOT_AUTHORIZED, "ChainTooLong"),
        row("loop", |id| a.issue(device(id)).then([&a_by_b.der, &b_by_a.der]), Identity, NOT_AUTHORIZED, "ChainLoop"),
        row("fifteen-of-one-name", among_namesakes, Identity, NOT_AUTHORIZED, "ChainAmbiguous"),
        row("missing-intermediate", |id| by_low(id).then([l]), Identity, NOT_AUTHORIZED, "UnknownIssuer"),
        row("leaf-alone", by_low, Identity, NOT_AUTHORIZED, "UnknownIssuer"),
        row("another-factory", |id| unrelated.issue(device(id)).then([&unrelated.der]), Identity, NOT_AUTHORIZED, "UnknownIssuer"),
        row("another-factory-with-its-root", |id| unrelated.issue(device(id)).then([&unrelated.der, &stranger.der]), Identity, NOT_AUTHORIZED, "UnknownRoot"),
        row("self-signed-in-a-group", |id| self_signed(&device(id)), Identity, NOT_AUTHORIZED, "SelfSigned"),
        row("self-signed-with-a-chain", |id| self_signed(&device(id)).then([m]), Identity, NOT_AUTHORIZED, "SelfSigned"),
        row("same-subject-other-key", |id| impostor.issue(device(id)), Identity, NOT_AUTHORIZED, "SignatureInvalid"),
        row("intermediate-of-another-key", |id| by_mid(id).then([&same_name.der]), Identity, NOT_AUTHORIZED, "SignatureInvalid"),
        row("issuer-in-another-encoding", |id| other_spelling.issue(device(id)), Identity, NOT_AUTHORIZED, "UnknownIssuer"),
        row("changed-leaf", |id| by_root(id).instead(changed), Identity, NOT_AUTHORIZED, "SignatureInvalid"),
        row("certificate-of-60-kib", |id| padded(&root, id, 60_000), Identity, NOT_AUTHORIZED, "CertificateUnreadable"),
        row("certificate-of-64-kib", |id| padded(&root, id, 65_536), Handshake, Ended, "client_certificate"),
        row("chain-of-64-kib", |id| by_root(id).then([padded(&root, "x", 33_000).leaf(), padded(&root, "y", 33_000).leaf()]), Handshake, Ended, "client_certificate"),
        row("garbage", |id| by_root(id).instead(|_| garbage.to_vec()), Handshake, Ended, "client_certificate"),
        row("empty-certificate", |id| by_root(id).instead(|_| vec![]), Handshake, Ended, "client_certificate"),
        row("trailing-byte", |id| by_root(id).instead(|der| [&der[..], &[0]].concat()), Handshake, Ended, "client_certificate"),
        row("key-of-another", |id| by_root(id).signed_with(&by_root("thief")), Handshake, Ended, "client_certificate"),
        row("signature-of-garbage", |id| by_root(id).signed_with_garbage(), Handshake, Ended, "client_certificate"),
        row("no-certificate", nothing, Identity, NOT_AUTHORIZED, "NoCredential"),
    ];
    rows
}
