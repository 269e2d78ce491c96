//! TPM attestation: enrollments (`service-rest.md` 3.2) and the challenge (`device-mqtt.md` 3.1).

use serde_json::{Value, json};
use unicity_identity::SasToken;
use unicity_provisioning::tpm::algorithm::{AesCfb, HashAlgorithm};
use unicity_provisioning::tpm::public::{Attributes, PublicKey};
use unicity_provisioning::tpm::{ActivationBlob, EkTemplate, EndorsementKey, Public, StorageRootKey};

use crate::pki::base64;
use crate::server::{NOW, SCOPE, Server, TOMORROW, challenges, device_token, key};

const STORAGE: u32 = Attributes::FIXED_TPM
    | Attributes::FIXED_PARENT
    | Attributes::SENSITIVE_DATA_ORIGIN
    | Attributes::RESTRICTED
    | Attributes::DECRYPT;

/// The public areas of a TPM with these keys: of an EK and an SRK after the usual templates.
fn public_areas(ek: PublicKey, srk: PublicKey) -> (Vec<u8>, Vec<u8>) {
    let ek = Public {
        name_alg: HashAlgorithm::Sha256,
        attributes: Attributes(STORAGE | Attributes::ADMIN_WITH_POLICY),
        policy: EkTemplate::LowRange.policy(HashAlgorithm::Sha256).to_vec(),
        key: ek,
    };
    let srk = Public {
        name_alg: HashAlgorithm::Sha256,
        attributes: Attributes(STORAGE | Attributes::USER_WITH_AUTH | Attributes::NO_DA),
        policy: vec![],
        key: srk,
    };
    (ek.to_bytes(), srk.to_bytes())
}

fn ecc() -> PublicKey {
    let pair = rcgen::KeyPair::generate().unwrap();
    let point = pair.public_key_raw().to_vec();
    let coordinate = |from: usize| point[from..from + 32].try_into().unwrap();
    PublicKey::EccP256 { symmetric: AesCfb::Aes128, x: coordinate(1), y: coordinate(33) }
}

fn rsa(modulus: Vec<u8>) -> PublicKey {
    PublicKey::Rsa { symmetric: AesCfb::Aes128, bits: 2048, exponent: 0, modulus }
}

struct Tpm {
    ek: Vec<u8>,
    srk: Vec<u8>,
}

impl Tpm {
    fn new() -> Self {
        let (ek, srk) = public_areas(ecc(), ecc());
        Self { ek, srk }
    }

    fn body(&self, id: &str) -> String {
        let tpm = json!({"endorsementKey": base64(&self.ek), "storageRootKey": base64(&self.srk)});
        json!({"registrationId": id, "tpm": tpm}).to_string()
    }

    /// What the TPM would sign with, once it has opened its challenge.
    fn token(&self, id: &str) -> String {
        let (ek, srk) = (EndorsementKey::parse(&self.ek).unwrap(), StorageRootKey::parse(&self.srk).unwrap());
        let keys = challenges().valid_keys(&ek, &srk, NOW);
        SasToken::create(&keys[0], &format!("{SCOPE}/registrations/{id}"), TOMORROW, Some("registration"))
    }
}

fn enrollment(id: &str, tpm: Value) -> String {
    json!({"registrationId": id, "attestation": {"type": "tpm", "tpm": tpm}}).to_string()
}

#[tokio::test]
async fn keys_come_in_and_go_out() {
    let server = Server::new();
    let tpm = Tpm::new();
    let only_ek = json!({"endorsementKey": base64(&tpm.ek)});
    let both = json!({"endorsementKey": base64(&tpm.ek), "storageRootKey": base64(&tpm.srk)});
    let created = server.dps("PUT", "/enrollments/t", &enrollment("t", only_ek.clone())).await.expect(200).json();
    assert_eq!(created["attestation"], json!({"type": "tpm", "tpm": only_ek}));
    let kept = server.dps_if("PUT", "/enrollments/t", "*", "{\"attestation\":{\"type\":\"tpm\"}}").await.expect(200);
    assert_eq!(kept.json()["attestation"], created["attestation"]);
    let given = server.dps_if("PUT", "/enrollments/t", "*", &enrollment("t", both.clone())).await.expect(200).json();
    assert_eq!(given["attestation"]["tpm"], both);
    let mechanism = server.dps("POST", "/enrollments/t/attestationmechanism", "").await.expect(200).json();
    assert_eq!(mechanism, given["attestation"]);
    let query = "{\"query\":\"SELECT * FROM enrollments WHERE attestation.type = 'TPM'\"}";
    let found = server.dps("POST", "/enrollments/query", query).await.expect(200).json();
    assert_eq!(found[0]["registrationId"], "t");
    let reply = server.dps("PUT", "/enrollments/u", &enrollment("u", both)).await.expect(409).json();
    assert!(reply["message"].as_str().unwrap().contains("registration t"), "{reply}");
}

#[tokio::test]
async fn a_wrong_key_is_refused_with_the_reason() {
    let server = Server::new();
    let tpm = Tpm::new();
    let (weak, _) = public_areas(rsa(vec![0xff; 256]), ecc());
    for (tpm, hint) in [
        (json!({}), "attestation.tpm.endorsementKey: it is missing"),
        (json!({"endorsementKey": ""}), "it is missing"),
        (json!({"endorsementKey": "?"}), "not base64"),
        (json!({"endorsementKey": "AA=="}), "TPM2B_PUBLIC"),
        (json!({"endorsementKey": base64(&tpm.srk)}), "endorsement key"),
        (json!({"endorsementKey": base64(&weak)}), "divisible by 3"),
        (json!({"endorsementKey": base64(&tpm.ek), "storageRootKey": "AA=="}), "attestation.tpm.storageRootKey"),
    ] {
        let reply = server.dps("PUT", "/enrollments/t", &enrollment("t", tpm.clone())).await.expect(400).json();
        assert!(reply["message"].as_str().unwrap().contains(hint), "{tpm} {reply}");
    }
}

#[tokio::test]
async fn a_tpm_is_challenged_and_registers() {
    let server = Server::new();
    let tpm = Tpm::new();
    let only_ek = json!({"endorsementKey": base64(&tpm.ek)});
    server.dps("PUT", "/enrollments/t", &enrollment("t", only_ek)).await.expect(200);
    let path = format!("/{SCOPE}/registrations/t");
    let register = format!("{path}/register");

    let challenge = server.device("PUT", &register, None, &tpm.body("t")).await.expect(401);
    assert!(challenge.body.is_ascii());
    assert_eq!(challenge.header("x-ms-error-code"), Some("401000"));
    let body = challenge.json();
    assert_eq!(body["keyName"], "registration");
    assert_eq!(body["message"], "Authorization required");
    assert_eq!(body.get("unencryptedAuthenticationKey"), Some(&Value::Null));
    assert_eq!(body.get("status"), None, "C takes an answer with a status for another one");
    let blob = |value: &Value| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
        ActivationBlob::parse(&bytes).unwrap()
    };
    blob(&body["authenticationKey"]);
    let again = server.device("PUT", &register, None, &tpm.body("t")).await.expect(401).json();
    assert_eq!(again["authenticationKey"], body["authenticationKey"], "whoever asks changes nothing for the device");
    // The first half of a registration is neither a refusal nor one that counts.
    let latest = server.dps("GET", "/unicity/refusals", "").await.expect(200).json();
    assert_eq!(latest["items"], json!([]));
    let page = unicity_api::exposition(&server.api.metrics());
    assert!(page.contains("unicity_http_registrations_total{outcome=\"refused\"} 0\n"), "{page}");

    let token = tpm.token("t");
    server.device("PUT", &register, Some(&device_token("t", &key(50))), &tpm.body("t")).await.expect(401);
    let answer = server.device("PUT", &register, Some(&token), &tpm.body("t")).await.expect(200).json();
    assert_eq!(answer["status"], "assigned");
    blob(&answer["registrationState"]["tpm"]["authenticationKey"]);
    let operation = answer["operationId"].as_str().unwrap();
    let poll = format!("{path}/operations/{operation}");
    let polled = server.device("GET", &poll, Some(&token), "{}").await.expect(200).json();
    assert_eq!(polled["status"], "assigned");
    let state = server.device("POST", &path, Some(&token), &tpm.body("t")).await.expect(200).json();
    assert_eq!(state["status"], "assigned");

    // The storage root key is known from now on.
    let stored = server.dps("GET", "/enrollments/t", "").await.expect(200).json();
    assert_eq!(stored["attestation"]["tpm"]["storageRootKey"], base64(&tpm.srk));
    assert_eq!(stored["registrationState"]["status"], "assigned");
    assert_eq!(server.hub("GET", "/devices/t", "").await.expect(200).json()["authentication"]["type"], "sas");
}

#[tokio::test]
async fn another_tpm_is_refused() {
    let server = Server::new();
    let (tpm, other) = (Tpm::new(), Tpm::new());
    let both = json!({"endorsementKey": base64(&tpm.ek), "storageRootKey": base64(&tpm.srk)});
    server.dps("PUT", "/enrollments/t", &enrollment("t", both)).await.expect(200);
    let register = format!("/{SCOPE}/registrations/t/register");
    let cleared = Tpm { ek: tpm.ek.clone(), srk: other.srk.clone() };
    for wrong in [&other, &cleared] {
        for token in [None, Some(wrong.token("t"))] {
            let reply = server.device("PUT", &register, token.as_deref(), &wrong.body("t")).await.expect(400).json();
            assert_eq!(reply["errorCode"], 400_004);
            assert_eq!(reply["message"], "Endorsement key is invalid, or does not match the Enrollment.");
            assert_eq!(reply.get("authenticationKey"), None);
        }
    }
    let unknown = format!("/{SCOPE}/registrations/u/register");
    let reply = server.device("PUT", &unknown, None, &tpm.body("u")).await.expect(401).json();
    assert_eq!(reply.get("authenticationKey"), None);
    // The token of one TPM is not another's.
    server.device("PUT", &register, Some(&other.token("t")), &tpm.body("t")).await.expect(401);
}
