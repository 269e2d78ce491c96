//! How enrollments say by which policy a hub is chosen (`service-rest.md` 3.1 and 5.1).

use serde_json::{Value, json};
use unicity_identity::enrollment::AllocationPolicy;
use unicity_provisioning::RegistryView as _;

use crate::server::Server;

/// An enrollment or group whose hub a function names.
fn asking(path: &str, url: &str) -> Value {
    let (member, id) = if path.contains("Groups") { ("enrollmentGroupId", "g") } else { ("registrationId", "d") };
    json!({
        member: id,
        "attestation": {"type": "symmetricKey"},
        "allocationPolicy": "Custom",
        "customAllocationDefinition": {"webhookUrl": url, "apiVersion": "2019-03-31"},
    })
}

#[tokio::test]
async fn a_function_may_choose_the_hub_and_its_key_is_never_shown() {
    let server = Server::new();
    for path in ["/enrollments/d", "/enrollmentGroups/g"] {
        let put = async |body: Value| server.dps_if("PUT", path, "*", &body.to_string()).await;
        let url = "https://functions.example/api/choose?code=geheim";
        let shown = json!({"webhookUrl": "https://functions.example/api/choose?****", "apiVersion": "2019-03-31"});
        let stored = server.dps("PUT", path, &asking(path, url).to_string()).await.expect(200).json();
        assert_eq!(stored["allocationPolicy"], "custom");
        assert_eq!(stored["customAllocationDefinition"], shown);
        let stored = || async {
            let registry = &server.registry;
            match path.contains("Groups") {
                false => registry.individual(&"d".parse().unwrap()).unwrap().unwrap().terms.allocation,
                true => registry.group(&"g".parse().unwrap()).unwrap().unwrap().terms.allocation,
            }
        };
        let kept = stored().await;
        let read = server.dps("GET", path, "").await.expect(200);
        assert!(!String::from_utf8_lossy(&read.body).contains("geheim"));
        // A client that sends back what it read.
        assert_eq!(put(read.json()).await.expect(200).json()["customAllocationDefinition"], shown);
        assert_eq!(stored().await, kept);
        let Some(AllocationPolicy::Custom(kept)) = kept else { panic!("{kept:?}") };
        assert_eq!(kept.webhook_url, url);
        // Another URL with a masked query is none.
        let reply = put(asking(path, "https://functions.example/other?****")).await.expect(400).json();
        assert!(reply["message"].as_str().unwrap().contains("give it whole"), "{reply}");
    }
}

#[tokio::test]
async fn a_function_must_be_where_the_configuration_says() {
    let server = Server::new();
    for (url, hint) in [
        ("https://functions.example:8443/x", "functions.example:8443 is not among `hosts`"),
        ("https://other.example/x?code=geheim", "those are functions.example:443"),
        ("https://169.254.169.254/latest", "is not among"),
        ("https://[::1]/", "is not among"),
        ("https://2130706433/", "is not among"),
        ("http://functions.example/x", "does not begin with https://"),
        ("https://u:geheim@functions.example/", "user name"),
        ("https://functions.example\\@other.example/", "percent-encoded"),
        ("", "webhookUrl: it is missing"),
    ] {
        let reply = server.dps("PUT", "/enrollments/d", &asking("/enrollments/d", url).to_string()).await.expect(400);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(hint) && !message.contains("code=geheim"), "{url}: {message}");
    }
    let mut old = asking("/enrollments/d", "https://functions.example/x");
    old["customAllocationDefinition"]["apiVersion"] = json!("2017-11-15");
    let reply = server.dps("PUT", "/enrollments/d", &old.to_string()).await.expect(400).json();
    assert!(reply["message"].as_str().unwrap().contains("apiVersion"), "{reply}");
    server.dps("GET", "/enrollments/d", "").await.expect(404);
}

#[tokio::test]
async fn devices_may_stick_together_by_batch_or_tag() {
    let server = Server::new();
    for (member, id, path) in
        [("registrationId", "d", "/enrollments/d"), ("enrollmentGroupId", "g", "/enrollmentGroups/g")]
    {
        let with = |by: Option<&str>| {
            let mut body = json!({member: id, "attestation": {"type": "symmetricKey"}, "allocationPolicy": "sticky"});
            if let Some(by) = by {
                body["stickyBy"] = json!(by);
            }
            body.to_string()
        };
        for (by, shown) in [("batch", "batch"), ("BATCH", "batch"), ("tag:site.hall", "tag:site.hall")] {
            let stored = server.dps_if("PUT", path, "*", &with(Some(by))).await;
            let stored = if stored.status == 404 { server.dps("PUT", path, &with(Some(by))).await } else { stored };
            let stored = stored.expect(200).json();
            assert_eq!((&stored["allocationPolicy"], &stored["stickyBy"]), (&json!("sticky"), &json!(shown)));
        }
        // A service SDK drops what it does not know.
        assert_eq!(server.dps_if("PUT", path, "*", &with(None)).await.expect(200).json()["stickyBy"], "tag:site.hall");
        for wrong in ["", "tag:", "label:x", "tag:a..b", "tag:$x", "tag:a b", &format!("tag:{}", "x".repeat(300))] {
            let reply = server.dps_if("PUT", path, "*", &with(Some(wrong))).await.expect(400).json();
            assert!(reply["message"].as_str().unwrap().contains("tag:site"), "{wrong}: {reply}");
        }
    }
}

#[tokio::test]
async fn bulk_requests_know_both() {
    let server = Server::new();
    let item = |id: &str, policy: Value| {
        let mut item = policy;
        item["registrationId"] = json!(id);
        item["attestation"] = json!({"type": "symmetricKey"});
        item
    };
    let custom = |url: &str| json!({"allocationPolicy": "custom", "customAllocationDefinition": {"webhookUrl": url, "apiVersion": "2021-10-01"}});
    let body = json!({"mode": "create", "enrollments": [
        item("a", custom("https://functions.example/x?code=1")),
        item("b", custom("https://other.example/x")),
        item("c", json!({"allocationPolicy": "sticky", "stickyBy": "batch"})),
    ]});
    let reply = server.dps("POST", "/enrollments", &body.to_string()).await.expect(200).json();
    let failed: Vec<_> = reply["errors"].as_array().unwrap().iter().map(|error| &error["registrationId"]).collect();
    assert_eq!(failed, [&json!("b")], "{reply}");
    let read = server.dps("GET", "/enrollments/c", "").await.expect(200).json();
    assert_eq!(read["stickyBy"], "batch");
}
