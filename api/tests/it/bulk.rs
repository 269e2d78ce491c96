//! Bulk requests (`service-rest.md` 3.6 and 19.8).

use serde_json::{Value, json};

use crate::server::{Server, base64, key};

fn item(id: &str, byte: u8) -> Value {
    let key = base64(&key(byte));
    json!({
        "registrationId": id,
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}},
    })
}

async fn bulk(server: &Server, mode: &str, items: Value) -> Value {
    let body = json!({"mode": mode, "enrollments": items}).to_string();
    // Node's path has the slash.
    server.dps("POST", "/enrollments/", &body).await.expect(200).json()
}

#[tokio::test]
async fn items_are_independent_and_each_error_names_its_item() {
    let server = Server::new();
    let done = bulk(&server, "create", json!([item("a", 1)])).await;
    assert_eq!(done, json!({"isSuccessful": true, "errors": []}));
    let partly = bulk(&server, "create", json!([item("a", 2), item("b", 3), {"registrationId": "c"}])).await;
    assert_eq!(partly["isSuccessful"], false);
    let errors = partly["errors"].as_array().unwrap();
    let codes: Vec<_> =
        errors.iter().map(|e| (e["registrationId"].as_str().unwrap(), e["errorCode"].as_u64().unwrap())).collect();
    assert_eq!(codes, [("a", 409_201), ("c", 400_004)]);
    assert!(errors.iter().all(|error| error["errorStatus"].is_string()));
    server.dps("GET", "/enrollments/b", "").await.expect(200);
}

#[tokio::test]
async fn the_four_modes() {
    let server = Server::new();
    bulk(&server, "Create", json!([item("a", 1), item("b", 2)])).await;
    let etag = server.dps("GET", "/enrollments/a", "").await.json()["etag"].clone();
    let disabled = |id: &str| json!({"registrationId": id, "provisioningStatus": "disabled"});
    let updated = bulk(&server, "update", json!([disabled("b"), disabled("none")])).await;
    assert_eq!(updated["errors"][0]["errorCode"], 404_201);
    assert_eq!(server.dps("GET", "/enrollments/b", "").await.json()["provisioningStatus"], "disabled");
    let with_etag = |etag: &Value| {
        let mut item = disabled("a");
        item["etag"] = etag.clone();
        item
    };
    // Node spells it in this way.
    assert_eq!(bulk(&server, "updateIfMatchEtag", json!([with_etag(&etag)])).await["isSuccessful"], true);
    assert_eq!(bulk(&server, "updateIfMatchETag", json!([with_etag(&etag)])).await["errors"][0]["errorCode"], 412_001);
    assert_eq!(bulk(&server, "updateIfMatchETag", json!([disabled("a")])).await["errors"][0]["errorCode"], 400_004);
    assert_eq!(bulk(&server, "delete", json!([with_etag(&etag)])).await["errors"][0]["errorCode"], 412_001);
    assert_eq!(
        bulk(&server, "delete", json!([{"registrationId": "a"}, {"registrationId": "b"}])).await["isSuccessful"],
        true
    );
    server.dps("GET", "/enrollments/a", "").await.expect(404);
}

#[tokio::test]
async fn what_is_wrong_as_a_whole_does_nothing() {
    let server = Server::new();
    let eleven: Vec<Value> = (0..11).map(|n| item(&format!("e{n}"), n)).collect();
    for (body, code) in [
        (json!({"mode": "create", "enrollments": eleven}), 400_205),
        (json!({"mode": "create", "enrollments": [item("a", 1), item("A", 2)]}), 400_206),
        (json!({"mode": "create", "enrollments": [item("a", 1), {}]}), 400_004),
        (json!({"mode": "create", "enrollments": [1]}), 400_004),
        (json!({"mode": "upsert", "enrollments": [item("a", 1)]}), 400_004),
        (json!({"mode": "create"}), 400_004),
        (json!({"enrollments": [item("a", 1)]}), 400_004),
    ] {
        let reply = server.dps("POST", "/enrollments", &body.to_string()).await.expect(400);
        assert_eq!(reply.json()["errorCode"], code, "{body}");
    }
    assert_eq!(&server.dps("POST", "/enrollments/query", "").await.body[..], b"[]");
}

#[tokio::test]
async fn groups_come_in_bulk_too() {
    let server = Server::new();
    let group = |id: &str| json!({"enrollmentGroupId": id, "attestation": {"type": "symmetricKey"}});
    let body = json!({"mode": "create", "enrollmentGroups": [group("g"), group("h")]}).to_string();
    assert_eq!(server.dps("POST", "/enrollmentGroups/", &body).await.expect(200).json()["isSuccessful"], true);
    let again = server.dps("POST", "/enrollmentGroups", &body).await.expect(200).json();
    assert_eq!(again["errors"][1]["enrollmentGroupId"], "h");
}
