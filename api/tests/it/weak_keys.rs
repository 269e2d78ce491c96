//! Symmetric keys that anyone can look up or guess are refused on every path by which a key comes in.

use serde_json::{Value, json};

use crate::server::{Server, base64, key};

/// All zeros, and the sample of the documentation that everybody copies from.
const WEAK: [&str; 2] = [
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==",
];

fn attestation(primary: &str, secondary: &str) -> Value {
    json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}})
}

#[tokio::test]
async fn a_weak_key_is_refused_on_every_path_in_either_slot() {
    let server = Server::new();
    let good = base64(&key(50));
    let other = base64(&key(51));
    for (name, path) in [("registrationId", "/enrollments/old"), ("enrollmentGroupId", "/enrollmentGroups/old")] {
        let (one, two) = if name == "registrationId" { (&good, &good) } else { (&other, &other) };
        server
            .dps("PUT", path, &json!({name: "old", "attestation": attestation(one, two)}).to_string())
            .await
            .expect(200);
    }
    for weak in WEAK {
        for (primary, secondary) in [(weak, good.as_str()), (good.as_str(), weak)] {
            let attestation = attestation(primary, secondary);
            let individual = json!({"registrationId": "old", "attestation": attestation});
            let group = json!({"enrollmentGroupId": "old", "attestation": attestation});
            let mut answers = vec![
                server.dps_if("PUT", "/enrollments/old", "*", &individual.to_string()).await,
                server.dps_if("PUT", "/enrollmentGroups/old", "*", &group.to_string()).await,
            ];
            let new = json!({"registrationId": "new", "attestation": attestation});
            answers.push(server.dps("PUT", "/enrollments/new", &new.to_string()).await);
            let new = json!({"enrollmentGroupId": "new", "attestation": attestation});
            answers.push(server.dps("PUT", "/enrollmentGroups/new", &new.to_string()).await);
            for answer in answers {
                let answer = answer.expect(400).json();
                let message = answer["message"].as_str().unwrap();
                assert!(message.contains("known to be weak"), "{message}");
                assert!(!message.contains(weak), "the key itself is not repeated: {message}");
            }
            let device = json!({"deviceId": "new", "authentication": {"type": "sas",
                "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}}});
            let answer = server.hub("PUT", "/devices/new", &device.to_string()).await.expect(400).json();
            assert!(answer["Message"].as_str().unwrap().contains("known to be weak"), "{answer}");
            let bulk =
                json!({"mode": "create", "enrollments": [{"registrationId": "new", "attestation": attestation}]});
            let answer = server.dps("POST", "/enrollments", &bulk.to_string()).await.expect(200).json();
            assert_eq!(answer["errors"][0]["errorCode"], 400_004, "{answer}");
            assert!(answer["errors"][0]["errorStatus"].as_str().unwrap().contains("weak"), "{answer}");
        }
    }
    server.dps("GET", "/enrollments/new", "").await.expect(404);
}
