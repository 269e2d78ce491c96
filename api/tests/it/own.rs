//! The calls under `/unicity/` but telemetry.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use unicity_listener::Refused;

use crate::server::{SCOPE, Server, body_of, enrollment, hub_request, key, member_token};

#[tokio::test]
async fn listings_come_in_pages_and_show_no_keys() {
    let server = Server::new();
    server.dps("PUT", "/enrollmentGroups/g", &enrollment("enrollmentGroupId", "g", &key(60))).await.expect(200);
    for id in ["m1", "m2", "m3"] {
        let path = format!("/{SCOPE}/registrations/{id}/register");
        server.device("PUT", &path, Some(&member_token(id, &key(60))), "").await.expect(200);
    }
    let first = server.dps("GET", "/unicity/registrations?limit=2", "").await.expect(200).json();
    assert_eq!((first["items"].as_array().unwrap().len(), &first["next"]), (2, &json!("m2")));
    let last = server.dps("GET", "/unicity/registrations?limit=2&after=m2", "").await.expect(200).json();
    assert_eq!(last["items"][0]["registrationId"], "m3");
    assert_eq!(last["next"], Value::Null);

    let devices = server.hub("GET", "/unicity/devices?limit=1&after=m1", "").await.expect(200).json();
    let device = &devices["items"][0];
    assert_eq!(
        (&device["deviceId"], &device["registrationId"], &device["hub"]),
        (&json!("m2"), &json!("m2"), &json!("alpha"))
    );
    assert_eq!(device["authentication"]["symmetricKey"]["primaryKey"], Value::Null);
    assert_eq!(device["keyFingerprints"][0].as_str().unwrap().len(), 64);
    assert_eq!(devices["next"], "m2");
    server.dps("GET", "/unicity/registrations?limit=x", "").await.expect(400);
}

#[tokio::test]
async fn refusals_are_told_with_cause_and_remedy() {
    let server = Server::new();
    let path = format!("/{SCOPE}/registrations/nobody/register");
    let refused = server.device("PUT", &path, Some(&member_token("nobody", &key(60))), "").await.expect(401).json();
    assert!(!refused["message"].as_str().unwrap().contains("enrol"), "{refused}");
    let latest = server.dps("GET", "/unicity/refusals?limit=1", "").await.expect(200).json();
    assert_eq!(latest["items"][0]["trackingId"], refused["trackingId"]);
    let id = refused["trackingId"].as_str().unwrap();
    let story = server.dps("GET", &format!("/unicity/refusals/{id}"), "").await.expect(200).json();
    assert_eq!(story["subject"], "nobody");
    assert!(story["remedy"].as_str().unwrap().contains("unicity enroll add"));
    server.dps("GET", "/unicity/refusals/00000000", "").await.expect(404);
}

#[tokio::test]
async fn failed_handshakes_and_refusals_are_listed_together_by_peer() {
    let server = Server::new();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    // Before and after the refusal, which happens at the clock of the fake.
    server.failures.record("198.51.100.9:1".parse().unwrap(), Refused::NotTls, "InvalidContentType", at(1_000));
    let path = format!("/{SCOPE}/registrations/nobody/register");
    server.device("PUT", &path, Some(&member_token("nobody", &key(60))), "").await.expect(401);
    server.failures.record("[2001:db8::1]:7".parse().unwrap(), Refused::Alert, "UnknownCA", at(4_000_000_000));

    let all = server.dps("GET", "/unicity/failures", "").await.expect(200).json();
    let items = all["items"].as_array().unwrap();
    let stages: Vec<_> = items.iter().map(|item| item["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["handshake", "identity", "handshake"], "newest first: {all}");
    let handshake = &items[0];
    assert_eq!((&handshake["code"], &handshake["listener"]), (&json!("alert"), &json!("mqtt")));
    assert_eq!((&handshake["detail"], &handshake["count"]), (&json!("UnknownCA"), &json!(1)));
    assert_eq!((&handshake["peer"], &handshake["peerNetwork"]), (&json!("[2001:db8::1]:7"), &json!("2001:db8::/64")));
    assert!(handshake["remedy"].as_str().unwrap().contains("pki/ca.pem"), "{handshake}");
    assert_eq!((&items[1]["peer"], &items[1]["peerNetworkFailures"]), (&json!("192.0.2.7:4711"), &json!(1)));
    assert!(items[1]["trackingId"].is_string());

    let one = server.dps("GET", "/unicity/failures?peer=198.51.100.0/24", "").await.expect(200).json();
    assert_eq!((one["items"].as_array().unwrap().len(), &one["items"][0]["code"]), (1, &json!("not_tls")));
    let newest = server.dps("GET", "/unicity/failures?limit=1", "").await.expect(200).json();
    assert_eq!(newest["items"].as_array().unwrap().len(), 1);
    server.dps("GET", "/unicity/failures?peer=here", "").await.expect(400);
    server.hub("GET", "/unicity/failures", "").await.expect(401);
}

#[tokio::test]
async fn any_policy_may_ask_what_the_server_is() {
    let server = Server::new();
    let info = server.dps("GET", "/unicity/info", "").await.expect(200).json();
    assert_eq!(info["version"], "0.0.0-test");
    assert_eq!(info["idScope"], SCOPE);
    assert_eq!(info["hubs"][0]["name"], "alpha");
    assert_eq!(info["hubs"][0]["partitions"], 4);
    assert_eq!(info["hubs"][0]["partitionEnds"].as_array().map(Vec::len), Some(4));
    let as_hub = server.send(hub_request("GET", "/unicity/info").body(body_of("")).unwrap()).await.expect(200);
    assert_eq!(as_hub.json(), info);
}

#[tokio::test]
async fn a_backup_goes_to_an_absolute_path() {
    let server = Server::new();
    let done = server.dps("POST", "/unicity/backup", "{\"directory\":\"/backups/monday\"}").await.expect(200).json();
    assert_eq!(done, json!({"directory": "/backups/monday"}));
    for body in ["", "{}", "{\"directory\":\"monday\"}", "{\"directory\":\"/backups/full\"}"] {
        server.dps("POST", "/unicity/backup", body).await.expect(400);
    }
}

#[tokio::test]
async fn answers_are_counted_by_plane() {
    let server = Server::new();
    server.dps("GET", "/enrollments/x", "").await.expect(404);
    server.dps("GET", "/unicity/info", "").await.expect(200);
    let path = format!("/{SCOPE}/registrations/nobody/register");
    server.device("PUT", &path, None, "").await.expect(401);
    let page = unicity_api::exposition(&server.api.metrics());
    assert!(page.contains("unicity_http_answers_total{plane=\"dps\",status=\"4xx\"} 1\n"), "{page}");
    assert!(page.contains("unicity_http_registrations_total{outcome=\"refused\"} 1\n"), "{page}");
    assert!(page.contains("unicity_http_answers_total{plane=\"own\",status=\"2xx\"} 1\n"), "{page}");
}
