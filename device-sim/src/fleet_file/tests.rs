use std::path::Path;
use std::time::Duration;

use super::*;
use crate::{AttackKind, Backoff, Disturbance, Jitter};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn read(text: &str) -> Result<FleetPlan, FleetFileError> {
    let outside = Outside {
        base: Path::new("/fleet"),
        read: &|path| match path.to_str() {
            Some("/fleet/trip.csv") => Ok("speed,gear\n50,low\n60,high\n".to_owned()),
            Some("/fleet/header.csv") => Ok("speed\n".to_owned()),
            _ => Err("no such file".to_owned()),
        },
        variable: &|name| (name == "PLANT_KEY").then(|| KEY.to_owned()),
    };
    parse(text, &outside)
}

#[test]
fn the_least_that_a_group_says_is_enough() {
    let plan = read("[[group]]\nname = \"a\"\nid = \"a\"\nattestation.group_key = {}\n").unwrap();
    assert_eq!((plan.groups.len(), plan.handshakes, plan.hub_port), (1, 64, 8883));
    let group = &plan.groups[0];
    assert_eq!((group.count, group.boot), (Some(1), BootPlan::AtOnce));
    assert!(matches!(group.attestation, AttestationPlan::GroupKey(None)));
    assert_eq!(group.reconnect, ReconnectPlan { backoff: Backoff::default(), refusals: 3, rounds: 3 });
    assert_eq!(group.token.renew_before, Duration::from_secs(120));
    assert!(group.telemetry.template.is_none() && group.telemetry.acknowledged && !group.telemetry.stay);
}

#[test]
fn the_documented_example_has_every_key_and_is_right() {
    let text = include_str!("../../fleet.example.toml");
    let outside = Outside {
        base: Path::new("."),
        read: &|_| Ok("speed,gear\n50,low\n".to_owned()),
        variable: &|_| Some(KEY.to_owned()),
    };
    let plan = parse(text, &outside).unwrap_or_else(|error| panic!("{error}"));
    assert!(plan.groups.len() >= 5);
    for key in [
        "endpoint",
        "id_scope",
        "ca",
        "hub_port",
        "https_port",
        "resolve",
        "seed",
        "handshakes",
        "client",
        "sources",
        "name",
        "count",
        "id",
        "group_key",
        "key_env",
        "keys",
        "x509_issuer",
        "x509_folder",
        "batch",
        "tpm",
        "rate",
        "over",
        "interval",
        "jitter",
        "messages",
        "for",
        "stay",
        "window",
        "qos",
        "body",
        "content_type",
        "properties",
        "counter",
        "random_walk",
        "sine",
        "uniform",
        "choice",
        "replay",
        "connected",
        "away",
        "base",
        "factor",
        "cap",
        "refusals",
        "rounds",
        "ttl",
        "renew_before",
        "disturbances",
        "messages_max",
        "pause_max",
        "attacks",
        "methods",
    ] {
        assert!(text.contains(key), "the example lacks {key}");
    }
}

#[test]
fn a_whole_group_is_read() {
    let plan = read(
        r#"
[fleet]
endpoint = "dps.example"
id_scope = "0ne00000000"
ca = "ca.pem"
resolve = ["hub.example=127.0.0.1:18883"]
client = "direct"
[[group]]
name = "cars"
count = 20
id = "car-{n:05}"
attestation.group_key = { key_env = "PLANT_KEY" }
boot.over = "10s"
duty = { connected = "30s", away = "5m" }
reconnect = { base = "500ms", factor = 3, cap = "1m", jitter = "half", refusals = 2 }
token = { ttl = "135s", renew_before = "120s" }
flaky = { disturbances = ["drop", "renew"], count = 3 }
clones = { count = 2, attacks = ["ping-pong"], rounds = 2 }
[group.telemetry]
interval = "2s"
jitter = 0.5
qos = 0
body = '{"speed":${speed}}'
properties = { route = "${trip}" }
[group.telemetry.values]
speed.replay = { file = "trip.csv", column = "speed", loop = true }
trip.choice = ["a", "b"]
[group.methods]
reboot = { status = 202, payload = { at = "once" } }
"#,
    )
    .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.ca.as_deref(), Some(Path::new("/fleet/ca.pem")));
    assert_eq!((plan.resolve.len(), plan.client), (1, ClientKind::Direct));
    let group = &plan.groups[0];
    assert!(matches!(&group.attestation, AttestationPlan::GroupKey(Some(_))));
    assert_eq!(group.boot, BootPlan::Over(Duration::from_secs(10)));
    assert_eq!(group.boot.at(10, 20), Duration::from_secs(5));
    assert_eq!(group.duty, Some(DutyPlan { connected: Duration::from_secs(30), away: Duration::from_secs(300) }));
    assert_eq!((group.reconnect.backoff.jitter, group.reconnect.refusals), (Jitter::Half, 2));
    assert_eq!(group.flaky.as_ref().unwrap().disturbances, [Disturbance::Drop, Disturbance::Renew]);
    assert_eq!(group.clones.as_ref().unwrap().attacks, [AttackKind::PingPong]);
    assert!(!group.telemetry.acknowledged && group.telemetry.template.is_some());
    assert_eq!(group.methods["reboot"], MethodReply { status: 202, payload: r#"{"at":"once"}"#.to_owned() });
}

/// A group, then what is to be wrong with it.
fn group(line: &str) -> String {
    format!("[[group]]\nname = \"a\"\nid = \"a-{{n}}\"\nattestation.group_key = {{}}\n{line}\n")
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_key() {
    for (text, line, words) in [
        (String::new(), 1, "no [[group]]"),
        ("[fleet]\nspeed = 1\n".to_owned(), 2, "unknown field `speed`"),
        ("[fleet]\nhub_port = \"x\"\n".to_owned(), 2, "invalid type"),
        ("[fleet]\nhub_port = 70000\n".to_owned(), 2, "70000"),
        ("[[group]]\nname = \"a\"\n".to_owned(), 1, "attestation"),
        ("[fleet]\nseed = \n".to_owned(), 2, ""),
        (group("colour = 1"), 5, "unknown field `colour`"),
        (group("telemetry.pace = 1"), 5, "unknown field `pace`"),
        (group("count = 0"), 5, "group.count: 0"),
        (group("telemetry.interval = \"10\""), 5, "group.telemetry.interval: \"10\" is no duration"),
        (group("telemetry.jitter = 2.0"), 5, "group.telemetry.jitter"),
        (group("telemetry.window = 0"), 5, "group.telemetry.window"),
        (group("telemetry.qos = 2"), 5, "group.telemetry.qos"),
        (group("telemetry.body = \"${x}\""), 5, "group.telemetry.body: `${x}` names no value"),
        (group("boot = { rate = 1.0, over = \"1s\" }"), 5, "either rate or over"),
        (group("reconnect.jitter = \"some\""), 5, "no jitter"),
        (group("reconnect.factor = 0.5"), 5, "group.reconnect.factor"),
        (group("reconnect = { base = \"2m\", cap = \"1s\" }"), 5, "shorter than base"),
        (group("token.ttl = \"0s\""), 5, "group.token"),
        (group("token = { ttl = \"10s\", renew_before = \"10s\" }"), 5, "group.token"),
        (group("flaky.disturbances = [\"nap\"]"), 5, "\"nap\" is no disturbance"),
        (group("clones = { count = 2 }"), 5, "fewer devices"),
        (group("duty = { connected = \"0s\", away = \"1s\" }"), 5, "group.duty.connected"),
        (group("[group.telemetry]\nbody=\"\"\nvalues.v.uniform = { min = 2, max = 1 }"), 6, "values.v"),
        (group("[group.telemetry]\nbody=\"\"\nvalues.v.noise = {}"), 7, "unknown variant `noise`"),
        (group("[group.telemetry]\nbody=\"\"\nvalues.v.replay = { file = \"no.csv\" }"), 6, "/fleet/no.csv"),
        (group("[group.telemetry]\nbody=\"\"\nvalues.v.replay = { file = \"header.csv\" }"), 6, "no rows"),
        (group("[group.telemetry]\nbody=\"\"\nvalues.v.replay = { file = \"trip.csv\", column = \"x\" }"), 6, "column"),
        ("[[group]]\nname = \"a\"\nid = \"a\"\ncount = 2\nattestation.group_key = {}\n".to_owned(), 3, "one id"),
        ("[[group]]\nname = \"a\"\nid = \"A/{n}\"\nattestation.group_key = {}\n".to_owned(), 3, "group.id"),
        ("[[group]]\nname = \"a\"\nattestation.group_key = {}\n".to_owned(), 1, "a pattern is wanted"),
        ("[[group]]\nname = \"a\"\nid = \"a\"\nattestation.group_key = { key = \"!\" }\n".to_owned(), 4, "key"),
        ("[[group]]\nname = \"a\"\nid = \"a\"\nattestation.group_key = { key_env = \"NO\" }\n".to_owned(), 4, "no NO"),
        ("[[group]]\nname = \"a\"\nid = \"a\"\nattestation.x509_issuer = { key = \"k\" }\n".to_owned(), 2, "together"),
        (group("") + &group(""), 7, "two groups are called \"a\""),
    ] {
        let error = read(&text).unwrap_err();
        let (at, fault) = &error.faults[0];
        assert!(*at == line && fault.contains(words), "{text}\n{error}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let error = read(&group("count = 0\ntelemetry.interval = \"x\"\nreconnect.jitter = \"y\"")).unwrap_err();
    assert_eq!(error.faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [5, 6, 7]);
    assert_eq!(error.to_string().lines().count(), 3);
}

#[test]
fn the_command_line_changes_every_group() {
    let overrides = Overrides { count: Some(1), messages: Some(3), seed: Some(9), ..Overrides::default() };
    let plan = read(&group("count = 5\nclones.count = 4")).unwrap().with(&overrides);
    let group = &plan.groups[0];
    assert_eq!((group.count, group.telemetry.messages, plan.seed), (Some(1), Some(3), 9));
    assert_eq!(group.clones.as_ref().unwrap().count, 1);
}

#[test]
fn boots_are_at_once_at_a_rate_or_over_a_time() {
    let seconds = |boot: BootPlan| [0, 5, 9].map(|index| boot.at(index, 10).as_secs_f64());
    assert_eq!(seconds(BootPlan::AtOnce), [0.0, 0.0, 0.0]);
    assert_eq!(seconds(BootPlan::Rate(2.0)), [0.0, 2.5, 4.5]);
    assert_eq!(seconds(BootPlan::Over(Duration::from_secs(20))), [0.0, 10.0, 18.0]);
}
