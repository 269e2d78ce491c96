//! Devices register by certificate, without a token (`device-mqtt.md` 3).

use serde_json::{Value, json};

use crate::pki::{Ca, key_fingerprint, pem, self_signed, sha256_thumbprint};
use crate::server::{SCOPE, Server};

fn path(id: &str) -> String {
    format!("/{SCOPE}/registrations/{id}")
}

async fn enrol(server: &Server, id: &str, der: &[u8]) {
    let x509 = json!({"clientCertificates": {"primary": {"certificate": pem(der)}}});
    let body = json!({"registrationId": id, "attestation": {"type": "x509", "x509": x509}}).to_string();
    server.dps("PUT", &format!("/enrollments/{id}"), &body).await.expect(200);
}

async fn group(server: &Server, id: &str, ca: &Ca) {
    let x509 = json!({"signingCertificates": {"primary": {"certificate": ca.pem()}}});
    let body = json!({"enrollmentGroupId": id, "attestation": {"type": "x509", "x509": x509}}).to_string();
    server.dps("PUT", &format!("/enrollmentGroups/{id}"), &body).await.expect(200);
}

#[tokio::test]
async fn an_enrolled_certificate_registers_polls_and_looks_up() {
    let server = Server::new();
    let der = self_signed("dev-1");
    enrol(&server, "dev-1", &der).await;
    let (chain, path) = ([der.clone()], path("dev-1"));
    server.device_with(&chain, "POST", &path, "{}").await.expect(404);
    let answer = server.device_with(&chain, "PUT", &format!("{path}/register"), "").await.expect(200).json();
    assert_eq!(answer["status"], "assigned");
    assert_eq!(answer["registrationState"]["x509"], json!({}));
    let operation = answer["operationId"].as_str().unwrap();
    let poll = format!("{path}/operations/{operation}");
    assert_eq!(server.device_with(&chain, "GET", &poll, "{}").await.expect(200).json(), answer);
    let state = server.device_with(&chain, "POST", &path, "{}").await.expect(200).json();
    assert_eq!(state, answer["registrationState"]);
    server.device("GET", &poll, None, "").await.expect(401);

    let enrollment = server.dps("GET", "/enrollments/dev-1", "").await.expect(200).json();
    assert_eq!(enrollment["registrationState"]["keyFingerprint"], key_fingerprint(&der));
    let device = server.hub("GET", "/devices/dev-1", "").await.expect(200).json();
    assert_eq!(device["authentication"]["type"], "selfSigned");
    let primary = &device["authentication"]["x509Thumbprint"]["primaryThumbprint"];
    assert_eq!(*primary, sha256_thumbprint(&der));
    let listed = server.hub("GET", "/unicity/devices", "").await.expect(200).json();
    assert_eq!(listed["items"][0]["keyFingerprints"], json!([key_fingerprint(&der)]));

    // What a back end puts back as it got it is the same identity, its key included.
    server.hub_if("PUT", "/devices/dev-1", "*", &device.to_string()).await.expect(200);
    let listed = server.hub("GET", "/unicity/devices", "").await.expect(200).json();
    assert_eq!(listed["items"][0]["keyFingerprints"], json!([key_fingerprint(&der)]));
}

#[tokio::test]
async fn a_member_of_a_group_shows_its_chain() {
    let server = Server::new();
    let root = Ca::root("root");
    let mid = root.sub("mid");
    group(&server, "g", &root).await;
    let leaf = mid.issue("m1");
    let register = format!("{}/register", path("m1"));
    let answer = server.device_with(&[leaf, mid.der.clone()], "PUT", &register, "{}").await.expect(200).json();
    assert_eq!(answer["registrationState"]["x509"], json!({"enrollmentGroupId": "g"}));
    let states = server.dps("POST", "/registrations/g/query", "").await.expect(200).json();
    assert_eq!(states[0]["registrationId"], "m1");
}

#[tokio::test]
async fn an_uploaded_authority_counts_once_it_is_verified() {
    let server = Server::new();
    let root = Ca::root("root");
    let upload =
        |verified: bool| json!({"properties": {"certificate": root.pem(), "isVerified": verified}}).to_string();
    server.dps("PUT", "/unicity/certificates/root", &upload(false)).await.expect(200);
    let x509 = json!({"caReferences": {"primary": "root"}});
    let body = json!({"enrollmentGroupId": "g", "attestation": {"type": "x509", "x509": x509}}).to_string();
    server.dps("PUT", "/enrollmentGroups/g", &body).await.expect(200);
    let (chain, register) = ([root.issue("m1")], format!("{}/register", path("m1")));
    server.device_with(&chain, "PUT", &register, "").await.expect(401);
    server.dps_if("PUT", "/unicity/certificates/root", "*", &upload(true)).await.expect(200);
    server.device_with(&chain, "PUT", &register, "").await.expect(200);
}

#[tokio::test]
async fn a_refused_certificate_is_told_little_and_explained_to_the_operator() {
    let server = Server::new();
    let root = Ca::root("root");
    group(&server, "g", &root).await;
    enrol(&server, "dev-1", &self_signed("dev-1")).await;
    for (id, chain) in [
        ("dev-1", self_signed("dev-1")),
        ("m1", Ca::root("root").issue("m1")),
        ("m1", root.issue("m2")),
        ("m1", vec![0x30, 0x03, 1, 2, 3]),
    ] {
        let register = format!("{}/register", path(id));
        let reply = server.device_with(&[chain], "PUT", &register, "").await.expect(401);
        assert_eq!(reply.json()["message"], "Invalid certificate");
        let tracking = reply.json()["trackingId"].as_str().unwrap().to_owned();
        let story = server.dps("GET", &format!("/unicity/refusals/{tracking}"), "").await.expect(200).json();
        assert!(story["evidence"].is_object(), "{story}");
        assert!(!story["remedy"].as_str().unwrap().is_empty());
    }
    let latest = server.dps("GET", "/unicity/refusals?limit=10", "").await.expect(200).json();
    let m2 = latest["items"].as_array().unwrap().iter().find(|it| it["evidence"].to_string().contains("CN=m2"));
    assert!(m2.is_some(), "{latest}");
    // A refusal without more to tell has none.
    server.device("PUT", &format!("{}/register", path("dev-1")), None, "").await.expect(401);
    let latest = server.dps("GET", "/unicity/refusals?limit=1", "").await.expect(200).json();
    assert_eq!(latest["items"][0]["evidence"], Value::Null);
}
