//! Thieves in the demo: what they try with a copied credential, what should come of it, and what did.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Value, json};
use unicity_device_sim::{
    AttackKind, AttackOutcome, AttackReport, Credential, Device, DeviceIssuer, Scene, SimError, run_attack,
};
use unicity_identity::SharedAccessKey;

use super::Stage;
use crate::clock;
use crate::error::Outcome;

/// On which device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Key,
    Certificate,
    /// Left out where there is none.
    Tpm,
    /// A device with an enrollment of its own, whose identity is made anew.
    Remade,
}

impl Victim {
    fn name(self) -> &'static str {
        match self {
            Self::Key | Self::Remade => "key",
            Self::Certificate => "certificate",
            Self::Tpm => "tpm",
        }
    }
}

/// Which attacks, and what should come of each under the default policy.
const EXPECTED: [(AttackKind, Victim, AttackOutcome, &str); 7] = [
    (AttackKind::OtherTopic, Victim::Key, AttackOutcome::Refused, "nothing is stored under another's identity"),
    (AttackKind::Takeover, Victim::Key, AttackOutcome::TookOver, "the newest wins, the older session is fenced"),
    (
        AttackKind::RegisterOnly,
        Victim::Key,
        AttackOutcome::Accepted,
        "the same assignment, the owner's session lives on",
    ),
    (AttackKind::RegisterOnly, Victim::Tpm, AttackOutcome::Refused, "another TPM cannot open the challenge"),
    (AttackKind::OldToken, Victim::Remade, AttackOutcome::Refused, "expired, or of an identity that was made anew"),
    (AttackKind::SameKeyOtherId, Victim::Key, AttackOutcome::Refused, "a key proves one id"),
    (
        AttackKind::ReissuedCertificate,
        Victim::Certificate,
        AttackOutcome::Refused,
        "one key, one identity, whatever the certificate",
    ),
];

/// One attack of the table.
pub(super) struct Row {
    kind: AttackKind,
    victim: Victim,
    expected: AttackOutcome,
    meaning: &'static str,
    report: Result<AttackReport, String>,
}

impl Row {
    pub(super) fn passed(&self) -> bool {
        self.report.as_ref().is_ok_and(|report| report.outcome == self.expected)
    }

    /// Messages of owner and thief that must be stored.
    pub(super) fn acknowledged(&self) -> u64 {
        self.report.as_ref().map_or(0, |report| report.acknowledged)
    }

    fn seen(&self) -> String {
        self.report.as_ref().map_or_else(Clone::clone, AttackReport::line)
    }

    pub(super) fn cells(&self) -> Vec<String> {
        let mark = if self.passed() { "ok" } else { "FAILED" };
        vec![
            mark.into(),
            self.kind.to_string(),
            self.victim.name().into(),
            self.expected.name().into(),
            self.seen(),
            self.meaning.into(),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "attack": self.kind.name(), "owner": self.victim.name(), "expected": self.expected.name(), "seen": self.seen(), "ok": self.passed(),
            "steps": self.report.as_ref().ok().map(|report| &report.steps),
        })
    }
}

/// Lets a thief try each attack on a device of the fleet, one after the other.
pub(super) async fn run(stage: &Stage, devices: &[Device], issuer: &DeviceIssuer) -> Vec<Row> {
    let environment = clock::environment();
    let first = |wanted: fn(&Credential) -> bool| devices.iter().find(|device| wanted(&device.key));
    let certified = first(|key| matches!(key, Credential::Certificate(_)));
    let remake = || -> std::pin::Pin<Box<dyn Future<Output = Result<Device, SimError>> + Send>> {
        Box::pin(async { make_anew(stage).await.map_err(|error| SimError::Protocol(error.to_string())) })
    };
    let scene = Scene {
        accomplice: certified,
        issuer: Some(issuer),
        remake: Some(&remake),
        ..Scene::new(&stage.dialer, &stage.endpoint, &environment)
    };
    let mut rows = Vec::with_capacity(EXPECTED.len());
    for (kind, victim, expected, meaning) in EXPECTED {
        let owner = match victim {
            Victim::Key => {
                first(|key| matches!(key, Credential::Key(_))).cloned().ok_or("no device has a key".to_owned())
            }
            Victim::Certificate => certified.cloned().ok_or("no device has a certificate".to_owned()),
            Victim::Tpm => match first(|key| matches!(key, Credential::Tpm(_))) {
                Some(device) => Ok(device.clone()),
                None => continue,
            },
            Victim::Remade => enrol_anew(stage).await.map_err(|error| error.to_string()),
        };
        let report = match owner {
            Ok(owner) => run_attack(kind, &scene, &owner).await.map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        rows.push(Row { kind, victim, expected, meaning, report });
    }
    rows
}

/// The device whose identity is made anew; it has an enrollment of its own.
const REMADE: &str = "demo-remade";

/// Gives that device a new key: at its enrollment, and by that at its hub when it registers again.
async fn enrol_anew(stage: &Stage) -> Outcome<Device> {
    let key = clock::random::<32>();
    let text = STANDARD.encode(key);
    let attestation = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": text, "secondaryKey": text}});
    let body = json!({"registrationId": REMADE, "attestation": attestation});
    let path = format!("/enrollments/{REMADE}?api-version=2021-10-01");
    let any = [("if-match", "*")];
    let headers: &[(&str, &str)] = if exists(stage, &path).await { &any } else { &[] };
    stage.dps_client.call(Method::PUT, &path, headers, Some(&body)).await?;
    let key = SharedAccessKey::from_bytes(key.to_vec())
        .map_err(|error| crate::error::CommandError::new(error.to_string()))?;
    Ok(Device {
        registration_id: REMADE.parse().map_err(|_| crate::error::CommandError::new(REMADE))?,
        key: key.into(),
        id_scope: stage.id_scope.clone(),
    })
}

async fn exists(stage: &Stage, path: &str) -> bool {
    stage.dps_client.call(Method::GET, path, &[], None).await.is_ok()
}

/// The identity ends and is made again: another generation with another key.
async fn make_anew(stage: &Stage) -> Outcome<Device> {
    let path = format!("/devices/{REMADE}?api-version=2021-04-12");
    stage.hub_client.call(Method::DELETE, &path, &[("if-match", "*")], None).await?;
    enrol_anew(stage).await
}
