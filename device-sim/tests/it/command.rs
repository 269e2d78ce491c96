//! The binary, as a person runs it.

use std::path::PathBuf;
use std::process::Output;

use rumqttc::ConnectReturnCode;
use tokio::process::Command;

use crate::responder::{HUB, Responder, SCOPE, Script, group_key};

/// A file in the folder that Cargo keeps for tests, gone when dropped.
struct CaFile(PathBuf);

impl CaFile {
    fn of(responder: &Responder) -> Self {
        let name = format!("ca-{}.pem", responder.address.port());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, &responder.ca_pem).unwrap();
        Self(path)
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn device_sim(responder: &Responder, more: &[&str]) -> Output {
    let ca = CaFile::of(responder);
    Command::new(env!("CARGO_BIN_EXE_device-sim"))
        .args(["--endpoint", &responder.address.to_string(), "--ca", ca.0.to_str().unwrap(), "--id-scope", SCOPE])
        .args(["--resolve", &format!("{HUB}={}", responder.address), "--concurrency", "4"])
        .args(more)
        .env_remove("DEVICE_SIM_KEY")
        .env("DEVICE_SIM_GROUP_KEY", group_key().expose_base64().as_str())
        .output()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_went_well_says_so_in_json_and_exit_code() {
    let responder = Responder::start(Script::default()).await;
    let output = device_sim(&responder, &["--count", "6", "--messages", "2", "--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let summary: serde_json::Value = serde_json::from_str(&lines).unwrap();
    assert_eq!((&summary["provisioned"], &summary["acknowledged"]), (&6.into(), &12.into()));
    assert!(output.stderr.is_empty(), "{:?}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_and_flaky_devices_are_told_step_by_step() {
    let responder = Responder::start(Script::default()).await;
    let more = ["--count", "4", "--clones", "2", "--attack", "takeover,other-topic", "--json"];
    let flaky = ["--flaky", "drop,renew", "--interruptions", "2", "--pause-max", "5", "--seed", "7"];
    let output = device_sim(&responder, &[&more[..], &flaky[..]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((count("attack"), count("flaky"), count("error"), count("summary")), (4, 2, 0, 1));
    assert!(count("step") > 12);
    let summary = lines.last().unwrap();
    let rows = summary["attacks"].as_array().unwrap();
    assert_eq!((&rows[0]["attack"], &rows[0]["seen"]), (&"takeover".into(), &"took-over".into()), "{summary}");
    assert_eq!(rows[1]["seen"], "refused: connection closed", "{summary}");
    assert_eq!(summary["flaky"]["untroubled"], 2, "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_devices_are_a_fleet_and_the_table_is_for_people() {
    let responder = Responder::start(Script::default()).await;
    let output = device_sim(&responder, &["--count", "3", "--clones", "1", "--attack", "same-key-other-id"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("same-key-other-id          1  refused: CONNACK 5"), "{text}");
    assert!(text.contains("devices       2 of 2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_device_is_named_and_makes_the_run_fail() {
    let refusals = vec![ConnectReturnCode::NotAuthorized];
    let responder = Responder::start(Script { refusals, ..Script::default() }).await;
    let output = device_sim(&responder, &["--count", "2"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("1 x connack-5: first: CONNECT refused with code 5 (not authorized)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_and_wrong_files_have_their_own_exit_codes() {
    let responder = Responder::start(Script::default()).await;
    assert_eq!(device_sim(&responder, &["--concurrency"]).await.status.code(), Some(2));
    let output = Command::new(env!("CARGO_BIN_EXE_device-sim"))
        .args(["--endpoint", "127.0.0.1", "--ca", "/nowhere/ca.pem", "--id-scope", SCOPE])
        .args(["--group-key", group_key().expose_base64().as_str()])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read /nowhere/ca.pem"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_closes_held_sessions_and_is_no_failure() {
    let responder = Responder::start(Script::default()).await;
    let ca = CaFile::of(&responder);
    let child = Command::new(env!("CARGO_BIN_EXE_device-sim"))
        .args(["--endpoint", &responder.address.to_string(), "--ca", ca.0.to_str().unwrap(), "--id-scope", SCOPE])
        .args(["--resolve", &format!("{HUB}={}", responder.address), "--count", "3", "--hold"])
        .args(["--group-key", group_key().expose_base64().as_str()])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    while responder.seen.lock().unwrap().telemetry.len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let told = Command::new("kill").args(["-TERM", &child.id().unwrap().to_string()]).status().await.unwrap();
    assert!(told.success());
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("3 of 3, stopped"), "{text}");
}
