use serde_json::{Value, json};
use unicity_identity::device::{CertificateBinding, DeviceAuthentication, DeviceStatus};
use unicity_identity::json::JsonText;
use unicity_identity::registration::AttestationKind;
use unicity_identity::{
    Attestation, ETag, EnrollmentRef, GenerationId, HubDirectory, HubName, KeyFingerprint, LinkedHub, Timestamp,
};

use super::{Question, WebhookFailure, question, read_answer};
use crate::allocation::Candidate;
use crate::transfer::{AllocationNote, Transfer, TransferCause, TransferEnd, TransferStage, TwinFate};
use crate::x509::Certificate;

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

fn hubs() -> HubDirectory {
    let hub = |name: &str| LinkedHub::local(id(name), id(&format!("{name}.hub.example")));
    let mut east = hub("east");
    east.aliases = vec![id("ost.hub.example")];
    HubDirectory::new(vec![hub("north"), east, hub("south")]).expect("no name twice")
}

/// A transfer that asks; north and east are offered.
fn transfer() -> Transfer {
    let candidate = |name: &str| Candidate { hub: id(name), weight: 1, score: None, basis: None };
    Transfer {
        registration_id: id("press-7"),
        operation_id: id("5.0ab"),
        stage: TransferStage::Ask,
        cause: TransferCause::Registration,
        enrollment: EnrollmentRef::Group(id("presses")),
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
        ask: None,
        fate: TwinFate::Initial,
        initial_twin: None,
        twin: None,
        allocation: AllocationNote {
            candidates: vec![candidate("north"), candidate("east"), candidate("gone")],
            ..AllocationNote::default()
        },
        in_place: false,
        status: DeviceStatus::Enabled,
        status_reason: None,
        discard: Vec::new(),
        begun: Timestamp(0),
        updated: Timestamp(0),
    }
}

fn asked(transfer: &Transfer, attestation: &Attestation) -> Value {
    question(Question { transfer, enrollment: json!({"shown": true}), attestation, hubs: &hubs() })
}

const NOTHING: Attestation = Attestation::CaReferences { primary: None, secondary: None };

#[test]
fn a_first_registration_of_a_group_asks_with_its_candidates() {
    let shown = asked(&transfer(), &NOTHING);
    assert_eq!(
        shown,
        json!({
            "enrollmentGroup": {"shown": true},
            "deviceRuntimeContext": {"registrationId": "press-7", "symmetricKey": {}},
            "linkedHubs": ["north.hub.example", "east.hub.example"],
        })
    );
}

#[test]
fn a_further_registration_says_where_the_device_is() {
    let mut transfer = transfer();
    transfer.enrollment = EnrollmentRef::Individual(id("press-7"));
    transfer.device_payload = Some(JsonText::from_value(&json!({"site": 7})));
    transfer.source =
        Some(TransferEnd { hub: id("south"), device_id: id("Press"), generation: Some(GenerationId(1)), etag: None });
    let shown = asked(&transfer, &NOTHING);
    assert_eq!(shown["individualEnrollment"], json!({"shown": true}));
    assert_eq!(
        shown["deviceRuntimeContext"],
        json!({
            "registrationId": "press-7",
            "currentIotHubHostName": "south.hub.example",
            "currentDeviceId": "Press",
            "symmetricKey": {},
            "payload": {"site": 7},
        })
    );
}

#[test]
fn a_tpm_is_told_by_its_keys() {
    let mut transfer = transfer();
    transfer.kind = AttestationKind::Tpm;
    let attestation = Attestation::Tpm {
        endorsement_key: vec![1, 2, 3],
        key: KeyFingerprint([0; 32]),
        storage_root_key: Some(vec![4, 5, 6]),
    };
    assert_eq!(
        asked(&transfer, &attestation)["deviceRuntimeContext"]["tpm"],
        json!({"endorsementKey": "AQID", "storageRootKey": "BAUG"})
    );
}

#[test]
fn a_certificate_is_told_in_full_where_the_enrollment_has_it() {
    let der = include_bytes!("../../x509/fixtures/leaf-p384.der").to_vec();
    let certificate = Certificate::parse(&der).expect("a certificate");
    let info = certificate.info();
    let thumbprint = ring::digest::digest(&ring::digest::SHA256, &der).as_ref().to_vec();
    let mut transfer = transfer();
    transfer.kind = AttestationKind::X509;
    transfer.authentication = DeviceAuthentication::Certificates {
        primary: CertificateBinding { thumbprint, key: None },
        secondary: Some(CertificateBinding { thumbprint: vec![0xab; 20], key: None }),
    };
    let stored = unicity_identity::enrollment::StoredCertificate { der, key: certificate.key_fingerprint() };
    let attestation = Attestation::ClientCertificates { primary: Some(stored), secondary: None };
    let x509 = |attestation| asked(&transfer, attestation)["deviceRuntimeContext"]["x509"].clone();
    let second = json!({"info": {"sha1Thumbprint": "AB".repeat(20)}});
    assert_eq!(x509(&attestation), json!({"clientCertificates": {"primary": {"info": info}, "secondary": second}}));
    assert_eq!(
        x509(&NOTHING),
        json!({"clientCertificates": {
            "primary": {"info": {"sha256Thumbprint": info["sha256Thumbprint"]}},
            "secondary": second,
        }})
    );
}

#[test]
fn usable_answers() {
    for (body, hub, twin, payload) in [
        (json!({"iotHubHostName": "north.hub.example"}), "north", None, None),
        (json!({"iotHubHostName": "NORTH.hub.Example"}), "north", None, None),
        (json!({"iotHubHostName": " ost.hub.example "}), "east", None, None),
        (json!({"iothubhostname": "east.hub.example"}), "east", None, None),
        (json!({"IoTHubHostName": "east.hub.example", "initialTwin": null, "payload": null}), "east", None, None),
        (
            json!({"iotHubHostName": "east.hub.example", "initialTwin": {"tags": {"a": 1}}, "Payload": {"b": 2}, "more": 1}),
            "east",
            Some(json!({"tags": {"a": 1}})),
            Some(json!({"b": 2})),
        ),
    ] {
        let answer =
            read_answer(body.to_string().as_bytes(), &transfer(), &hubs(), 100).unwrap_or_else(|_| panic!("{body}"));
        assert_eq!(answer.hub, id::<HubName>(hub), "{body}");
        assert_eq!(answer.initial_twin.map(|it| it.to_value()), twin, "{body}");
        assert_eq!(answer.payload.map(|it| it.to_value()), payload, "{body}");
    }
}

#[test]
fn unusable_answers() {
    use WebhookFailure::{Failed, HubNotSpecified};
    let with = |member: &str, value: Value| json!({"iotHubHostName": "east.hub.example", member: value}).to_string();
    for (body, failure, part) in [
        (String::new(), Failed, "not JSON"),
        ("<html>".to_owned(), Failed, "not JSON"),
        ("{\"iotHubHostName\":\"east.hub.example\"} x".to_owned(), Failed, "not JSON"),
        ("\"east.hub.example\"".to_owned(), Failed, "not a JSON object"),
        ("[]".to_owned(), Failed, "not a JSON object"),
        ("null".to_owned(), Failed, "not a JSON object"),
        ("[".repeat(100_000), Failed, "not JSON"),
        ("{}".to_owned(), HubNotSpecified, "names no hub"),
        (json!({"iotHubHostName": null}).to_string(), HubNotSpecified, "names no hub"),
        (json!({"iotHubHostName": " "}).to_string(), HubNotSpecified, "names no hub"),
        (json!({"iotHubHostName": ["east.hub.example"]}).to_string(), HubNotSpecified, "not a string"),
        (json!({"iotHubHostName": "west.hub.example"}).to_string(), HubNotSpecified, "is not linked"),
        (json!({"iotHubHostName": "south.hub.example"}).to_string(), HubNotSpecified, "was not offered"),
        (json!({"iotHubHostName": "east.hub.example:443"}).to_string(), HubNotSpecified, "is not linked"),
        (with("initialTwin", json!([])), Failed, "initialTwin is not a JSON object"),
        (with("initialTwin", json!({"tags": {"a.b": 1}})), Failed, "initialTwin cannot be used"),
        (with("initialTwin", json!({"properties": {"desired": {"a": "x".repeat(5_000)}}})), Failed, "cannot be used"),
        (with("payload", json!("text")), Failed, "payload is not a JSON object"),
        (with("payload", json!({"a": "x".repeat(100)})), Failed, "the payload has"),
    ] {
        let shown: String = body.chars().take(80).collect();
        let unusable = read_answer(body.as_bytes(), &transfer(), &hubs(), 100).expect_err(&shown);
        assert_eq!(unusable.failure, failure, "{shown}");
        assert!(unusable.why.contains(part), "{part:?} not in {unusable} ({shown})");
    }
}
