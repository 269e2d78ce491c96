//! Steps as tables: what is there, and what that leads to.

use serde_json::json;
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::registration::AttestationKind;
use unicity_identity::{ETag, EnrollmentRef, Entropy, KeyFingerprint, KeySlot, OperationId, RegistrationId, Sealed};
use unicity_provisioning::transfer::TransferCause;

use super::*;

fn id() -> RegistrationId {
    "meter-1".parse().expect("an id")
}

fn operation(seed: u8) -> OperationId {
    Entropy::from_seed([seed; 32]).operation_id()
}

fn marker(seed: u8) -> Marker {
    Marker::new(&"0ne00000001".parse().expect("a scope"), &id(), &operation(seed))
}

fn end(hub: &str) -> TransferEnd {
    TransferEnd {
        hub: hub.parse().expect("a name"),
        device_id: id().to_device_id(),
        generation: Some(GenerationId(7)),
        etag: None,
    }
}

fn transfer(stage: TransferStage) -> Transfer {
    let slot = KeySlot { sealed: Sealed::from_bytes(vec![1; 4]), fingerprint: KeyFingerprint([1; 32]) };
    Transfer {
        registration_id: id(),
        operation_id: operation(1),
        stage,
        cause: TransferCause::Registration,
        enrollment: EnrollmentRef::Individual(id()),
        enrollment_etag: ETag([0; 16]),
        kind: AttestationKind::SymmetricKey,
        key_fingerprint: KeyFingerprint([1; 32]),
        authentication: DeviceAuthentication::Sas { primary: slot.clone(), secondary: slot },
        iot_edge: false,
        payload: None,
        device_payload: None,
        source: Some(end("a")),
        target: Some(TransferEnd { generation: None, ..end("b") }),
        wanted_device_id: id().to_device_id(),
        ask: None,
        fate: TwinFate::Migrate,
        initial_twin: None,
        twin: None,
        allocation: Default::default(),
        in_place: false,
        status: DeviceStatus::Enabled,
        status_reason: None,
        discard: vec![end("a")],
        begun: Timestamp(1),
        updated: Timestamp(1),
    }
}

fn facts(mode: UnicityMode, may_enable: bool) -> Facts {
    Facts {
        mode,
        marker: marker(1),
        authentication: json!({"type": "sas", "symmetricKey": {"primaryKey": "cA==", "secondaryKey": "cA=="}}),
        local_twin: None,
        may_enable,
        remote: ["a", "b"].iter().map(|name| name.parse().expect("a name")).collect(),
        kinds: BTreeMap::new(),
        now: Timestamp(2),
    }
}

fn reply(status: u16, body: Value) -> HubAnswer {
    HubAnswer::Reply(HubReply { status, retry_after: None, body })
}

/// An identity at the hub.
fn found(status: &str, reason: Option<String>, generation: u64) -> HubAnswer {
    reply(
        200,
        json!({
            "deviceId": "meter-1", "etag": "e1", "generationId": format!("{generation:018}"), "status": status,
            "statusReason": reason,
            "authentication": {"type": "sas", "symmetricKey": {"primaryKey": "cA==", "secondaryKey": "cA=="}},
        }),
    )
}

/// What a step comes to, in a word.
fn word(next: &Next) -> String {
    match next {
        Next::Call(hub, request) => match (request.method, &request.body) {
            (Method::Put, Some(body)) => format!("{hub}: {}", body["status"].as_str().unwrap_or("twin")),
            (Method::Get, _) => format!("{hub}: look"),
            (method, _) => format!("{hub}: {method:?}"),
        },
        Next::Step(Step::Event(TransferEvent::Done { .. })) => "done".into(),
        Next::Step(Step::Event(TransferEvent::Gone)) => "gone".into(),
        Next::Step(Step::Event(TransferEvent::Refused { code, .. })) => format!("refused {code}"),
        Next::Step(Step::Event(TransferEvent::Answered { .. })) => "answered".into(),
        Next::Step(Step::Later { after, .. }) => format!("later {:?}", after.map(|after| after.as_secs())),
    }
}

#[test]
fn what_is_there_decides() {
    use MarkerState::{Assigned, Ended, Leaving, Pending};
    use UnicityMode::{Compat, Strict};
    let own = |state| Some(marker(1).text(state));
    let earlier = |state| Some(marker(2).text(state));
    let by_hand = || Some("broken pump".to_owned());
    let gone = || reply(404, json!({}));
    let table = [
        // Create asks first and looks then.
        (TransferStage::Create, Strict, true, gone(), "b: disabled"),
        (TransferStage::Create, Strict, true, found("disabled", own(Pending), 9), "done"),
        (TransferStage::Create, Strict, true, found("disabled", earlier(Leaving), 9), "b: disabled"),
        (TransferStage::Create, Strict, true, found("enabled", earlier(Assigned), 9), "b: disabled"),
        (TransferStage::Create, Strict, true, found("enabled", None, 9), "refused 409204"),
        (TransferStage::Create, Strict, true, found("disabled", by_hand(), 9), "refused 409204"),
        (TransferStage::Create, Compat, true, found("enabled", None, 9), "b: disabled"),
        (TransferStage::Enable, Strict, true, found("disabled", own(Pending), 9), "b: enabled"),
        (TransferStage::Enable, Strict, true, found("enabled", own(Assigned), 9), "done"),
        (TransferStage::Enable, Strict, true, found("disabled", by_hand(), 9), "refused 400208"),
        (TransferStage::Enable, Strict, true, found("disabled", own(Ended), 9), "refused 400208"),
        (TransferStage::Enable, Strict, true, found("disabled", earlier(Pending), 9), "refused 400208"),
        (TransferStage::Enable, Strict, false, found("disabled", own(Pending), 9), "refused 400208"),
        (TransferStage::Enable, Strict, true, gone(), "gone"),
        (TransferStage::Disable, Strict, true, found("enabled", earlier(Assigned), 7), "a: disabled"),
        (TransferStage::Disable, Strict, true, found("enabled", by_hand(), 7), "a: disabled"),
        (TransferStage::Disable, Strict, true, found("disabled", by_hand(), 7), "a: disabled"),
        (TransferStage::Disable, Strict, true, found("disabled", own(Leaving), 7), "done"),
        (TransferStage::Disable, Strict, true, found("enabled", by_hand(), 8), "gone"),
        (TransferStage::Disable, Strict, true, gone(), "gone"),
        (TransferStage::Verify, Strict, true, found("enabled", earlier(Assigned), 9), "done"),
        (TransferStage::Verify, Strict, true, found("disabled", by_hand(), 9), "gone"),
        (TransferStage::Verify, Strict, true, found("disabled", earlier(Leaving), 9), "b: enabled"),
        (TransferStage::Verify, Strict, false, found("enabled", earlier(Assigned), 9), "b: disabled"),
        (TransferStage::Verify, Strict, true, gone(), "gone"),
        (TransferStage::Delete, Strict, true, found("disabled", own(Leaving), 7), "a: Delete"),
        (TransferStage::Delete, Strict, true, found("enabled", None, 8), "refused 409204"),
        (TransferStage::Delete, Strict, true, gone(), "gone"),
        (TransferStage::Read, Strict, true, gone(), "gone"),
    ];
    for (stage, mode, may_enable, answer, expected) in table {
        let mut work = Work::new(transfer(stage.clone()), facts(mode, may_enable));
        work.begin();
        if stage == TransferStage::Create {
            assert_eq!(word(&work.answered(reply(409, json!({})))), "b: look");
        }
        let shown = format!("{stage:?}, {mode:?}, {may_enable}: {answer:?}");
        assert_eq!(word(&work.answered(answer)), expected, "{shown}");
    }
}

#[test]
fn what_fails_is_looked_at_again_or_left_for_later() {
    let busy = HubAnswer::Reply(HubReply {
        status: 429,
        retry_after: Some(std::time::Duration::from_secs(9)),
        body: Value::Null,
    });
    let lost = || HubAnswer::Lost { cause: "it broke off".into() };
    let table = [
        (busy, "later Some(9)", "later Some(9)"),
        (reply(500, json!({})), "b: look", "later None"),
        (reply(503, json!({})), "b: look", "later None"),
        (lost(), "b: look", "later None"),
        (reply(401, json!({})), "later None", "later None"),
        (reply(403, json!({})), "later None", "later None"),
        (reply(302, json!({})), "later None", "later None"),
        (reply(412, json!({})), "b: look", "refused 400208"),
        (reply(400, json!({})), "refused 400208", "refused 400208"),
    ];
    for (answer, after_write, after_read) in table {
        let mut work = Work::new(transfer(TransferStage::Create), facts(UnicityMode::Strict, true));
        assert_eq!(word(&work.begin()), "b: disabled");
        assert_eq!(word(&work.answered(answer.clone())), after_write, "{answer:?} to a write");
        let mut work = Work::new(transfer(TransferStage::Enable), facts(UnicityMode::Strict, true));
        assert_eq!(word(&work.begin()), "b: look");
        assert_eq!(word(&work.answered(answer.clone())), after_read, "{answer:?} to a read");
    }
}

#[test]
fn an_identity_that_changes_all_the_time_is_left_for_later() {
    let mut work = Work::new(transfer(TransferStage::Disable), facts(UnicityMode::Strict, true));
    let mut next = work.begin();
    for _ in 0..20 {
        next = match next {
            Next::Step(_) => break,
            Next::Call(_, request) if request.method == Method::Get => work.answered(found("enabled", None, 7)),
            Next::Call(..) => work.answered(reply(412, json!({}))),
        };
    }
    assert_eq!(word(&next), "later None");
}

#[test]
fn an_end_disables_and_deletes_at_every_hub() {
    let mut work = Work::new(
        Transfer { discard: vec![end("b")], target: None, ..transfer(TransferStage::End) },
        facts(UnicityMode::Strict, false),
    );
    let own = |state| Some(marker(1).text(state));
    assert_eq!(word(&work.begin()), "a: look");
    assert_eq!(word(&work.answered(found("enabled", own(MarkerState::Assigned), 7))), "a: disabled");
    assert_eq!(word(&work.answered(found("disabled", own(MarkerState::Ended), 7))), "b: look");
    assert_eq!(word(&work.answered(found("disabled", own(MarkerState::Pending), 7))), "b: Delete");
    assert_eq!(word(&work.answered(reply(204, Value::Null))), "done");
}

#[test]
fn what_came_to_nothing_is_undone_before_the_source_is_enabled() {
    for (may_enable, expected) in [(true, "a: enabled"), (false, "done")] {
        let stage = TransferStage::Undo { code: 1, message: String::new() };
        let mut work =
            Work::new(Transfer { discard: vec![end("b")], ..transfer(stage) }, facts(UnicityMode::Strict, may_enable));
        assert_eq!(word(&work.begin()), "b: look");
        assert_eq!(word(&work.answered(reply(404, json!({})))), "a: look");
        let leaving = Some(marker(1).text(MarkerState::Leaving));
        assert_eq!(word(&work.answered(found("disabled", leaving, 7))), expected);
    }
}

#[test]
fn a_hub_that_is_linked_no_longer_is_not_waited_for() {
    for (stage, expected) in [
        (TransferStage::Disable, "gone"),
        (TransferStage::Delete, "gone"),
        (TransferStage::Create, "refused 400208"),
        (TransferStage::Enable, "refused 400208"),
        (TransferStage::End, "done"),
    ] {
        let facts = Facts { remote: BTreeSet::new(), ..facts(UnicityMode::Strict, true) };
        assert_eq!(word(&Work::new(transfer(stage.clone()), facts).begin()), expected, "{stage:?}");
    }
}

#[test]
fn the_twin_is_written_once_and_over_what_was_read() {
    let untouched = json!({
        "etag": "t1", "version": 1, "tags": {},
        "properties": {"desired": {"$version": 1}, "reported": {"$version": 1}},
    });
    let initial = || Some(unicity_identity::json::JsonText::from_value(&json!({"tags": {"plant": 1}})));
    let mut touched = untouched.clone();
    touched["properties"]["reported"]["seen"] = json!(3);
    let table = [
        (TwinFate::Initial, initial(), &untouched, "b: twin"),
        (TwinFate::Initial, initial(), &touched, "done"),
        (TwinFate::Initial, None, &untouched, "done"),
        (TwinFate::Reset, initial(), &touched, "b: twin"),
        (TwinFate::Migrate, initial(), &touched, "b: twin"),
    ];
    for (fate, initial_twin, twin, expected) in table {
        let shown = format!("{fate:?} over {twin}");
        let transfer = Transfer { fate, initial_twin, ..transfer(TransferStage::Fill) };
        let mut work = Work::new(transfer, facts(UnicityMode::Strict, true));
        assert_eq!(word(&work.begin()), "b: look", "what it runs");
        assert_eq!(word(&work.answered(reply(200, json!({})))), "b: look", "the twin");
        let next = work.answered(reply(200, twin.clone()));
        assert_eq!(word(&next), expected, "{shown}");
        if let Next::Call(_, request) = next {
            assert_eq!(request.path, "/unicity/twins/meter-1", "{shown}");
            assert_eq!(request.condition, Condition::Matches("t1".into()), "{shown}");
            assert_eq!(word(&work.answered(reply(200, json!({})))), "done");
        }
    }
    let kept = Transfer { fate: TwinFate::Keep, ..transfer(TransferStage::Fill) };
    assert_eq!(word(&Work::new(kept, facts(UnicityMode::Strict, true)).begin()), "done");
}
