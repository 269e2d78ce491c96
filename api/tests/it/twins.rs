//! Twins and modules (`service-rest.md` 12.1, 12.2, 12.4).

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use unicity_hub::SessionEpoch;
use unicity_identity::ClientIdentity;

use crate::hub::Handle;
use crate::server::{Server, base64, device_token, enrollment, key};

async fn with_device() -> Server {
    let server = Server::new();
    server.hub("PUT", "/devices/d", "{\"deviceId\":\"d\"}").await.expect(200);
    server
}

#[tokio::test]
async fn a_twin_is_there_as_soon_as_its_device_is() {
    let server = Server::new();
    let missing = server.hub("GET", "/twins/d", "").await.expect(404);
    assert_eq!(missing.header("iothub-errorcode"), Some("DeviceNotFound"));
    let device = server.hub("PUT", "/devices/d", "{\"deviceId\":\"d\"}").await.expect(200).json();
    let got = server.hub("GET", "/twins/d", "").await.expect(200);
    let twin = got.json();
    assert_eq!(got.header("etag").unwrap(), format!("\"{}\"", twin["etag"].as_str().unwrap()));
    let when = twin["properties"]["desired"]["$metadata"]["$lastUpdated"].clone();
    assert_eq!(
        twin,
        json!({
            "deviceId": "d", "etag": twin["etag"], "deviceEtag": device["etag"], "status": "enabled", "statusReason": null,
            "statusUpdateTime": "0001-01-01T00:00:00Z", "connectionState": "Disconnected",
            "lastActivityTime": "0001-01-01T00:00:00Z", "cloudToDeviceMessageCount": 0, "authenticationType": "sas",
            "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null}, "modelId": "", "version": 1, "tags": {},
            "properties": {
                "desired": {"$metadata": {"$lastUpdated": when, "$lastUpdatedVersion": 1}, "$version": 1},
                "reported": {"$metadata": {"$lastUpdated": when}, "$version": 1},
            },
            "capabilities": {"iotEdge": false},
        })
    );
}

#[tokio::test]
async fn patches_merge_and_replacements_do_not() {
    let server = with_device().await;
    let patch =
        json!({"tags": {"site": {"building": 4, "floor": 2}}, "properties": {"desired": {"rate": 10, "old": 1}}});
    let first = server.hub("PATCH", "/twins/d", &patch.to_string()).await.expect(200).json();
    assert_eq!(first["tags"], patch["tags"]);
    assert_eq!((&first["version"], &first["properties"]["desired"]["$version"]), (&json!(2), &json!(2)));
    assert_eq!(first["properties"]["desired"]["$metadata"]["rate"]["$lastUpdatedVersion"], 2);

    server.advance_ms(1000);
    // As a client sends back what it was shown: metadata and reported properties are not its to write.
    let mut echoed = first.clone();
    echoed["properties"]["desired"]["old"] = Value::Null;
    echoed["properties"]["reported"]["x"] = json!(1);
    echoed["tags"] = json!({"site": {"floor": 3}});
    let second = server.hub("PATCH", "/twins/d", &echoed.to_string()).await.expect(200).json();
    assert_eq!(second["tags"], json!({"site": {"building": 4, "floor": 3}}));
    assert_eq!(second["properties"]["desired"]["old"], Value::Null);
    assert_eq!(second["properties"]["reported"]["x"], Value::Null);
    assert_eq!(second["properties"]["desired"]["$version"], 3);

    let replaced = server.hub("PUT", "/twins/d", &json!({"tags": {"only": true}}).to_string()).await.expect(200).json();
    assert_eq!(replaced["tags"], json!({"only": true}));
    assert_eq!(replaced["properties"]["desired"]["rate"], Value::Null);
    assert_eq!(replaced["properties"]["desired"]["$version"], 4);
    assert_eq!(server.hub("GET", "/twins/d", "").await.json(), replaced);
    let nothing = server.hub("PATCH", "/twins/d", "{}").await.expect(200).json();
    assert_eq!(nothing["tags"], json!({"only": true}));
}

/// Each condition on each verb, for a resource that is there and one that is not.
#[tokio::test]
async fn the_matrix_of_conditions() {
    let server = with_device().await;
    let keys = |n: u8| json!({"symmetricKey": {"primaryKey": base64(&key(n)), "secondaryKey": base64(&key(n))}});
    let module = |n: u8| json!({"deviceId": "d", "moduleId": "m", "authentication": keys(n)}).to_string();
    server.hub("PUT", "/devices/d/modules/m", &module(60)).await.expect(200);
    for (path, body) in [
        ("/devices/d", "{\"deviceId\":\"d\"}".to_owned()),
        ("/devices/d/modules/m", module(60)),
        ("/twins/d", "{}".to_owned()),
        ("/twins/d/modules/m", "{}".to_owned()),
    ] {
        let is_twin = path.starts_with("/twins");
        let etag = || async {
            let shown = server.hub("GET", path, "").await.expect(200);
            assert_eq!(
                shown.header("etag").unwrap().trim_matches('"'),
                shown.json()["etag"].as_str().unwrap(),
                "{path}"
            );
            shown.json()["etag"].as_str().unwrap().to_owned()
        };
        let methods: &[&str] = if is_twin { &["PATCH", "PUT"] } else { &["PUT"] };
        for method in methods {
            server.hub(method, path, &body).await.expect(if is_twin { 200 } else { 409 });
            for wildcard in ["*", "\"*\""] {
                server.hub_if(method, path, wildcard, &body).await.expect(200);
            }
            for spelling in ["{}", "\"{}\"", "W/\"{}\""] {
                let current = etag().await;
                server.hub_if(method, path, &spelling.replace("{}", &current), &body).await.expect(200);
                let stale = server.hub_if(method, path, &format!("\"{current}\""), &body).await.expect(412);
                assert_eq!(stale.header("iothub-errorcode"), Some("PreconditionFailed"), "{method} {path}");
            }
        }
    }
    // What is not there.
    for (method, path, body, plain, conditional, exact) in [
        ("PUT", "/devices/x", "{\"deviceId\":\"x\"}", 200, 404, 412),
        ("DELETE", "/devices/x", "", 404, 404, 412),
        ("PUT", "/devices/d/modules/x", "{\"deviceId\":\"d\",\"moduleId\":\"x\"}", 200, 404, 412),
        ("DELETE", "/devices/d/modules/x", "", 404, 404, 412),
        ("PATCH", "/twins/x", "{}", 404, 404, 404),
        ("PUT", "/twins/d/modules/x", "{}", 404, 404, 404),
    ] {
        server.hub_if(method, path, "\"*\"", body).await.expect(conditional);
        server.hub_if(method, path, "\"stale\"", body).await.expect(exact);
        if plain != 200 {
            server.hub(method, path, body).await.expect(plain);
        }
    }
    for (path, conditions) in [("/devices/d/modules/m", ["\"stale\"", "*"]), ("/devices/d", ["\"stale\"", "\"*\""])] {
        server.hub_if("DELETE", path, conditions[0], "").await.expect(412);
        server.hub_if("DELETE", path, conditions[1], "").await.expect(204);
        server.hub("DELETE", path, "").await.expect(404);
    }
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_and_named() {
    let server = with_device().await;
    let huge = "x".repeat(4000);
    for (body, status, hint) in [
        (json!({"tags": {"$a": 1}}), 400, "tags.$a"),
        (json!({"properties": {"desired": {"a b": 1}}}), 400, "properties.desired.a b"),
        (json!({"tags": [1]}), 400, "not an object"),
        (json!({"tags": {"a": huge, "b": huge, "c": huge}}), 413, "the tags"),
        (json!([1]), 400, "not a JSON object"),
    ] {
        let refused = server.hub("PATCH", "/twins/d", &body.to_string()).await.expect(status);
        assert!(refused.json()["Message"].as_str().unwrap().contains(hint), "{:?}", refused.body);
    }
    assert_eq!(server.hub("GET", "/twins/d", "").await.json()["version"], 1, "nothing was written");
}

#[tokio::test]
async fn modules_have_keys_of_their_own_and_go_with_their_device() {
    let server = with_device().await;
    let created = server
        .hub("PUT", "/devices/d/modules/m", &json!({"deviceId": "d", "moduleId": "m", "managedBy": "me"}).to_string())
        .await
        .expect(200)
        .json();
    let etag = created["etag"].clone();
    assert_eq!(
        created,
        json!({
            "moduleId": "m", "managedBy": "me", "deviceId": "d", "generationId": created["generationId"], "etag": etag,
            "connectionState": "Disconnected", "connectionStateUpdatedTime": "0001-01-01T00:00:00",
            "lastActivityTime": "0001-01-01T00:00:00", "cloudToDeviceMessageCount": 0, "authentication": created["authentication"],
        })
    );
    assert_eq!(created["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap().len(), 88);
    assert_eq!(server.hub("GET", "/devices/d/modules", "").await.expect(200).json(), json!([created]));
    server.hub("GET", "/devices/e/modules", "").await.expect(404);
    let missing = server.hub("GET", "/devices/d/modules/n", "").await.expect(404);
    assert_eq!(missing.header("iothub-errorcode"), Some("ModuleNotFound"));
    let other = server.hub("PUT", "/devices/d/modules/m", "{\"moduleId\":\"n\"}").await.expect(400);
    assert!(other.json()["Message"].as_str().unwrap().contains("moduleId"));
    let taken = json!({"deviceId": "e", "authentication": created["authentication"]});
    server.hub("PUT", "/devices/e", &taken.to_string()).await.expect(409);

    let handle = Arc::new(Handle(Mutex::default()));
    let client = ClientIdentity {
        hub: "alpha".parse().unwrap(),
        device_id: "d".parse().unwrap(),
        module_id: Some("m".parse().unwrap()),
    };
    server.sessions.insert(&client, SessionEpoch { boot: 1, counter: 1 }, handle.clone());
    server.hub_if("PUT", "/devices/d/modules/m", "*", &created.to_string()).await.expect(200);
    assert_eq!(handle.0.lock().len(), 0);
    let twin = server.hub("PATCH", "/twins/d/modules/m", "{\"tags\":{\"a\":1}}").await.expect(200).json();
    assert_eq!(
        (&twin["moduleId"], &twin["connectionState"], &twin["tags"]["a"]),
        (&json!("m"), &json!("Connected"), &json!(1))
    );
    server.hub("DELETE", "/devices/d", "").await.expect(204);
    assert_eq!(handle.0.lock().len(), 1);
    server.hub("GET", "/twins/d/modules/m", "").await.expect(404);
    server.hub("PUT", "/devices/e", &taken.to_string()).await.expect(200);
}

#[tokio::test]
async fn fifty_modules_and_no_more() {
    let server = with_device().await;
    for n in 0..50 {
        server.hub("PUT", &format!("/devices/d/modules/m{n}"), "{}").await.expect(200);
    }
    let refused = server.hub("PUT", "/devices/d/modules/more", "{}").await.expect(413);
    assert_eq!(refused.header("iothub-errorcode"), Some("TooManyModulesOnDevice"));
    assert_eq!(server.hub("GET", "/devices/d/modules", "").await.json().as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn an_enrollments_initial_twin_is_its_devices_first() {
    let server = Server::new();
    let device_key = key(70);
    let mut body: Value = serde_json::from_str(&enrollment("registrationId", "dev", &device_key)).unwrap();
    body["initialTwin"] = json!({"tags": {"$a": 1}});
    let refused = server.dps("PUT", "/enrollments/dev", &body.to_string()).await.expect(400);
    assert!(refused.json()["message"].as_str().unwrap().contains("initialTwin.tags.$a"), "{:?}", refused.body);
    body["initialTwin"] = json!({"tags": {"line": 4}, "properties": {"desired": {"rate": 10}}});
    let stored = server.dps("PUT", "/enrollments/dev", &body.to_string()).await.expect(200).json();
    assert_eq!(stored["initialTwin"], body["initialTwin"]);
    let path = "/0ne00c0ffee/registrations/dev/register";
    let token = device_token("dev", &device_key);
    server.device("PUT", path, Some(&token), "{\"registrationId\":\"dev\"}").await.expect(200);
    let twin = server.hub("GET", "/twins/dev", "").await.expect(200).json();
    assert_eq!((&twin["tags"], &twin["properties"]["desired"]["rate"]), (&json!({"line": 4}), &json!(10)));
}
