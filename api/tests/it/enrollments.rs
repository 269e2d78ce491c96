//! Individual enrollments and groups: conditions, keys, fields, what is refused (`service-rest.md` 2.4, 3.1 to 3.3, 19).

use serde_json::{Value, json};

use crate::server::{NOW, SCOPE, Server, base64, device_token, enrollment, key};

#[tokio::test]
async fn create_is_create_only_and_an_update_needs_its_etag() {
    let server = Server::new();
    let body = enrollment("registrationId", "Dev-1", &key(50));
    let created = server.dps("PUT", "/enrollments/Dev-1", &body).await.expect(200);
    assert_eq!(created.header("content-type"), Some("application/json; charset=utf-8"));
    let created = created.json();
    let etag = created["etag"].as_str().unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "the body's etag has its quotes inside: {etag}");
    assert_eq!(created["registrationId"], "dev-1");
    assert_eq!(created["createdDateTimeUtc"], NOW.to_string());

    let conflict = server.dps("PUT", "/enrollments/dev-1", &body).await.expect(409);
    assert_eq!(conflict.header("x-ms-error-code"), Some("EnrollmentConflict"));
    let conflict_body = conflict.json();
    assert_eq!(conflict_body["errorCode"], 409_201);
    assert_eq!(conflict_body["trackingId"].as_str(), conflict.header("x-ms-request-id"));
    assert!(conflict_body["message"].as_str().unwrap().contains("If-Match"), "{conflict_body}");
    assert_eq!(conflict_body["timestampUtc"], NOW.to_string());

    server.advance_ms(1000);
    // Clients put back what they got, the read-only members and the empty keys included.
    let updated = server.dps_if("PUT", "/enrollments/dev-1", &etag, &created.to_string()).await.expect(200).json();
    assert_ne!(updated["etag"], created["etag"]);
    assert_eq!(updated["createdDateTimeUtc"], created["createdDateTimeUtc"]);
    assert_ne!(updated["lastUpdatedDateTimeUtc"], created["lastUpdatedDateTimeUtc"]);
    let stale = server.dps_if("PUT", "/enrollments/dev-1", &etag, &body).await.expect(412);
    assert_eq!(stale.json()["errorCode"], 412_001);
    for star in ["*", "\"*\""] {
        server.dps_if("PUT", "/enrollments/dev-1", star, &body).await.expect(200);
    }
    server.dps_if("DELETE", "/enrollments/dev-1", &etag, "").await.expect(412);
    let current = server.dps("GET", "/enrollments/dev-1", "").await.expect(200).json();
    // .NET puts quotes around what has them, Node sends it raw.
    let bare = current["etag"].as_str().unwrap().trim_matches('"').to_owned();
    let deleted = server.dps_if("DELETE", "/enrollments/dev-1", &bare, "").await.expect(204);
    assert!(deleted.body.is_empty());
    server.dps("DELETE", "/enrollments/dev-1", "").await.expect(404);
    server.dps("GET", "/enrollments/dev-1", "").await.expect(404);
    server.dps_if("PUT", "/enrollments/dev-1", "*", &body).await.expect(404);
    server.dps_if("PUT", "/enrollments/dev-1", &etag, &body).await.expect(412);
}

async fn keys_of(server: &Server, path: &str) -> (Vec<u8>, Vec<u8>) {
    use base64::Engine as _;
    // Node sends neither body nor content type.
    let shown = server.dps("POST", &format!("{path}/attestationmechanism"), "").await.expect(200).json();
    assert_eq!(shown["type"], "symmetricKey");
    let decode = |name: &str| {
        let text = shown["symmetricKey"][name].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    (decode("primaryKey"), decode("secondaryKey"))
}

#[tokio::test]
async fn keys_are_generated_kept_replaced_and_shown_in_one_place_only() {
    for (path, id_name) in [("/enrollments/e", "registrationId"), ("/enrollmentGroups/e", "enrollmentGroupId")] {
        let server = Server::new();
        let body = json!({id_name: "e", "attestation": {"type": "SymmetricKey"}}).to_string();
        let created = server.dps("PUT", path, &body).await.expect(200).json();
        assert_eq!(created["attestation"], json!({"type": "symmetricKey", "symmetricKey": {}}));
        let generated = keys_of(&server, path).await;
        assert_eq!((generated.0.len(), generated.1.len()), (64, 64));
        assert_ne!(generated.0, generated.1);

        for kept in [
            json!({id_name: "e", "attestation": {"type": "symmetricKey"}}),
            json!({id_name: "e", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}}}),
            json!({id_name: "e", "provisioningStatus": "disabled"}),
        ] {
            server.dps_if("PUT", path, "*", &kept.to_string()).await.expect(200);
            assert_eq!(keys_of(&server, path).await, generated, "{kept}");
        }
        assert_eq!(server.dps("GET", path, "").await.json()["provisioningStatus"], "disabled");

        let one = json!({id_name: "e", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": base64(&key(9))}}});
        server.dps_if("PUT", path, "*", &one.to_string()).await.expect(200);
        assert_eq!(keys_of(&server, path).await, (key(9).expose_bytes().to_vec(), generated.1.clone()));
        let text = String::from_utf8(server.dps("GET", path, "").await.body.to_vec()).unwrap();
        assert!(!text.contains(&base64(&key(9))) && !text.contains("primaryKey"), "{text}");
    }
}

#[tokio::test]
async fn every_field_comes_back_and_the_payload_reaches_the_device() {
    let server = Server::new();
    let body = json!({
        "registrationId": "dev-1",
        "deviceId": "Pump#1",
        "registrationState": {"status": "assigned"},
        "optionalDeviceInformation": {"serial": "4711", "ä": [1, null]},
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": base64(&key(50)), "secondaryKey": base64(&key(51))}},
        "capabilities": {"iotEdge": true},
        "initialTwin": {"tags": {"site": "z"}, "properties": {"desired": {"x": 1}}},
        "etag": "ignored",
        "provisioningStatus": "Enabled",
        "reprovisionPolicy": {"updateHubAssignment": false, "migrateDeviceData": true},
        "createdDateTimeUtc": "0001-01-01T00:00:00Z",
        "allocationPolicy": "STATIC",
        "iotHubs": ["Alpha.local"],
        "credentialPolicyName": "later",
        "somethingNew": {"a": 1},
        "payload": {"greeting": "hello"},
    });
    let stored = server.dps("PUT", "/enrollments/dev-1", &body.to_string()).await.expect(200).json();
    for name in ["deviceId", "optionalDeviceInformation", "capabilities", "initialTwin", "reprovisionPolicy", "payload"]
    {
        assert_eq!(stored[name], body[name], "{name}");
    }
    assert_eq!(stored["allocationPolicy"], "static");
    assert_eq!(stored["provisioningStatus"], "enabled");
    assert_eq!(stored["iotHubs"], json!(["alpha.local"]));
    assert_eq!(stored["createdDateTimeUtc"], NOW.to_string());
    for name in ["somethingNew", "credentialPolicyName", "registrationState"] {
        assert_eq!(stored[name], Value::Null, "{name}");
    }

    let path = format!("/{}/registrations/dev-1/register", crate::server::SCOPE);
    let answer = server.device("PUT", &path, Some(&device_token("dev-1", &key(51))), "{}").await.expect(200).json();
    assert_eq!(answer["registrationState"]["payload"], body["payload"]);
    assert_eq!(answer["registrationState"]["assignedHub"], "alpha.local");
    assert_eq!(answer["registrationState"]["deviceId"], "Pump#1");
    let seen = server.dps("GET", "/enrollments/dev-1", "").await.json();
    assert_eq!(seen["registrationState"]["status"], "assigned");
    let state = server.dps("GET", "/registrations/DEV-1", "").await.expect(200).json();
    assert_eq!(state["assignedHub"], "alpha.local");
    let etag = state["etag"].as_str().unwrap();
    server.dps_if("DELETE", "/registrations/dev-1", "\"no\"", "").await.expect(412);
    server.dps_if("DELETE", "/registrations/dev-1", etag, "").await.expect(204);
    server.dps("GET", "/registrations/dev-1", "").await.expect(404);
}

#[tokio::test]
async fn the_form_of_2018_is_a_static_assignment() {
    let server = Server::new();
    let body = json!({"registrationId": "d", "attestation": {"type": "symmetricKey"}, "iotHubHostName": "alpha.local"});
    let stored = server.dps("PUT", "/enrollments/d", &body.to_string()).await.expect(200).json();
    assert_eq!((&stored["allocationPolicy"], &stored["iotHubs"]), (&json!("static"), &json!(["alpha.local"])));
}

#[tokio::test]
async fn a_wrong_body_is_refused_with_the_member_and_the_reason() {
    let server = Server::new();
    let with = |name: &str, value: Value| {
        let mut body = json!({"registrationId": "d", "attestation": {"type": "symmetricKey"}});
        body[name] = value;
        body.to_string()
    };
    let attestation = |value: Value| with("attestation", value);
    for (body, hint) in [
        (String::new(), "empty"),
        ("{\"registrationId\":".into(), "not JSON"),
        ("[]".into(), "not a JSON object"),
        (with("registrationId", json!("other")), "the path's is d"),
        (with("registrationId", json!("a b")), "' '"),
        (with("registrationId", json!(5)), "expected a string"),
        (with("deviceId", json!("a b")), "deviceId"),
        (with("attestation", Value::Null), "attestation"),
        (attestation(json!({"type": "x509"})), "attestation.x509: it is missing"),
        (attestation(json!({"type": "tpm", "tpm": {"endorsementKey": "AA=="}})), "attestation.tpm.endorsementKey"),
        (attestation(json!({"type": "none"})), "none"),
        (attestation(json!({})), "attestation.type"),
        (
            attestation(json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": "!"}})),
            "primaryKey: the symmetric key is not base64",
        ),
        (attestation(json!({"type": "symmetricKey", "symmetricKey": {"secondaryKey": "AAAA"}})), "16 to 64"),
        (with("allocationPolicy", json!("nearest")), "allowed are hashed"),
        (with("allocationPolicy", json!("custom")), "customAllocationDefinition"),
        (with("allocationPolicy", json!("sticky")), "stickyBy"),
        (with("allocationPolicy", json!("best")), "hashed, static"),
        (with("allocationPolicy", json!("static")), "exactly one hub"),
        (with("iotHubs", json!(["gamma.local"])), "not linked"),
        (with("iotHubs", json!(["a b"])), "iotHubs"),
        (with("provisioningStatus", json!("off")), "enabled, disabled"),
        (with("initialTwin", json!([1])), "initialTwin"),
    ] {
        let reply = server.dps("PUT", "/enrollments/d", &body).await.expect(400).json();
        assert!(reply["message"].as_str().unwrap().contains(hint), "{body}\n{reply}\n{hint}");
        assert_eq!(reply["errorCode"], 400_004, "{body}");
    }
    for large in [with("payload", json!("x".repeat(5000))), with("initialTwin", json!({"tags": "x".repeat(70_000)}))] {
        server.dps("PUT", "/enrollments/d", &large).await.expect(413);
    }
    server.dps("GET", "/enrollments/d", "").await.expect(404);
}

#[tokio::test]
async fn a_key_of_another_is_refused_and_its_holder_named_to_the_operator() {
    let server = Server::new();
    server.dps("PUT", "/enrollments/a", &enrollment("registrationId", "a", &key(50))).await.expect(200);
    let reply = server.dps("PUT", "/enrollments/b", &enrollment("registrationId", "b", &key(50))).await.expect(409);
    assert!(reply.json()["message"].as_str().unwrap().contains("registration a"), "{:?}", reply.body);
}

#[tokio::test]
async fn ids_in_paths_are_decoded_once_and_paths_have_no_case() {
    let server = Server::new();
    for (path, id) in [("/Enrollments/a%3Ab.c/", "a:b.c"), ("/ENROLLMENTS/a:d", "a:d")] {
        server.dps("PUT", path, &enrollment("registrationId", id, &key(id.len() as u8))).await.expect(200);
        server.dps("GET", &format!("/enrollments/{id}"), "").await.expect(200);
    }
    server.dps("GET", "/enrollments/a%253Ab.c", "").await.expect(400);
    server.dps("GET", "/enrollments/a+b", "").await.expect(400);
    server.dps("GET", "/enrollments/a%2Fb", "").await.expect(400);
    server.dps("POST", "/enrollmentgroups/none/attestationmechanism", "").await.expect(404);
}

#[tokio::test]
async fn a_poisoned_store_refuses_writes_and_keeps_reads() {
    let server = Server::new();
    server.dps("PUT", "/enrollments/a", &enrollment("registrationId", "a", &key(50))).await.expect(200);
    *server.registry.poisoned.lock() = true;
    let reply = server.dps_if("DELETE", "/enrollments/a", "*", "").await.expect(503);
    assert!(reply.header("retry-after").is_some());
    server.dps("GET", "/enrollments/a", "").await.expect(200);
}

#[tokio::test]
async fn a_device_id_that_another_registration_has_is_refused_at_once() {
    let server = Server::with_failures_max(100);
    server.dps("PUT", "/enrollments/a", &enrollment("registrationId", "a", &key(60))).await.expect(200);
    let path = format!("/{SCOPE}/registrations/a/register");
    server.device("PUT", &path, Some(&device_token("a", &key(60))), "").await.expect(200);
    let with_device = |id: &str, byte| {
        let mut body: Value = serde_json::from_str(&enrollment("registrationId", id, &key(byte))).unwrap();
        body["deviceId"] = json!("a");
        body.to_string()
    };
    let reply = server.dps("PUT", "/enrollments/b", &with_device("b", 61)).await.expect(409).json();
    assert!(reply["message"].as_str().unwrap().contains("registration a"), "{reply}");
    server.dps("GET", "/enrollments/b", "").await.expect(404);
    // Its own it may name.
    server.dps_if("PUT", "/enrollments/a", "*", &with_device("a", 60)).await.expect(200);
}
