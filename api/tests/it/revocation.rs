//! Revocation lists and deny rules, and that the device sees them at once.

use serde_json::{Value, json};
use unicity_api::CrlFileState;

use crate::pki::{Ca, base64, key_fingerprint, self_signed};
use crate::server::{NOW, SCOPE, Server};

async fn group(server: &Server, ca: &Ca) {
    let x509 = json!({"signingCertificates": {"primary": {"certificate": ca.pem()}}});
    let body = json!({"enrollmentGroupId": "g", "attestation": {"type": "x509", "x509": x509}}).to_string();
    server.dps("PUT", "/enrollmentGroups/g", &body).await.expect(200);
}

async fn register(server: &Server, id: &str, chain: &[Vec<u8>]) -> u16 {
    let path = format!("/{SCOPE}/registrations/{id}/register");
    server.device_with(chain, "PUT", &path, "").await.status.as_u16()
}

fn crl(text: &str) -> String {
    json!({"crl": text}).to_string()
}

#[tokio::test]
async fn a_list_takes_effect_and_an_older_one_does_not() {
    let server = Server::new();
    let root = Ca::root("root");
    group(&server, &root).await;
    let (good, bad) = (root.issue("good"), root.issue("bad"));
    assert_eq!(register(&server, "bad", std::slice::from_ref(&bad)).await, 200);

    let list = root.revoke(7, 2025, &[&bad]);
    let put = server.dps("PUT", "/unicity/crls", &crl(&list)).await.expect(200).json();
    let expected = json!({
        "issuer": "CN=root", "issuerKey": key_fingerprint(&root.der),
        "thisUpdate": "2025-01-01T00:00:00.000Z", "nextUpdate": "2030-01-01T00:00:00.000Z",
        "revoked": 1, "number": "07", "added": "2026-01-02T03:04:05.678Z",
    });
    assert_eq!(put, expected);
    assert_eq!(register(&server, "bad", std::slice::from_ref(&bad)).await, 401);
    assert_eq!(register(&server, "good", std::slice::from_ref(&good)).await, 200);

    // The same again changes nothing; an older one, and another of the same age, would.
    server.advance_ms(1000);
    assert_eq!(server.dps("PUT", "/unicity/crls", &crl(&list)).await.expect(200).json(), expected);
    for older in [root.revoke(6, 2024, &[]), root.revoke(8, 2024, &[]), root.revoke(7, 2025, &[])] {
        let reply = server.dps("PUT", "/unicity/crls", &crl(&older)).await.expect(409).json();
        assert_eq!(reply["errorCode"], 409_211);
        assert!(reply["message"].as_str().unwrap().contains("number 07 of 2025-01-01"), "{reply}");
    }
    assert_eq!(register(&server, "bad", std::slice::from_ref(&bad)).await, 401);
    let der = root.revoke(8, 2026, &[]);
    let body: String = der.lines().filter(|line| !line.starts_with('-')).collect();
    server.dps("PUT", "/unicity/crls", &crl(&body)).await.expect(200);
    assert_eq!(register(&server, "bad", &[bad]).await, 200);
    let listed = server.dps("GET", "/unicity/crls", "").await.expect(200).json();
    assert_eq!((listed["value"].as_array().unwrap().len(), &listed["value"][0]["revoked"]), (1, &json!(0)));
}

#[tokio::test]
async fn a_list_is_of_an_authority_that_is_known() {
    let server = &Server::new();
    let root = Ca::root("root");
    let upload = |ca: &Ca| json!({"properties": {"certificate": ca.pem()}}).to_string();
    let put = |text: String| async move { server.dps("PUT", "/unicity/crls", &crl(&text)).await };
    let reply = put(root.revoke(1, 2025, &[])).await.expect(400).json();
    let message = reply["message"].as_str().unwrap();
    assert!(message.contains("CN=root") && message.contains("upload it first"), "{reply}");
    server.dps("PUT", "/unicity/certificates/root", &upload(&root)).await.expect(200);
    put(root.revoke(1, 2025, &[])).await.expect(200);
    // Two authorities of one name: each has a list of its own.
    let namesake = Ca::root("root");
    let reply = put(namesake.revoke(2, 2025, &[])).await.expect(400).json();
    assert!(reply["message"].as_str().unwrap().contains("did not sign it"), "{reply}");
    server.dps("PUT", "/unicity/certificates/namesake", &upload(&namesake)).await.expect(200);
    put(namesake.revoke(2, 2025, &[])).await.expect(200);
    let listed = server.dps("GET", "/unicity/crls", "").await.expect(200).json();
    assert_eq!(listed["value"].as_array().unwrap().len(), 2);
    for (text, hint) in [
        (root.revoke(9, 2028, &[]), "set the clock"),
        (root.pem(), "a CERTIFICATE where a X509 CRL is expected"),
        (base64(&root.der), "list"),
        ("x".into(), "neither PEM"),
        (String::new(), "missing"),
    ] {
        let reply = put(text).await.expect(400).json();
        assert!(reply["message"].as_str().unwrap().contains(hint), "{reply} {hint}");
    }
}

#[tokio::test]
async fn a_withdrawn_list_revokes_nothing_and_any_other_may_follow() {
    let server = Server::new();
    let root = Ca::root("root");
    group(&server, &root).await;
    let bad = root.issue("bad");
    let key = key_fingerprint(&root.der);
    server.dps("DELETE", &format!("/unicity/crls/{key}"), "").await.expect(404);
    server.dps("PUT", "/unicity/crls", &crl(&root.revoke(7, 2025, &[&bad]))).await.expect(200);
    assert_eq!(register(&server, "bad", std::slice::from_ref(&bad)).await, 401);
    server.dps("DELETE", &format!("/unicity/crls/{key}"), "").await.expect(204);
    assert_eq!(register(&server, "bad", std::slice::from_ref(&bad)).await, 200);
    assert_eq!(server.dps("GET", "/unicity/crls", "").await.expect(200).json()["value"], json!([]));
    server.dps("DELETE", &format!("/unicity/crls/{key}"), "").await.expect(404);
    // The way back from a list with a wrong date.
    server.dps("PUT", "/unicity/crls", &crl(&root.revoke(3, 2024, &[&bad]))).await.expect(200);
    assert_eq!(register(&server, "bad", &[bad]).await, 401);
    server.dps("DELETE", "/unicity/crls/xyz", "").await.expect(400);
}

#[tokio::test]
async fn a_list_that_the_server_found_is_judged_as_an_upload_is() {
    let server = Server::new();
    let root = Ca::root("root");
    let bad = root.issue("bad");
    let list = root.revoke(7, 2025, &[&bad]);
    let fault = server.api.store_revocation_list(list.clone().into_bytes()).await.unwrap_err();
    assert_eq!(fault.name, "RevocationListIssuerUnknown");
    group(&server, &root).await;
    server.api.store_revocation_list(list.into_bytes()).await.unwrap();
    assert_eq!(register(&server, "bad", &[bad]).await, 401);
    let fault = server.api.store_revocation_list(root.revoke(6, 2024, &[]).into_bytes()).await.unwrap_err();
    assert_eq!(fault.name, "RevocationListNotNewer");
    assert!(!fault.remedy.is_empty() && fault.cause.contains("number 07"), "{fault:?}");

    // How the files stand is shown, and a reload waits for a round that began after it was asked for.
    server.dps("POST", "/unicity/crls/reload", "").await.expect(200);
    let state = |fault| CrlFileState { path: "/crl".into(), checked: NOW, read: None, issuer: None, fault };
    server.crl_files.finish(vec![state(None)], server.crl_files.begin());
    let files = server.crl_files.clone();
    let under_way = files.begin();
    let fault = Some(fault);
    let reader = tokio::spawn(async move {
        files.asked().await;
        files.finish(vec![state(None)], under_way);
        let waiting = files.begin();
        files.finish(vec![state(fault)], waiting);
    });
    let told = server.dps("POST", "/unicity/crls/reload", "").await.expect(200).json();
    reader.await.unwrap();
    assert_eq!(told["files"][0]["error"], "RevocationListNotNewer", "{told}");
    let listed = server.dps("GET", "/unicity/crls", "").await.expect(200).json();
    assert_eq!((&listed["files"][0]["path"], &listed["files"]), (&json!("/crl"), &told["files"]));
}

#[tokio::test]
async fn a_key_or_a_certificate_is_denied_and_no_longer() {
    let server = Server::new();
    let root = Ca::root("root");
    group(&server, &root).await;
    let leaf = root.issue("m1");
    let chain = [leaf.clone()];
    let info = unicity_provisioning::x509::Certificate::parse(&leaf).unwrap().info();
    let serial = info["serialNumber"].as_str().unwrap();
    let spaced: Vec<&str> = (0..serial.len() / 2).map(|at| &serial[2 * at..2 * at + 2]).collect();
    let by_key = json!({"keyFingerprint": key_fingerprint(&leaf)});
    let by_serial = json!({"issuer": "CN=root", "serial": format!("00:{}", spaced.join(":").to_lowercase())});
    for rule in [by_key.clone(), by_serial] {
        let body = rule.to_string();
        server.dps("DELETE", "/unicity/denied", &body).await.expect(404);
        let shown = server.dps("POST", "/unicity/denied", &body).await.expect(200).json();
        assert_eq!(register(&server, "m1", &chain).await, 401, "{rule}");
        server.dps("POST", "/unicity/denied", &body).await.expect(200);
        assert_eq!(server.dps("GET", "/unicity/denied", "").await.expect(200).json(), json!({"value": [shown]}));
        // As it is shown, it can be lifted.
        server.dps("DELETE", "/unicity/denied", &shown.to_string()).await.expect(204);
        assert_eq!(register(&server, "m1", &chain).await, 200, "{rule}");
    }
    server.dps("POST", "/unicity/denied", &by_key.to_string()).await.expect(200);
    let path = format!("/unicity/denied?keyFingerprint={}", key_fingerprint(&leaf).to_uppercase());
    server.dps("DELETE", &path, "").await.expect(204);
    for body in [
        json!({}),
        json!({"keyFingerprint": "ab"}),
        json!({"issuer": "CN=root"}),
        json!({"serial": "01"}),
        json!({"issuer": "CN=root", "serial": "xy"}),
        json!({"issuer": "x".repeat(5000), "serial": "01"}),
        json!({"keyFingerprint": key_fingerprint(&leaf), "issuer": "CN=root", "serial": "01"}),
    ] {
        server.dps("POST", "/unicity/denied", &body.to_string()).await.expect(400);
    }
    assert_eq!(server.dps("GET", "/unicity/denied", "").await.expect(200).json(), json!({"value": []}));
}

#[tokio::test]
async fn a_denied_key_cannot_register_by_its_own_enrollment_either() {
    let server = Server::new();
    let der = self_signed("d");
    let x509 = json!({"clientCertificates": {"primary": {"certificate": crate::pki::pem(&der)}}});
    let body = json!({"registrationId": "d", "attestation": {"type": "x509", "x509": x509}}).to_string();
    server.dps("PUT", "/enrollments/d", &body).await.expect(200);
    server
        .dps("POST", "/unicity/denied", &json!({"keyFingerprint": key_fingerprint(&der)}).to_string())
        .await
        .expect(200);
    assert_eq!(register(&server, "d", &[der]).await, 401);
    let latest = server.dps("GET", "/unicity/refusals?limit=1", "").await.expect(200).json();
    let story: &Value = &latest["items"][0];
    assert_eq!(story["errorName"], "CertificateDenied", "{story}");
    assert_eq!(story["evidence"]["chain"][0]["subjectName"], "CN=d");
}
