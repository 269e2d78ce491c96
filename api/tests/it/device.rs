//! A device registers over HTTPS (`device-mqtt.md` 3).

use crate::server::{SCOPE, Server, device_token, enrollment, key, member_token};

#[tokio::test]
async fn register_poll_and_look_up() {
    let server = Server::new();
    server.dps("PUT", "/enrollmentGroups/g", &enrollment("enrollmentGroupId", "g", &key(60))).await.expect(200);
    let token = member_token("dev-1", &key(60));
    let path = format!("/{SCOPE}/registrations/dev-1");
    server.device("POST", &path, Some(&token), "{}").await.expect(404);
    let body = "{\"registrationId\":\"dev-1\",\"payload\":{\"model\":\"x\"}}";
    let answer = server.device("PUT", &format!("{path}/register"), Some(&token), body).await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let answer = answer.json();
    assert_eq!(answer["status"], "assigned");
    assert_eq!(answer["registrationState"]["symmetricKey"]["enrollmentGroupId"], "g");
    let operation = answer["operationId"].as_str().unwrap();
    // Node's GET has a body.
    let polled = server.device("GET", &format!("{path}/operations/{operation}"), Some(&token), "{}").await.expect(200);
    assert_eq!(polled.json(), answer);
    let state = server.device("POST", &path, Some(&token), "{}").await.expect(200).json();
    assert_eq!(state, answer["registrationState"]);
    server.device("GET", &format!("{path}/operations/5.0"), Some(&token), "").await.expect(404);
}

#[tokio::test]
async fn a_refused_device_learns_little() {
    let server = Server::new();
    server.dps("PUT", "/enrollments/dev-1", &enrollment("registrationId", "dev-1", &key(50))).await.expect(200);
    let path = format!("/{SCOPE}/registrations/dev-1/register");
    let good = device_token("dev-1", &key(50));
    for (token, path) in [
        (None, path.as_str()),
        (Some(device_token("dev-1", &key(51))), &path),
        (Some(device_token("dev-2", &key(50))), &path),
        (Some(good.clone()), "/0neother/registrations/dev-1/register"),
    ] {
        let reply = server.device("PUT", path, token.as_deref(), "{}").await.expect(401);
        assert_eq!(reply.json()["errorCode"], 401_002);
        assert_eq!(reply.json()["trackingId"].as_str(), reply.header("x-ms-request-id"));
        assert_eq!(reply.header("x-ms-error-code"), Some("401002"));
        assert!(reply.header("www-authenticate").is_some());
    }
    server.device("PUT", &path, Some(&good), "{").await.expect(400);
    server.device("PUT", &path, Some(&good), &format!("{{\"payload\":\"{}\"}}", "x".repeat(5000))).await.expect(413);
    server.device("PUT", &path, Some(&good), &"x".repeat(20_000)).await.expect(413);
    server.device("PUT", &path, Some(&good), "").await.expect(200);
    server.dps_if("PUT", "/enrollments/dev-1", "*", "{\"provisioningStatus\":\"disabled\"}").await.expect(200);
    let disabled = server.device("PUT", &path, Some(&good), "").await.expect(200).json();
    assert_eq!(disabled["status"], "disabled");
    *server.registry.poisoned.lock() = true;
    server.dps("GET", "/enrollments/dev-1", "").await.expect(200);
}

#[tokio::test]
async fn what_may_heal_has_a_time_to_come_back() {
    let server = Server::new();
    server.dps("PUT", "/enrollments/dev-1", &enrollment("registrationId", "dev-1", &key(50))).await.expect(200);
    *server.registry.poisoned.lock() = true;
    let path = format!("/{SCOPE}/registrations/dev-1/register");
    let reply = server.device("PUT", &path, Some(&device_token("dev-1", &key(50))), "").await.expect(503);
    assert_eq!(reply.header("retry-after"), Some("5"));
    assert!(reply.body.is_ascii());
}

#[tokio::test]
async fn a_peer_that_fails_too_often_is_put_off_without_a_look_at_its_key() {
    let server = Server::with_failures_max(2);
    server.dps("PUT", "/enrollments/dev-1", &enrollment("registrationId", "dev-1", &key(50))).await.expect(200);
    let path = format!("/{SCOPE}/registrations/dev-1");
    let register = format!("{path}/register");
    let (good, wrong) = (device_token("dev-1", &key(50)), device_token("dev-1", &key(51)));
    // A good key costs nothing, nor does a question without one, nor a mistake that is not about keys.
    for _ in 0..3 {
        server.device("PUT", &register, Some(&good), "{}").await.expect(200);
        server.device("PUT", &register, None, "{}").await.expect(401);
        server.device("PUT", &register, Some(&good), "{").await.expect(400);
    }
    server.device("PUT", &register, Some(&wrong), "{}").await.expect(401);
    server.device("POST", &path, Some(&wrong), "{}").await.expect(401);
    let operation = format!("{path}/operations/5.0");
    for (method, path) in [("PUT", &register), ("POST", &path), ("GET", &operation)] {
        let reply = server.device(method, path, Some(&good), "{}").await.expect(429);
        assert_eq!(reply.header("retry-after"), Some("59"), "{path}");
        assert_eq!(reply.header("x-ms-error-code"), Some("429001"), "{path}");
        let body = reply.json();
        assert_eq!(body["errorCode"], 429_001, "{path}");
        assert!(body["trackingId"].is_string() && body["timestampUtc"].is_string(), "{body}");
    }
    // The service's own callers come through another door.
    server.dps("GET", "/enrollments/dev-1", "").await.expect(200);
}
