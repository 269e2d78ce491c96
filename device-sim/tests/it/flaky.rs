//! Devices with a bad life against the responder: each disturbance does what its name says, and only that.

use std::collections::BTreeSet;
use std::time::Duration;

use rumqttc::ConnectReturnCode;
use unicity_device_sim::{Disturbance, FlakyReport, Habits, live_flaky};

use crate::responder::{Responder, Script, device, environment};

async fn live(responder: &Responder, disturbance: Disturbance) -> FlakyReport {
    let habits =
        Habits { disturbances: vec![disturbance], count: 3, pause_max: Duration::from_millis(5), ..Habits::default() };
    live_flaky(&responder.dialer(), &responder.endpoint(), &device("dev-1"), &environment(), &habits).await
}

#[tokio::test]
async fn each_disturbance_ends_three_sessions_and_nothing_is_lost() {
    for disturbance in Disturbance::ALL {
        let responder = Responder::start(Script::default()).await;
        let report = live(&responder, disturbance).await;
        assert!(report.is_untroubled(), "{report:?}");
        assert_eq!((report.sessions, report.disturbances.as_slice()), (4, &[disturbance; 3][..]));
        let seen = responder.seen.lock().unwrap();
        assert_eq!(seen.telemetry.len() as u64, report.acknowledged);
        let registrations = if disturbance == Disturbance::Reboot { 4 } else { 1 };
        assert_eq!((seen.register_topics.len(), seen.connections), (registrations, registrations + 4));
        let addresses: BTreeSet<_> = seen.peers.iter().collect();
        assert_eq!(addresses.len() > 1, disturbance == Disturbance::Move, "{disturbance}: {addresses:?}");
    }
}

#[tokio::test]
async fn what_the_server_takes_or_refuses_is_no_quiet_life() {
    let responder = Responder::start(Script { hub_messages_max: Some(1), ..Script::default() }).await;
    let report = live(&responder, Disturbance::Sleep).await;
    assert!(report.taken > 0 && !report.is_untroubled(), "{report:?}");

    let refusals = vec![ConnectReturnCode::ServiceUnavailable, ConnectReturnCode::NotAuthorized];
    let responder = Responder::start(Script { refusals, ..Script::default() }).await;
    let report = live(&responder, Disturbance::Sleep).await;
    assert_eq!(report.failures.into_iter().collect::<Vec<_>>(), [("connack-3", 1), ("connack-5", 1)]);
    assert!(report.gave_up.is_some());
}
