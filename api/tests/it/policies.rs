//! Shared access policies: made, rotated, removed, and at once in force.

use serde_json::{Value, json};
use unicity_identity::{SasToken, SharedAccessKey};

use crate::server::{Reply, Server, TOMORROW, base64, body_of, hub_request, key, policy_key, request};

const OWNER: &str = "provisioningserviceowner";

/// A call with this key of a policy.
async fn call(server: &Server, host: &str, name: &str, key: &SharedAccessKey, method: &str, path: &str) -> Reply {
    let token = SasToken::create(key, host, TOMORROW, Some(name));
    server.send(request(method, path, host, &token).body(body_of("")).unwrap()).await
}

async fn status(server: &Server, name: &str, key: &SharedAccessKey) -> u16 {
    call(server, "dps.local", name, key, "GET", "/enrollments/none").await.status.as_u16()
}

fn rights(names: &[&str]) -> String {
    json!({"rights": names}).to_string()
}

#[tokio::test]
async fn a_policy_is_made_shown_changed_and_removed() {
    let server = Server::new();
    let path = "/unicity/policies/line-1";
    let made = server.dps("PUT", path, &rights(&["enrollmentread", "EnrollmentWrite"])).await.expect(200);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let etag = made.header("etag").unwrap().to_owned();
    let made = made.json();
    assert_eq!(made["rights"], json!(["EnrollmentRead", "EnrollmentWrite"]));
    assert_eq!((&made["audience"], &made["builtIn"], &made["generation"]), (&json!("dps"), &json!(false), &json!(0)));
    assert_eq!(made["hostName"], "dps.local");
    let first = policy_key("dps", "line-1", 0);
    assert_eq!(made["primaryKey"], base64(&first));
    assert_eq!(server.dps("GET", path, "").await.expect(200).json(), made);

    // In force with the answer, and with these rights only.
    assert_eq!(status(&server, "line-1", &first).await, 404);
    call(&server, "dps.local", "line-1", &first, "GET", "/registrations/r").await.expect(401);
    call(&server, "dps.local", "line-1", &first, "GET", path).await.expect(401);

    let listed = server.dps("GET", "/unicity/policies?audience=dps", "").await.expect(200).json();
    let names: Vec<_> = listed["value"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, [OWNER, "line-1"]);
    let everywhere = server.dps("GET", "/unicity/policies", "").await.expect(200);
    assert!(!String::from_utf8_lossy(&everywhere.body).contains("Key\""), "no key is listed");
    assert_eq!(everywhere.json()["value"].as_array().unwrap().len(), 2 + 2 * 5);

    server.dps("PUT", path, &rights(&["EnrollmentRead"])).await.expect(409);
    server.dps_if("PUT", path, "\"other\"", &rights(&["EnrollmentRead"])).await.expect(412);
    let changed = server.dps_if("PUT", path, &etag, &rights(&["RegistrationStatusRead"])).await.expect(200).json();
    assert_eq!(changed["primaryKey"], made["primaryKey"]);
    assert_eq!(status(&server, "line-1", &first).await, 401);
    call(&server, "dps.local", "line-1", &first, "GET", "/registrations/r").await.expect(404);

    server.dps_if("DELETE", path, &etag, "").await.expect(412);
    server.dps("DELETE", path, "").await.expect(204);
    server.dps("DELETE", path, "").await.expect(404);
    call(&server, "dps.local", "line-1", &first, "GET", "/registrations/r").await.expect(401);
    // The same name again has other keys.
    server.dps("PUT", path, &rights(&["EnrollmentRead"])).await.expect(200);
    assert_eq!(status(&server, "line-1", &first).await, 401);
    assert_eq!(server.policy_keys.told.lock().len(), 4);
}

#[tokio::test]
async fn a_rotated_key_is_good_once_more_and_then_no_more() {
    let server = Server::new();
    let (old, second) = (key(1), key(2));
    assert_eq!((status(&server, OWNER, &old).await, status(&server, OWNER, &second).await), (404, 404));
    let path = format!("/unicity/policies/{OWNER}/rotate");
    let rotated = server.dps("POST", &path, "").await.expect(200).json();
    let new = policy_key("dps", OWNER, 1);
    assert_eq!((&rotated["primaryKey"], &rotated["secondaryKey"]), (&json!(base64(&new)), &json!(base64(&old))));
    assert_eq!(status(&server, OWNER, &new).await, 404);
    assert_eq!(status(&server, OWNER, &old).await, 404, "it is the secondary one");
    assert_eq!(status(&server, OWNER, &second).await, 401);

    // The old key may still call, and rotates itself out.
    call(&server, "dps.local", OWNER, &old, "POST", &path).await.expect(200);
    assert_eq!(status(&server, OWNER, &old).await, 401);
    assert_eq!(status(&server, OWNER, &new).await, 404);
    call(&server, "dps.local", OWNER, &new, "POST", &format!("{path}?both=true")).await.expect(200);
    assert_eq!(status(&server, OWNER, &new).await, 401);
    for generation in [3, 4] {
        assert_eq!(status(&server, OWNER, &policy_key("dps", OWNER, generation)).await, 404);
    }

    let newest = policy_key("dps", OWNER, 4);
    let shown = call(&server, "dps.local", OWNER, &newest, "GET", &format!("/unicity/policies/{OWNER}")).await;
    let etag = shown.expect(200).header("etag").unwrap().to_owned();
    // A retry under the version that was read does not rotate twice.
    for status in [200, 412] {
        let token = SasToken::create(&newest, "dps.local", TOMORROW, Some(OWNER));
        let request = request("POST", &path, "dps.local", &token).header("If-Match", &etag);
        server.send(request.body(body_of("")).unwrap()).await.expect(status);
    }
}

#[tokio::test]
async fn a_hubs_owner_keeps_its_own_policies_and_no_others() {
    let server = Server::new();
    let at = |hub: &str, name: &str| format!("/unicity/policies/{name}?audience={hub}");
    let as_hub = |method: &'static str, path: String, body: String| {
        let server = &server;
        async move { server.send(hub_request(method, &path).body(body_of(&body)).unwrap()).await }
    };
    let made = as_hub("PUT", at("alpha", "twins"), rights(&["ServiceConnect"])).await.expect(200).json();
    assert_eq!((&made["audience"], &made["hostName"]), (&json!("alpha"), &json!("alpha.local")));
    as_hub("PUT", at("beta", "twins"), rights(&["ServiceConnect"])).await.expect(401);
    as_hub("PUT", "/unicity/policies/twins".into(), rights(&["EnrollmentRead"])).await.expect(401);
    as_hub("GET", "/unicity/policies".into(), String::new()).await.expect(401);
    let listed = as_hub("GET", "/unicity/policies?audience=alpha".into(), String::new()).await.expect(200).json();
    assert_eq!(listed["value"].as_array().unwrap().len(), 6);
    // A policy that lacks one of the hub's rights is no owner.
    for name in ["service", "registryReadWrite", "twins"] {
        let key = policy_key("alpha", name, 0);
        call(&server, "alpha.local", name, &key, "GET", "/unicity/policies?audience=alpha").await.expect(401);
    }
    let new = policy_key("alpha", "twins", 0);
    call(&server, "alpha.local", "twins", &new, "GET", "/twins/d").await.expect(404);
    call(&server, "beta.local", "twins", &new, "GET", "/twins/d").await.expect(401);
    // The service's keeper may do all of that.
    server.dps("DELETE", &at("alpha", "twins"), "").await.expect(204);
    call(&server, "alpha.local", "twins", &new, "GET", "/twins/d").await.expect(401);
    server.dps("PUT", &at("gamma", "x"), &rights(&["RegistryRead"])).await.expect(404);
    server.dps("GET", &at("gamma", "x"), "").await.expect(404);
    let last = server.dps("DELETE", &at("alpha", "iothubowner"), "").await.expect(400).json();
    assert!(last["message"].as_str().unwrap().contains("the last one"), "{last}");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let server = Server::new();
    let path = "/unicity/policies/p";
    for (path, body) in [
        (path, ""),
        (path, "{}"),
        (path, "[]"),
        (path, r#"{"rights": "EnrollmentRead"}"#),
        (path, r#"{"rights": []}"#),
        (path, r#"{"rights": ["Everything"]}"#),
        (path, r#"{"rights": ["RegistryRead"]}"#),
        ("/unicity/policies/a%3Bb", r#"{"rights": ["EnrollmentRead"]}"#),
        ("/unicity/policies/p?audience=A%20B", r#"{"rights": ["EnrollmentRead"]}"#),
    ] {
        let reply = server.dps("PUT", path, body).await.expect(400).json();
        assert_eq!(reply["errorCode"], 400_004, "{path} {body}");
    }
    server.dps("POST", &format!("/unicity/policies/{OWNER}/rotate?both=maybe"), "").await.expect(400);
    assert_eq!(server.dps("GET", path, "").await.expect(404).json()["errorCode"], 404_214);
    assert!(server.policy_keys.told.lock().is_empty());
    *server.registry.poisoned.lock() = true;
    let refused = server.dps("POST", &format!("/unicity/policies/{OWNER}/rotate"), "").await;
    assert!(refused.status.is_server_error());
    assert_eq!(status(&server, OWNER, &key(2)).await, 404, "nothing has changed");
    let _: Value = refused.json();
}
