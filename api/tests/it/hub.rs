//! Device identities of a hub (`service-rest.md` 12.1, 12.2, 13, 19).

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use unicity_hub::{CloseReason, SessionControl, SessionEpoch};
use unicity_identity::ClientIdentity;

use crate::server::{Server, base64, key};

fn device(id: &str, byte: u8) -> Value {
    let key = base64(&key(byte));
    json!({"deviceId": id, "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}})
}

#[tokio::test]
async fn a_device_that_never_connected_has_times_that_never_were() {
    let server = Server::new();
    let created = server.hub("PUT", "/devices/Dev%231", &device("Dev#1", 50).to_string()).await.expect(200);
    let got = server.hub("GET", "/devices/Dev%231", "").await.expect(200);
    let shown = got.json();
    assert_eq!(created.json(), shown);
    assert_eq!(got.header("etag").unwrap(), format!("\"{}\"", shown["etag"].as_str().unwrap()));
    let etag = shown["etag"].clone();
    let generation = shown["generationId"].clone();
    assert_eq!(generation.as_str().unwrap().len(), 18);
    assert_eq!(
        shown,
        json!({
            "deviceId": "Dev#1", "generationId": generation, "etag": etag, "connectionState": "Disconnected",
            "status": "enabled", "statusReason": null, "connectionStateUpdatedTime": "0001-01-01T00:00:00",
            "statusUpdatedTime": "0001-01-01T00:00:00", "lastActivityTime": "0001-01-01T00:00:00",
            "cloudToDeviceMessageCount": 0,
            "authentication": {
                "symmetricKey": {"primaryKey": base64(&key(50)), "secondaryKey": base64(&key(50))},
                "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
                "type": "sas",
            },
            "capabilities": {"iotEdge": false}, "parentScopes": [],
        })
    );
    server.hub("GET", "/devices/dev%231", "").await.expect(404);
    server.hub("GET", "/devices/Dev%25231", "").await.expect(404);
}

#[tokio::test]
async fn conditions_in_every_spelling() {
    let server = Server::new();
    let body = device("a+b%c", 50).to_string();
    let path = "/devices/a+b%25c";
    let missing = server.hub_if("PUT", path, "\"*\"", &body).await.expect(404);
    assert_eq!(missing.header("iothub-errorcode"), Some("DeviceNotFound"));
    let message = missing.json()["Message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("ErrorCode:DeviceNotFound;"), "{message}");
    assert_eq!(message.matches(';').count(), 1, "Node takes what stands between the first two semicolons: {message}");
    assert!(missing.json()["ExceptionMessage"].as_str().unwrap().starts_with("Tracking ID:"));

    let first = server.hub("PUT", path, &body).await.expect(200).json();
    let conflict = server.hub("PUT", path, &body).await.expect(409);
    assert_eq!(conflict.header("iothub-errorcode"), Some("DeviceAlreadyExists"));
    let etag = first["etag"].as_str().unwrap();
    let second = server.hub_if("PUT", path, &format!("\"{etag}\""), &body).await.expect(200).json();
    assert_eq!(second["generationId"], first["generationId"]);
    assert_ne!(second["etag"], first["etag"]);
    server.hub_if("PUT", path, &format!("\"{etag}\""), &body).await.expect(412);
    server.hub_if("PUT", path, "*", &body).await.expect(200);
    server.hub_if("DELETE", path, &format!("\"{etag}\""), "").await.expect(412);
    server.hub_if("DELETE", path, "\"*\"", "").await.expect(204);
    server.hub_if("DELETE", path, "\"*\"", "").await.expect(404);
    let again = server.hub("PUT", path, &body).await.expect(200).json();
    assert_ne!(again["generationId"], first["generationId"], "a device made anew is in a new life");
}

#[tokio::test]
async fn keys_are_generated_and_kept() {
    let server = Server::new();
    let empty = json!({"deviceId": "d", "authentication": {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}}});
    let keys = |value: &Value| value["authentication"]["symmetricKey"].clone();
    let created = server.hub("PUT", "/devices/d", &empty.to_string()).await.expect(200).json();
    assert_eq!(keys(&created)["primaryKey"].as_str().unwrap().len(), 88, "64 bytes");
    let kept = server.hub_if("PUT", "/devices/d", "*", "{\"deviceId\":\"d\"}").await.expect(200).json();
    assert_eq!(keys(&kept), keys(&created));
    let anew = server.hub_if("PUT", "/devices/d", "*", &empty.to_string()).await.expect(200).json();
    assert_ne!(keys(&anew), keys(&created));
    server.hub("PUT", "/devices/e", "{\"deviceId\":\"e\"}").await.expect(200);
}

#[tokio::test]
async fn a_wrong_body_is_refused() {
    let server = Server::new();
    for (body, hint) in [
        (String::new(), "empty"),
        ("{".into(), "not JSON"),
        ("{}".into(), "deviceId"),
        (json!({"deviceId": "D"}).to_string(), "the path's is"),
        (json!({"deviceId": "d", "status": "off"}).to_string(), "enabled, disabled"),
        (json!({"deviceId": "d", "statusReason": "x".repeat(129)}).to_string(), "128"),
        (json!({"deviceId": "d", "authentication": {"type": "selfSigned"}}).to_string(), "primaryThumbprint"),
        (json!({"deviceId": "d", "authentication": {"type": "none"}}).to_string(), "none is not supported"),
        (json!({"deviceId": "d", "authentication": {"type": "other"}}).to_string(), "certificateAuthority"),
        (
            json!({"deviceId": "d", "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "ab"}}})
                .to_string(),
            "it has 2 digits",
        ),
        (
            json!({"deviceId": "d", "authentication": {"type": "sas", "symmetricKey": {"primaryKey": "x"}}})
                .to_string(),
            "base64",
        ),
    ] {
        let reply = server.hub("PUT", "/devices/d", &body).await.expect(400);
        assert_eq!(reply.header("iothub-errorcode"), Some("ArgumentInvalid"));
        assert!(reply.json()["Message"].as_str().unwrap().contains(hint), "{body} {:?}", reply.body);
    }
    server.hub("PUT", "/devices/a%20b", "{}").await.expect(400);
    server.hub("POST", "/twins/d/methods", "{}").await.expect(501);
}

pub(crate) struct Handle(pub(crate) Mutex<Vec<CloseReason>>);
impl SessionControl for Handle {
    fn close(&self, reason: CloseReason) {
        self.0.lock().push(reason);
    }
}

#[tokio::test]
async fn a_device_that_may_no_longer_connect_is_cut_and_no_other() {
    let server = Server::new();
    let handle = Arc::new(Handle(Mutex::default()));
    let client = ClientIdentity { hub: "alpha".parse().unwrap(), device_id: "d".parse().unwrap(), module_id: None };
    server.hub("PUT", "/devices/d", &device("d", 50).to_string()).await.expect(200);
    server.sessions.insert(&client, SessionEpoch { boot: 1, counter: 1 }, handle.clone());
    let closed = || handle.0.lock().len();

    let shown = server.hub("GET", "/devices/d", "").await.json();
    assert_eq!(shown["connectionState"], "Connected");
    server.hub_if("PUT", "/devices/d", "*", &shown.to_string()).await.expect(200);
    server
        .hub_if("PUT", "/devices/d", "*", "{\"deviceId\":\"d\",\"capabilities\":{\"iotEdge\":true}}")
        .await
        .expect(200);
    server.hub_if("PUT", "/devices/d", "\"stale\"", &device("d", 51).to_string()).await.expect(412);
    assert_eq!(closed(), 0, "nothing that it proved itself by has changed");

    server.hub_if("PUT", "/devices/d", "*", &device("d", 51).to_string()).await.expect(200);
    assert_eq!(closed(), 1, "its key is gone");
    let off = json!({"deviceId": "d", "status": "disabled", "statusReason": "stolen"});
    let off = server.hub_if("PUT", "/devices/d", "*", &off.to_string()).await.expect(200).json();
    assert_eq!(closed(), 2);
    assert_eq!(off["statusReason"], "stolen");
    assert_ne!(off["statusUpdatedTime"], "0001-01-01T00:00:00");
    server.hub("DELETE", "/devices/d", "").await.expect(204);
    assert_eq!(closed(), 3);
}

#[tokio::test]
async fn lists_and_statistics() {
    let server = Server::new();
    for (byte, id) in [(50, "a"), (51, "b"), (52, "c")] {
        server.hub("PUT", &format!("/devices/{id}"), &device(id, byte).to_string()).await.expect(200);
    }
    server.hub_if("PUT", "/devices/c", "*", "{\"deviceId\":\"c\",\"status\":\"disabled\"}").await.expect(200);
    for (path, count) in [("/devices/", 3), ("/devices/?top=2", 2), ("/devices?top=0", 3), ("/devices?top=5000", 3)] {
        assert_eq!(server.hub("GET", path, "").await.expect(200).json().as_array().unwrap().len(), count, "{path}");
    }
    assert_eq!(
        server.hub("GET", "/statistics/devices", "").await.expect(200).json(),
        json!({"totalDeviceCount": 3, "enabledDeviceCount": 2, "disabledDeviceCount": 1})
    );
    assert_eq!(server.hub("GET", "/statistics/service", "").await.json(), json!({"connectedDeviceCount": 0}));
}
