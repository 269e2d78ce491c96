//! First boots: what is slow or refused is found where it is.

use std::sync::Arc;
use std::time::Duration;

use unicity_loadtest::Stage;
use unicity_loadtest::drive::{Bounds, NoObserver, Stop, Warmup};
use unicity_loadtest::workload::{
    Connect, LoopPlan, Measurement, Pacing, Pool, Register, Role as As, Site, ZeroTouch, run_operations,
};

use crate::server::{Role, Script};
use crate::service;

const PATIENT: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_millis(400);

fn plan(count: u64) -> LoopPlan {
    LoopPlan {
        pacing: Pacing::Closed { concurrency: 4 },
        bounds: Bounds { count: Some(count), time: None },
        warmup: Warmup::None,
        seed: 1,
        first: 0,
    }
}

async fn zero_touch(site: Arc<Site>, pool: Arc<Pool>, count: u64) -> Measurement {
    let operation = Arc::new(ZeroTouch { site, pool, payload: vec![b'x'; 64] });
    run_operations(&operation, &plan(count), &Stop::default(), NoObserver).await.0
}

#[tokio::test]
async fn a_first_boot_has_every_stage_once() {
    let (server, site, pool) = service(Script::default(), 5, false, PATIENT).await;
    let measurement = zero_touch(site, pool, 5).await;
    assert_eq!((measurement.counts.completed, measurement.counts.failed), (5, 0), "{:?}", measurement.recorder);
    for stage in Stage::ALL {
        let times = measurement.recorder.times(stage).map_or(0, |times| times.len());
        let expected = if matches!(stage, Stage::Puback | Stage::TotalUncorrected) { 0 } else { 5 };
        assert_eq!(times, expected, "{stage:?}");
    }
    let seen = server.seen.lock();
    assert_eq!((seen.connections, seen.published), (10, 5));
    assert!(seen.topics.iter().all(|topic| topic == "devices/at-hub/messages/events/"));
    assert_eq!(seen.user_names.iter().filter(|name| name.starts_with("0ne00000000/registrations/lt-")).count(), 5);
}

/// The fastest of several devices decides: a machine that is busy for a moment delays some of them, not all.
#[tokio::test]
async fn a_delay_is_seen_at_its_own_stage() {
    let at = |provisioning, hub| Script { provisioning, hub, ..Script::default() };
    let none = Role::default;
    for (script, stage) in [
        (at(Role { before_tls: DELAY, ..none() }, none()), Stage::Tls),
        (at(Role { before_connack: DELAY, ..none() }, none()), Stage::Connect),
        (at(Role { before_suback: DELAY, ..none() }, none()), Stage::Subscribe),
        (at(Role { before_answer: DELAY, ..none() }, none()), Stage::Register),
        (at(none(), Role { before_tls: DELAY, ..none() }), Stage::HubTls),
        (at(none(), Role { before_connack: DELAY, ..none() }), Stage::HubConnect),
        (at(none(), Role { before_answer: DELAY, ..none() }), Stage::FirstPuback),
    ] {
        let (_server, site, pool) = service(script, 8, false, PATIENT).await;
        let recorder = zero_touch(site, pool, 8).await.recorder;
        let fastest = |stage| Duration::from_micros(recorder.times(stage).unwrap().min());
        // A histogram of three digits may show a little less.
        assert!(fastest(stage) >= DELAY.mul_f64(0.99), "{stage:?}: {:?}", fastest(stage));
        assert!(fastest(Stage::Total) >= fastest(stage).mul_f64(0.99));
        for other in Stage::ALL {
            let holds_it = other == Stage::Total || (stage == Stage::Register && other == Stage::Assigned);
            if other != stage && !holds_it && recorder.times(other).is_some() {
                assert!(fastest(other) < fastest(stage), "{stage:?} was delayed, {other:?} shows it");
            }
        }
    }
}

#[tokio::test]
async fn polls_and_patience_are_the_service_s() {
    let assigning = r#"{"operationId":"4.1","status":"assigning"}"#;
    let assigned = r#"{"operationId":"4.1","status":"assigned","registrationState":{"assignedHub":"hub.example","deviceId":"d","status":"assigned"}}"#;
    for first in [("202/&retry-after=1", assigning), ("429/&retry-after=1", r#"{"errorCode":429001}"#)] {
        let provisioning = Role { answers: vec![first, ("200/", assigned)], ..Role::default() };
        let (_server, site, pool) = service(Script { provisioning, ..Script::default() }, 4, false, PATIENT).await;
        let operation = Arc::new(Register { site, pool });
        let measurement = run_operations(&operation, &plan(4), &Stop::default(), NoObserver).await.0;
        assert_eq!(measurement.counts.completed, 4, "{:?}", measurement.recorder.failures());
        let fastest = |stage| measurement.recorder.times(stage).unwrap().min();
        assert!(fastest(Stage::Assigned) >= 990_000 && fastest(Stage::Register) < fastest(Stage::Assigned));
    }
}

#[tokio::test]
async fn each_error_has_its_class_and_its_first_example() {
    let at = |provisioning, hub| Script { provisioning, hub, ..Script::default() };
    let none = Role::default;
    let (short, long) = (Duration::from_millis(300), PATIENT);
    let refused = |code: u8| Role { refusals: vec![code; 99], ..none() };
    let answered = |topic, body| Role { answers: vec![(topic, body)], ..none() };
    for (script, patience, stage, kind, words) in [
        (at(refused(3), none()), long, Stage::Connect, "connack-3", "server unavailable"),
        (at(refused(5), none()), long, Stage::Connect, "connack-5", "not authorized"),
        (at(none(), refused(5)), long, Stage::HubConnect, "connack-5", "not authorized"),
        (
            at(answered("401/", r#"{"errorCode":401002,"message":"no","trackingId":"t-1"}"#), none()),
            long,
            Stage::Register,
            "registration-rejected",
            "401002 no (tracking id t-1)",
        ),
        (
            at(answered("202/&retry-after=0", r#"{"operationId":"4.1","status":"assigning"}"#), none()),
            long,
            Stage::Assigned,
            "gave-up",
            "3 requests",
        ),
        (at(Role { drops: true, ..none() }, none()), long, Stage::Register, "closed-by-server", "closed"),
        (at(none(), Role { drops: true, ..none() }), long, Stage::FirstPuback, "closed-by-server", "closed"),
        (at(none(), Role { swallows: true, ..none() }), short, Stage::FirstPuback, "timeout", "no PUBACK within 0.3 s"),
        (at(Role { before_suback: PATIENT, ..none() }, none()), short, Stage::Subscribe, "timeout", "no SUBACK"),
        (at(Role { before_tls: PATIENT, ..none() }, none()), short, Stage::Tls, "timeout", "no TLS handshake"),
    ] {
        let (_server, site, pool) = service(script, 3, false, patience).await;
        let measurement = zero_touch(site, pool, 3).await;
        assert_eq!((measurement.counts.completed, measurement.counts.failed), (0, 3), "{kind} at {stage:?}");
        let failures = measurement.recorder.failures();
        if patience == short && failures.len() > 1 {
            // So little patience may end earlier on a machine that is busy.
            continue;
        }
        let failure =
            failures.get(&(stage, kind.to_owned())).unwrap_or_else(|| panic!("{kind} at {stage:?}: {failures:?}"));
        assert_eq!(failure.count, 3);
        assert!(failure.first.contains(words), "{}", failure.first);
    }
}

#[tokio::test]
async fn a_stranger_and_an_empty_port_are_told_apart() {
    let (server, _, pool) = service(Script::default(), 2, false, PATIENT).await;
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let tls = unicity_loadtest::client::DeviceTls::new(stranger.as_bytes(), Default::default(), false).unwrap();
    let strangers = crate::pool(2, Some(&tls));
    let (_, site, _) = service(Script::default(), 2, false, PATIENT).await;
    let measurement = zero_touch(site, strangers, 2).await;
    let failures: Vec<_> = measurement.recorder.failures().keys().cloned().collect();
    assert_eq!(failures, [(Stage::Tls, "tls".to_owned())]);

    // A port that was free a moment ago.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let kind = server_kind();
    let endpoint = unicity_device_sim::Endpoint::from(nobody);
    let site = Site::new(kind, &endpoint, Default::default(), 1, None, crate::environment()).await.unwrap();
    let measurement = zero_touch(Arc::new(site), pool, 2).await;
    let failures: Vec<_> = measurement.recorder.failures().keys().cloned().collect();
    assert_eq!(failures, [(Stage::Tcp, "connect".to_owned())]);
    drop(server);
}

fn server_kind() -> unicity_loadtest::workload::SiteKind {
    unicity_loadtest::workload::SiteKind::Service(unicity_loadtest::workload::Service {
        id_scope: crate::server::SCOPE.parse().unwrap(),
    })
}

#[tokio::test]
async fn a_device_resumes_only_if_told_and_only_its_own_session() {
    for (resume, hub_host, resumed) in [(false, "127.0.0.1", 0), (true, "127.0.0.1", 6), (true, "hub.example", 0)] {
        let script = Script { hub_host, ..Script::default() };
        let (server, site, pool) = service(script, 6, resume, PATIENT).await;
        let measurement = zero_touch(site, pool, 6).await;
        assert_eq!(measurement.counts.completed, 6, "{:?}", measurement.recorder.failures());
        assert_eq!(server.seen.lock().resumed, resumed, "resume {resume}, hub {hub_host}");
    }
}

#[tokio::test]
async fn connections_are_ended_in_order() {
    let (server, site, pool) = service(Script::default(), 3, false, PATIENT).await;
    let operation = Arc::new(Connect::new(site, pool, As::Provisioning));
    let measurement = run_operations(&operation, &plan(9), &Stop::default(), NoObserver).await.0;
    assert_eq!(measurement.counts.completed, 9);
    let recorder = measurement.recorder;
    assert!(recorder.times(Stage::Subscribe).is_none() && recorder.times(Stage::Connect).unwrap().len() == 9);
    assert_eq!(server.seen.lock().connections, 9);
}
