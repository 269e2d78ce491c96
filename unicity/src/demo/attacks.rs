//! Thieves in the demo: what they try with a copied credential, what should come of it, and what did.

use futures_util::future::{join, join_all};
use hyper::Method;
use serde_json::Value;
use unicity_device_sim::{
    AttackKind, AttackReport, Credential, Device, DeviceCertificate, DeviceIssuer, Scene, SimError, run_attack,
};

use super::evidence::Wanted;
use super::row::{Done, Heading, Row};
use super::script::{enrol, member};
use super::{Stage, acts};
use crate::clock;
use crate::error::{CommandError, Context as _, Outcome};

/// On which device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Key,
    Certificate,
    /// One of the fleet's; left out where there is none.
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
const EXPECTED: [(AttackKind, Victim, &str, &str); 7] = [
    (AttackKind::OtherTopic, Victim::Key, "refused", "nothing is stored under another's identity"),
    (AttackKind::Takeover, Victim::Key, "took-over", "the newest wins, the older session is fenced"),
    (AttackKind::RegisterOnly, Victim::Key, "accepted", "the same assignment, the owner's session lives on"),
    (AttackKind::RegisterOnly, Victim::Tpm, "refused", "another TPM cannot open the challenge"),
    (AttackKind::OldToken, Victim::Remade, "refused", "expired, or of an identity that was made anew"),
    (AttackKind::SameKeyOtherId, Victim::Key, "refused", "a key proves one id"),
    (
        AttackKind::ReissuedCertificate,
        Victim::Certificate,
        "refused",
        "one key, one identity, whatever the certificate",
    ),
];

/// All of them at once, since each owner is a device of its own and none disturbs another; those whose time is told after them.
pub(super) async fn run(stage: &Stage, fleet: &[Device], issuer: &DeviceIssuer) -> Vec<Row> {
    let tpm = fleet.iter().find(|device| matches!(device.key, Credential::Tpm(_)));
    let here = EXPECTED.into_iter().filter(|(_, victim, ..)| *victim != Victim::Tpm || tpm.is_some());
    let thefts = here.map(|(kind, victim, expected, meaning)| async move {
        let heading: Heading = (kind.name(), victim.name(), expected, meaning);
        let report = theft(stage, issuer, kind, victim, tpm).await;
        Row::new(heading, report.map(|report| done(report, victim)).map_err(|error| error.to_string()))
    });
    let (mut rows, acts) = join(join_all(thefts), acts::beside_others(stage)).await;
    rows.extend(
        acts.into_iter()
            .chain(acts::alone(stage).await)
            .map(|(heading, done)| Row::new(heading, done.map_err(|error| error.to_string()))),
    );
    rows
}

async fn theft(
    stage: &Stage,
    issuer: &DeviceIssuer,
    kind: AttackKind,
    victim: Victim,
    tpm: Option<&Device>,
) -> Outcome<AttackReport> {
    let environment = clock::environment();
    let name = format!("owner-{kind}");
    let owner = match victim {
        Victim::Key => member(stage, &name)?,
        Victim::Certificate => certified(stage, issuer, &name)?,
        Victim::Tpm => tpm.cloned().ok_or_else(|| CommandError::new("no device has a TPM"))?,
        Victim::Remade => enrol(stage, REMADE, &Value::Null, false).await?,
    };
    let accomplice = certified(stage, issuer, &format!("thief-{kind}"))?;
    let remake = || -> std::pin::Pin<Box<dyn Future<Output = Result<Device, SimError>> + Send>> {
        Box::pin(async { make_anew(stage).await.map_err(|error| SimError::Protocol(error.to_string())) })
    };
    let scene = Scene {
        accomplice: Some(&accomplice),
        issuer: Some(issuer),
        remake: Some(&remake),
        ..Scene::new(&stage.dialer, &stage.endpoint, &environment)
    };
    run_attack(kind, &scene, &owner).await.context(format!("the owner of {kind}"))
}

fn done(report: AttackReport, victim: Victim) -> Done {
    let leaf = |events, note| vec![Wanted::Leaf { identity: report.owner.to_string(), events, note }];
    let wanted = match report.kind {
        AttackKind::OtherTopic => vec![Wanted::Closed { cause: "foreign_topic" }],
        AttackKind::Takeover => leaf("takenOver", ""),
        // The owner's: what another TPM cannot open leads to none.
        AttackKind::RegisterOnly if victim == Victim::Tpm => {
            leaf("registered,reregistered", ": its newest registration")
        }
        AttackKind::RegisterOnly => leaf("reregistered", ": by the same key"),
        _ => vec![Wanted::Refusals { subject: report.claimed.to_string(), because: "" }],
    };
    Done {
        outcome: report.outcome.name(),
        detail: report.refused_by,
        steps: report.steps,
        acknowledged: report.acknowledged,
        wanted,
    }
}

/// A device with a certificate of the demo's factory.
fn certified(stage: &Stage, issuer: &DeviceIssuer, id: &str) -> Outcome<Device> {
    let registration_id = id.parse().context("a device's name")?;
    let (chain, key) = issuer.issue(&registration_id, &clock::environment()).context("a device's certificate")?;
    let certificate =
        DeviceCertificate::from_pem(chain.as_bytes(), key.as_bytes()).context("a device's certificate")?;
    Ok(Device { registration_id, key: certificate.into(), id_scope: stage.id_scope.clone() })
}

/// The device whose identity is made anew; it has an enrollment of its own.
const REMADE: &str = "owner-old-token";

/// The identity ends and is made again: another generation with another key, which its hub gets when it registers again.
async fn make_anew(stage: &Stage) -> Outcome<Device> {
    let path = format!("/devices/{REMADE}?api-version=2021-04-12");
    stage.hub_client.call(Method::DELETE, &path, &[("if-match", "*")], None).await?;
    enrol(stage, REMADE, &Value::Null, true).await
}
