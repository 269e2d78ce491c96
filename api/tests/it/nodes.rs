//! A node that serves a hub for the provisioning service of another one.

use serde_json::{Value, json};

use crate::server::{Reply, Server, body_of, device_token, key, request_with};

/// Holds all rights of a hub, and is not its owner.
const ASSIGNER: &str = "but-EnrollmentRead";

async fn assign(server: &Server, method: &str, path: &str, if_match: Option<&str>, body: &str) -> Reply {
    let mut request = request_with(method, path, "hub", 1, false);
    if let Some(etag) = if_match {
        request = request.header("If-Match", etag);
    }
    server.send(request.body(body_of(body)).unwrap()).await
}

#[tokio::test]
async fn devices_are_the_assigners_alone() {
    let server = Server::assigned_by(ASSIGNER);
    let device = json!({"deviceId": "d", "status": "disabled"}).to_string();
    let bulk = json!([{"id": "d", "importMode": "create"}]).to_string();
    for (method, path, body) in [
        ("PUT", "/devices/d", device.as_str()),
        ("DELETE", "/devices/d", ""),
        ("POST", "/devices", &bulk),
        ("PUT", "/unicity/twins/d", "{}"),
    ] {
        let refused = server.hub(method, path, body).await.expect(403);
        let text = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(text.contains(ASSIGNER) && text.contains("iothubowner") && text.contains("assigned_by"), "{text}");
    }
    let made = assign(&server, "PUT", "/devices/d", None, &device).await.expect(200);
    assign(&server, "PUT", "/devices/d", None, &device).await.expect(409);
    let etag = made.header("etag").unwrap().to_owned();
    let enabled = json!({"deviceId": "d", "status": "enabled"}).to_string();
    assign(&server, "PUT", "/devices/d", Some(&etag), &enabled).await.expect(200);
    assign(&server, "PUT", "/devices/d", Some(&etag), &enabled).await.expect(412);

    // Back ends read and write as ever, but for the identities.
    assert_eq!(server.hub("GET", "/devices/d", "").await.expect(200).json()["status"], "enabled");
    server.hub("PATCH", "/twins/d", &json!({"tags": {"a": 1}}).to_string()).await.expect(200);
    server.hub("PUT", "/devices/d/modules/m", &json!({"deviceId": "d", "moduleId": "m"}).to_string()).await.expect(200);
    assign(&server, "DELETE", "/devices/d", Some("*"), "").await.expect(204);
}

#[tokio::test]
async fn a_condition_on_absence_may_be_spelt_out() {
    let server = Server::new();
    let put = || request_with("PUT", "/devices/d", "hub", 1, false).header("If-None-Match", "*");
    let device = json!({"deviceId": "d"}).to_string();
    server.send(put().body(body_of(&device)).unwrap()).await.expect(200);
    server.send(put().body(body_of(&device)).unwrap()).await.expect(409);
    let etag = request_with("PUT", "/devices/e", "hub", 1, false).header("If-None-Match", "\"x\"");
    server.send(etag.body(body_of(&json!({"deviceId": "e"}).to_string())).unwrap()).await.expect(400);
}

#[tokio::test]
async fn a_twin_comes_from_another_hub_with_all_it_has() {
    let source = Server::new();
    source.hub("PUT", "/devices/d", "{\"deviceId\":\"d\"}").await.expect(200);
    source.hub("PATCH", "/twins/d", &json!({"tags": {"site": 1}}).to_string()).await.expect(200);
    let mut twin = source.hub("GET", "/twins/d", "").await.expect(200).json();
    twin["properties"]["reported"] = json!({"led": {"on": true}, "$version": 5, "$metadata": {
        "$lastUpdated": "2026-01-01T00:00:00.000Z", "led": {"$lastUpdated": "2026-01-01T00:00:00.000Z", "on": {"$lastUpdated": "2026-01-01T00:00:00.000Z"}}}});
    twin["version"] = json!(7);

    let target = Server::assigned_by(ASSIGNER);
    assign(&target, "PUT", "/unicity/twins/d", None, &twin.to_string()).await.expect(404);
    assign(&target, "PUT", "/devices/d", None, "{\"deviceId\":\"d\",\"status\":\"disabled\"}").await.expect(200);
    let first = assign(&target, "PUT", "/unicity/twins/d", None, &twin.to_string()).await.expect(200).json();
    for part in ["tags", "properties", "version"] {
        assert_eq!(first[part], twin[part], "{part}");
    }
    let again = assign(&target, "PUT", "/unicity/twins/d", None, &twin.to_string()).await.expect(200).json();
    assert_eq!(again["properties"], twin["properties"]);
    // The device goes on from the version that it knows.
    assert_eq!(target.hub("GET", "/twins/d", "").await.json()["properties"]["reported"]["$version"], 5);
    let stale = first["etag"].as_str().unwrap();
    assign(&target, "PUT", "/unicity/twins/d", Some(stale), &twin.to_string()).await.expect(412);
}

#[tokio::test]
async fn no_device_registers_where_only_a_hub_is() {
    let server = Server::assigned_by(ASSIGNER);
    let refused = server.dps("GET", "/enrollments/e", "").await.expect(503);
    assert_eq!(refused.json()["errorCode"], 503_002);
    assert!(refused.json()["message"].as_str().unwrap().contains("provisioning = false"), "{:?}", refused.json());
    server.dps("POST", "/enrollmentGroups/query", "{}").await.expect(503);
    server.dps("GET", "/unicity/enrollments", "").await.expect(503);

    // A status that devices come back after, since who is sent here by mistake may be sent elsewhere (design rule 25).
    let token = device_token("r", &key(3));
    let path = format!("/{}/registrations/r/register", crate::server::SCOPE);
    let refused = server.device("PUT", &path, Some(&token), "{\"registrationId\":\"r\"}").await.expect(503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.json()["errorCode"], 503_002);

    let info = server.dps("GET", "/unicity/info", "").await.expect(200).json();
    assert_eq!((&info["provisioning"], &info["hubs"][0]["assignedBy"]), (&json!(false), &json!(ASSIGNER)));
    let info = Server::new().dps("GET", "/unicity/info", "").await.expect(200).json();
    assert_eq!((&info["provisioning"], &info["hubs"][0]["assignedBy"]), (&json!(true), &Value::Null));
}
