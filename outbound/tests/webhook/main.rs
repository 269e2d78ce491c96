//! Functions that choose hubs: what they are asked over real TLS, what becomes of each answer, and who is never called.

#![allow(clippy::unwrap_used)]

mod server;
mod service;

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use unicity_outbound::Step;
use unicity_outbound::webhook::{Secret, signature};
use unicity_provisioning::transfer::TransferEvent;

use server::{Act, Ca, Server, json as says};
use service::{Asker, Names, id, settings};

const EAST: &str = r#"{"iotHubHostName":"east.hub.example"}"#;

/// A server with a good certificate for `functions.example`, and whoever asks it.
async fn function(act: Act) -> (Server, Asker, String) {
    let ca = Ca::new();
    let server = Server::start(ca.server(&["functions.example"], 2100), act).await;
    let port = server.address.port();
    let settings = settings(&format!("functions.example:{port}"), &ca.der);
    (
        server,
        Asker::new(settings, Names::of(&["127.0.0.1"])),
        format!("https://functions.example:{port}/api/x?code=geheim"),
    )
}

fn refused(step: &Step) -> (u32, &str) {
    match step {
        Step::Event(TransferEvent::Refused { code, message }) => {
            assert!(!message.contains("geheim") && !message.contains("/api/x"), "{message}");
            (*code, message)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_function_is_asked_as_documented_and_its_answer_taken() {
    let body = r#"{"iotHubHostName":"EAST.hub.example","initialTwin":{"tags":{"a":1}},"payload":{"b":2}}"#;
    let (server, asker, url) = function(says("200 OK", body)).await;
    let Step::Event(TransferEvent::Answered { hub, initial_twin, payload, trace }) = asker.ask(&url, 2).await else {
        panic!("no answer");
    };
    assert_eq!(hub, id("east"));
    assert_eq!(initial_twin.map(|it| it.to_value()), Some(json!({"tags": {"a": 1}})));
    assert_eq!(payload.map(|it| it.to_value()), Some(json!({"b": 2})));
    for part in ["request 5.0ab", "attempt 2 of 3", "status 200", " ms"] {
        assert!(trace.contains(part), "{trace}");
    }
    assert!(!trace.contains("functions.example") && !trace.contains("geheim"), "{trace}");

    let (head, sent) = server.requests.lock().remove(0);
    let head = head.to_lowercase();
    let secret = Secret::new(&[b's'; 32]).unwrap();
    let signature = signature(&secret, 1_700_000_000, "5.0ab", sent.as_bytes());
    for line in [
        "post /api/x?code=geheim http/1.1\r\n",
        &format!("\r\nhost: functions.example:{}\r\n", server.address.port()),
        "\r\ncontent-type: application/json; charset=utf-8\r\n",
        "\r\nunicity-request-id: 5.0ab\r\n",
        "\r\nunicity-attempt: 2\r\n",
        "\r\nunicity-timestamp: 1700000000\r\n",
        &format!("\r\nunicity-signature: {signature}\r\n"),
    ] {
        assert!(head.contains(line), "{line:?} not in {head}");
    }
    assert_eq!(
        serde_json::from_str::<Value>(&sent).unwrap(),
        json!({
            "enrollmentGroup": {"enrollmentGroupId": "presses"},
            "deviceRuntimeContext": {"registrationId": "press-7", "symmetricKey": {}},
            "linkedHubs": ["north.hub.example", "east.hub.example"],
        })
    );
}

#[tokio::test]
async fn a_connection_serves_more_than_one_question() {
    let (server, asker, url) = function(says("200 OK", EAST)).await;
    for _ in 0..3 {
        assert!(matches!(asker.ask(&url, 1).await, Step::Event(TransferEvent::Answered { .. })));
    }
    assert_eq!((server.connections.load(Ordering::SeqCst), server.requests.lock().len()), (1, 3));
}

#[tokio::test]
async fn answers_that_end_it_at_once() {
    let long = "x".repeat(2_000);
    for (act, code, part) in [
        (says("200 OK", "<html>"), 400_207, "not JSON"),
        (says("200 OK", "[]"), 400_207, "not a JSON object"),
        (says("204 No Content", ""), 400_207, "not JSON"),
        (says("200 OK", "{}"), 400_208, "names no hub"),
        (says("200 OK", r#"{"iotHubHostName":"west.example"}"#), 400_208, "not linked"),
        (says("200 OK", r#"{"iotHubHostName":"south.hub.example"}"#), 400_208, "not offered"),
        (says("200 OK", &long), 400_207, "longer than 1000 bytes"),
        (
            Act::Endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(), format!("7d0\r\n{long}\r\n")),
            400_207,
            "longer than 1000 bytes",
        ),
        (says("401 Unauthorized", ""), 400_209, "status 401"),
        (says("403 Forbidden", EAST), 400_209, "status 403"),
        (says("404 Not Found", EAST), 400_207, "status code: 404"),
        (
            Act::Say("HTTP/1.1 307 Go\r\nLocation: https://functions.example/y\r\nContent-Length: 0\r\n\r\n".into()),
            400_207,
            "no redirect is followed",
        ),
    ] {
        let (server, asker, url) = function(act).await;
        let step = asker.ask(&url, 1).await;
        let (found, message) = refused(&step);
        assert!(found == code && message.contains(part), "{code} {part:?}: {step:?}");
        assert_eq!(server.requests.lock().len(), 1, "{part}");
    }
}

#[tokio::test]
async fn answers_that_are_worth_another_attempt() {
    let status = |line: &str| Act::Say(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"));
    for (act, after, part) in [
        (status("500 Oh"), None, "status code: 500"),
        (status("429 Slow\r\nRetry-After: 7"), Some(7), "status code: 429"),
        (status("429 Slow\r\nRetry-After: 86400"), Some(60), "status code: 429"),
        (status("503 Later\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT"), None, "status code: 503"),
        (
            Act::SayAndClose(format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{EAST}")),
            None,
            "the connection broke",
        ),
        (Act::SayAndClose(String::new()), None, "the connection broke"),
        (Act::SayAndClose("SSH-2.0-x\r\n\r\n".into()), None, "not valid HTTP"),
    ] {
        let (_server, asker, url) = function(act).await;
        let Step::Later { after: found, cause } = asker.ask(&url, 1).await else { panic!("{part}") };
        assert_eq!(found, after.map(Duration::from_secs), "{part}");
        assert!(cause.contains(part) && cause.contains("attempt 1 of 3") && !cause.contains("geheim"), "{cause}");
        // The last attempt is no `Later`, or the device would wait for ever.
        assert_eq!(refused(&asker.ask(&url, 3).await).0, 400_207);
    }
}

#[tokio::test]
async fn a_function_that_never_answers_costs_its_deadline_and_no_more() {
    let ca = Ca::new();
    let server = Server::start(ca.server(&["functions.example"], 2100), Act::Silence).await;
    let port = server.address.port();
    let mut settings = settings(&format!("functions.example:{port}"), &ca.der);
    settings.timeout = Duration::from_millis(300);
    let asker = Asker::new(settings, Names::of(&["127.0.0.1"]));
    let Step::Later { cause, .. } = asker.ask(&format!("https://functions.example:{port}/"), 1).await else { panic!() };
    assert!(cause.contains("no reply in time"), "{cause}");
}

#[tokio::test]
async fn nothing_is_sent_to_who_cannot_prove_its_name() {
    let (ca, other) = (Ca::new(), Ca::new());
    for (tls, what) in [
        (other.server(&["functions.example"], 2100), "another authority"),
        (ca.server(&["other.example"], 2100), "another name"),
        (ca.server(&["functions.example"], 2001), "expired"),
    ] {
        let server = Server::start(tls, says("200 OK", EAST)).await;
        let port = server.address.port();
        let asker = Asker::new(settings(&format!("functions.example:{port}"), &ca.der), Names::of(&["127.0.0.1"]));
        let url = format!("https://functions.example:{port}/");
        let Step::Later { cause, .. } = asker.ask(&url, 1).await else { panic!("{what}") };
        assert!(cause.contains("TLS"), "{what}: {cause}");
        assert_eq!(refused(&asker.ask(&url, 3).await).0, 400_207);
        assert!(server.requests.lock().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn only_configured_hosts_are_called() {
    let (server, asker, _) = function(says("200 OK", EAST)).await;
    let port = server.address.port();
    for host in [
        "other.example",
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "127.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "functions.example.evil.example",
    ] {
        let step = asker.ask(&format!("https://{host}:{port}/api/x?code=geheim"), 1).await;
        let (code, message) = refused(&step);
        assert!(code == 400_207 && message.contains("not among"), "{host}: {message}");
    }
    for url in
        ["https://functions.example/", &format!("http://functions.example:{port}/"), "https://functions.example:1/"]
    {
        assert_eq!(refused(&asker.ask(url, 1).await).0, 400_207);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_is_not_called() {
    let ca = Ca::new();
    for (address, allow_private, is_called) in [
        ("127.0.0.1", false, false),
        ("10.0.0.7", false, false),
        ("::ffff:127.0.0.1", false, false),
        ("169.254.169.254", true, false),
        ("fd00:ec2::254", true, false),
        ("0.0.0.0", true, false),
        ("127.0.0.1", true, true),
    ] {
        let server = Server::start(ca.server(&["functions.example"], 2100), says("200 OK", EAST)).await;
        let port = server.address.port();
        let mut settings = settings(&format!("functions.example:{port}"), &ca.der);
        settings.allow_private = allow_private;
        let asker = Asker::new(settings, Names::of(&[address]));
        let step = asker.ask(&format!("https://functions.example:{port}/"), 1).await;
        if is_called {
            assert!(matches!(step, Step::Event(TransferEvent::Answered { .. })), "{step:?}");
        } else {
            let (_, message) = refused(&step);
            assert!(message.contains("is not called"), "{address}: {message}");
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), usize::from(is_called), "{address}");
    }
}

#[tokio::test]
async fn a_name_that_changes_where_it_leads_is_looked_at_anew_and_once_a_connection() {
    let ca = Ca::new();
    let close = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{EAST}", EAST.len());
    let server = Server::start(ca.server(&["functions.example"], 2100), Act::SayAndClose(close)).await;
    let port = server.address.port();
    // Were the name resolved once to be checked and once to be called, the first call would go astray.
    let names = Names::of(&["127.0.0.1", "169.254.169.254"]);
    let asker = Asker::new(settings(&format!("functions.example:{port}"), &ca.der), names);
    let url = format!("https://functions.example:{port}/");
    assert!(matches!(asker.ask(&url, 1).await, Step::Event(TransferEvent::Answered { .. })));
    assert!(refused(&asker.ask(&url, 1).await).1.contains("link-local"));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_address_that_the_operator_wrote_may_be_private() {
    let ca = Ca::new();
    let server = Server::start(ca.server(&["127.0.0.1"], 2100), says("200 OK", EAST)).await;
    let host = server.address.to_string();
    let mut settings = settings(&host, &ca.der);
    settings.allow_private = false;
    let asker = Asker::new(settings, Names::of(&["10.0.0.1"]));
    let step = asker.ask(&format!("https://{host}/"), 1).await;
    assert!(matches!(step, Step::Event(TransferEvent::Answered { .. })), "{step:?}");
}
