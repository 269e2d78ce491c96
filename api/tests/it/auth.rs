//! Service tokens: the spellings of the SDKs, and every way to be refused (`service-rest.md` 2.2, 2.3, 11, 19).

use http::Request;
use unicity_api::{ApiSettings, RequestRate};
use unicity_identity::sas::percent_encode;
use unicity_identity::{SasToken, SharedAccessKey};

use crate::server::{NOW, Reply, Server, TOMORROW, body_of, enrollment, key, request};

async fn get(server: &Server, host: &str, path: &str, token: &str) -> Reply {
    server.send(request("GET", path, host, token).body(body_of("")).unwrap()).await
}

fn signed(key: &SharedAccessKey, resource: &str, order: &str) -> String {
    use base64::Engine as _;
    let expiry = TOMORROW.to_string();
    let signature = key.hmac_sha256(format!("{resource}\n{expiry}").as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(signature);
    order
        .replace("SR", resource)
        .replace("RAW", &signature)
        .replace("SIG", &percent_encode(&signature))
        .replace("LOW", &percent_encode(&signature).replace("%2F", "%2f").replace("%3D", "%3d").replace("%2B", "%2b"))
        .replace("SE", &expiry)
}

#[tokio::test]
async fn the_tokens_of_all_sdks_are_taken() {
    let server = Server::new();
    server.dps("PUT", "/enrollments/d", &enrollment("registrationId", "d", &key(50))).await.expect(200);
    let policy = "skn=provisioningserviceowner";
    for (resource, order) in [
        ("dps.local", format!("SharedAccessSignature sr=SR&sig=SIG&{policy}&se=SE")),
        ("dps.local", format!("SharedAccessSignature sr=SR&sig=RAW&se=SE&{policy}")),
        ("dps.local", format!("sharedaccesssignature sr=SR&sig=LOW&se=SE&{policy}")),
        ("dps.local%3A8443", format!("SharedAccessSignature sr=SR&sig=SIG&se=SE&{policy}")),
        ("dps.local%3a8443%2fenrollments", format!("SharedAccessSignature sr=SR&sig=SIG&se=SE&{policy}")),
        ("DPS.local", format!("SharedAccessSignature sr=SR&sig=SIG&se=SE&{policy}")),
        ("dps.local%2Fenrollments%2Fd", format!("SharedAccessSignature sr=SR&sig=SIG&se=SE&{policy}")),
    ] {
        let token = signed(&key(2), resource, &order);
        get(&server, "dps.local:8443", "/enrollments/d", &token).await.expect(200);
    }
    // Reached under a name that is nobody's: the token for one of ours is still good, and so is one for that name.
    for resource in ["dps.local", "alpha.local", "10.0.0.7"] {
        let token = SasToken::create(&key(1), resource, TOMORROW, Some("provisioningserviceowner"));
        get(&server, "10.0.0.7:443", "/enrollments/d", &token).await.expect(200);
    }
}

#[tokio::test]
async fn every_wrong_token_is_401() {
    let server = Server::new();
    server.dps("PUT", "/enrollments/d", &enrollment("registrationId", "d", &key(50))).await.expect(200);
    let owner = Some("provisioningserviceowner");
    let skew_ago = NOW.0 / 1000 - 300;
    for (what, token) in [
        ("another host", SasToken::create(&key(1), "other.local", TOMORROW, owner)),
        ("another path", SasToken::create(&key(1), "dps.local/enrollments/other", TOMORROW, owner)),
        ("half a segment", SasToken::create(&key(1), "dps.local/enroll", TOMORROW, owner)),
        ("expired", SasToken::create(&key(1), "dps.local", skew_ago, owner)),
        ("another key", SasToken::create(&key(9), "dps.local", TOMORROW, owner)),
        ("another policy's key", SasToken::create(&key(3), "dps.local", TOMORROW, owner)),
        ("a hub's policy", SasToken::create(&key(10), "dps.local", TOMORROW, Some("iothubowner"))),
        ("no such policy", SasToken::create(&key(1), "dps.local", TOMORROW, Some("none"))),
        ("no policy", SasToken::create(&key(1), "dps.local", TOMORROW, None)),
        ("a bearer", "Bearer eyJ".into()),
        ("nothing", String::new()),
    ] {
        let reply = get(&server, "dps.local", "/enrollments/d", &token).await.expect(401);
        assert_eq!(reply.json()["errorCode"], 401_002, "{what}");
        assert!(reply.header("www-authenticate").is_some(), "{what}");
        assert!(reply.header("x-ms-error-code").is_some(), "{what}");
    }
    let none = Request::get("/enrollments/d?api-version=1").header("Host", "dps.local").body(body_of("")).unwrap();
    server.send(none).await.expect(401);
    // Within the skew.
    let token = SasToken::create(&key(1), "dps.local", skew_ago + 1, owner);
    get(&server, "dps.local", "/enrollments/d", &token).await.expect(200);
    // Node's first token has milliseconds.
    let token = SasToken::create(&key(1), "dps.local", NOW.0, owner);
    get(&server, "dps.local", "/enrollments/d", &token).await.expect(200);
}

#[tokio::test]
async fn a_policy_does_what_its_rights_allow() {
    let server = Server::new();
    let body = enrollment("registrationId", "d", &key(50));
    server.dps("PUT", "/enrollments/d", &body).await.expect(200);
    let reader = SasToken::create(&key(3), "dps.local", TOMORROW, Some("reader"));
    for (method, path, status) in [
        ("GET", "/enrollments/d", 200),
        ("POST", "/enrollments/query", 200),
        ("PUT", "/enrollments/d", 401),
        ("DELETE", "/enrollments/d", 401),
        ("POST", "/enrollments/d/attestationmechanism", 401),
        ("POST", "/enrollments", 401),
        ("PUT", "/enrollmentGroups/g", 401),
        ("GET", "/registrations/d", 404),
        ("DELETE", "/registrations/d", 401),
        ("GET", "/unicity/registrations", 200),
        ("GET", "/unicity/refusals", 200),
        ("GET", "/unicity/info", 200),
        ("POST", "/unicity/backup", 401),
    ] {
        let sent = if method == "PUT" { body.as_str() } else { "" };
        let reply = server.send(request(method, path, "dps.local", &reader).body(body_of(sent)).unwrap()).await;
        let reply = reply.expect(status);
        if status == 401 {
            assert!(reply.json()["message"].as_str().unwrap().contains("lacks the right"), "{method} {path}");
        }
    }
    for (policy, byte, get, put, telemetry) in [
        ("iothubowner", 10, 404, 400, 200),
        ("service", 11, 401, 401, 200),
        ("device", 12, 401, 401, 401),
        ("registryRead", 13, 404, 401, 401),
        ("registryReadWrite", 14, 404, 400, 401),
    ] {
        let token = SasToken::create(&key(byte), "alpha.local", TOMORROW, Some(policy));
        for (method, path, status) in
            [("GET", "/devices/d", get), ("PUT", "/devices/d", put), ("GET", "/unicity/telemetry", telemetry)]
        {
            let reply = server.send(request(method, path, "alpha.local", &token).body(body_of("")).unwrap()).await;
            assert_eq!(reply.status.as_u16(), status, "{policy} {method} {path}");
            if status == 401 && path.starts_with("/devices") {
                assert_eq!(reply.header("iothub-errorcode"), Some("IotHubUnauthorizedAccess"));
            }
        }
    }
}

#[tokio::test]
async fn a_hubs_policy_is_good_at_that_hub_only() {
    let server = Server::new();
    let alpha = SasToken::create(&key(10), "alpha.local", TOMORROW, Some("iothubowner"));
    let beta = SasToken::create(&key(110), "beta.local", TOMORROW, Some("iothubowner"));
    let dps = SasToken::create(&key(1), "alpha.local", TOMORROW, Some("provisioningserviceowner"));
    get(&server, "alpha.local:443", "/devices", &alpha).await.expect(200);
    get(&server, "beta.local", "/devices", &beta).await.expect(200);
    get(&server, "beta.local", "/devices", &alpha).await.expect(401);
    get(&server, "alpha.local", "/devices", &dps).await.expect(401);
    get(&server, "alpha.local", "/enrollments/x", &alpha).await.expect(401);
    get(&server, "alpha.local", "/unicity/devices?hub=beta", &alpha).await.expect(401);
    get(&server, "dps.local", "/unicity/devices?hub=beta", &beta).await.expect(200);
    let unknown = get(&server, "gamma.local", "/devices", &alpha).await.expect(404);
    assert_eq!(unknown.header("iothub-errorcode"), Some("IotHubNotFound"));
    // With one hub there is no doubt which is meant.
    let single = Server::with(unicity_api::ApiSettings::default(), &["alpha"]);
    get(&single, "gamma.local", "/devices", &alpha).await.expect(200);
}

#[tokio::test]
async fn a_stranger_learns_of_no_policy_but_the_operator_does() {
    let server = Server::new();
    let token = SasToken::create(&key(9), "dps.local", TOMORROW, Some("guess"));
    let reply = get(&server, "dps.local", "/enrollments/d", &token).await.expect(401);
    let tracking_id = reply.header("x-ms-request-id").unwrap().to_owned();
    assert!(!String::from_utf8_lossy(&reply.body).contains("guess"));
    let story = server.dps("GET", &format!("/unicity/refusals/{tracking_id}"), "").await.expect(200).json();
    assert!(story["cause"].as_str().unwrap().contains("guess"), "{story}");
    assert_eq!(story["peer"], "192.0.2.7:4711");
    assert_eq!(story["subject"], "/enrollments/d");
}

/// Catches a key that holds up others, and a refusal that does not say when to come back.
#[tokio::test]
async fn a_key_that_calls_too_often_waits_alone() {
    let settings = ApiSettings {
        host_names: vec!["dps.local".into()],
        requests_per_key: RequestRate { burst: 2, per_second: 0.001 },
        ..ApiSettings::default()
    };
    let server = Server::with(settings, &["alpha"]);
    let token = |key: &SharedAccessKey| SasToken::create(key, "dps.local", TOMORROW, Some("provisioningserviceowner"));
    for status in [404, 404, 429, 429] {
        let reply = get(&server, "dps.local", "/enrollments/d", &token(&key(1))).await.expect(status);
        assert_eq!(reply.header("retry-after"), (status == 429).then_some("59"));
    }
    // Nobody empties a bucket without the key, and the policy's other key has one of its own.
    for _ in 0..5 {
        get(&server, "dps.local", "/enrollments/d", &token(&key(77))).await.expect(401);
    }
    get(&server, "dps.local", "/enrollments/d", &token(&key(2))).await.expect(404);
}
