//! Which enrollment decides, and what a hub takes afterwards.

use rcgen::KeyPair;
use serde_json::json;

use crate::device::ITSELF;
use crate::device::Verdict::{Answered, Connected, Disabled, Ended};
use crate::factory::{Ca, DAY, Sent, device, lasting, self_signed, self_signed_over};
use crate::server::{Server, pem};
use crate::table::{Handshake, Identity, NO_REASON, NOT_AUTHORIZED, Passed, Row, assigned, row};

/// Individual enrollments, and groups that are out of use.
fn provisioning(server: &Server) -> Vec<Row> {
    let root = Ca::root("enrollments");
    server.enrol_group("enrollments", &root.der);
    let (mid, idle) = (root.sub("idle line"), Ca::root("idle"));
    server.enrol_disabled_group("idle-line", &mid.der);
    server.enrol_disabled_group("idle", &idle.der);
    let by_root = |id: &str| root.issue(device(id));
    let itself = || assigned(ITSELF);
    let enrolled = |id: &str| {
        let sent = self_signed(&device(id));
        server.enrol_certificates(id, sent.leaf(), None);
        sent
    };
    let disabled = |id: &str| {
        let sent = by_root(id);
        let certificates = json!({"primary": {"certificate": pem(sent.leaf())}});
        server.enrol(id, "disabled", &json!({"type": "x509", "x509": {"clientCertificates": certificates}}));
        sent
    };
    let as_secondary = |id: &str| {
        let (first, second) = (self_signed(&device(id)), self_signed(&device(id)));
        server.enrol_certificates(id, first.leaf(), Some(second.leaf()));
        second
    };
    let renewed = |id: &str, also_enrolled: bool| {
        let key = KeyPair::generate().unwrap();
        let old = self_signed_over(&device(id), &key);
        let new = self_signed_over(&lasting(device(id), -DAY, 700 * DAY), &key);
        server.enrol_certificates(id, old.leaf(), also_enrolled.then_some(new.leaf()));
        new
    };
    let over_a_group = |id: &str| {
        let sent = by_root(id);
        server.enrol_certificates(id, sent.leaf(), None);
        sent
    };
    let of_an_authority = |id: &str| {
        let root = Ca::root(id);
        let key = root.key();
        server.enrol_certificates(id, &root.der, None);
        Sent::new(root.der, &key)
    };
    let out_of_time = |id: &str, from: i64, to: i64| {
        let sent = self_signed(&lasting(device(id), from, to));
        server.enrol_certificates(id, sent.leaf(), None);
        sent
    };
    let by_key = |id: &str| {
        let keys = json!({"primaryKey": "", "secondaryKey": ""});
        server.enrol(id, "enabled", &json!({"type": "symmetricKey", "symmetricKey": keys}));
        by_root(id)
    };
    let shared = KeyPair::generate().unwrap();
    let over_shared = |id: &str| root.issue_over(device(id), &shared);

    #[rustfmt::skip] // a row a line
    let rows = vec![
        row("individual", enrolled, Passed, itself(), NO_REASON),
        row("individual-with-more-certificates", |id| enrolled(id).then([&root.der]), Passed, itself(), NO_REASON),
        row("individual-of-another-certificate", |id| { enrolled(id); self_signed(&device(id)) }, Identity, NOT_AUTHORIZED, "OtherCertificate"),
        row("individual-without-its-key", |id| enrolled(id).signed_with(&by_root("thief")), Handshake, Ended, "client_certificate"),
        row("individual-shown-nothing", |id| Sent { chain: vec![], ..enrolled(id) }, Identity, NOT_AUTHORIZED, "NoCredential"),
        row("secondary-certificate", as_secondary, Passed, itself(), NO_REASON),
        row("renewed-but-not-enrolled", |id| renewed(id, false), Identity, NOT_AUTHORIZED, "OtherCertificate"),
        row("renewed-and-enrolled", |id| renewed(id, true), Passed, itself(), NO_REASON),
        row("individual-marked-as-authority", of_an_authority, Passed, itself(), NO_REASON),
        row("individual-expired", |id| out_of_time(id, -60 * DAY, -DAY), Identity, NOT_AUTHORIZED, "CertificateExpired"),
        row("individual-not-yet-valid", |id| out_of_time(id, DAY, 60 * DAY), Identity, NOT_AUTHORIZED, "CertificateNotYetValid"),
        row("individual-beats-its-group", over_a_group, Passed, itself(), NO_REASON),
        row("individual-blocks-its-groups-others", |id| { over_a_group(id); by_root(id) }, Identity, NOT_AUTHORIZED, "OtherCertificate"),
        row("disabled-individual-blocks", disabled, Identity, Disabled, "EnrollmentDisabled"),
        row("disabled-group", |id| idle.issue(device(id)), Identity, Disabled, "EnrollmentDisabled"),
        row("disabled-group-in-between", |id| mid.issue(device(id)).then([&mid.der]), Identity, Disabled, "EnrollmentDisabled"),
        row("enrolled-by-symmetric-key", by_key, Identity, NOT_AUTHORIZED, "NoCredential"),
        row("first-of-two-over-one-key", over_shared, Passed, assigned("enrollments"), NO_REASON),
        row("second-of-two-over-one-key", over_shared, Identity, Answered(409), "KeyInUse"),
    ];
    rows
}

/// Hub identities, made by a registration or by hand.
fn hubs(server: &Server) -> Vec<Row> {
    let root = Ca::root("hub devices");
    server.enrol_group("hub-devices", &root.der);
    let (key, id) = (KeyPair::generate().unwrap(), "hub-renewed-over-its-key");
    let (old, new) = (root.issue_over(device(id), &key), root.issue_over(lasting(device(id), -DAY, 700 * DAY), &key));
    let (late_key, late) = (KeyPair::generate().unwrap(), "hub-renewed-but-expired");
    let (in_time, ended) =
        (root.issue_over(device(late), &late_key), root.issue_over(lasting(device(late), -60 * DAY, -DAY), &late_key));
    let by_root = |id: &str| root.issue(device(id));
    let same = by_root("hub-registered");
    let (first, second) = (by_root("hub-of-a-new-key"), by_root("hub-of-a-new-key"));
    let (before, after) = (by_root("new-key-registers-again"), by_root("new-key-registers-again"));
    let bound = |id: &str, algorithm: usize| {
        let sent = self_signed(&device(id));
        let summary = sent.certificate().summary().clone();
        let thumbprint = [summary.sha1.to_string(), summary.sha256.to_string()][algorithm].clone();
        let prints = json!({"primaryThumbprint": thumbprint, "secondaryThumbprint": null});
        server.make_device(id, &json!({"type": "selfSigned", "x509Thumbprint": prints}));
        sent
    };
    let vouched = |id: &str| server.make_device(id, &json!({"type": "certificateAuthority"}));

    #[rustfmt::skip] // a row a line
    let rows = vec![
        row("hub-registered", |_| same.clone(), Passed, Connected, NO_REASON).at_hub().after_registering_with(&same),
        row(id, |_| new, Passed, Connected, NO_REASON).at_hub().after_registering_with(&old),
        row(late, |_| ended, Identity, NOT_AUTHORIZED, "CertificateExpired").at_hub().after_registering_with(&in_time),
        row("hub-of-a-new-key", |_| second, Identity, NOT_AUTHORIZED, "OtherCertificate").at_hub().after_registering_with(&first),
        row("new-key-registers-again", |_| after, Passed, assigned("hub-devices"), NO_REASON).after_registering_with(&before),
        row("hub-never-registered", by_root, Identity, NOT_AUTHORIZED, "DeviceNotFound").at_hub(),
        row("hub-by-sha1-thumbprint", |id| bound(id, 0), Passed, Connected, NO_REASON).at_hub(),
        row("hub-by-sha256-thumbprint", |id| bound(id, 1), Passed, Connected, NO_REASON).at_hub(),
        row("hub-of-another-thumbprint", |id| { bound(id, 1); self_signed(&device(id)) }, Identity, NOT_AUTHORIZED, "OtherCertificate").at_hub(),
        row("hub-by-authority", |id| { vouched(id); by_root(id) }, Passed, Connected, NO_REASON).at_hub(),
        row("hub-by-authority-wrong-cn", |id| { vouched(id); by_root("another") }, Identity, NOT_AUTHORIZED, "CommonName").at_hub(),
        row("hub-by-authority-self-signed", |id| { vouched(id); self_signed(&device(id)) }, Identity, NOT_AUTHORIZED, "SelfSigned").at_hub(),
        row("hub-by-authority-of-strangers", |id| { vouched(id); Ca::root("nobody").issue(device(id)) }, Identity, NOT_AUTHORIZED, "UnknownIssuer").at_hub(),
    ];
    rows
}

pub(crate) fn rows(server: &Server) -> Vec<Row> {
    let mut rows = provisioning(server);
    rows.extend(hubs(server));
    rows
}
