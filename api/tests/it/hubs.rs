//! Hubs linked, changed and unlinked; the service's policy; plans, rebalances and transfers.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use unicity_identity::Timestamp;
use unicity_provisioning::allocation::{HubHealth, HubState};
use unicity_provisioning::transfer::TransferStage;

use crate::pki::Ca;
use crate::server::{NOW, SCOPE, Server, base64, device_token, enrollment, key};

pub(crate) fn connection_string(host: &str, byte: u8) -> String {
    format!("HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={}", base64(&key(byte)))
}

const FAR: &str = "/unicity/hubs/far";

fn link(byte: u8) -> Value {
    json!({"connectionString": connection_string("far.example:8443", byte), "weight": 3, "labels": ["b", "a"],
        "region": "westeurope", "coordinates": {"latitude": 52.4, "longitude": 4.9}, "capacity": 1000})
}

#[tokio::test]
async fn a_hub_is_linked_shown_changed_and_unlinked_and_its_key_is_never_shown() {
    let server = Server::new();
    let ca = Ca::root("Plant");
    let mut body = link(50);
    body["ca"] = json!(ca.pem());
    let made = server.dps("PUT", FAR, &body.to_string()).await.expect(200);
    let etag = made.header("etag").unwrap().to_owned();
    let shown = made.json();
    for (name, value) in [
        ("place", json!("remote")),
        ("hostName", json!("far.example")),
        ("port", json!(8443)),
        ("policy", json!("iothubowner")),
        ("weight", json!(3)),
        ("labels", json!(["a", "b"])),
        ("region", json!("westeurope")),
        ("coordinates", json!({"latitude": 52.4, "longitude": 4.9})),
        ("capacity", json!(1000)),
        ("applyAllocation", json!(true)),
        ("state", json!("active")),
        ("devices", json!(0)),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert_eq!(shown["caSha256"].as_str().map(str::len), Some(64));
    let listed = server.dps("GET", "/unicity/hubs", "").await.expect(200);
    for text in [&made.body, &listed.body] {
        let text = String::from_utf8_lossy(text);
        assert!(!text.contains(&base64(&key(50))) && !text.to_lowercase().contains("accesskey"), "{text}");
    }
    let listed = listed.json();
    let names: Vec<_> = listed["value"].as_array().unwrap().iter().map(|hub| hub["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alpha", "beta", "far"]);

    // The same once more is no other write; anything else is, and needs a condition.
    let leaves = server.registry.leaves.lock().len();
    assert_eq!(server.dps("PUT", FAR, &body.to_string()).await.expect(200).header("etag"), Some(&*etag));
    assert_eq!(server.registry.leaves.lock().len(), leaves);
    server.dps("PUT", FAR, &link(51).to_string()).await.expect(409);
    server.dps_if("PUT", FAR, "\"other\"", &link(51).to_string()).await.expect(412);
    let rotated = server.dps_if("PUT", FAR, &etag, &link(51).to_string()).await.expect(200);
    assert_ne!(rotated.header("etag"), Some(&*etag), "another key is another version");
    server.dps_if("PATCH", FAR, &etag, "{\"weight\": 7}").await.expect(412);

    let patched = server.dps("PATCH", FAR, "{\"draining\": true, \"capacity\": null}").await.expect(200).json();
    assert_eq!(
        (&patched["draining"], &patched["capacity"], &patched["weight"]),
        (&json!(true), &Value::Null, &json!(3))
    );
    assert_eq!(patched["state"], "draining");
    server.health.0.lock().insert(
        "far".into(),
        HubHealth {
            state: HubState::Down,
            since: Timestamp(NOW.0 - 5000),
            cause: Some("connection refused".into()),
            round_trip_us: None,
            reported_devices: Some(4),
        },
    );
    let down = server.dps("GET", FAR, "").await.expect(200).json();
    assert_eq!((&down["state"], &down["health"]["cause"]), (&json!("down"), &json!("connection refused")));

    server.dps_if("DELETE", FAR, &etag, "").await.expect(412);
    let gone = server.dps("DELETE", FAR, "").await.expect(200).json();
    assert_eq!((&gone["unlinked"], gone.get("lost")), (&json!(true), None));
    server.dps("DELETE", FAR, "").await.expect(404);
    server.dps("GET", FAR, "").await.expect(404);
}

#[tokio::test]
async fn a_hub_with_devices_is_unlinked_by_force_only() {
    let server = Server::new();
    server.dps("PUT", FAR, &link(50).to_string()).await.expect(200);
    server.registry.change(|state| {
        state.hub_loads.insert("far".parse().unwrap(), 5);
    });
    let refused = server.dps("DELETE", FAR, "").await.expect(400).json();
    assert!(refused["message"].as_str().unwrap().contains("5 devices"), "{refused}");
    let forced = server.dps("DELETE", &format!("{FAR}?force=true"), "").await.expect(200).json();
    assert_eq!(forced["devices"], 5);
    assert!(forced["lost"].as_str().unwrap().contains("5 devices"));
}

#[tokio::test]
async fn a_local_hub_has_terms_to_change_and_no_link() {
    let server = Server::new();
    let path = "/unicity/hubs/beta";
    server.dps("PUT", path, &link(50).to_string()).await.expect(409);
    server.dps_if("PUT", path, "*", &link(50).to_string()).await.expect(400);
    let changed = server.dps("PATCH", path, "{\"applyAllocation\": true, \"weight\": 9}").await.expect(200).json();
    assert_eq!((&changed["place"], &changed["weight"]), (&json!("local"), &json!(9)));
    assert!(changed["updated"].is_string());
    server.dps("DELETE", path, "").await.expect(200);
    assert_eq!(server.dps("GET", path, "").await.expect(200).json()["weight"], 1, "as configured");
}

#[tokio::test]
async fn what_is_no_hub_is_refused_without_telling_its_key() {
    let server = Server::new();
    let good = connection_string("far.example", 50);
    let with = |text: &str| json!({"connectionString": text}).to_string();
    let secret = base64(&key(50));
    for body in [
        "{}".into(),
        "[]".into(),
        "nonsense".into(),
        with("HostName=far.example"),
        with(&good.replace("far.example", "far.example:0")),
        with(&good.replace("far.example", "no host")),
        with(&good.replace("far.example", "alpha.local")),
        with(&good.replace("iothubowner", "")),
        with(&format!("{good};{secret}")),
        with(&format!("{good};DeviceId=d")),
        with(&format!("{good};HostName=else.example")),
        with("HostName=far.example;SharedAccessKeyName=p;SharedAccessKey=???"),
        json!({"connectionString": good, "ca": "no certificate"}).to_string(),
        json!({"connectionString": good, "weight": 0}).to_string(),
        json!({"connectionString": good, "weight": 1001}).to_string(),
        json!({"connectionString": good, "labels": [""]}).to_string(),
        json!({"connectionString": good, "region": ""}).to_string(),
        json!({"connectionString": good, "coordinates": {"latitude": 91, "longitude": 0}}).to_string(),
        json!({"connectionString": good, "capacity": -1}).to_string(),
    ] {
        let refused = server.dps("PUT", FAR, &body).await;
        assert_eq!(refused.status.as_u16(), 400, "{body}");
        assert!(!String::from_utf8_lossy(&refused.body).contains(&secret), "{body}");
    }
    server.dps("PUT", "/unicity/hubs/no%20name", &link(50).to_string()).await.expect(400);
    server.dps("PATCH", FAR, "{}").await.expect(404);
    server.dps("PATCH", "/unicity/hubs/alpha", &with(&good)).await.expect(400);
}

#[tokio::test]
async fn the_services_policy_is_set_shown_and_taken_back() {
    let server = Server::new();
    let path = "/unicity/allocation";
    let configured = server.dps("GET", path, "").await.expect(200).json();
    assert_eq!(configured, json!({"allocationPolicy": "hashed", "setBy": "configuration"}));
    let asked = json!({"allocationPolicy": "sticky", "stickyBy": "tag:site"}).to_string();
    let set = server.dps("PUT", path, &asked).await.expect(200).json();
    assert_eq!(set, json!({"allocationPolicy": "sticky", "stickyBy": "tag:site", "setBy": "operator"}));
    let leaves = server.registry.leaves.lock().len();
    server.dps("PUT", path, &asked).await.expect(200);
    assert_eq!(server.registry.leaves.lock().len(), leaves);
    for body in ["{}", "", "{\"allocationPolicy\": \"custom\"}", "{\"allocationPolicy\": 7}"] {
        server.dps("PUT", path, body).await.expect(400);
    }
    server.dps("DELETE", path, "").await.expect(204);
    server.dps("DELETE", path, "").await.expect(204);
    assert_eq!(server.dps("GET", path, "").await.expect(200).json(), configured);
}

/// Six devices at alpha.
async fn with_fleet() -> Server {
    let server = Server::new();
    for number in 1..=6_u8 {
        let id = format!("dev-{number}");
        let enrolled = enrollment("registrationId", &id, &key(100 + number));
        server.dps("PUT", &format!("/enrollments/{id}"), &enrolled).await.expect(200);
        let path = format!("/{SCOPE}/registrations/{id}/register");
        let body = json!({"registrationId": id}).to_string();
        server.device("PUT", &path, Some(&device_token(&id, &key(100 + number))), &body).await.expect(200);
    }
    server
}

#[tokio::test]
async fn a_plan_is_what_the_rebalance_does() {
    let server = with_fleet().await;
    let plan = json!({"hubs": [{"name": "beta", "applyAllocation": true}], "remove": ["alpha"]}).to_string();
    let leaves = server.registry.leaves.lock().len();
    let planned = server.dps("POST", "/unicity/plan", &plan).await.expect(200).json();
    assert_eq!(server.registry.leaves.lock().len(), leaves, "nothing is written");
    assert_eq!((&planned["registrations"], &planned["moves"], &planned["stay"]), (&json!(6), &json!(6), &json!(0)));
    assert_eq!(planned["matrix"], json!([{"from": "alpha", "to": "beta", "moves": 6}]));
    assert_eq!(planned["isEstimate"], false);
    let lines = server.dps("POST", "/unicity/plan?moves=true", &plan).await.expect(200);
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> =
        String::from_utf8_lossy(&lines.body).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[0], json!({"registrationId": "dev-1", "from": "alpha", "to": "beta"}));
    assert_eq!(lines[6]["forecast"], planned);

    let live = json!({"hubs": [{"name": "beta", "applyAllocation": true}], "allocationPolicy": "leastLoaded"});
    let estimate = server.dps("POST", "/unicity/plan", &live.to_string()).await.expect(200).json();
    assert_eq!(estimate["estimated"], json!([{"policy": "leastLoaded", "registrations": 6}]));
    let new = json!({"hubs": [{"name": "gamma", "hostName": "gamma.example", "weight": 1000}]}).to_string();
    let new = server.dps("POST", "/unicity/plan", &new).await.expect(200).json();
    assert!(new["moves"].as_u64().unwrap() > 0, "{new}");
    for (body, status) in [
        (json!({"remove": ["none"]}), 404),
        (json!({"from": "none"}), 404),
        (json!({"hubs": [{"weight": 2}]}), 400),
        (json!({"hubs": [{"name": "gamma", "weight": 0}]}), 400),
        (json!({"hubs": [{"name": "alpha", "hostName": "else.example"}]}), 400),
        (json!({"hubs": [{"name": "gamma", "hostName": "alpha.local"}]}), 400),
        (json!({"allocationPolicy": "custom"}), 400),
    ] {
        server.dps("POST", "/unicity/plan", &body.to_string()).await.expect(status);
    }

    let stop = CancellationToken::new();
    let running = tokio::spawn(server.rebalancer.clone().run(stop.clone()));
    let order = json!({"rate": 100_000, "planDigest": planned["digest"]}).to_string();
    server.dps("POST", "/unicity/rebalances", &order).await.expect(400);
    server.dps("PATCH", "/unicity/hubs/beta", "{\"applyAllocation\": true}").await.expect(200);
    server.dps("PATCH", "/unicity/hubs/alpha", "{\"draining\": true}").await.expect(200);
    let begun = server.dps("POST", "/unicity/rebalances", &order).await.expect(200).json();
    assert_eq!((&begun["number"], &begun["by"]), (&json!(1), &json!("policy provisioningserviceowner")));
    let done = loop {
        let shown = server.dps("GET", "/unicity/rebalances/1", "").await.expect(200).json();
        if shown["state"] == "done" {
            break shown;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&done["moved"], &done["digest"]), (&json!(6), &planned["digest"]));
    server.dps("POST", "/unicity/rebalances/1/stop", "").await.expect(400);
    let listed = server.dps("GET", "/unicity/rebalances", "").await.expect(200).json();
    assert_eq!(listed["value"][0], done);
    for number in ["2", "x"] {
        let status = if number == "2" { 404 } else { 400 };
        server.dps("GET", &format!("/unicity/rebalances/{number}"), "").await.expect(status);
        server.dps("POST", &format!("/unicity/rebalances/{number}/resume"), "").await.expect(status);
    }
    for body in ["{\"rate\": 0}", "{\"rate\": 100001}", "{\"planDigest\": \"ab\"}", "{\"from\": 7}"] {
        server.dps("POST", "/unicity/rebalances", body).await.expect(400);
    }
    server.dps("POST", "/unicity/rebalances", "{\"from\": \"none\"}").await.expect(404);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_transfer_is_seen_and_one_that_failed_is_tried_again() {
    let server = with_fleet().await;
    // To a hub elsewhere, which takes steps; nobody does them here.
    server.dps("PUT", FAR, &link(50).to_string()).await.expect(200);
    server.dps("PATCH", "/unicity/hubs/alpha", "{\"draining\": true}").await.expect(200);
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.rebalancer.clone().run(stop.clone()));
    server.dps("POST", "/unicity/rebalances", "{\"rate\": 100000}").await.expect(200);
    let all = loop {
        let all = server.dps("GET", "/unicity/transfers", "").await.expect(200).json();
        if all["items"].as_array().unwrap().len() == 6 {
            break all;
        }
        tokio::task::yield_now().await;
    };
    let first = &all["items"][0];
    assert_eq!((&first["registrationId"], &first["stage"]), (&json!("dev-1"), &json!("create")));
    assert_eq!((&first["from"]["hub"], &first["to"]["hub"]), (&json!("alpha"), &json!("far")));
    let paged = server.dps("GET", "/unicity/transfers?limit=2", "").await.expect(200).json();
    assert_eq!((paged["items"].as_array().unwrap().len(), &paged["next"]), (2, &json!("dev-2")));
    server.dps("POST", "/unicity/transfers/dev-2/retry", "").await.expect(400);
    let story = server.dps("GET", "/unicity/why/dev-2", "").await.expect(200).json();
    assert_eq!((&story["transfer"]["stage"], &story["transfer"]["to"]["hub"]), (&json!("create"), &json!("far")));
    stop.cancel();
    running.await.unwrap();

    let failed = TransferStage::Failed { code: 503_001, message: "far does not answer".into() };
    server.registry.change(|state| {
        state.transfers.get_mut(&"dev-2".parse().unwrap()).unwrap().stage = failed;
    });
    let listed = server.dps("GET", "/unicity/transfers?failed=true", "").await.expect(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed["items"][0]["message"], "far does not answer");
    let retried = server.dps("POST", "/unicity/transfers/dev-2/retry", "").await.expect(200).json();
    assert_eq!((&retried["outcome"], &retried["transfer"]["stage"]), (&json!("begun"), &json!("create")));
    let one = server.dps("GET", "/unicity/transfers/dev-2", "").await.expect(200).json();
    assert_eq!(one["stage"], "create");
    server.dps("GET", "/unicity/transfers/none", "").await.expect(404);
    server.dps("POST", "/unicity/transfers/none/retry", "").await.expect(404);
}
