//! `/unicity/revocations`: what each call does and refuses, and that rows follow, also those of an earlier start.

use std::time::Duration;

use serde_json::{Value, json};
use unicity_hub::{CloseReason, SessionControl, SessionEpoch, SessionFacts};
use unicity_identity::{ClientIdentity, Facets};

use crate::server::{SCOPE, Server, device_token, enrollment, key, member_token};

const PATH: &str = "/unicity/revocations";

struct Live(std::sync::Arc<SessionFacts>, std::sync::atomic::AtomicBool);

impl SessionControl for Live {
    fn close(&self, _: CloseReason) {
        self.1.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    fn facts(&self) -> Option<&SessionFacts> {
        Some(&self.0)
    }
}

async fn register(server: &Server, id: &str, token: &str) -> u16 {
    let path = format!("/{SCOPE}/registrations/{id}/register");
    server.device("PUT", &path, Some(token), "").await.status.as_u16()
}

/// Waits until the rows of a revocation have followed.
async fn followed(server: &Server, query: &str) -> Value {
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let state = server.dps("GET", &format!("{PATH}?{query}"), "").await.expect(200).json();
            if state["complete"] == json!(true) {
                return state;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the rows follow")
}

#[tokio::test]
async fn a_revoke_says_what_it_touched_and_refuses_what_makes_no_sense() {
    let server = Server::new();
    server.dps("PUT", "/enrollments/dev", &enrollment("registrationId", "dev", &key(40))).await.expect(200);
    let token = device_token("dev", &key(40));
    assert_eq!(register(&server, "dev", &token).await, 200);
    let facets = Facets { registration: Some("dev".parse().unwrap()), ..Facets::default() };
    let live = std::sync::Arc::new(Live(SessionFacts { facets, rejudge: None }.into(), false.into()));
    let client = ClientIdentity { hub: "alpha".parse().unwrap(), device_id: "dev".parse().unwrap(), module_id: None };
    server.sessions.insert(&client, SessionEpoch { boot: 1, counter: 1 }, live.clone());

    let ask = |body: Value| body.to_string();
    let preview =
        server.dps("POST", PATH, &ask(json!({"registrationId": "dev", "dryRun": true}))).await.expect(200).json();
    assert_eq!((&preview["devices"], &preview["sessions"], &preview["keys"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(register(&server, "dev", &token).await, 200, "a dry run does nothing");

    let done =
        server.dps("POST", PATH, &ask(json!({"registrationId": "dev", "reason": "stolen"}))).await.expect(200).json();
    assert_eq!((&done["sessionsCut"], &done["keysDenied"], &done["rowsEnded"]), (&json!(1), &json!(1), &json!(1)));
    assert!(done["durableMs"].is_number() && done["cutMs"].is_number() && done["syncMs"].is_null(), "{done}");
    assert!(live.1.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(register(&server, "dev", &token).await, 401);
    let shown = server.dps("GET", "/enrollments/dev", "").await.expect(200).json();
    assert_eq!(shown["revoked"]["reason"], "stolen");
    assert_eq!(shown["provisioningStatus"], "disabled");
    let device = server.hub("GET", "/devices/dev", "").await.expect(200).json();
    assert_eq!((&device["status"], &device["statusReason"]), (&json!("disabled"), &json!("revoked")));

    for (body, status) in [
        (json!({}), 400),
        (json!({"registrationId": "dev", "groupId": "g"}), 400),
        (json!({"keyFingerprint": "12"}), 400),
        (json!({"registrationId": "nobody"}), 404),
        (json!({"groupId": "nobody"}), 404),
        (json!({"authority": "nobody"}), 404),
        (json!({"batch": "nobodys"}), 404),
        (json!({"batch": "nobodys", "dryRun": true}), 200),
        (json!({"registrationId": "dev", "reason": "x".repeat(257)}), 400),
        (json!({"registrationId": "dev", "reason": "lost\nrevoked by root"}), 400),
        (json!({"registrationId": "nobody", "force": true}), 200),
        (json!({"batch": "nobodys", "force": true}), 200),
        // It is in force: asking again is no mistake.
        (json!({"batch": "nobodys"}), 200),
    ] {
        server.dps("POST", PATH, &ask(body)).await.expect(status);
    }
    let again = server.dps("PUT", "/enrollments/nobody", &enrollment("registrationId", "nobody", &key(41))).await;
    let again = again.expect(409).json();
    assert!(again["message"].as_str().unwrap().contains("registration nobody was revoked"), "{again}");

    let listed = server.dps("GET", PATH, "").await.expect(200).json();
    assert_eq!(listed["value"].as_array().unwrap().len(), 3);
    server.dps("DELETE", &format!("{PATH}?registrationId=nobody"), "").await.expect(204);
    server.dps("DELETE", &format!("{PATH}?registrationId=nobody"), "").await.expect(404);
    server.dps("GET", &format!("{PATH}?registrationId=nobody"), "").await.expect(404);
}

#[tokio::test]
async fn rows_follow_in_several_records_and_those_of_an_earlier_start_are_resumed() {
    let server = Server::new();
    let group = enrollment("enrollmentGroupId", "g", &key(50));
    server.dps("PUT", "/enrollmentGroups/g", &group).await.expect(200);
    let names: Vec<String> = (0..150).map(|n| format!("dev-{n}")).collect();
    for name in &names {
        assert_eq!(register(&server, name, &member_token(name, &key(50))).await, 200);
    }
    let preview = server.dps("POST", PATH, &json!({"groupId": "g", "dryRun": true}).to_string()).await.expect(200);
    assert_eq!(preview.json()["devices"], 150);
    // Nobody follows, as if the server had ended right after its answer: the predicate holds all the same.
    let done = server.dps("POST", PATH, &json!({"groupId": "g"}).to_string()).await.expect(200).json();
    assert_eq!((&done["rowsFollow"], &done["revocation"]["complete"]), (&json!(true), &json!(false)));
    assert_eq!(register(&server, "dev-7", &member_token("dev-7", &key(50))).await, 401);
    assert_eq!(server.hub("GET", "/devices/dev-7", "").await.expect(200).json()["status"], "enabled");

    let following = tokio::spawn(server.api.clone().follow_revocations(server.stop.clone()));
    assert_eq!(followed(&server, "groupId=g").await["rows"], 150);
    for name in &names {
        let device = server.hub("GET", &format!("/devices/{name}"), "").await.expect(200).json();
        assert_eq!(device["statusReason"], "revoked", "{name}");
    }
    // One that comes while it waits.
    server.dps("PUT", "/enrollments/one", &enrollment("registrationId", "one", &key(51))).await.expect(200);
    let body = json!({"registrationId": "two", "batch": "b", "attestation": {"type": "symmetricKey"}}).to_string();
    server.dps("PUT", "/enrollments/two", &body).await.expect(200);
    server.dps("POST", PATH, &json!({"batch": "b"}).to_string()).await.expect(200);
    assert_eq!(followed(&server, "batch=b").await["rows"], 1);
    let status = |name: &str| format!("/enrollments/{name}");
    assert_eq!(server.dps("GET", &status("two"), "").await.expect(200).json()["provisioningStatus"], "disabled");
    assert_eq!(server.dps("GET", &status("one"), "").await.expect(200).json()["provisioningStatus"], "enabled");
    server.stop.cancel();
    following.await.unwrap();
}
