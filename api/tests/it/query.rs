//! Queries and their pages (`service-rest.md` 3.7, traps 4, 5, 15, 34).

use serde_json::Value;

use crate::server::{Reply, SCOPE, Server, body_of, dps_request, enrollment, key, member_token};

async fn page(server: &Server, path: &str, body: &str, size: &str, continuation: Option<&str>) -> Reply {
    let mut request = dps_request("POST", path).header("x-ms-max-item-count", size);
    if let Some(token) = continuation {
        request = request.header("x-ms-continuation", token);
    }
    server.send(request.body(body_of(body)).unwrap()).await
}

fn ids(reply: &Reply, name: &str) -> Vec<String> {
    let Value::Array(items) = reply.json() else { panic!("not an array") };
    items.iter().map(|item| item[name].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn three_enrollments_are_three_pages_of_one() {
    let server = Server::new();
    for (byte, id) in [(1, "a"), (2, "b"), (3, "c")] {
        server
            .dps("PUT", &format!("/enrollments/{id}"), &enrollment("registrationId", id, &key(byte)))
            .await
            .expect(200);
        let group = enrollment("enrollmentGroupId", id, &key(100 + byte));
        server.dps("PUT", &format!("/enrollmentGroups/{id}"), &group).await.expect(200);
    }
    for (path, name, kind) in [
        ("/enrollments/query", "registrationId", "Enrollment"),
        ("/enrollmentGroups/query", "enrollmentGroupId", "EnrollmentGroup"),
    ] {
        let (mut seen, mut token, mut pages) = (Vec::new(), None::<String>, 0);
        loop {
            let reply = page(&server, path, "{\"query\":\"SELECT *\"}", "1", token.as_deref()).await.expect(200);
            assert_eq!(reply.header("x-ms-item-type"), Some(kind));
            seen.extend(ids(&reply, name));
            pages += 1;
            // Absent, not empty: Node would go on for ever.
            match reply.header("x-ms-continuation") {
                None => break,
                Some(next) => {
                    assert!(!next.is_empty());
                    token = Some(next.to_owned());
                }
            }
        }
        assert_eq!((seen, pages), (vec!["a".into(), "b".into(), "c".into()], 3));
        let all = page(&server, path, "{\"query\":\"*\"}", "0", None).await.expect(200);
        assert_eq!(ids(&all, name).len(), 3);
        assert_eq!(all.header("x-ms-continuation"), None);
    }
    page(&server, "/enrollments/query", "{\"query\":\"*\"}", "1", Some("!")).await.expect(400);
    page(&server, "/enrollments/query", "{\"query\":\"*\"}", "many", None).await.expect(400);
    page(&server, "/enrollments/query", "{\"query\":\"SELECT x\"}", "1", None).await.expect(400);
    page(&server, "/enrollments/query", "{\"query\":", "1", None).await.expect(400);
}

#[tokio::test]
async fn nothing_is_an_empty_array() {
    let server = Server::new();
    let reply = server.dps("POST", "/enrollments/query", "{\"query\":\"SELECT * FROM enrollments\"}").await.expect(200);
    assert_eq!(&reply.body[..], b"[]");
}

#[tokio::test]
async fn conditions_select() {
    let server = Server::new();
    for (byte, id) in [(1, "a"), (2, "b")] {
        server
            .dps("PUT", &format!("/enrollments/{id}"), &enrollment("registrationId", id, &key(byte)))
            .await
            .expect(200);
    }
    server.dps_if("PUT", "/enrollments/b", "*", "{\"provisioningStatus\":\"disabled\"}").await.expect(200);
    for (condition, expected) in [
        ("registrationId = 'A'", vec!["a"]),
        ("registrationId = 'x y'", vec![]),
        ("registrationId = 'a' AND provisioningStatus = 'disabled'", vec![]),
        ("provisioningStatus = 'disabled'", vec!["b"]),
        ("attestation.type = 'symmetricKey'", vec!["a", "b"]),
    ] {
        let body = serde_json::json!({"query": format!("SELECT * FROM enrollments WHERE {condition}")}).to_string();
        let reply = server.dps("POST", "/enrollments/query", &body).await.expect(200);
        assert_eq!(ids(&reply, "registrationId"), expected, "{condition}");
    }
}

#[tokio::test]
async fn the_registrations_of_a_group_need_no_body() {
    let server = Server::new();
    for (group, byte) in [("g", 60), ("h", 61)] {
        let body = enrollment("enrollmentGroupId", group, &key(byte));
        server.dps("PUT", &format!("/enrollmentGroups/{group}"), &body).await.expect(200);
    }
    for (id, byte) in [("m1", 60), ("m2", 60), ("m3", 61)] {
        let path = format!("/{SCOPE}/registrations/{id}/register");
        server.device("PUT", &path, Some(&member_token(id, &key(byte))), "").await.expect(200);
    }
    let reply = server.dps("POST", "/registrations/g/query", "").await.expect(200);
    assert_eq!(reply.header("x-ms-item-type"), Some("DeviceRegistration"));
    assert_eq!(ids(&reply, "registrationId"), ["m1", "m2"]);
    let first = page(&server, "/registrations/g/query", "", "1", None).await.expect(200);
    let token = first.header("x-ms-continuation").unwrap();
    assert_eq!(ids(&page(&server, "/registrations/g/query", "", "1", Some(token)).await, "registrationId"), ["m2"]);
    // The records outlive the group (service-rest.md 3.4).
    server.dps("DELETE", "/enrollmentGroups/g", "").await.expect(204);
    assert_eq!(ids(&server.dps("POST", "/registrations/g/query", "").await, "registrationId"), ["m1", "m2"]);
    server.dps("POST", "/registrations/none/query", "").await.expect(404);
}
