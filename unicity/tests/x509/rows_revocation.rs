//! Certificates that were taken back: by their authority's list, or by an operator's word.

use serde_json::json;
use unicity_provisioning::x509::Certificate;

use crate::factory::{Ca, DAY, device, self_signed};
use crate::server::Server;
use crate::table::{Identity, NO_REASON, NOT_AUTHORIZED, Passed, Row, assigned, row};

const HOUR: i64 = 3600;

pub(crate) fn rows(server: &Server) -> Vec<Row> {
    let root = Ca::root("revocation");
    let (mid, gone, old) = (root.sub("issuing"), root.sub("gone"), root.sub("old list"));
    server.enrol_group("revocation", &root.der);
    for (name, ca) in [("issuing", &mid), ("old-list", &old)] {
        // A list is taken only of an authority that is known here.
        server.upload(name, &ca.der);
    }
    let by = |ca: &Ca, id: &str| ca.issue(device(id)).then([&ca.der]);
    let revoked = by(&mid, "revoked-leaf");
    let pinned = by(&mid, "revoked-individual");
    let stale_revoked = by(&old, "revoked-by-an-old-list");
    server.enrol_certificates("revoked-individual", pinned.leaf(), None);
    server.add_list(&root.list(&[&gone.der], -HOUR, DAY));
    server.add_list(&mid.list(&[revoked.leaf(), pinned.leaf()], -HOUR, DAY));
    server.add_list(&old.list(&[stale_revoked.leaf()], -9 * DAY, -DAY));

    let deny_key = |of: &[u8]| {
        let key = Certificate::parse(of).unwrap().key_fingerprint();
        server.deny(&json!({"keyFingerprint": key.to_string()}));
    };
    let leaf_by_key = |id: &str| {
        let sent = by(&root, id);
        deny_key(sent.leaf());
        sent
    };
    let leaf_by_serial = |id: &str| {
        let sent = by(&root, id);
        let summary = sent.certificate().summary().clone();
        server.deny(&json!({"issuer": summary.issuer, "serial": summary.serial.to_lowercase()}));
        sent
    };
    let intermediate_by_key = |id: &str| {
        let ca = root.sub("denied");
        deny_key(&ca.der);
        by(&ca, id)
    };
    let anchor_by_key = |id: &str| {
        let ca = Ca::root("denied root");
        server.enrol_group("denied-root", &ca.der);
        deny_key(&ca.der);
        by(&ca, id)
    };
    let individual_by_key = |id: &str| {
        let sent = self_signed(&device(id));
        server.enrol_certificates(id, sent.leaf(), None);
        deny_key(sent.leaf());
        sent
    };

    #[rustfmt::skip] // a row a line
    let rows = vec![
        row("not-on-the-list", |id| by(&mid, id), Passed, assigned("revocation"), NO_REASON),
        row("revoked-leaf", |_| revoked, Identity, NOT_AUTHORIZED, "CertificateRevoked"),
        row("revoked-intermediate", |id| by(&gone, id), Identity, NOT_AUTHORIZED, "CertificateRevoked"),
        row("revoked-individual", |_| pinned, Identity, NOT_AUTHORIZED, "CertificateRevoked"),
        row("stale-list", |id| by(&old, id), Passed, assigned("revocation"), NO_REASON),
        row("revoked-by-an-old-list", |_| stale_revoked, Identity, NOT_AUTHORIZED, "CertificateRevoked"),
        row("denied-key", leaf_by_key, Identity, NOT_AUTHORIZED, "CertificateDenied"),
        row("denied-serial", leaf_by_serial, Identity, NOT_AUTHORIZED, "CertificateDenied"),
        row("denied-intermediate", intermediate_by_key, Identity, NOT_AUTHORIZED, "CertificateDenied"),
        row("denied-anchor", anchor_by_key, Identity, NOT_AUTHORIZED, "CertificateDenied"),
        row("denied-individual", individual_by_key, Identity, NOT_AUTHORIZED, "CertificateDenied"),
    ];
    rows
}

/// For a server that refuses where a list is out of date.
pub(crate) fn rows_where_lists_must_be_current(server: &Server) -> Vec<Row> {
    let (stale, current, none) = (Ca::root("stale"), Ca::root("current"), Ca::root("without a list"));
    for (name, ca) in [("stale", &stale), ("current", &current), ("none", &none)] {
        server.enrol_group(name, &ca.der);
    }
    let revoked = stale.issue(device("strict-revoked-by-an-old-list"));
    server.add_list(&stale.list(&[revoked.leaf()], -9 * DAY, -DAY));
    server.add_list(&current.list(&[], -HOUR, DAY));
    #[rustfmt::skip] // a row a line
    let rows = vec![
        row("strict-stale-list", |id| stale.issue(device(id)), Identity, NOT_AUTHORIZED, "CrlStale"),
        row("strict-revoked-by-an-old-list", |_| revoked, Identity, NOT_AUTHORIZED, "CertificateRevoked"),
        row("strict-current-list", |id| current.issue(device(id)), Passed, assigned("current"), NO_REASON),
        row("strict-no-list", |id| none.issue(device(id)), Passed, assigned("none"), NO_REASON),
    ];
    rows
}
