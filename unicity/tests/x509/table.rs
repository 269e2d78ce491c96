//! The shape of a row, and how rows are run: each over its own connection, on TLS 1.2 and on 1.3.

use rustls::SupportedProtocolVersion;
use serde_json::Value;

use crate::device::{Device, Role, Verdict};
use crate::factory::Sent;
use crate::server::Server;

/// What ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// TLS itself: the signature is not by the certificate's key, or rustls cannot read the certificate or use its key. The reason is
    /// the listener's counter.
    Handshake,
    /// The decision about the identity, at CONNECT or at the registration. The reason is the refusal's name by its tracking id.
    Identity,
    /// Nothing: the device is let in.
    Passed,
}
pub(crate) use Stage::{Handshake, Identity, Passed};

/// One case. Its name is the registration id, and the common name of certificates that are made for it.
pub(crate) struct Row {
    name: &'static str,
    role: Role,
    /// Has registered with this before.
    registered: Option<Sent>,
    sent: Sent,
    stage: Stage,
    verdict: Verdict,
    reason: &'static str,
}

/// A device that registers. `sent` is given the row's name.
pub(crate) fn row(
    name: &'static str,
    sent: impl FnOnce(&str) -> Sent,
    stage: Stage,
    verdict: Verdict,
    reason: &'static str,
) -> Row {
    Row { name, role: Role::Register, registered: None, sent: sent(name), stage, verdict, reason }
}

impl Row {
    /// The same at the hub.
    pub(crate) fn at_hub(self) -> Self {
        Self { role: Role::Hub, ..self }
    }

    /// The same, after a registration with another certificate.
    pub(crate) fn after_registering_with(self, sent: &Sent) -> Self {
        Self { registered: Some(sent.clone()), ..self }
    }
}

pub(crate) fn assigned(by: &str) -> Verdict {
    Verdict::Assigned(by.to_owned())
}

/// CONNACK's *not authorized*: what every refused certificate is told, and no more.
pub(crate) const NOT_AUTHORIZED: Verdict = Verdict::Connack(5);

/// There is nothing to explain.
pub(crate) const NO_REASON: &str = "";

/// Runs every row on both versions, and fails with all that went another way.
pub(crate) fn run(server: &Server, rows: &[Row]) {
    let mut wrong = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for row in rows {
            let expected = (row.stage, row.verdict.clone(), row.reason.to_owned());
            let found = observe(server, version, row);
            if found != expected {
                wrong.push(format!(
                    "{:?} {}:\n  expected {expected:?}\n  found    {found:?}",
                    version.version, row.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases went another way:\n{}", wrong.len(), 2 * rows.len(), wrong.join("\n"));
}

fn observe(server: &Server, version: &'static SupportedProtocolVersion, row: &Row) -> (Stage, Verdict, String) {
    if let Some(before) = &row.registered {
        let (_, verdict) = Device::new(server, version, before).connect(server, Role::Register, row.name);
        assert!(matches!(verdict, Verdict::Assigned(_)), "{}: {verdict:?}, {:?}", row.name, server.new_refusals());
    }
    let before = server.refused_handshakes();
    let (_, verdict) = Device::new(server, version, &row.sent).connect(server, row.role, row.name);
    // The alert leaves before the server counts.
    let mut after = server.refused_handshakes();
    for _ in 0..10_000 {
        if verdict != Verdict::Ended || after != before {
            break;
        }
        after = server.refused_handshakes();
    }
    let refusals = server.new_refusals();
    let counted = after.iter().filter(|(cause, count)| before.get(*cause) != Some(count));
    let mut reasons: Vec<(Stage, String)> = counted.map(|(cause, _)| (Handshake, cause.clone())).collect();
    reasons.extend(refusals.iter().map(|refusal| (Identity, explained(row.name, refusal))));
    match reasons.len() {
        0 => (Passed, verdict, NO_REASON.to_owned()),
        1 => {
            let (stage, reason) = reasons.remove(0);
            (stage, verdict, reason)
        }
        _ => panic!("{}: one connection, and {reasons:?}", row.name),
    }
}

/// The name of a refusal that explains itself.
fn explained(subject: &str, refusal: &Value) -> String {
    assert_eq!(refusal["subject"], subject, "{refusal}");
    for told in ["cause", "remedy", "peer"] {
        assert!(refusal[told].as_str().is_some_and(|text| text.len() > 8), "{told}: {refusal}");
    }
    let name = refusal["errorName"].as_str().unwrap();
    if !["NoCredential", "EnrollmentDisabled", "KeyInUse", "DeviceNotFound"].contains(&name) {
        assert_eq!(refusal["evidence"]["check"], name, "{refusal}");
        // A device's certificate that cannot be read is told by the cause.
        let seen = refusal["evidence"]["chain"].as_array().is_some_and(|chain| !chain.is_empty());
        assert!(seen || ["CertificateUnreadable", "ChainTooLong"].contains(&name), "{refusal}");
    }
    name.to_owned()
}
