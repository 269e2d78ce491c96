//! X.509 attestation of enrollments and groups (`service-rest.md` 3.2, 3.3, traps 12, 14, 28).

use serde_json::{Value, json};

use crate::pki::{Ca, base64, key_fingerprint, pem, self_signed, sha256_thumbprint, weak};
use crate::server::{Server, enrollment, key};

fn individual(id: &str, x509: Value) -> String {
    json!({"registrationId": id, "attestation": {"type": "x509", "x509": x509}}).to_string()
}

fn group(id: &str, x509: Value) -> String {
    json!({"enrollmentGroupId": id, "attestation": {"type": "x509", "x509": x509}}).to_string()
}

fn client(text: &str) -> Value {
    json!({"clientCertificates": {"primary": {"certificate": text}}})
}

#[tokio::test]
async fn a_certificate_comes_in_three_spellings_and_goes_out_as_pem_with_its_info() {
    let server = Server::new();
    let der = Ca::root("Factory").issue("dev-1");
    let spellings = [pem(&der), pem(&der).trim_end().to_owned(), base64(&der), base64(pem(&der).as_bytes())];
    server.dps("PUT", "/enrollments/dev-1", &individual("dev-1", client(&spellings[0]))).await.expect(200);
    for text in &spellings {
        let body = individual("dev-1", client(text));
        let shown = server.dps_if("PUT", "/enrollments/dev-1", "*", &body).await.expect(200).json();
        let primary = &shown["attestation"]["x509"]["clientCertificates"]["primary"];
        assert_eq!(primary["certificate"], pem(&der), "{text}");
        assert_eq!(shown["attestation"]["x509"]["clientCertificates"]["secondary"], Value::Null);
        let info = &primary["info"];
        assert_eq!((&info["subjectName"], &info["issuerName"]), (&json!("CN=dev-1"), &json!("CN=Factory")));
        assert_eq!(info["sha256Thumbprint"], sha256_thumbprint(&der));
        assert_eq!(info["sha1Thumbprint"].as_str().unwrap().len(), 40);
        assert_eq!(info["version"], 3);
        for name in ["notBeforeUtc", "notAfterUtc"] {
            assert!(info[name].as_str().unwrap().ends_with('Z'), "{info}");
        }
        assert!(!info["serialNumber"].as_str().unwrap().is_empty());
    }
    let mechanism = server.dps("POST", "/enrollments/dev-1/attestationmechanism", "").await.expect(200).json();
    assert_eq!(mechanism, server.dps("GET", "/enrollments/dev-1", "").await.json()["attestation"]);
}

#[tokio::test]
async fn an_update_keeps_replaces_and_rolls_over() {
    let server = Server::new();
    let (old, new) = (self_signed("dev-1"), self_signed("dev-1"));
    let path = "/enrollments/dev-1";
    let attestation = |value: &Value| value["attestation"]["x509"]["clientCertificates"].clone();
    let created = server.dps("PUT", path, &individual("dev-1", client(&pem(&old)))).await.expect(200).json();

    // Clients put back what they got; some without the certificate, with its info alone.
    let mut info_only = created.clone();
    info_only["attestation"]["x509"]["clientCertificates"]["primary"]["certificate"] = Value::Null;
    for kept in [
        created.clone(),
        info_only.clone(),
        json!({"registrationId": "dev-1", "provisioningStatus": "disabled"}),
        json!({"registrationId": "dev-1", "attestation": {"type": "X509"}}),
    ] {
        let stored = server.dps_if("PUT", path, "*", &kept.to_string()).await.expect(200).json();
        assert_eq!(attestation(&stored), attestation(&created), "{kept}");
    }
    let both =
        json!({"clientCertificates": {"primary": {"certificate": pem(&old)}, "secondary": {"certificate": pem(&new)}}});
    server.dps_if("PUT", path, "*", &individual("dev-1", both)).await.expect(200);
    let secondary = json!({"clientCertificates": {"primary": null, "secondary": {"certificate": pem(&new)}}});
    let rolled = server.dps_if("PUT", path, "*", &individual("dev-1", secondary)).await.expect(200).json();
    assert_eq!(attestation(&rolled)["primary"], Value::Null);
    assert_eq!(attestation(&rolled)["secondary"]["info"]["sha256Thumbprint"], sha256_thumbprint(&new));
    // Info of what is no longer there is no certificate.
    let reply = server.dps_if("PUT", path, "*", &info_only.to_string()).await.expect(400).json();
    assert!(reply["message"].as_str().unwrap().contains("not that of the stored one"), "{reply}");
}

#[tokio::test]
async fn the_type_may_change_if_the_new_attestation_is_complete() {
    let server = Server::new();
    let path = "/enrollments/dev-1";
    let der = self_signed("dev-1");
    server.dps("PUT", path, &enrollment("registrationId", "dev-1", &key(50))).await.expect(200);
    server.dps_if("PUT", path, "*", &individual("dev-1", json!({}))).await.expect(400);
    server.dps_if("PUT", path, "*", "{\"attestation\":{\"type\":\"x509\"}}").await.expect(400);
    let changed = server.dps_if("PUT", path, "*", &individual("dev-1", client(&pem(&der)))).await.expect(200).json();
    assert_eq!(changed["attestation"]["type"], "x509");
    assert_eq!(changed["attestation"]["symmetricKey"], Value::Null);
    let back = json!({"attestation": {"type": "symmetricKey"}}).to_string();
    let back = server.dps_if("PUT", path, "*", &back).await.expect(200).json();
    assert_eq!(back["attestation"], json!({"type": "symmetricKey", "symmetricKey": {}}));
    // The keys that were given up are free again.
    server.dps("PUT", "/enrollments/dev-2", &enrollment("registrationId", "dev-2", &key(50))).await.expect(200);
    server.dps("PUT", "/enrollments/dev-3", &individual("dev-3", client(&pem(&der)))).await.expect(200);
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_with_the_member_the_reason_and_the_remedy() {
    let server = Server::new();
    let root = Ca::root("root");
    let der = self_signed("d");
    let signing = json!({"signingCertificates": {"primary": {"certificate": root.pem()}}});
    for (x509, hint) in [
        (client(""), "neither a primary nor a secondary"),
        (json!({"clientCertificates": {}}), "neither a primary nor a secondary"),
        (json!({}), "it is empty; clientCertificates"),
        (client("hello"), "neither PEM, nor base64"),
        (client("AAAA"), "base64, but neither"),
        (client(&base64(&der[..50])), "certificate 1"),
        (client("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"), "never the private key"),
        (client(&format!("{}{}", pem(&der), root.pem())), "exactly one"),
        (client(&pem(&weak("d"))), "divisible by 3"),
        (signing.clone(), "are for groups"),
        (json!({"caReferences": {"primary": "root"}}), "are for groups"),
    ] {
        let reply = server.dps("PUT", "/enrollments/d", &individual("d", x509.clone())).await.expect(400).json();
        assert!(reply["message"].as_str().unwrap().contains(hint), "{x509}\n{reply}\n{hint}");
        assert_eq!(reply["errorCode"], 400_004);
    }
    for (x509, hint) in [
        (client(&pem(&der)), "clientCertificates is for individual enrollments"),
        (json!({"signingCertificates": {"primary": {"certificate": pem(&der)}}}), "basic constraints"),
        (json!({"signingCertificates": {"secondary": {"certificate": pem(&weak("d"))}}}), "divisible by 3"),
        (json!({"caReferences": {"primary": "root"}}), "no certificate authority root; upload it"),
        (json!({"caReferences": {"primary": "ro/ot"}}), "caReferences.primary"),
        (json!({"caReferences": {"primary": ""}}), "neither a primary nor a secondary"),
        (
            json!({"signingCertificates": signing["signingCertificates"], "caReferences": {"primary": "x"}}),
            "exactly one",
        ),
    ] {
        let reply = server.dps("PUT", "/enrollmentGroups/g", &group("g", x509.clone())).await.expect(400).json();
        assert!(reply["message"].as_str().unwrap().contains(hint), "{x509}\n{reply}\n{hint}");
    }
    let tpm = json!({"enrollmentGroupId": "g", "attestation": {"type": "tpm", "tpm": {"endorsementKey": "AA=="}}});
    server.dps("PUT", "/enrollmentGroups/g", &tpm.to_string()).await.expect(400);
}

#[tokio::test]
async fn a_group_has_authorities_of_its_own_or_uploaded_ones() {
    let server = Server::new();
    let (root, mid) = (Ca::root("root"), Ca::root("root").sub("mid"));
    let signing = json!({"signingCertificates": {"primary": {"certificate": mid.pem()}}});
    let shown = server.dps("PUT", "/enrollmentGroups/g", &group("g", signing)).await.expect(200).json();
    let primary = &shown["attestation"]["x509"]["signingCertificates"]["primary"];
    assert_eq!(primary["info"]["subjectName"], "CN=mid");

    let body = json!({"properties": {"certificate": root.pem()}}).to_string();
    server.dps("PUT", "/unicity/certificates/Root", &body).await.expect(200);
    let references = json!({"caReferences": {"primary": "Root", "secondary": null}});
    let shown = server.dps("PUT", "/enrollmentGroups/h", &group("h", references)).await.expect(200).json();
    assert_eq!(shown["attestation"], json!({"type": "x509", "x509": {"caReferences": {"primary": "Root"}}}));
    let again = server.dps_if("PUT", "/enrollmentGroups/h", "*", &shown.to_string()).await.expect(200).json();
    assert_eq!(again["attestation"], shown["attestation"]);
    let mechanism = server.dps("POST", "/enrollmentGroups/h/attestationmechanism", "").await.expect(200).json();
    assert_eq!(mechanism, shown["attestation"]);

    // It cannot go while a group refers to it, and another group may not vouch with the same key.
    let reply = server.dps("DELETE", "/unicity/certificates/Root", "").await.expect(400).json();
    assert!(reply["message"].as_str().unwrap().contains("enrollment group h"), "{reply}");
    let same = json!({"signingCertificates": {"primary": {"certificate": root.pem()}}});
    server.dps("PUT", "/enrollmentGroups/i", &group("i", same)).await.expect(409);
}

#[tokio::test]
async fn one_key_is_of_one_identity_in_whatever_certificate() {
    let server = Server::new();
    let der = self_signed("a");
    server.dps("PUT", "/enrollments/a", &individual("a", client(&pem(&der)))).await.expect(200);
    let reply = server.dps("PUT", "/enrollments/b", &individual("b", client(&pem(&der)))).await.expect(409).json();
    let message = reply["message"].as_str().unwrap();
    assert!(message.contains("registration a") && message.contains(&key_fingerprint(&der)), "{reply}");
}

#[tokio::test]
async fn types_can_be_asked_for_and_come_in_bulk() {
    let server = Server::new();
    let item = |id: &str| json!({"registrationId": id, "attestation": {"type": "x509", "x509": client(&pem(&self_signed(id)))}});
    let body = json!({"mode": "create", "enrollments": [item("a"), item("b"), {"registrationId": "c", "attestation": {"type": "x509"}}]});
    let done = server.dps("POST", "/enrollments", &body.to_string()).await.expect(200).json();
    assert_eq!(done["errors"].as_array().unwrap().len(), 1, "{done}");
    assert_eq!(done["errors"][0]["registrationId"], "c");
    server.dps("PUT", "/enrollments/k", &enrollment("registrationId", "k", &key(50))).await.expect(200);
    for (kind, expected) in [("X509", vec!["a", "b"]), ("symmetricKey", vec!["k"]), ("tpm", vec![])] {
        let query =
            json!({"query": format!("SELECT * FROM enrollments WHERE attestation.type = '{kind}'")}).to_string();
        let found = server.dps("POST", "/enrollments/query", &query).await.expect(200).json();
        let ids: Vec<_> = found.as_array().unwrap().iter().map(|it| it["registrationId"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{kind}");
    }
}
