//! Open sessions: window, loss, correction, pings, storms.

use std::time::Duration;

use unicity_loadtest::Stage;
use unicity_loadtest::drive::{Arrivals, NoObserver, Stop, Warmup};
use unicity_loadtest::workload::{Pace, Quality, SessionsPlan, StormPlan, settle, storm, stream};

use crate::broker;
use crate::server::{Role, Script};

fn plan(sessions: usize) -> SessionsPlan {
    SessionsPlan {
        sessions,
        concurrency: 8,
        pace: Pace::Unbounded,
        quality: Quality::AtLeastOnce,
        window: 5,
        payload: vec![b'x'; 100],
        messages: Some(200),
        time: None,
        warmup: Warmup::None,
        seed: 1,
        server_pid: None,
    }
}

#[tokio::test]
async fn every_message_is_acknowledged_and_the_window_holds() {
    let (server, site, pool) = broker(Script::default(), 3).await;
    let measurement = stream(&site, &pool, plan(3), &Stop::default(), NoObserver).await.0;
    assert_eq!((measurement.counts.completed, measurement.counts.failed), (600, 0), "{:?}", measurement.recorder);
    assert_eq!((measurement.figures["messages-sent"], measurement.figures["messages-lost"]), (600.0, 0.0));
    let times = |stage| measurement.recorder.times(stage).unwrap().len();
    assert_eq!((times(Stage::FirstPuback), times(Stage::Puback), times(Stage::Connect)), (3, 597, 3));
    assert!(measurement.recorder.times(Stage::Total).is_none(), "nothing was meant to be at any time");
    let seen = server.seen.lock();
    assert_eq!((seen.published, seen.disconnects), (600, 3));
    assert!(seen.unacknowledged_most <= 5);
    assert!(seen.topics.iter().all(|topic| ["bench/0", "bench/1", "bench/2"].contains(&topic.as_str())));
    let mut names = seen.user_names.clone();
    names.sort();
    assert_eq!(names, ["u0", "u1", "u2"]);
}

#[tokio::test]
async fn a_full_window_waits_for_the_server() {
    let (mut server, site, pool) = broker(Script::default(), 1).await;
    server.stalled.send_replace(true);
    let running = tokio::spawn(async move { stream(&site, &pool, plan(1), &Stop::default(), NoObserver).await.0 });
    server.published.wait_for(|count| *count == 5).await.unwrap();
    // Whatever more it would send has time to come.
    let more = tokio::time::timeout(Duration::from_millis(200), server.published.wait_for(|count| *count > 5)).await;
    assert!(more.is_err());
    server.stalled.send_replace(false);
    assert_eq!(running.await.unwrap().counts.completed, 200);
}

#[tokio::test]
async fn at_most_once_counts_what_was_sent() {
    let (mut server, site, pool) = broker(Script::default(), 2).await;
    let plan = SessionsPlan { quality: Quality::AtMostOnce, ..plan(2) };
    let measurement = stream(&site, &pool, plan, &Stop::default(), NoObserver).await.0;
    assert_eq!(measurement.counts.completed, 400);
    server.published.wait_for(|count| *count == 400).await.unwrap();
    assert!(measurement.recorder.times(Stage::Puback).is_none());
}

/// The server rests for as long as the test lets it; five messages are in flight, those after them are meant to leave all the
/// same, and only the corrected times know.
#[tokio::test]
async fn messages_that_a_stall_holds_back_count_from_when_they_were_meant_to_leave() {
    let (mut server, site, pool) = broker(Script::default(), 1).await;
    let pace = Pace::Rate { per_second: 200.0, arrivals: Arrivals::Uniform };
    let plan = SessionsPlan { pace, messages: Some(300), ..plan(1) };
    let stop = Stop::default();
    let running = tokio::spawn(async move { stream(&site, &pool, plan, &stop, NoObserver).await.0 });
    server.published.wait_for(|count| *count >= 20).await.unwrap();
    server.stalled.send_replace(true);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    server.stalled.send_replace(false);
    let recorder = running.await.unwrap().recorder;
    let slow = |stage| {
        let times = recorder.times(stage).unwrap();
        times.len() - times.count_between(0, 299_999)
    };
    assert!(slow(Stage::Total) > 60, "{} corrected", slow(Stage::Total));
    assert!(slow(Stage::TotalUncorrected) >= 1);
    assert!(slow(Stage::TotalUncorrected) < slow(Stage::Total), "{}", slow(Stage::TotalUncorrected));
}

#[tokio::test]
async fn what_is_never_acknowledged_is_lost() {
    let hub = Role { swallows: true, ..Role::default() };
    let (_server, site, pool) = broker(Script { hub, ..Script::default() }, 2).await;
    let mut site = std::sync::Arc::try_unwrap(site).unwrap();
    site.patience.step = Duration::from_millis(500);
    let site = std::sync::Arc::new(site);
    let measurement = stream(&site, &pool, plan(2), &Stop::default(), NoObserver).await.0;
    assert_eq!(measurement.figures["messages-lost"], 10.0);
    assert_eq!(measurement.counts.failed, 2);
    let failures = measurement.recorder.failures();
    assert_eq!(failures[&(Stage::Puback, "timeout".to_owned())].count, 2);
    assert!(failures[&(Stage::Puback, "unacknowledged".to_owned())].first.starts_with("5 publishes of lt-"));
}

#[tokio::test]
async fn idle_sessions_ping_and_end_in_order() {
    let (server, site, pool) = broker(Script::default(), 4).await;
    let plan = SessionsPlan { pace: Pace::Idle, messages: None, time: Some(Duration::from_millis(2500)), ..plan(4) };
    let measurement = stream(&site, &pool, plan, &Stop::default(), NoObserver).await.0;
    assert_eq!((measurement.counts.completed, measurement.counts.failed), (4, 0), "{:?}", measurement.recorder);
    let seen = server.seen.lock();
    assert!(seen.pings >= 4, "{}", seen.pings);
    assert_eq!(seen.published, 0);
}

#[tokio::test]
async fn in_a_storm_whoever_is_refused_comes_again() {
    // The first connections are the sessions before the storm; refusals come to those after them.
    let (server, site, pool) = broker(Script::default(), 10).await;
    settle(&site, &pool, 10, 4, &Stop::default()).await.unwrap();
    let plan = StormPlan {
        devices: 10,
        concurrency: 4,
        tries_max: 20,
        backoff: Duration::from_millis(20),
        backoff_max: Duration::from_millis(100),
        time_max: Duration::from_secs(60),
        seed: 1,
    };
    let measurement = storm(&site, &pool, plan, &Stop::default(), NoObserver).await.0;
    assert_eq!((measurement.counts.completed, measurement.counts.failed), (10, 0), "{:?}", measurement.recorder);
    assert_eq!(measurement.figures["returned"], 10.0);
    assert_eq!(server.seen.lock().connections, 20);
    assert_eq!(measurement.recorder.times(Stage::Total).unwrap().len(), 10);

    let (server, site, pool) = broker(Script::default(), 10).await;
    server.refuse_after(10, 7);
    let measurement = storm(&site, &pool, plan, &Stop::default(), NoObserver).await.0;
    assert_eq!((measurement.counts.completed, measurement.counts.failed), (10, 0), "{:?}", measurement.recorder);
    let failures = measurement.recorder.failures();
    assert_eq!(failures[&(Stage::Connect, "retried-connack-3".to_owned())].count, 7);
    assert_eq!(server.seen.lock().connections, 27);
}
