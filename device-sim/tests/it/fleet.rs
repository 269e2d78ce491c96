//! Many devices at once: counts that add up, bounds that hold, stops that end.

use std::time::Duration;

use rumqttc::ConnectReturnCode;
use unicity_device_sim::{Device, Fleet, FleetSettings};

use crate::responder::{Responder, SCOPE, Script, environment, group_key};

fn members(count: usize) -> Vec<Device> {
    Device::group_members(&group_key(), "sim-", count, &SCOPE.parse().unwrap()).unwrap()
}

fn fleet(responder: &Responder, settings: FleetSettings) -> Fleet {
    Fleet::new(responder.dialer(), responder.endpoint(), settings, environment())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_is_provisioned_and_every_message_acknowledged() {
    let responder = Responder::start(Script::default()).await;
    let settings = FleetSettings { messages: 3, concurrency: 8, ..FleetSettings::default() };
    let result = fleet(&responder, settings).run(members(40)).await;

    let summary = &result.summary;
    assert!(summary.is_complete(), "{summary}");
    assert_eq!((summary.provisioned, summary.connected, summary.distinct_identities), (40, 40, 40));
    assert_eq!((summary.sent, summary.acknowledged), (120, 120));
    assert!(result.devices.iter().all(|device| device.acknowledged == 3 && device.error.is_none()));
    let counts: Vec<_> = summary.stages.iter().map(|stage| (stage.stage, stage.count)).collect();
    assert_eq!(
        counts,
        [
            ("provisioning-connect", 40),
            ("subscribe", 40),
            ("register", 40),
            ("provisioned", 40),
            ("hub-connect", 40),
            ("acknowledged", 120)
        ]
    );
    let seen = responder.seen.lock().unwrap();
    assert_eq!(seen.telemetry.len(), 120);
    let json = serde_json::to_value(summary).unwrap();
    assert_eq!(json["acknowledged"], 120);
    assert_eq!(json["stages"][5]["stage"], "acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_heal_is_tried_again_and_what_may_not_is_not() {
    let refusals = vec![ConnectReturnCode::ServiceUnavailable, ConnectReturnCode::NotAuthorized];
    let responder = Responder::start(Script { refusals, ..Script::default() }).await;
    let settings = FleetSettings { concurrency: 1, ..FleetSettings::default() };
    let result = fleet(&responder, settings).run(members(2)).await;
    let summary = &result.summary;
    // The first connection was told to come back, and was refused when it did; the second device had no trouble.
    assert_eq!((summary.retries, summary.failed, summary.provisioned), (1, 1, 1), "{summary}");
    assert_eq!(summary.errors.len(), 1);
    assert_eq!((summary.errors[0].kind, summary.errors[0].count), ("connack-5", 1));
    assert!(!summary.is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_were_not_acknowledged_are_not_counted_as_such() {
    let responder = Responder::start(Script { hub_messages_max: Some(2), ..Script::default() }).await;
    let settings = FleetSettings { messages: 5, concurrency: 2, ..FleetSettings::default() };
    let result = fleet(&responder, settings).run(members(4)).await;
    let summary = &result.summary;
    assert_eq!(summary.failed, 4, "{summary}");
    assert!(summary.acknowledged <= 8, "{summary}");
    assert_eq!(summary.errors[0].kind, "closed-by-server");
    assert_eq!(result.devices.iter().map(|device| device.acknowledged).sum::<u64>(), summary.acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_sessions_stay_open_until_the_fleet_is_stopped() {
    let responder = Responder::start(Script::default()).await;
    let settings = FleetSettings { concurrency: 4, hold: true, ..FleetSettings::default() };
    let fleet = fleet(&responder, settings);
    let (progress, stopper) = (fleet.progress(), fleet.stopper());
    let run = tokio::spawn(fleet.run(members(12)));
    while progress.snapshot().open < 12 || progress.snapshot().finished < 12 {
        assert!(!run.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stopper.stop();
    let summary = run.await.unwrap().summary;
    assert!(summary.stopped && summary.is_complete(), "{summary}");
    assert_eq!(progress.snapshot().open, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_no_new_device_start() {
    let responder = Responder::start(Script::default()).await;
    let fleet = fleet(&responder, FleetSettings { concurrency: 2, ..FleetSettings::default() });
    let (progress, stopper) = (fleet.progress(), fleet.stopper());
    let run = tokio::spawn(fleet.run(members(100_000)));
    while progress.snapshot().finished < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stopper.stop();
    let result = run.await.unwrap();
    assert!(result.summary.stopped && !result.summary.is_complete());
    assert_eq!(result.summary.failed, 0, "{}", result.summary);
    assert_eq!(result.devices.len() as u64, result.summary.started);
}
