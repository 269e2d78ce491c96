//! Certificate authorities: upload, proof of possession, conditions (`service-rest.md` 8.2, 2.4).

use serde_json::{Value, json};

use crate::pki::{Ca, base64, key_fingerprint, pem, self_signed, sha256_thumbprint};
use crate::server::{NOW, Server, TOMORROW, body_of, key, request};

const PATH: &str = "/unicity/certificates/Plant-1";

fn upload(text: &str) -> String {
    json!({"properties": {"certificate": text}}).to_string()
}

#[tokio::test]
async fn upload_show_list_and_delete() {
    let server = Server::new();
    let root = Ca::root("Plant");
    let created = server.dps("PUT", PATH, &upload(&root.pem())).await.expect(200);
    let etag = created.header("etag").unwrap().to_owned();
    let shown = created.json();
    assert_eq!(etag, format!("\"{}\"", shown["etag"].as_str().unwrap()));
    assert_eq!(shown["name"], "Plant-1");
    let properties = &shown["properties"];
    assert_eq!(properties["subject"], "CN=Plant");
    assert_eq!(properties["certificate"], root.pem());
    assert_eq!(properties["isVerified"], false);
    assert_eq!(properties["thumbprint"].as_str().unwrap().len(), 40);
    assert_eq!(properties["sha256Thumbprint"], sha256_thumbprint(&root.der));
    assert_eq!(properties["keyFingerprint"], key_fingerprint(&root.der));
    assert_eq!(properties["created"], "Fri, 02 Jan 2026 03:04:05 GMT", "{NOW}");
    assert_eq!(properties["expiry"], "Sun, 01 Jan 4096 00:00:00 GMT");
    assert_eq!(properties["verificationCode"], Value::Null);
    assert_eq!(server.dps("GET", PATH, "").await.expect(200).json(), shown);
    assert_eq!(server.dps("GET", "/unicity/certificates", "").await.expect(200).json(), json!({"value": [shown]}));

    let conflict = server.dps("PUT", PATH, &upload(&root.pem())).await.expect(409).json();
    assert_eq!(conflict["errorCode"], 409_210);
    server.dps_if("PUT", PATH, "\"other\"", &upload(&root.pem())).await.expect(412);
    server.dps_if("PUT", "/unicity/certificates/none", "*", &upload(&root.pem())).await.expect(404);
    server.advance_ms(60_000);
    let updated = server.dps_if("PUT", PATH, &etag, &upload(&base64(&root.der))).await.expect(200).json();
    assert_eq!(updated["properties"]["created"], properties["created"]);
    assert_eq!(updated["properties"]["updated"], "Fri, 02 Jan 2026 03:05:05 GMT");
    server.dps_if("DELETE", PATH, &etag, "").await.expect(412);
    server.dps_if("DELETE", PATH, updated["etag"].as_str().unwrap(), "").await.expect(204);
    server.dps("DELETE", PATH, "").await.expect(404);
    assert_eq!(server.dps("GET", PATH, "").await.expect(404).json()["errorCode"], 404_209);
}

#[tokio::test]
async fn who_holds_the_key_proves_it() {
    let server = Server::new();
    let root = Ca::root("Plant");
    let etag = server.dps("PUT", PATH, &upload(&root.pem())).await.expect(200).json()["etag"].clone();
    let etag = etag.as_str().unwrap();
    let verify = format!("{PATH}/verify");
    let generate = format!("{PATH}/GenerateVerificationCode");
    let proof = |der: &[u8]| json!({"certificate": pem(der)}).to_string();
    let reply = server.dps("POST", &verify, &proof(&root.issue("x"))).await.expect(400).json();
    assert!(reply["message"].as_str().unwrap().contains("generateVerificationCode"), "{reply}");

    server.dps_if("POST", &generate, "\"other\"", "").await.expect(412);
    let first = server.dps_if("POST", &generate, etag, "").await.expect(200).json();
    let first = first["properties"]["verificationCode"].as_str().unwrap().to_owned();
    assert_eq!(first.len(), 48);
    let second = server.dps("POST", &generate, "").await.expect(200).json();
    let etag = second["etag"].as_str().unwrap();
    let second = second["properties"]["verificationCode"].as_str().unwrap();
    assert_ne!(first, second);

    for (der, hint) in [
        (root.issue(&first), second),
        (root.issue("other"), second),
        (root.der.clone(), "own certificate"),
        (Ca::root("Plant").issue(second), "key did not sign it"),
        (Ca::root("Other").issue(second), "not by CN=Plant"),
        (self_signed(second), "not by CN=Plant"),
    ] {
        let reply = server.dps("POST", &verify, &proof(&der)).await.expect(400).json();
        assert!(reply["message"].as_str().unwrap().contains(hint), "{reply} {hint}");
    }
    for body in ["", "{}", "{\"certificate\":\"x\"}"] {
        server.dps("POST", &verify, body).await.expect(400);
    }
    let good = root.issue(&second.to_ascii_lowercase());
    server.dps_if("POST", &verify, "\"other\"", &proof(&good)).await.expect(412);
    let verified = server.dps_if("POST", &verify, etag, &proof(&good)).await.expect(200).json();
    assert_eq!(verified["properties"]["isVerified"], true);
    assert_eq!(verified["properties"]["verificationCode"], Value::Null);
    server.dps("POST", &verify, &proof(&good)).await.expect(400);
    server.dps("POST", "/unicity/certificates/none/verify", &proof(&good)).await.expect(404);
}

#[tokio::test]
async fn another_certificate_is_not_verified_unless_the_operator_says_so() {
    let server = Server::new();
    let (old, new) = (Ca::root("Plant"), Ca::root("Plant"));
    let verified = |value: Value| value["properties"]["isVerified"].as_bool().unwrap();
    let trusted = json!({"properties": {"certificate": old.pem(), "isVerified": true}}).to_string();
    assert!(verified(server.dps("PUT", PATH, &trusted).await.expect(200).json()));
    assert!(verified(server.dps_if("PUT", PATH, "*", &upload(&old.pem())).await.expect(200).json()), "the same one");
    assert!(!verified(server.dps_if("PUT", PATH, "*", &upload(&new.pem())).await.expect(200).json()));
    let only_word = json!({"properties": {"isVerified": true}}).to_string();
    let word = server.dps_if("PUT", PATH, "*", &only_word).await.expect(200).json();
    assert_eq!(word["properties"]["certificate"], new.pem());
    assert!(verified(word));
}

#[tokio::test]
async fn what_cannot_be_an_authority_is_refused() {
    let server = Server::new();
    for (body, hint) in [
        (String::new(), "empty"),
        ("{}".into(), "properties"),
        (json!({"properties": {}}).to_string(), "properties.certificate"),
        (upload(&pem(&self_signed("d"))), "CA:TRUE"),
        (upload(&pem(&crate::pki::weak("d"))), "divisible by 3"),
        (upload(&format!("{}{}", Ca::root("a").pem(), Ca::root("b").pem())), "exactly one"),
        (upload("-----BEGIN CERTIFICATE-----"), "damaged"),
    ] {
        let reply = server.dps("PUT", PATH, &body).await.expect(400).json();
        assert!(reply["message"].as_str().unwrap().contains(hint), "{body} {reply}");
    }
    server.dps("PUT", "/unicity/certificates/a%20b", &upload(&Ca::root("a").pem())).await.expect(400);
}

#[tokio::test]
async fn they_need_the_right_to_configure_the_service() {
    let server = Server::new();
    let token = unicity_identity::SasToken::create(&key(3), "dps.local", TOMORROW, Some("reader"));
    for (method, path) in [
        ("GET", "/unicity/certificates"),
        ("GET", PATH),
        ("PUT", PATH),
        ("DELETE", PATH),
        ("POST", "/unicity/certificates/Plant-1/generateVerificationCode"),
        ("POST", "/unicity/certificates/Plant-1/verify"),
        ("GET", "/unicity/crls"),
        ("PUT", "/unicity/crls"),
        ("GET", "/unicity/denied"),
        ("POST", "/unicity/denied"),
        ("DELETE", "/unicity/denied"),
    ] {
        let reply = server.send(request(method, path, "dps.local", &token).body(body_of("{}")).unwrap()).await;
        assert!(reply.expect(401).json()["message"].as_str().unwrap().contains("ServiceConfig"), "{method} {path}");
    }
}
