//! Standings of identities that may have a clone, and the continuity counter, as operators and devices see them.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use unicity_hub::suspicion::{Ending, SessionSeen, Traits};
use unicity_hub::{CloseReason, SessionControl, SessionEpoch};
use unicity_identity::error::KeyOwner;
use unicity_identity::{ClientIdentity, CloneEvidence, ClonePolicy, Entropy, KeyFingerprint, Timestamp};
use unicity_provisioning::registry::{Actor, Command, Registry as _, Request, StandingVerdict};

use crate::server::{NOW, SCOPE, Server, device_token, enrollment, key};

#[derive(Default)]
struct Handle(Mutex<Vec<CloseReason>>);

impl SessionControl for Handle {
    fn close(&self, reason: CloseReason) {
        self.0.lock().push(reason);
    }
}

fn client() -> ClientIdentity {
    ClientIdentity { hub: "alpha".parse().unwrap(), device_id: "dev-1".parse().unwrap(), module_id: None }
}

fn epoch(counter: u64) -> SessionEpoch {
    SessionEpoch { boot: 1, counter }
}

async fn enrolled(server: &Server) {
    server.dps("PUT", "/enrollments/dev-1", &enrollment("registrationId", "dev-1", &key(50))).await.expect(200);
}

async fn register(server: &Server, payload: &Value, status: u16) -> Value {
    let (path, token) = (format!("/{SCOPE}/registrations/dev-1/register"), device_token("dev-1", &key(50)));
    let body = json!({"registrationId": "dev-1", "payload": payload}).to_string();
    server.device("PUT", &path, Some(&token), &body).await.expect(status).json()
}

const ONE: &str = "/unicity/standing?registrationId=dev-1";

#[tokio::test]
async fn an_operator_holds_an_identity_back_and_lets_it_go() {
    let server = Server::with_continuity(ClonePolicy::Newest);
    server.dps("GET", ONE, "").await.expect(404);
    server.dps("GET", "/unicity/standing", "").await.expect(400);
    enrolled(&server).await;
    let calm = server.dps("GET", ONE, "").await.expect(200).json();
    assert_eq!((&calm["standing"], &calm["clonePolicy"]), (&Value::Null, &json!("newest")));
    server.dps("POST", "/unicity/standing/release?registrationId=dev-1", "").await.expect(404);
    let operation = register(&server, &Value::Null, 200).await["operationId"].as_str().unwrap().to_owned();
    let handle = Arc::new(Handle::default());
    server.sessions.insert(&client(), epoch(1), handle.clone());

    // By its device, which stands for its registration.
    let path = "/unicity/standing/quarantine?deviceId=dev-1";
    let held = server.dps("POST", path, "{\"reason\":\"stolen van\"}").await.expect(200).json();
    assert_eq!((&held["state"], &held["registrationId"]), (&json!("quarantined"), &json!("dev-1")));
    assert_eq!((&held["sessionEnded"], &held["evidence"][0]["detail"]), (&json!(true), &json!("stolen van")));
    assert_eq!(handle.0.lock().len(), 1);
    for shown in [
        server.hub("GET", "/devices/dev-1", "").await.expect(200).json(),
        server.dps("GET", "/registrations/dev-1", "").await.expect(200).json(),
    ] {
        assert_eq!(shown["standing"]["state"], "quarantined");
    }
    let all = server.dps("GET", "/unicity/standings", "").await.expect(200).json();
    assert_eq!(all["value"].as_array().unwrap().len(), 1);
    let refused = register(&server, &Value::Null, 429).await;
    assert_eq!(refused["errorCode"], 429_002);
    let token = device_token("dev-1", &key(50));
    let base = format!("/{SCOPE}/registrations/dev-1");
    server.device("POST", &base, Some(&token), "{}").await.expect(429);
    server.device("GET", &format!("{base}/operations/{operation}"), Some(&token), "").await.expect(429);
    let long = json!({"reason": "x".repeat(300)}).to_string();
    server.dps("POST", path, &long).await.expect(400);

    let path = "/unicity/standing/release?registrationId=dev-1";
    for _ in 0..2 {
        let released = server.dps("POST", path, "").await.expect(200).json();
        let by = &released["releasedBy"];
        assert_eq!((&released["state"], by), (&json!("released"), &json!("policy provisioningserviceowner")));
    }
    register(&server, &Value::Null, 200).await;
}

#[tokio::test]
async fn what_was_seen_of_sessions_is_shown() {
    let server = Server::with_continuity(ClonePolicy::Newest);
    enrolled(&server).await;
    register(&server, &Value::Null, 200).await;
    let traits = Arc::new(Traits { tls: None, keep_alive_seconds: 60, clean_session: false, client_type: None });
    for counter in 1..=3 {
        let session = SessionSeen {
            epoch: epoch(counter),
            at: Timestamp(NOW.0 + counter),
            key: KeyFingerprint([7; 32]),
            peer: "192.0.2.9".parse().unwrap(),
            traits: traits.clone(),
            resumed: false,
            took_over: None,
            end: None,
        };
        let older = (counter > 1).then(|| (epoch(counter - 1), true));
        server.suspicion.opened(&client(), session, older);
        if let Some((older, _)) = older {
            server.suspicion.ended(&client(), older, Timestamp(NOW.0 + counter), Ending::Closed, true);
        }
    }
    server.sessions.insert(&client(), epoch(3), Arc::new(Handle::default()));
    let shown = server.dps("GET", ONE, "").await.expect(200).json();
    assert_eq!((&shown["scoreNow"], &shown["hub"], &shown["deviceId"]), (&json!(30), &json!("alpha"), &json!("dev-1")));
    assert_eq!(shown["evidenceNow"][1]["signal"], "overlappingConnections");
    let ends: Vec<_> = shown["sessions"].as_array().unwrap().iter().map(|session| &session["end"]).collect();
    assert_eq!(ends, ["takenOver", "takenOver", "live"]);
    let first = &shown["sessions"][0];
    assert_eq!((&first["peer"], &first["answered"]), (&json!("192.0.2.9"), &json!(true)));
    assert_eq!(first["takenOverBy"], "00000001-000000000002");
    assert_eq!(shown["continuity"], json!({"confirmed": 0, "issued": 1}));
}

fn token_of(answer: &Value) -> Value {
    answer["registrationState"]["payload"]["$unicity"].clone()
}

#[tokio::test]
async fn a_continuity_token_goes_out_and_comes_back_and_an_old_one_is_found_out() {
    let server = Server::with_continuity(ClonePolicy::Quarantine);
    enrolled(&server).await;
    let first = token_of(&register(&server, &json!({"model": "x"}), 200).await);
    assert!(first["continuity"].as_str().unwrap().starts_with("1."));
    // The answer is lost: the same again.
    let answer = register(&server, &json!({"model": "x"}), 200).await;
    assert_eq!(token_of(&answer), first);
    // A poll tells the same.
    let poll = async |answer: &Value| {
        let operation = format!("/{SCOPE}/registrations/dev-1/operations/{}", answer["operationId"].as_str().unwrap());
        let token = device_token("dev-1", &key(50));
        token_of(&server.device("GET", &operation, Some(&token), "").await.expect(200).json())
    };
    assert_eq!(poll(&answer).await, first);
    let second = token_of(&register(&server, &json!({"model": "x", "$unicity": first}), 200).await);
    let stored = server.dps("GET", "/registrations/dev-1", "").await.expect(200).json();
    assert_eq!(stored["devicePayload"], json!({"model": "x"}), "the member is not the device's own");
    assert_eq!(stored.get("payload"), None, "nor the enrollment's");
    // From now on the key alone buys no token, by registering or by polling.
    let answer = register(&server, &json!({"model": "x"}), 200).await;
    assert_eq!((token_of(&answer), poll(&answer).await), (Value::Null, Value::Null));
    let third = token_of(&register(&server, &json!({"$unicity": second}), 200).await);
    let stored = server.dps("GET", "/registrations/dev-1", "").await.expect(200).json();
    assert_eq!(stored.get("devicePayload"), None, "nothing else was sent");

    // Another device has the key, and a token of long ago.
    let refused = register(&server, &json!({"$unicity": first}), 429).await;
    assert_eq!(refused["errorCode"], 429_002);
    register(&server, &Value::Null, 429).await;
    register(&server, &json!({"$unicity": {"continuity": "4.00"}}), 429).await;
    let held = server.dps("GET", ONE, "").await.expect(200).json();
    assert_eq!(held["standing"]["evidence"][0]["signal"], "staleContinuity");
    // Who holds the newest is who got it last.
    register(&server, &json!({"$unicity": third}), 200).await;
    let released = server.dps("GET", ONE, "").await.expect(200).json();
    assert_eq!(released["standing"]["releasedBy"], "continuity");
}

#[tokio::test]
async fn the_first_token_releases_no_quarantine() {
    let server = Server::with_continuity(ClonePolicy::Quarantine);
    enrolled(&server).await;
    // What the key buys of a device that never sent a token back.
    let first = token_of(&register(&server, &Value::Null, 200).await);
    let evidence =
        vec![CloneEvidence { at: NOW, signal: "alternatingTakeover".into(), score: 100, detail: "d".into() }];
    let verdict = StandingVerdict::Suspect { score: 100, evidence, quarantine: true };
    let owner = KeyOwner::Registration("dev-1".parse().unwrap());
    let command = Command::SetStanding { owner, verdict };
    let request = Request { command, actor: Actor::Server, now: NOW, entropy: Entropy::from_seed([9; 32]) };
    server.registry.submit(request).await.unwrap();
    register(&server, &json!({"$unicity": first}), 429).await;
    let held = server.dps("GET", ONE, "").await.expect(200).json();
    assert_eq!(held["standing"]["state"], "quarantined");
}

#[tokio::test]
async fn an_old_token_is_recorded_under_the_policy_newest() {
    let server = Server::with_continuity(ClonePolicy::Newest);
    enrolled(&server).await;
    let mut token = token_of(&register(&server, &Value::Null, 200).await);
    let old = token.clone();
    for _ in 0..2 {
        token = token_of(&register(&server, &json!({"$unicity": token}), 200).await);
    }
    let answer = register(&server, &json!({"$unicity": old}), 200).await;
    assert_eq!(token_of(&answer), Value::Null, "it is served, but not given the newest");
    let found = server.dps("GET", ONE, "").await.expect(200).json();
    assert_eq!(found["standing"]["state"], "suspected");
}
