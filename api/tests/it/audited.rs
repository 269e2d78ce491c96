//! Every call of a service that changes something is in the audit log, under the policy that made it.

use std::collections::BTreeSet;

use serde_json::json;
use unicity_api::required_rights;
use unicity_provisioning::Actor;

use crate::pki::Ca;
use crate::rights::PATHS;
use crate::server::{SCOPE, Server, device_token, enrollment, key};

/// Calls that read although their method is none that only reads.
const READS: &[&str] = &[
    "POST /enrollments/query",
    "POST /enrollmentGroups/query",
    "POST /registrations/g/query",
    "POST /devices/query",
    "POST /enrollments/e/attestationmechanism",
    "POST /enrollmentGroups/g/attestationmechanism",
    "POST /unicity/plan",
];

/// Calls that have no leaf of their own, each with the reason.
const EXEMPT: &[(&str, &str)] = &[
    ("POST /jobs/create", "refused: there are no jobs"),
    ("DELETE /jobs/j", "refused: there are no jobs"),
    ("POST /unicity/audit/checkpoint", "signs what was decided before, and decides nothing"),
    ("POST /unicity/crls/reload", "reads files again; a list that is new is stored in the server's name"),
    ("POST /unicity/imports", "`importCompleted` when the rows become true, in the tests of the store"),
    ("POST /unicity/plan", "reads"),
    ("POST /unicity/transfers/e/retry", "`transferBegun` or `registered`, in the tests of transfers"),
    ("DELETE /unicity/imports/{number}", "`importReleased`, in the tests of the store"),
];

#[tokio::test]
async fn every_change_has_a_leaf_with_its_policy() {
    let server = Server::new();
    let root = Ca::root("Plant");
    let member = Ca::root("Member");
    let authority = |ca: &Ca| json!({"properties": {"certificate": ca.pem()}}).to_string();
    let verified = |ca: &Ca| json!({"properties": {"certificate": ca.pem(), "isVerified": true}}).to_string();
    let mut walked = BTreeSet::new();
    // What a call is about, as the lists of paths name it; the call; its body; the event of its leaf.
    let e = enrollment("registrationId", "e", &key(60));
    let g = enrollment("enrollmentGroupId", "g", &key(62));
    let bulk = |id_name: &str, id: &str, byte: u8, list: &str| {
        let item: serde_json::Value = serde_json::from_str(&enrollment(id_name, id, &key(byte))).unwrap();
        json!({"mode": "create", list: [item]}).to_string()
    };
    let crl = |number: u64| json!({"crl": member.revoke(number, 2025, &[])}).to_string();
    let crl_key = crate::pki::key_fingerprint(&member.der);
    let fingerprint = "ab".repeat(32);
    let denied = json!({"keyFingerprint": fingerprint}).to_string();
    let rights = |names: &[&str]| json!({"rights": names}).to_string();
    let revoke = json!({"keyFingerprint": "cd".repeat(32)}).to_string();
    let link = json!({"connectionString": crate::hubs::connection_string("far.example", 50)}).to_string();
    let least = json!({"allocationPolicy": "leastLoaded"}).to_string();
    let steps: Vec<(&str, &str, String, String, &str)> = vec![
        ("PUT /enrollments/e", "", String::new(), e, "enrollmentPut"),
        ("POST /enrollments", "", String::new(), bulk("registrationId", "b", 61, "enrollments"), "enrollmentPut"),
        ("PUT /enrollmentGroups/g", "", String::new(), g, "groupPut"),
        (
            "POST /enrollmentGroups",
            "",
            String::new(),
            bulk("enrollmentGroupId", "h", 63, "enrollmentGroups"),
            "groupPut",
        ),
        ("register", "", String::new(), String::new(), ""),
        (
            "POST /unicity/standing/quarantine",
            "",
            "?registrationId=e".into(),
            json!({"reason": "lost"}).to_string(),
            "quarantined",
        ),
        ("POST /unicity/standing/release", "", "?registrationId=e".into(), String::new(), "released"),
        ("DELETE /registrations/r", "DELETE /registrations/e", String::new(), String::new(), "registrationDeleted"),
        ("DELETE /enrollments/e", "", String::new(), String::new(), "enrollmentDeleted"),
        ("DELETE /enrollmentGroups/g", "", String::new(), String::new(), "groupDeleted"),
        ("PUT /devices/d", "", String::new(), json!({"deviceId": "d"}).to_string(), "devicePut"),
        ("POST /devices", "", String::new(), json!([{"id": "d2", "importMode": "create"}]).to_string(), "devicePut"),
        (
            "PUT /devices/d/modules/m",
            "",
            String::new(),
            json!({"deviceId": "d", "moduleId": "m"}).to_string(),
            "modulePut",
        ),
        ("PATCH /twins/d", "", String::new(), json!({"tags": {"a": 1}}).to_string(), "twinEdited"),
        ("PUT /twins/d", "", String::new(), json!({"tags": {"a": 2}}).to_string(), "twinEdited"),
        ("PUT /unicity/twins/d", "", String::new(), json!({"tags": {"a": 3}}).to_string(), "twinEdited"),
        ("PATCH /twins/d/modules/m", "", String::new(), json!({"tags": {"a": 1}}).to_string(), "twinEdited"),
        ("PUT /twins/d/modules/m", "", String::new(), json!({"tags": {"a": 2}}).to_string(), "twinEdited"),
        ("DELETE /devices/d/modules/m", "", String::new(), String::new(), "moduleDeleted"),
        ("DELETE /devices/d", "", String::new(), String::new(), "deviceDeleted"),
        ("POST /unicity/backup", "", String::new(), json!({"directory": "/b"}).to_string(), "backupRequested"),
        ("PUT /unicity/certificates/c", "", String::new(), authority(&root), "authorityPut"),
        ("POST /unicity/certificates/c/generateverificationcode", "", String::new(), String::new(), "authorityPut"),
        ("POST /unicity/certificates/c/verify", "", String::new(), "PROOF".into(), "authorityPut"),
        ("DELETE /unicity/certificates/c", "", String::new(), String::new(), "authorityDeleted"),
        (
            "PUT /unicity/certificates/c",
            "PUT /unicity/certificates/m",
            String::new(),
            verified(&member),
            "authorityPut",
        ),
        ("PUT /unicity/crls", "", String::new(), crl(7), "revocationListPut"),
        ("DELETE /unicity/crls/x", "DELETE /unicity/crls/", crl_key, String::new(), "revocationListPut"),
        ("POST /unicity/denied", "", String::new(), denied, "denyRuleSet"),
        ("DELETE /unicity/denied", "", format!("?keyFingerprint={fingerprint}"), String::new(), "denyRuleSet"),
        ("POST /unicity/revocations", "", String::new(), revoke, "revoked"),
        (
            "DELETE /unicity/revocations",
            "",
            format!("?keyFingerprint={}", "cd".repeat(32)),
            String::new(),
            "revocationLifted",
        ),
        ("PUT /unicity/policies/p", "", String::new(), rights(&["EnrollmentRead"]), "policyPut"),
        ("POST /unicity/policies/p/rotate", "", String::new(), String::new(), "policyRotated"),
        ("DELETE /unicity/policies/p", "", String::new(), String::new(), "policyRemoved"),
        ("PUT /unicity/hubs/h", "", String::new(), link, "hubPut"),
        ("PATCH /unicity/hubs/h", "", String::new(), json!({"draining": true}).to_string(), "hubPut"),
        ("DELETE /unicity/hubs/h", "", String::new(), String::new(), "hubRemoved"),
        ("PUT /unicity/allocation", "", String::new(), least, "defaultPolicySet"),
        ("DELETE /unicity/allocation", "", String::new(), String::new(), "defaultPolicySet"),
        ("POST /unicity/rebalances", "", String::new(), String::new(), "rebalancePut"),
        ("POST /unicity/rebalances/1/stop", "", String::new(), String::new(), "rebalancePut"),
        ("POST /unicity/rebalances/1/resume", "", String::new(), String::new(), "rebalancePut"),
    ];
    for (route, call, rest, mut body, event) in steps {
        if route == "register" {
            let path = format!("/{SCOPE}/registrations/e/register");
            server
                .device("PUT", &path, Some(&device_token("e", &key(60))), "{\"registrationId\":\"e\"}")
                .await
                .expect(200);
            continue;
        }
        if body == "PROOF" {
            let shown = server.dps("GET", "/unicity/certificates/c", "").await.expect(200).json();
            let code = shown["properties"]["verificationCode"].as_str().unwrap().to_owned();
            body = json!({"certificate": crate::pki::pem(&root.issue(&code))}).to_string();
        }
        let (method, path) = if call.is_empty() { route } else { call }.split_once(' ').unwrap();
        let path = format!("{path}{rest}");
        let before = server.registry.leaves.lock().len();
        let replaces = method == "PUT" && path.starts_with("/twins");
        let (reply, actor) = match required_rights(
            &method.parse().unwrap(),
            &format!("{path}{}api-version=1", if path.contains('?') { '&' } else { '?' }).parse().unwrap(),
        ) {
            Some(("hub", _)) if replaces => (server.hub_if(method, &path, "*", &body).await, "iothubowner"),
            Some(("hub", _)) => (server.hub(method, &path, &body).await, "iothubowner"),
            Some(_) => (server.dps(method, &path, &body).await, "provisioningserviceowner"),
            None => panic!("{method} {path} is no call"),
        };
        assert!(reply.status.is_success(), "{method} {path}: {} {:?}", reply.status, reply.body);
        let leaves = server.registry.leaves.lock();
        let new: Vec<_> =
            leaves[before..].iter().map(|leaf| (serde_json::to_value(leaf).unwrap(), &leaf.actor)).collect();
        assert!(
            new.iter().any(|(leaf, by)| leaf["event"] == event && **by == Actor::Policy(actor.into())),
            "{method} {path} by {actor}: no {event} among {new:?}"
        );
        walked.insert(route.to_owned());
    }

    // None was forgotten: all paths of the services, and all of ours as the description has them.
    let mut all: BTreeSet<String> = BTreeSet::new();
    for path in PATHS {
        let uri = format!("{path}?api-version=1").parse().unwrap();
        // With other methods these words are ids, and such calls are walked already.
        let is_word = ["/query", "/create", "/reload"].iter().any(|word| path.ends_with(word));
        for method in ["PUT", "POST", "PATCH", "DELETE"].into_iter().filter(|method| !is_word || *method == "POST") {
            if required_rights(&method.parse().unwrap(), &uri).is_some() {
                all.insert(format!("{method} {path}"));
            }
        }
    }
    let told = |call: &String| {
        walked.contains(call) || READS.contains(&call.as_str()) || EXEMPT.iter().any(|(exempt, _)| exempt == call)
    };
    let forgotten: Vec<_> = all.iter().filter(|call| !told(call)).collect();
    assert!(forgotten.is_empty(), "no leaf is looked for after {forgotten:?}");
    let document = server.dps("GET", "/unicity/openapi.json", "").await.expect(200).json();
    let shape = |call: &str| {
        call.split('/').map(|part| if part.starts_with('{') { "*" } else { part }).collect::<Vec<_>>().join("/")
    };
    let like = |route: &str, call: &str| {
        let (route, call) = (shape(route), shape(call));
        route.split('/').count() == call.split('/').count()
            && route.split('/').zip(call.split('/')).all(|(a, b)| a == "*" || b == "*" || a == b)
    };
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|method| *method != "get") {
            let route = format!("{} {path}", method.to_uppercase());
            let known =
                walked.iter().any(|call| like(&route, call)) || EXEMPT.iter().any(|(call, _)| like(&route, call));
            assert!(known, "no leaf is looked for after {route}");
        }
    }
}
