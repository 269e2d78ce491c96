//! Certificates that are revoked or denied after a registration. A TLS session that is resumed brings its certificate back, and with it
//! every check; and who shows less of its chain than it has, or an old one, is checked as far as what it shows goes.

use rustls::HandshakeKind::{Full, Resumed};
use serde_json::{Value, json};
use unicity_provisioning::x509::Certificate;

use crate::device::{Device, Role, Verdict};
use crate::factory::{Ca, DAY, Sent, authority, device, lasting};
use crate::server::Server;
use crate::table::{NOT_AUTHORIZED, assigned};

/// By what a certificate is taken back.
#[derive(Debug, Clone, Copy)]
enum By {
    List,
    ListOfTheRoot,
    Key,
    Serial,
    KeyOfItsIssuer,
}

struct Factory {
    root: Ca,
    mid: Ca,
}

impl Factory {
    /// Each case has its own, so that no list has to replace another. The intermediate is known by itself, for its list.
    fn new(server: &Server, name: &str) -> Self {
        let root = Ca::root(&format!("{name} root"));
        let mid = root.sub(&format!("{name} issuing"));
        server.enrol_group(name, &root.der);
        server.upload(name, &mid.der);
        Self { root, mid }
    }

    fn take_back(&self, server: &Server, by: By, sent: &Sent) {
        let certificate = sent.certificate();
        let summary = certificate.summary();
        match by {
            By::List => server.add_list(&self.mid.list(&[sent.leaf()], -60, DAY)),
            By::ListOfTheRoot => server.add_list(&self.root.list(&[&self.mid.der], -60, DAY)),
            By::Key => server.deny(&json!({"keyFingerprint": certificate.key_fingerprint().to_string()})),
            By::Serial => server.deny(&json!({"issuer": summary.issuer, "serial": summary.serial})),
            By::KeyOfItsIssuer => {
                let issuer = Certificate::parse(&self.mid.der).unwrap();
                server.deny(&json!({"keyFingerprint": issuer.key_fingerprint().to_string()}));
            }
        }
    }
}

#[test]
fn a_ticket_brings_no_revoked_certificate_back() {
    let server = Server::start("");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (by, reason) in [
            (By::List, "CertificateRevoked"),
            (By::ListOfTheRoot, "CertificateRevoked"),
            (By::Key, "CertificateDenied"),
            (By::Serial, "CertificateDenied"),
            (By::KeyOfItsIssuer, "CertificateDenied"),
        ] {
            let id = format!("{by:?}-{:?}", version.version).to_lowercase().replace('_', "-");
            let factory = Factory::new(&server, &id);
            let sent = factory.mid.issue(device(&id)).then([&factory.mid.der]);
            let registering = Device::new(&server, version, &sent);
            let at_hub = Device::new(&server, version, &sent);
            for kind in [Full, Resumed] {
                assert_eq!(registering.connect(&server, Role::Register, &id), (Some(kind), assigned(&id)), "{id}");
                assert_eq!(at_hub.connect(&server, Role::Hub, &id), (Some(kind), Verdict::Connected), "{id}");
            }
            assert_eq!(server.new_refusals(), Vec::<Value>::new(), "{id}");

            factory.take_back(&server, by, &sent);
            for (device, role) in [(&registering, Role::Register), (&at_hub, Role::Hub)] {
                assert_eq!(device.connect(&server, role, &id), (Some(Resumed), NOT_AUTHORIZED), "{id} {role:?}");
                let refusals = server.new_refusals();
                let names: Vec<_> = refusals.iter().map(|refusal| &refusal["errorName"]).collect();
                assert_eq!(names, [reason], "{id} {role:?}: {refusals:?}");
                let why = server.command(&["why", refusals[0]["trackingId"].as_str().unwrap()]);
                assert!(why.contains(reason) && why.contains(&format!("CN={id}")), "{why}");
            }
        }
    }
}

#[test]
fn showing_less_of_a_chain_hides_nothing() {
    let server = Server::start("");
    let version = &rustls::version::TLS13;
    for (by, old_chain, reason) in [
        (By::List, false, "CertificateRevoked"),
        (By::List, true, "CertificateRevoked"),
        (By::Key, false, "CertificateDenied"),
        (By::Serial, false, "CertificateDenied"),
        // Without its issuer's certificate nobody can tell; with one that is out of date, one can.
        (By::KeyOfItsIssuer, true, "CertificateDenied"),
    ] {
        let id = format!("{by:?}-{old_chain}").to_lowercase();
        let factory = Factory::new(&server, &id);
        let whole = factory.mid.issue(device(&id)).then([&factory.mid.der]);
        let expired = lasting(authority(&format!("{id} issuing")), -60 * DAY, -DAY);
        let expired = factory.root.sub_over(expired, factory.mid.key());
        let mut shown = whole.clone();
        shown.chain.truncate(1);
        if old_chain {
            shown.chain.push(expired.der);
        }
        let connect = |role, sent: &Sent| Device::new(&server, version, sent).connect(&server, role, &id).1;
        assert_eq!(connect(Role::Register, &whole), assigned(&id), "{id}");
        assert_eq!(connect(Role::Hub, &shown), Verdict::Connected, "{id}");
        assert_eq!(server.new_refusals(), Vec::<Value>::new(), "{id}");

        factory.take_back(&server, by, &whole);
        assert_eq!(connect(Role::Hub, &shown), NOT_AUTHORIZED, "{id}");
        let refusals = server.new_refusals();
        let names: Vec<_> = refusals.iter().map(|refusal| &refusal["errorName"]).collect();
        assert_eq!(names, [reason], "{id}: {refusals:?}");
    }
}
