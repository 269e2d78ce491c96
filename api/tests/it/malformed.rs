//! Bodies that are wrong, in over a hundred ways: each is refused with a 4xx in its service's dialect, says what is wrong, and changes nothing.

use serde_json::{Value, json};

use crate::server::{Server, enrollment, key};

/// No call that reads a body takes any of these.
const NOWHERE: [&str; 9] = ["", "{", "}", "nonsense", "{\"a\":1,}", "{'a':1}", "[1,2", "\"text", "{\"a\":1}{"];
/// These are JSON, and no object.
const NO_OBJECTS: [&str; 5] = ["null", "1", "true", "\"text\"", "[]"];

fn hub_cases() -> Vec<(&'static str, &'static str, Value)> {
    let device = |members: Value| merged(json!({"deviceId": "d"}), members);
    let auth = |authentication: Value| json!({"deviceId": "new", "authentication": authentication});
    let deep = (0..12).fold(json!(1), |inner, _| json!({"n": inner}));
    let mut cases = vec![
        ("PUT", "/devices/new", json!({})),
        ("PUT", "/devices/new", json!({"deviceId": null})),
        ("PUT", "/devices/new", json!({"deviceId": 1})),
        ("PUT", "/devices/new", json!({"deviceId": "other"})),
        ("PUT", "/devices/new", json!({"deviceId": "NEW"})),
        ("PUT", "/devices/a%20b", json!({"deviceId": "a b"})),
        ("PUT", "/devices/d", device(json!({"status": 1}))),
        ("PUT", "/devices/d", device(json!({"status": "on"}))),
        ("PUT", "/devices/d", device(json!({"statusReason": "x".repeat(129)}))),
        ("PUT", "/devices/d", device(json!({"statusReason": []}))),
        ("PUT", "/devices/d", device(json!({"capabilities": 1}))),
        ("PUT", "/devices/d", device(json!({"capabilities": {"iotEdge": "yes"}}))),
        ("PUT", "/devices/new", auth(json!(1))),
        ("PUT", "/devices/new", auth(json!({"type": "password"}))),
        ("PUT", "/devices/new", auth(json!({"type": 1}))),
        ("PUT", "/devices/new", auth(json!({"symmetricKey": {"primaryKey": "%%%"}}))),
        ("PUT", "/devices/new", auth(json!({"symmetricKey": {"primaryKey": "AAAA"}}))),
        ("PUT", "/devices/new", auth(json!({"symmetricKey": {"primaryKey": 1}}))),
        ("PUT", "/devices/new", auth(json!({"symmetricKey": {"primaryKey": "A".repeat(400)}}))),
        ("PUT", "/devices/new", auth(json!({"type": "selfSigned"}))),
        ("PUT", "/devices/new", auth(json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "xyz"}}))),
        ("PUT", "/devices/new", auth(json!({"x509Thumbprint": {"secondaryThumbprint": "ab".repeat(21)}}))),
        ("PUT", "/devices/d/modules/m", json!({"moduleId": "other"})),
        ("PUT", "/devices/d/modules/m", json!({"deviceId": "other"})),
        ("PUT", "/devices/d/modules/m", json!({"managedBy": "x".repeat(129)})),
        ("PUT", "/devices/d/modules/m", json!({"managedBy": 1})),
        ("PUT", "/devices/d/modules/m", json!({"authentication": {"type": "none"}})),
        ("PUT", "/devices/d/modules/a%20b", json!({})),
        ("PUT", "/devices/d/modules/m", json!({"authentication": {"symmetricKey": {"secondaryKey": "x"}}})),
        ("POST", "/devices", json!({})),
        ("POST", "/devices", json!([1])),
        ("POST", "/devices", json!([{}])),
        ("POST", "/devices", json!([{"id": 1}])),
        ("POST", "/devices", json!([{"id": "a b"}])),
        ("POST", "/devices", json!([{"id": "new", "moduleId": "a b"}])),
        ("POST", "/devices", json!([{"id": "new"}, {"id": "new"}])),
        ("POST", "/devices", json!([{"id": "new", "importMode": "replace"}])),
        ("POST", "/devices", json!([{"id": "new", "importMode": 1}])),
        ("POST", "/devices", json!([{"id": "new", "importMode": "updateIfMatchETag"}])),
        ("POST", "/devices", json!([{"id": "d", "importMode": "deleteIfMatchETag"}])),
        ("POST", "/devices", json!([{"id": "d", "importMode": "updateTwinIfMatchETag"}])),
        ("POST", "/devices", json!([{"id": "new", "importMode": "create", "tags": 1}])),
        ("POST", "/devices", json!([{"id": "new", "importMode": "create", "properties": {"desired": {"$x": 1}}}])),
        ("POST", "/devices", json!([{"id": "new", "status": "off"}])),
        ("POST", "/devices", json!((0..101).map(|n| json!({"id": format!("n{n}")})).collect::<Vec<_>>())),
        ("POST", "/devices/query", json!({})),
        ("POST", "/devices/query", json!({"query": 1})),
        ("POST", "/devices/query", json!({"query": ""})),
        ("POST", "/devices/query", json!({"query": "SELECT"})),
        ("POST", "/devices/query", json!({"query": "SELECT * FROM enrollments"})),
        ("POST", "/devices/query", json!({"query": "DROP TABLE devices"})),
        ("POST", "/devices/query", json!({"query": "(".repeat(1000)})),
    ];
    for method in ["PATCH", "PUT"] {
        for path in ["/twins/d", "/twins/d/modules/m0"] {
            cases.extend([
                (method, path, json!({"tags": 1})),
                (method, path, json!({"tags": {"a.b": 1}})),
                (method, path, json!({"tags": {"$a": 1}})),
                (method, path, json!({"tags": {"": 1}})),
                (method, path, json!({"tags": deep})),
                (method, path, json!({"tags": {"a": "x".repeat(5000)}})),
                (method, path, json!({"properties": []})),
                (method, path, json!({"properties": {"desired": "x"}})),
                (method, path, json!({"properties": {"desired": {"n": u64::MAX}}})),
            ]);
        }
    }
    cases
}

fn dps_cases() -> Vec<(&'static str, &'static str, Value)> {
    let good: Value = serde_json::from_str(&enrollment("registrationId", "new", &key(90))).unwrap();
    let group: Value = serde_json::from_str(&enrollment("enrollmentGroupId", "new", &key(91))).unwrap();
    let mut cases = vec![
        ("PUT", "/enrollments/new", json!({})),
        ("PUT", "/enrollments/other", good.clone()),
        ("PUT", "/enrollments/a%20b", json!({})),
        ("PUT", "/enrollmentGroups/new", json!({})),
        ("PUT", "/enrollmentGroups/other", group.clone()),
        ("POST", "/enrollments", json!({})),
        ("POST", "/enrollments", json!({"mode": "upsert", "enrollments": []})),
        ("POST", "/enrollments", json!({"mode": "create"})),
        ("POST", "/enrollments", json!({"mode": "create", "enrollments": 1})),
        ("POST", "/enrollments", json!({"mode": "create", "enrollments": [{}]})),
        ("POST", "/enrollments", json!({"mode": "create", "enrollments": [good, good]})),
        ("POST", "/enrollments", json!({"mode": "create", "enrollments": vec![json!({"registrationId": "x"}); 11]})),
        ("POST", "/enrollmentGroups", json!({"mode": "create", "enrollments": []})),
        ("POST", "/enrollmentGroups", json!({"mode": "delete", "enrollmentGroups": [{"enrollmentGroupId": 1}]})),
        ("POST", "/enrollments/query", json!({"query": "SELECT * FROM enrollments WHERE"})),
        ("POST", "/enrollments/query", json!({"query": "UPDATE"})),
        ("POST", "/enrollments/query", json!({"query": 1})),
        ("POST", "/enrollmentGroups/query", json!({"query": "SELECT a FROM b"})),
        ("POST", "/registrations/g/query", json!({"query": "nonsense ;"})),
    ];
    for (path, base) in [("/enrollments/new", &good), ("/enrollmentGroups/new", &group)] {
        for wrong in [
            json!({"attestation": null}),
            json!({"attestation": 1}),
            json!({"attestation": {}}),
            json!({"attestation": {"type": "password"}}),
            json!({"attestation": {"type": "x509"}}),
            json!({"attestation": {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": "x"}}}}}),
            json!({"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "!"}}}),
            json!({"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "AAAA"}}}),
            json!({"attestation": {"type": "tpm", "tpm": {"endorsementKey": "AAAA"}}}),
            json!({"provisioningStatus": "maybe"}),
            json!({"provisioningStatus": 1}),
            json!({"allocationPolicy": "random"}),
            json!({"allocationPolicy": "custom"}),
            json!({"iotHubs": "hub"}),
            json!({"iotHubs": ["not a host"]}),
            json!({"iotHubs": vec!["a.b"; 51]}),
            json!({"initialTwin": 1}),
            json!({"initialTwin": {"tags": []}}),
            json!({"initialTwin": {"tags": {"a b": 1}}}),
            json!({"initialTwin": {"properties": {"desired": {"$x": 1}}}}),
            json!({"capabilities": []}),
            json!({"reprovisionPolicy": 1}),
        ] {
            cases.push(("PUT", path, merged(base.clone(), wrong)));
        }
    }
    cases
}

fn merged(mut base: Value, members: Value) -> Value {
    if let (Value::Object(base), Value::Object(members)) = (&mut base, members) {
        base.extend(members);
    }
    base
}

#[tokio::test]
async fn each_is_refused_and_changes_nothing() {
    let server = Server::new();
    server.hub("PUT", "/devices/d", "{\"deviceId\":\"d\"}").await.expect(200);
    server.hub("PUT", "/devices/d/modules/m0", "{}").await.expect(200);
    let state = async || {
        let read = ["/devices", "/devices/d/modules", "/twins/d", "/twins/d/modules/m0"];
        let mut all = Vec::new();
        for path in read {
            all.push(server.hub("GET", path, "").await.json());
        }
        for path in ["/enrollments/query", "/enrollmentGroups/query"] {
            all.push(server.dps("POST", path, "{\"query\":\"*\"}").await.json());
        }
        all
    };
    let before = state().await;
    let mut cases: Vec<(&str, &str, String, bool)> = Vec::new();
    let text =
        |(method, path, body): (&'static str, &'static str, Value), is_hub| (method, path, body.to_string(), is_hub);
    cases.extend(hub_cases().into_iter().map(|case| text(case, true)));
    cases.extend(dps_cases().into_iter().map(|case| text(case, false)));
    for (method, path, is_hub) in [
        ("PUT", "/devices/new", true),
        ("PUT", "/devices/d/modules/m", true),
        ("PATCH", "/twins/d", true),
        ("PUT", "/twins/d", true),
        ("POST", "/devices/query", true),
        ("PUT", "/enrollments/new", false),
        ("PUT", "/enrollmentGroups/new", false),
        ("POST", "/enrollments", false),
    ] {
        let bodies = NOWHERE.iter().chain(&NO_OBJECTS);
        cases.extend(bodies.map(|body| (method, path, (*body).to_owned(), is_hub)));
    }
    cases.extend(NOWHERE.iter().chain(&NO_OBJECTS[..4]).map(|body| ("POST", "/devices", (*body).to_owned(), true)));
    assert!(cases.len() > 250, "{}", cases.len());
    for (method, path, body, is_hub) in cases {
        let reply = if is_hub { server.hub(method, path, &body).await } else { server.dps(method, path, &body).await };
        let shown: String = body.chars().take(200).collect();
        assert!(
            matches!(reply.status.as_u16(), 400 | 413),
            "{method} {path} {shown}: {} {:?}",
            reply.status,
            reply.body
        );
        let told = reply.json();
        match is_hub {
            // A bulk request whose rows fail is told row by row.
            true if told.get("errors").is_some() => assert_eq!(told["isSuccessful"], false),
            true => {
                let name = reply.header("iothub-errorcode").unwrap().to_owned();
                let message = told["Message"].as_str().unwrap();
                assert!(message.starts_with(&format!("ErrorCode:{name};")), "{message}");
            }
            false => {
                assert_eq!(told["errorCode"].as_u64().unwrap() / 1000, u64::from(reply.status.as_u16()), "{told}");
                assert!(told["message"].as_str().is_some_and(|text| text.len() > 10), "{told}");
            }
        }
    }
    assert_eq!(state().await, before);
}
