//! Fleets by plan: what devices do about a network and a server that fail them.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rumqttc::ConnectReturnCode;
use serde_json::Value;
use unicity_device_sim::engine::{Engine, EngineReport};
use unicity_device_sim::events::EventSink;
use unicity_device_sim::fleet_file::{ClientKind, FleetPlan, Outside, Overrides, parse};
use unicity_device_sim::{Credentials, Scenario, populate};

use crate::responder::{Responder, SCOPE, Script, environment, group_key};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn plan(text: &str) -> FleetPlan {
    let outside = Outside { base: Path::new(""), read: &|_| Err("no".to_owned()), variable: &|_| None };
    let text = format!(
        "[[group]]\nname = \"a\"\nid = \"dev-{{n}}\"\nattestation.group_key = {{}}\n\
         reconnect = {{ base = \"1ms\", cap = \"5ms\" }}\n{text}"
    );
    parse(&text, &outside).unwrap_or_else(|error| panic!("{error}"))
}

fn engine(responder: &Responder, plan: FleetPlan, events: EventSink) -> Engine {
    let credentials = Credentials { group_keys: [(String::new(), group_key())].into(), issuer: None };
    let members = populate(&plan, &SCOPE.parse().unwrap(), &credentials, None, &environment()).unwrap();
    Engine::new(plan, members, &responder.dialer(), responder.endpoint(), None, events, environment())
}

/// Report and events of a run to the end.
async fn run(responder: &Responder, plan: FleetPlan) -> (EngineReport, Vec<Value>) {
    let written = Written::default();
    let sink = EventSink::to(written.clone()).unwrap();
    let report = engine(responder, plan, sink).run().await;
    let bytes = written.0.lock().unwrap().clone();
    let events = String::from_utf8(bytes).unwrap();
    (report, events.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scenario_runs_small_with_either_client() {
    for client in [ClientKind::Rumqttc, ClientKind::Direct] {
        for scenario in Scenario::ALL {
            let overrides = Overrides {
                count: Some(2),
                messages: Some(3),
                interval: Some(std::time::Duration::from_millis(1)),
                at_once: true,
                client: Some(client),
                ..Overrides::default()
            };
            let responder = Responder::start(Script::default()).await;
            let (report, events) = run(&responder, scenario.plan().unwrap().with(&overrides)).await;
            assert!(report.is_good(), "{}: {}", scenario.name, report.summary);
            assert_eq!(report.summary.acknowledged % 6, 0, "{}", report.summary);
            assert_eq!(events.last().unwrap()["acknowledged"], report.summary.acknowledged);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_is_sent_again_in_the_next_session() {
    let responder = Responder::start(Script { hub_messages_max: Some(2), ..Script::default() }).await;
    let (report, events) =
        run(&responder, plan("count = 3\ntelemetry = { interval = \"0s\", messages = 7, window = 1 }")).await;
    let summary = &report.summary;
    assert!(report.is_good(), "{summary}");
    assert_eq!((summary.sent, summary.acknowledged, summary.provisioned), (21, 21, 3));
    // Two messages a session: the seventh is in the fourth. One at a time, or the reset could overtake a PUBACK.
    assert_eq!((summary.outages, summary.reconnects), (9, 9));
    let seen = responder.seen.lock().unwrap();
    for device in ["dev-1", "dev-2", "dev-3"] {
        let own: Vec<_> = seen.telemetry.iter().filter(|(id, ..)| id == device).map(|(_, bag, _)| bag).collect();
        let sequences: Vec<String> = own.iter().map(|bag| bag.rsplit('=').next().unwrap().to_owned()).collect();
        assert_eq!(sequences, ["0", "1", "2", "3", "4", "5", "6"]);
    }
    let lost = named(&events, "disconnected");
    assert_eq!(lost.iter().filter(|event| event["reason"] == "lost").count(), 9);
    assert_eq!(named(&events, "reconnecting").len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_refuses_sends_devices_back_to_provisioning() {
    const NO: ConnectReturnCode = ConnectReturnCode::NotAuthorized;
    let refusals = vec![ConnectReturnCode::Success, NO, NO, NO];
    let responder = Responder::start(Script { refusals, ..Script::default() }).await;
    let (report, events) = run(&responder, plan("telemetry = { interval = \"0s\", messages = 1 }")).await;
    let summary = &report.summary;
    assert!(report.is_good(), "{summary}");
    assert_eq!((summary.refused, summary.reprovisioned, summary.provisioned), (3, 1, 2), "{summary}");
    let told: Vec<_> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    let expected = [
        "started",
        "registered",
        "refused",
        "reconnecting",
        "refused",
        "reconnecting",
        "refused",
        "reprovisioning",
        "reconnecting",
        "registered",
        "connected",
        "disconnected",
        "acknowledged",
        "summary",
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_always_refused_gives_up() {
    let refusals = vec![ConnectReturnCode::NotAuthorized];
    let responder = Responder::start(Script { refusals, ..Script::default() }).await;
    let (report, events) = run(&responder, plan("")).await;
    assert!(!report.is_good());
    assert_eq!((report.summary.failed, report.summary.refused), (1, 1));
    assert_eq!(named(&events, "refused")[0]["by"], "provisioning");

    let mut refusals = vec![ConnectReturnCode::NotAuthorized; 12];
    for at in [0, 3] {
        refusals[at] = ConnectReturnCode::Success;
    }
    let responder = Responder::start(Script { refusals, ..Script::default() }).await;
    let twice = "reconnect = { base = \"1ms\", refusals = 2, rounds = 2 }";
    let mut stubborn = plan("");
    stubborn.groups[0].reconnect.refusals = 2;
    stubborn.groups[0].reconnect.rounds = 2;
    let (report, _) = run(&responder, stubborn).await;
    assert_eq!((report.summary.failed, report.summary.refused, report.summary.provisioned), (1, 4, 2), "{twice}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duty_cycle_is_no_outage() {
    let responder = Responder::start(Script::default()).await;
    let text = "duty = { connected = \"10ms\", away = \"1ms\" }\ntelemetry = { interval = \"5ms\", messages = 20 }";
    let (report, events) = run(&responder, plan(text)).await;
    assert!(report.is_good(), "{}", report.summary);
    assert_eq!((report.summary.outages, report.summary.acknowledged), (0, 20));
    let away = named(&events, "disconnected").iter().filter(|event| event["reason"] == "away").count();
    assert!(away >= 3, "{away}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_qos_0_nothing_is_waited_for() {
    let responder = Responder::start(Script::default()).await;
    let text = "telemetry = { interval = \"0s\", messages = 30, qos = 0 }";
    let (report, _) = run(&responder, plan(text)).await;
    assert!(report.is_good(), "{}", report.summary);
    assert_eq!((report.summary.fired, report.summary.sent), (30, 0));
    while responder.seen.lock().unwrap().disconnects < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(responder.seen.lock().unwrap().telemetry.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_told_once_and_telemetry_goes_on() {
    let responder = Responder::start(Script::default()).await;
    let text = "count = 4\ntelemetry = { interval = \"1ms\", messages = 5 }\nmethods.reboot = {}";
    let (report, events) = run(&responder, plan(text)).await;
    assert!(report.is_good(), "{}", report.summary);
    assert_eq!(named(&events, "subscription_refused").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_an_endless_fleet_wherever_its_devices_are() {
    let responder = Responder::start(Script::default()).await;
    let text = "count = 40\nboot.rate = 20\ntelemetry = { interval = \"1ms\" }\nduty = { connected = \"20ms\", away = \"1h\" }";
    let engine = engine(&responder, plan(text), EventSink::none());
    let (stopper, progress) = (engine.stopper(), engine.progress());
    let run = tokio::spawn(engine.run());
    while progress.snapshot().acknowledged < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    stopper.stop();
    let report = run.await.unwrap();
    assert!(report.is_good() && report.summary.stopped, "{}", report.summary);
    assert_eq!((report.cut_off, progress.snapshot().open), (0, 0));
}
