//! Bulk changes of devices (`service-rest.md` 12.3): one bad row in each mode leaves the others done.

use serde_json::{Value, json};

use crate::server::{Reply, Server, base64, key};

async fn bulk(server: &Server, rows: &[Value]) -> Reply {
    server.hub("POST", "/devices", &json!(rows).to_string()).await
}

fn keys(n: u8) -> Value {
    json!({"type": "sas", "symmetricKey": {"primaryKey": base64(&key(n)), "secondaryKey": base64(&key(n))}})
}

async fn with(ids: &[&str]) -> Server {
    let server = Server::new();
    for id in ids {
        server.hub("PUT", &format!("/devices/{id}"), &json!({"deviceId": id}).to_string()).await.expect(200);
    }
    server
}

async fn etag(server: &Server, path: &str) -> String {
    server.hub("GET", path, "").await.expect(200).json()["etag"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_bad_row_in_each_mode_is_named_and_the_others_are_done() {
    // Mode, the good row, the bad row, its error, and whether the good one is there afterwards.
    for (mode, needs_etag, bad, error, remains) in [
        ("create", false, "old", "DeviceAlreadyExists", true),
        ("Update", false, "none", "DeviceNotFound", true),
        ("UpdateIfMatchETag", true, "other", "PreconditionFailed", true),
        ("updateIfMatchEtag", true, "other", "PreconditionFailed", true),
        ("Delete", false, "none", "DeviceNotFound", false),
        ("DeleteIfMatchETag", true, "other", "PreconditionFailed", false),
        ("createOrUpdate", false, "bad", "ArgumentInvalid", true),
        ("createOrUpdateIfMatchETag", true, "other", "PreconditionFailed", true),
        ("updateTwin", false, "none", "DeviceNotFound", true),
        ("updateTwinIfMatchETag", true, "other", "PreconditionFailed", true),
        ("", false, "bad", "ArgumentInvalid", true),
    ] {
        let server = with(&["old", "other"]).await;
        let good = if mode == "create" { "new" } else { "old" };
        let is_twin = mode.starts_with("updateTwin");
        let mut row = json!({"id": good, "importMode": mode, "tags": {"n": 1}});
        let mut broken = json!({"id": bad, "importMode": mode, "tags": {"n": 1}});
        if needs_etag {
            let (path, name) = if is_twin { ("/twins/old", "twinETag") } else { ("/devices/old", "eTag") };
            row[name] = json!(etag(&server, path).await);
            broken[name] = json!("AAAA");
        }
        if bad == "bad" {
            broken["status"] = json!("asleep");
        }
        let reply = bulk(&server, &[broken, row]).await.expect(400);
        assert_eq!(reply.header("iothub-errorcode"), Some("BulkRegistryOperationFailure"));
        let result = reply.json();
        assert_eq!(result["isSuccessful"], false, "{mode}");
        let errors = result["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{mode}: {errors:?}");
        assert_eq!((&errors[0]["deviceId"], &errors[0]["errorCode"]), (&json!(bad), &json!(error)), "{mode}");
        assert!(errors[0]["errorStatus"].is_string());
        let there = server.hub("GET", &format!("/twins/{good}"), "").await;
        match remains {
            true => assert_eq!(there.expect(200).json()["tags"], json!({"n": 1}), "{mode}"),
            false => drop(there.expect(404)),
        }
    }
}

#[tokio::test]
async fn rows_make_devices_with_modules_and_twins() {
    let server = Server::new();
    let rows = [
        json!({"id": "d", "importMode": "create", "status": "disabled", "statusReason": "new", "authentication": keys(80),
            "tags": {"line": 4}, "properties": {"desired": {"rate": 1}}, "capabilities": {"iotEdge": true}}),
        json!({"id": "d", "moduleId": "m", "importMode": "create", "authentication": keys(81), "tags": {"role": "probe"}}),
        json!({"id": "e", "importMode": "create"}),
    ];
    let result = bulk(&server, &rows).await.expect(200).json();
    assert_eq!(result, json!({"isSuccessful": true, "errors": [], "warnings": []}));
    let device = server.hub("GET", "/devices/d", "").await.expect(200).json();
    assert_eq!((&device["status"], &device["capabilities"]["iotEdge"]), (&json!("disabled"), &json!(true)));
    assert_eq!(device["authentication"]["symmetricKey"]["primaryKey"], base64(&key(80)));
    let twin = server.hub("GET", "/twins/d", "").await.json();
    assert_eq!((&twin["tags"]["line"], &twin["properties"]["desired"]["rate"]), (&json!(4), &json!(1)));
    assert_eq!(server.hub("GET", "/twins/d/modules/m", "").await.json()["tags"], json!({"role": "probe"}));

    // A key that another has is a row's error like any other.
    let taken =
        bulk(&server, &[json!({"id": "f", "importMode": "create", "authentication": keys(81)})]).await.expect(400);
    assert_eq!(taken.json()["errors"][0]["errorCode"], "KeyInUse");
    let patched =
        [json!({"id": "d", "importMode": "updateTwin", "properties": {"desired": {"rate": null, "more": 2}}})];
    bulk(&server, &patched).await.expect(200);
    let twin = server.hub("GET", "/twins/d", "").await.json();
    assert_eq!((&twin["properties"]["desired"]["more"], &twin["tags"]["line"]), (&json!(2), &json!(4)));
    let gone =
        [json!({"id": "d", "moduleId": "m", "importMode": "delete"}), json!({"id": "e", "importMode": "delete"})];
    bulk(&server, &gone).await.expect(200);
    server.hub("GET", "/devices/d/modules/m", "").await.expect(404);
    server.hub("GET", "/devices/e", "").await.expect(404);
}

#[tokio::test]
async fn a_row_is_not_done_by_half() {
    let server = Server::new();
    let text = "x".repeat(4000);
    for tags in [json!({"$a": 1}), json!({"a": text, "b": text, "c": text})] {
        bulk(&server, &[json!({"id": "d", "importMode": "create", "tags": tags})]).await.expect(400);
        server.hub("GET", "/devices/d", "").await.expect(404);
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_whole_does_nothing() {
    let server = Server::new();
    let rows = |n: usize| (0..n).map(|n| json!({"id": format!("d{n}"), "importMode": "create"})).collect::<Vec<_>>();
    bulk(&server, &rows(101)).await.expect(400);
    let twice = bulk(&server, &[json!({"id": "d0"}), json!({"id": "d0"})]).await.expect(400);
    assert_eq!(twice.header("iothub-errorcode"), Some("DeviceDefinedMultipleTimes"));
    bulk(&server, &[json!({"id": "d0"}), json!({"importMode": "create"})]).await.expect(400);
    bulk(&server, &[json!({"id": "d0"}), json!({"id": "not an id"})]).await.expect(400);
    server.hub("POST", "/devices", "{}").await.expect(400);
    assert_eq!(server.hub("GET", "/devices", "").await.json(), json!([]));
    bulk(&server, &rows(100)).await.expect(200);
    bulk(&server, &[]).await.expect(200);
}
