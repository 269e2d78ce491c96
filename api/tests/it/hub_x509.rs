//! Hub devices that prove themselves by certificates (`service-rest.md` 12.1).

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use unicity_hub::SessionEpoch;
use unicity_identity::ClientIdentity;

use crate::hub::Handle;
use crate::server::{Server, base64, key};

fn self_signed(primary: &str, secondary: Option<&str>) -> String {
    json!({"deviceId": "d", "authentication": {
        "type": "selfSigned",
        "x509Thumbprint": {"primaryThumbprint": primary, "secondaryThumbprint": secondary},
    }})
    .to_string()
}

fn thumbprints(device: &Value) -> (Value, Value) {
    let of = &device["authentication"]["x509Thumbprint"];
    (of["primaryThumbprint"].clone(), of["secondaryThumbprint"].clone())
}

#[tokio::test]
async fn thumbprints_are_taken_in_any_spelling_and_shown_in_one() {
    let server = &Server::new();
    let (sha1, sha256) = ("ab".repeat(20), "Cd".repeat(32));
    let created = server.hub("PUT", "/devices/d", &self_signed(&sha256, Some(&sha1))).await.expect(200).json();
    assert_eq!(created["authentication"]["type"], "selfSigned");
    assert_eq!(created["authentication"]["symmetricKey"], json!({"primaryKey": null, "secondaryKey": null}));
    assert_eq!(thumbprints(&created), (json!("CD".repeat(32)), json!("AB".repeat(20))));
    let with_colons = ["ef"; 20].join(":");
    let put = |body: String| async move { server.hub_if("PUT", "/devices/d", "*", &body).await };
    let changed = put(self_signed(&with_colons, None)).await.expect(200).json();
    assert_eq!(thumbprints(&changed), (json!("EF".repeat(20)), Value::Null));
    for kept in [json!({"deviceId": "d"}), json!({"deviceId": "d", "authentication": {}}), changed.clone()] {
        assert_eq!(put(kept.to_string()).await.expect(200).json()["authentication"], changed["authentication"]);
    }
    // .NET names no type beside thumbprints, and the CLI takes a secondary one alone.
    let only = json!({"deviceId": "d", "authentication": {"x509Thumbprint": {"secondaryThumbprint": sha1}}});
    assert_eq!(thumbprints(&put(only.to_string()).await.expect(200).json()).0, json!("AB".repeat(20)));
    for (bad, hint) in [("ab", "2 digits"), (&*"zz".repeat(20), "no hexadecimal digit")] {
        let reply = put(self_signed(&sha256, Some(bad))).await.expect(400).json();
        let message = reply["Message"].as_str().unwrap();
        assert!(message.contains(hint) && message.contains("secondaryThumbprint"), "{message}");
    }
    let got = server.hub("GET", "/devices/d", "").await.expect(200).json();
    assert_eq!(server.hub("GET", "/devices?top=1", "").await.expect(200).json()[0], got);
}

#[tokio::test]
async fn a_device_changes_its_type_and_is_cut() {
    let server = Server::new();
    let handle = Arc::new(Handle(Mutex::default()));
    let client = ClientIdentity { hub: "alpha".parse().unwrap(), device_id: "d".parse().unwrap(), module_id: None };
    let sas = json!({"deviceId": "d", "authentication": {"type": "sas", "symmetricKey": {"primaryKey": base64(&key(50)), "secondaryKey": base64(&key(50))}}});
    server.hub("PUT", "/devices/d", &sas.to_string()).await.expect(200);
    server.sessions.insert(&client, SessionEpoch { boot: 1, counter: 1 }, handle.clone());
    let print = |byte: &str| self_signed(&byte.repeat(32), None);
    let authority = json!({"deviceId": "d", "authentication": {"type": "CertificateAuthority"}}).to_string();
    let generated = json!({"deviceId": "d", "authentication": {"type": "sas"}}).to_string();
    for (body, kind, cuts) in [
        (print("aa"), "selfSigned", 1),
        (print("AA"), "selfSigned", 1),
        (print("bb"), "selfSigned", 2),
        (authority.clone(), "certificateAuthority", 3),
        (authority, "certificateAuthority", 3),
        (generated.clone(), "sas", 4),
        (generated, "sas", 4),
    ] {
        let shown = server.hub_if("PUT", "/devices/d", "*", &body).await.expect(200).json();
        assert_eq!(shown["authentication"]["type"], kind);
        assert_eq!(handle.0.lock().len(), cuts, "{body}");
    }
    let shown = server.hub("GET", "/devices/d", "").await.expect(200).json();
    assert_eq!(shown["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap().len(), 88);
    // The keys that it had first are free for another.
    let other = sas.to_string().replace("\"d\"", "\"e\"");
    server.hub("PUT", "/devices/e", &other).await.expect(200);
}
