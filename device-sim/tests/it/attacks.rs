//! Thieves against the responder, whose rules are: a token must be good for its id, the newest session wins, and a topic must
//! be one's own.

use std::net::IpAddr;
use std::sync::Mutex;

use unicity_device_sim::{
    Actor, AttackKind, AttackOutcome, AttackReport, Device, DeviceCertificate, Scene, Seen, Step, run_attack,
};
use unicity_identity::RegistrationId;

use crate::client_certificate::issuer;
use crate::responder::{Responder, SCOPE, Script, device, environment};

async fn attack(responder: &Responder, kind: AttackKind, owner: &Device) -> AttackReport {
    let (dialer, endpoint, env) = (responder.dialer(), responder.endpoint(), environment());
    let (accomplice, issuer) = (device("thief-1"), issuer());
    let scene = Scene {
        accomplice: Some(&accomplice),
        issuer: Some(&issuer),
        rounds: 2,
        ..Scene::new(&dialer, &endpoint, &env)
    };
    run_attack(kind, &scene, owner).await.unwrap()
}

fn last(report: &AttackReport, who: Actor) -> &Seen {
    &report.steps.iter().rfind(|step| step.who == who).unwrap().seen
}

#[tokio::test]
async fn each_attack_on_a_device_with_a_key_has_its_outcome() {
    for (kind, outcome, by, acknowledged) in [
        // Before, then the thief's one.
        (AttackKind::Takeover, AttackOutcome::TookOver, None, 2),
        (AttackKind::PingPong, AttackOutcome::Traded, None, 1),
        (AttackKind::RegisterOnly, AttackOutcome::Accepted, None, 2),
        (AttackKind::OldToken, AttackOutcome::Refused, Some("CONNACK 5"), 0),
        (AttackKind::ReissuedCertificate, AttackOutcome::Impossible, Some("the owner has no certificate"), 0),
        (AttackKind::SameKeyOtherId, AttackOutcome::Refused, Some("CONNACK 5"), 0),
        (AttackKind::OtherTopic, AttackOutcome::Refused, Some("connection closed"), 2),
        (AttackKind::Overlap, AttackOutcome::TookOver, None, 2),
    ] {
        let responder = Responder::start(Script::default()).await;
        let report = attack(&responder, kind, &device("dev-1")).await;
        assert_eq!((report.outcome, report.refused_by.as_deref()), (outcome, by), "{report:#?}");
        assert_eq!(report.acknowledged, acknowledged, "{report:#?}");
        assert_eq!(report.owner.as_str(), "dev-1");
        assert_eq!(responder.seen.lock().unwrap().telemetry.len() as u64, acknowledged, "{report:#?}");
    }
}

#[tokio::test]
async fn the_owner_comes_back_and_the_thief_sees_it() {
    let responder = Responder::start(Script::default()).await;
    let report = attack(&responder, AttackKind::Takeover, &device("dev-1")).await;
    assert_eq!(
        (last(&report, Actor::Owner), last(&report, Actor::Thief)),
        (&Seen::Accepted, &Seen::Closed),
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_thief_that_nobody_hears_was_not_refused() {
    let responder = Responder::start(Script::default()).await;
    let (dialer, endpoint, env) = (responder.dialer(), responder.endpoint(), environment());
    // No address of this machine.
    let elsewhere = "192.0.2.1".parse().unwrap();
    let scene = Scene { sources: [elsewhere; 2], ..Scene::new(&dialer, &endpoint, &env) };
    let report = run_attack(AttackKind::Overlap, &scene, &device("dev-1")).await.unwrap();
    assert_eq!(report.outcome, AttackOutcome::Inconclusive, "{report:#?}");
}

#[tokio::test]
async fn a_copied_certificate_is_tried_too() {
    let responder = Responder::start(Script::default()).await;
    let id: RegistrationId = "dev-1".parse().unwrap();
    let (chain, key) = issuer().issue(&id, &environment()).unwrap();
    let key = DeviceCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap().into();
    let owner = Device { registration_id: id, key, id_scope: SCOPE.parse().unwrap() };
    // The responder looks for a name in the certificate and knows nothing of keys.
    let report = attack(&responder, AttackKind::ReissuedCertificate, &owner).await;
    assert_eq!(report.outcome, AttackOutcome::Accepted, "{report:#?}");
    let report = attack(&responder, AttackKind::SameKeyOtherId, &owner).await;
    assert_eq!(report.outcome, AttackOutcome::Refused, "{report:#?}");
    let report = attack(&responder, AttackKind::OldToken, &owner).await;
    assert_eq!(report.outcome, AttackOutcome::Impossible, "{report:#?}");
}

#[tokio::test]
async fn overlap_comes_from_two_addresses_and_each_step_is_told() {
    let responder = Responder::start(Script::default()).await;
    let (dialer, endpoint, env) = (responder.dialer(), responder.endpoint(), environment());
    let told = Mutex::new(Vec::new());
    let watcher = |kind: AttackKind, _: &RegistrationId, step: &Step| {
        assert_eq!(kind, AttackKind::Overlap);
        told.lock().unwrap().push(step.clone());
    };
    let scene = Scene { watcher: Some(&watcher), ..Scene::new(&dialer, &endpoint, &env) };
    let report = run_attack(AttackKind::Overlap, &scene, &device("dev-1")).await.unwrap();
    assert_eq!(report.steps, *told.lock().unwrap());
    let peers = &responder.seen.lock().unwrap().peers;
    let addresses =
        ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
    assert_eq!(peers, &addresses);
    let line = serde_json::to_value(&report.steps[0]).unwrap();
    assert_eq!((&line["who"], &line["step"], &line["seen"]), (&"owner".into(), &"register".into(), &"assigned".into()));
}
