//! Functions that choose hubs, as servers: what they are asked, and what becomes of each thing that they may do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::hmac;
use serde_json::{Value, json};
use unicity_identity::device::{DeviceAuthentication, DeviceStatus};
use unicity_identity::enrollment::{AllocationPolicy, CustomAllocation, EnrollmentTerms, ProvisioningStatus};
use unicity_identity::registration::AttestationKind;
use unicity_identity::{
    Attestation, ETag, EnrollmentRef, Environment, HubDirectory, KeyFingerprint, LinkedHub, MasterKey, SharedAccessKey,
    Timestamp, Vault,
};
use unicity_outbound::client::{Client, Trust};
use unicity_outbound::webhook::{Secret, Webhook, WebhookSettings};
use unicity_outbound::{Ask, Step};
use unicity_provisioning::allocation::Candidate;
use unicity_provisioning::registry::{Actor, IndividualDraft, TermsDraft};
use unicity_provisioning::transfer::{AllocationNote, Transfer, TransferCause, TransferEvent, TransferStage, TwinFate};
use unicity_provisioning::{
    Command, Precondition, Provisioning, RefusalRing, Registry, Request, Settings, UnicityMode,
};
use unicity_store::registry::{RegistryOptions, RegistryStore};
use unicity_store::vfs::SimVfs;

use crate::server::{Act, Authority, NAME, Names, Server};

const ATTEMPTS: u32 = 3;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

fn environment() -> Environment {
    Environment::new(|| NOW, || [5; 32])
}

fn custom(port: u16) -> CustomAllocation {
    CustomAllocation {
        webhook_url: format!("https://{NAME}:{port}/api/choose?code=geheim"),
        api_version: "2021-10-01".into(),
    }
}

/// A service with three hubs, and an enrollment for the device `press-7`.
async fn provisioning() -> Provisioning {
    let vault = Arc::new(Vault::new(MasterKey::from_bytes(&[1; 32]), &zeroize::Zeroizing::new([2; 32])));
    let hub = |name: &str| LinkedHub::local(id(name), id(&format!("{name}.hub.example")));
    let settings = Arc::new(Settings {
        id_scope: id("0ne00000001"),
        hubs: HubDirectory::new(["north", "east", "south"].map(hub).to_vec()).unwrap(),
        mode: UnicityMode::Strict,
        allow_shared: Default::default(),
        token_skew_seconds: 300,
        payload_bytes_max: 1024,
        clones: Default::default(),
        allocation: Default::default(),
    });
    let options = RegistryOptions {
        cache_bytes: 1024 * 1024,
        reserve_bytes: 0,
        ..RegistryOptions::new(Path::new("/data"), settings.clone())
    };
    let registry = RegistryStore::open(options, Arc::new(SimVfs::new())).unwrap();
    let slot = vault.store(&SharedAccessKey::from_bytes(vec![7; 32]).unwrap(), [8; 12]);
    let terms = EnrollmentTerms {
        attestation: Attestation::SymmetricKey { primary: slot.clone(), secondary: slot },
        status: ProvisioningStatus::Enabled,
        allocation: Some(AllocationPolicy::Custom(Box::new(custom(443)))),
        hubs: Vec::new(),
        reprovision: None,
        iot_edge: false,
        initial_twin: None,
        payload: None,
        clone_policy: None,
    };
    let draft = IndividualDraft {
        registration_id: id("press-7"),
        device_id: None,
        optional_device_information: None,
        batch: None,
        terms: TermsDraft { terms, keys_given: true },
    };
    let command = Command::PutIndividual { draft: Box::new(draft), precondition: Precondition::Absent };
    let request = Request { command, actor: Actor::Server, now: NOW, entropy: environment().entropy() };
    registry.submit(request).await.unwrap();
    Provisioning::new(registry as Arc<dyn Registry>, vault, settings, Arc::new(RefusalRing::new(16)))
}

/// The device asks; north and east are offered.
fn transfer(ask: CustomAllocation) -> Transfer {
    let candidate = |name: &str| Candidate { hub: id(name), weight: 1, score: None, basis: None };
    Transfer {
        registration_id: id("press-7"),
        operation_id: id("5.0ab"),
        stage: TransferStage::Ask,
        cause: TransferCause::Registration,
        enrollment: EnrollmentRef::Individual(id("press-7")),
        enrollment_etag: ETag([1; 16]),
        kind: AttestationKind::SymmetricKey,
        key_fingerprint: KeyFingerprint([2; 32]),
        authentication: DeviceAuthentication::Authority,
        iot_edge: false,
        payload: None,
        device_payload: None,
        source: None,
        target: None,
        wanted_device_id: id("press-7"),
        ask: Some(ask),
        fate: TwinFate::Initial,
        initial_twin: None,
        twin: None,
        allocation: AllocationNote {
            candidates: vec![candidate("north"), candidate("east")],
            ..AllocationNote::default()
        },
        in_place: false,
        status: DeviceStatus::Enabled,
        status_reason: None,
        discard: Vec::new(),
        begun: NOW,
        updated: NOW,
    }
}

fn settings(port: u16, trust: Trust) -> WebhookSettings {
    WebhookSettings {
        hosts: vec![id(&format!("{NAME}:{port}"))],
        trust,
        allow_private: true,
        // Far off: no test waits for it, but those that say so.
        timeout: Duration::from_secs(60),
        attempts: ATTEMPTS,
        secret: Some(Secret::new(SECRET).unwrap()),
        reply_bytes_max: 2048,
    }
}

fn webhook(settings: WebhookSettings, names: Arc<Names>) -> Webhook {
    let show = |_: &Provisioning, enrollment: &EnrollmentRef| Ok(Some(json!({"shown": enrollment.to_string()})));
    Webhook::new(settings, Client::new(names), Arc::new(show), environment())
}

/// What is expected of a step.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// This hub.
    Hub(&'static str),
    /// The same again, after so many seconds; after the last attempt `CustomAllocationFailed`.
    Later(Option<u64>),
    /// This code.
    Refused(u32),
}

/// That a step of this attempt is as expected, tells of the request, and shows no secret; `part` is in its text.
fn check(what: &str, step: &Step, expected: Expected, attempt: u32, part: &str) {
    let shown = format!("{step:?}");
    assert!(!shown.contains("geheim") && !shown.contains("/api/choose"), "{what}: {shown}");
    let text = match (step, expected) {
        (Step::Event(TransferEvent::Answered { hub, trace, .. }), Expected::Hub(name)) => {
            assert_eq!(hub, &id(name), "{what}");
            trace
        }
        (Step::Later { after, cause }, Expected::Later(seconds)) if attempt < ATTEMPTS => {
            assert_eq!(*after, seconds.map(Duration::from_secs), "{what}");
            cause
        }
        (Step::Event(TransferEvent::Refused { code: 400_207, message }), Expected::Later(_)) if attempt == ATTEMPTS => {
            message
        }
        (Step::Event(TransferEvent::Refused { code, message }), Expected::Refused(wanted)) => {
            assert_eq!(*code, wanted, "{what}: {message}");
            message
        }
        _ => panic!("{what}, attempt {attempt}: {shown}"),
    };
    assert!(text.contains(part), "{what}: {part:?} is not in {text:?}");
    assert!(text.contains(&format!("request 5.0ab, attempt {attempt} of 3")), "{what}: {text}");
}

const EAST: &str = r#"{"iotHubHostName":"EAST.hub.example"}"#;

#[tokio::test]
async fn a_function_is_asked_in_full_and_its_answer_taken() {
    let authority = Authority::new();
    let answer =
        json!({"iotHubHostName": "east.hub.example", "initialTwin": {"tags": {"hall": 3}}, "payload": {"b": 2}});
    let server = Server::new(&authority, [Act::status(200, "", &answer.to_string())]).await;
    let webhook = webhook(settings(server.port, authority.trust()), Names::here());
    let step = webhook.ask(&provisioning().await, &transfer(custom(server.port)), 1).await;
    check("an answer", &step, Expected::Hub("east"), 1, "status 200");
    let Step::Event(TransferEvent::Answered { initial_twin, payload, .. }) = step else { panic!("{step:?}") };
    assert_eq!(initial_twin.map(|it| it.to_value()), Some(json!({"tags": {"hall": 3}})));
    assert_eq!(payload.map(|it| it.to_value()), Some(json!({"b": 2})));

    let [seen] = &server.seen()[..] else { panic!("one request") };
    assert_eq!(seen.line(), "POST /api/choose?code=geheim HTTP/1.1");
    assert!(seen.header("content-type").unwrap().starts_with("application/json"));
    assert_eq!(seen.header("unicity-request-id"), Some("5.0ab"));
    assert_eq!(seen.header("unicity-attempt"), Some("1"));
    assert_eq!(seen.header("unicity-timestamp"), Some("1700000000"));
    let signed = [b"1700000000.5.0ab.", &seen.body[..]].concat();
    let signature = seen.header("unicity-signature").unwrap().strip_prefix("v1=").unwrap();
    let bytes: Vec<u8> =
        (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap()).collect();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), &signed, &bytes).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&seen.body).unwrap(),
        json!({
            "individualEnrollment": {"shown": EnrollmentRef::Individual(id("press-7")).to_string()},
            "deviceRuntimeContext": {"registrationId": "press-7", "symmetricKey": {}},
            "linkedHubs": ["north.hub.example", "east.hub.example"],
        })
    );
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let authority = Authority::new();
    let server = Server::new(&authority, [Act::status(200, "", EAST)]).await;
    let settings = WebhookSettings { secret: None, ..settings(server.port, authority.trust()) };
    webhook(settings, Names::here()).ask(&provisioning().await, &transfer(custom(server.port)), 1).await;
    assert_eq!(server.seen()[0].header("unicity-signature"), None);
}

#[tokio::test]
async fn whatever_a_function_answers_has_its_end() {
    use Expected::{Hub, Later, Refused};
    let endless = "x".repeat(2049);
    let long = format!(r#"{{"iotHubHostName":"east.hub.example","payload":{{"a":"{}"}}}}"#, "x".repeat(1100));
    let cases: Vec<(&str, fn(&str, &str) -> Act, Expected, &str)> = vec![
        ("hub in capitals", |_, _| Act::status(200, "", EAST), Hub("east"), "status 200"),
        ("created", |_, _| Act::status(201, "", EAST), Hub("east"), "status 201"),
        ("no content", |_, _| Act::status(204, "", ""), Refused(400_207), "not JSON"),
        ("a page", |_, _| Act::status(200, "", "<html>"), Refused(400_207), "not JSON"),
        ("a list", |_, _| Act::status(200, "", "[]"), Refused(400_207), "not a JSON object"),
        ("a string", |_, _| Act::status(200, "", "\"east.hub.example\""), Refused(400_207), "not a JSON object"),
        ("no hub", |_, _| Act::status(200, "", "{}"), Refused(400_208), "names no hub"),
        (
            "an unknown hub",
            |_, _| Act::status(200, "", r#"{"iotHubHostName":"west.hub.example"}"#),
            Refused(400_208),
            "not linked",
        ),
        (
            "a hub that was not offered",
            |_, _| Act::status(200, "", r#"{"iotHubHostName":"south.hub.example"}"#),
            Refused(400_208),
            "was not offered",
        ),
        (
            "a twin that is none",
            |_, _| Act::status(200, "", r#"{"iotHubHostName":"east.hub.example","initialTwin":{"tags":{"$a":1}}}"#),
            Refused(400_207),
            "initialTwin",
        ),
        ("a payload too long", |_, long| Act::status(200, "", long), Refused(400_207), "payload"),
        ("too long", |endless, _| Act::status(200, "", endless), Refused(400_207), "AnswerTooLarge"),
        ("endless", |_, _| Act::Endless, Refused(400_207), "AnswerTooLarge"),
        (
            "a redirect",
            |_, _| Act::status(307, "Location: https://functions.example/elsewhere\r\n", ""),
            Refused(400_207),
            "no redirect is followed",
        ),
        ("a key that is wrong", |_, _| Act::status(401, "", ""), Refused(400_209), "status 401"),
        ("forbidden", |_, _| Act::status(403, "", ""), Refused(400_209), "status 403"),
        ("not found", |_, _| Act::status(404, "", ""), Refused(400_207), "status code: 404"),
        ("busy", |_, _| Act::status(429, "Retry-After: 7\r\n", ""), Later(Some(7)), "status code: 429"),
        ("busy for a year", |_, _| Act::status(429, "Retry-After: 31536000\r\n", ""), Later(Some(60)), "429"),
        ("busy until a date", |_, _| Act::status(503, "Retry-After: soon\r\n", ""), Later(None), "503"),
        ("broken", |_, _| Act::status(500, "", EAST), Later(None), "status code: 500"),
        ("gone", |_, _| Act::Close, Later(None), "ExchangeBroken"),
        (
            "gone in the middle",
            |_, _| Act::AnswerAndClose(b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n{".to_vec()),
            Later(None),
            "ExchangeBroken",
        ),
    ];
    let (authority, provisioning) = (Authority::new(), provisioning().await);
    for (what, act, expected, part) in cases {
        for attempt in [1, ATTEMPTS] {
            let server = Server::new(&authority, [act(&endless, &long)]).await;
            let webhook = webhook(settings(server.port, authority.trust()), Names::here());
            let step = webhook.ask(&provisioning, &transfer(custom(server.port)), attempt).await;
            check(what, &step, expected, attempt, part);
            assert_eq!(server.seen().len(), 1, "{what}");
        }
    }
}

#[tokio::test]
async fn a_slow_function_is_asked_again() {
    let (authority, provisioning) = (Authority::new(), provisioning().await);
    let server = Server::new(&authority, []).await;
    let settings = WebhookSettings { timeout: Duration::from_millis(20), ..settings(server.port, authority.trust()) };
    let webhook = webhook(settings, Names::here());
    for attempt in 1..=ATTEMPTS {
        let step = webhook.ask(&provisioning, &transfer(custom(server.port)), attempt).await;
        check("silence", &step, Expected::Later(None), attempt, "DeadlinePassed");
    }
}

#[tokio::test]
async fn a_function_must_prove_who_it_is() {
    let (authority, other, provisioning) = (Authority::new(), Authority::new(), provisioning().await);
    for (what, issuer, name, until) in [
        ("another authority", &other, NAME, 2100),
        ("another name", &authority, "other.example", 2100),
        ("expired", &authority, NAME, 2020),
    ] {
        for attempt in [1, ATTEMPTS] {
            let server = Server::with(issuer, name, until, [Act::status(200, "", EAST)]).await;
            let webhook = webhook(settings(server.port, authority.trust()), Names::here());
            let step = webhook.ask(&provisioning, &transfer(custom(server.port)), attempt).await;
            // A certificate may be renewed meanwhile.
            check(what, &step, Expected::Later(None), attempt, "TlsFailed");
            assert_eq!(server.seen().len(), 0, "{what}: the key in the URL must not leave");
        }
    }
}

#[tokio::test]
async fn only_configured_hosts_are_called() {
    let (authority, provisioning) = (Authority::new(), provisioning().await);
    let server = Server::new(&authority, [Act::status(200, "", EAST)]).await;
    let names = Names::here();
    let webhook = webhook(settings(server.port, authority.trust()), names.clone());
    let port = server.port;
    // Enrollments keep a URL whose host is configured no longer.
    for url in [
        format!("https://other.example:{port}/x?code=geheim"),
        format!("https://{NAME}/x?code=geheim"),
        format!("https://{NAME}.other.example:{port}/x"),
        format!("https://127.0.0.1:{port}/x"),
        format!("https://[::1]:{port}/x"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        format!("http://{NAME}:{port}/x"),
        format!("https://{NAME}:{port}@other.example/x"),
        "no url".to_owned(),
    ] {
        let ask = CustomAllocation { webhook_url: url.clone(), api_version: "2021-10-01".into() };
        let step = webhook.ask(&provisioning, &transfer(ask), 1).await;
        let Step::Event(TransferEvent::Refused { code: 400_207, message }) = &step else { panic!("{url}: {step:?}") };
        assert!(!message.contains("geheim"), "{message}");
    }
    assert_eq!((names.asked(), server.connections()), (0, 0));
}

#[tokio::test]
async fn a_configured_name_must_not_lead_here_unless_it_may() {
    let (authority, provisioning) = (Authority::new(), provisioning().await);
    let server = Server::new(&authority, [Act::status(200, "", EAST)]).await;
    for (address, allow_private) in [("127.0.0.1", false), ("169.254.169.254", false), ("169.254.169.254", true)] {
        let settings = WebhookSettings { allow_private, ..settings(server.port, authority.trust()) };
        let webhook = webhook(settings, Names::new(&[&[address]]));
        let step = webhook.ask(&provisioning, &transfer(custom(server.port)), 1).await;
        check(address, &step, Expected::Refused(400_207), 1, "AddressRefused");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_without_a_call() {
    let (authority, provisioning) = (Authority::new(), provisioning().await);
    let server = Server::new(&authority, [Act::status(200, "", EAST)]).await;
    let webhook = webhook(settings(server.port, authority.trust()), Names::here());
    let base = transfer(custom(server.port));
    let nobody = Transfer { allocation: AllocationNote::default(), ..base.clone() };
    let gone = Transfer { enrollment: EnrollmentRef::Individual(id("press-8")), ..base.clone() };
    let none = Transfer { ask: None, ..base };
    for (transfer, wanted) in [(nobody, 400_208), (gone, 400_207), (none, 400_207)] {
        let step = webhook.ask(&provisioning, &transfer, 1).await;
        let Step::Event(TransferEvent::Refused { code, .. }) = step else { panic!("{step:?}") };
        assert_eq!(code, wanted);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn every_attempt_of_a_question_bears_its_id_and_any_task_may_make_it() {
    let authority = Authority::new();
    let server = Server::new(&authority, [Act::status(500, "", ""), Act::status(200, "", EAST)]).await;
    let ask: Arc<dyn Ask> = Arc::new(webhook(settings(server.port, authority.trust()), Names::here()));
    let (provisioning, transfer) = (provisioning().await, transfer(custom(server.port)));
    for attempt in 1..=2 {
        // The future holds nothing of ours.
        let step = tokio::spawn(ask.ask(&provisioning, &transfer, attempt)).await.unwrap();
        let expected = if attempt == 1 { Expected::Later(None) } else { Expected::Hub("east") };
        check("by a task", &step, expected, attempt, "status");
    }
    let seen = server.seen();
    assert_eq!(seen.iter().map(|seen| seen.header("unicity-request-id")).collect::<Vec<_>>(), [Some("5.0ab"); 2]);
    assert_eq!(seen.iter().map(|seen| seen.header("unicity-attempt")).collect::<Vec<_>>(), [Some("1"), Some("2")]);
    assert_eq!(seen[0].body, seen[1].body);
}
