//! Queries over twins (`service-rest.md` 12.6): what they find, pages, and what changes between pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::server::{Reply, Server, body_of, hub_request};

async fn query(server: &Server, text: &str, count: Option<&str>, token: Option<&str>) -> Reply {
    let mut request = hub_request("POST", "/devices/query");
    if let Some(count) = count {
        request = request.header("x-ms-max-item-count", count);
    }
    if let Some(token) = token {
        request = request.header("x-ms-continuation", token);
    }
    server.send(request.body(body_of(&json!({ "query": text }).to_string())).unwrap()).await
}

async fn rows(server: &Server, text: &str) -> Value {
    let reply = query(server, text, None, None).await.expect(200);
    assert_eq!(reply.header("x-ms-continuation"), None, "{text}");
    reply.json()
}

/// All pages, with what to do between two of them.
async fn pages(server: &Server, text: &str, count: usize, mut between: impl AsyncFnMut(usize)) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let reply = query(server, text, Some(&count.to_string()), token.as_deref()).await.expect(200);
        let page = reply.json().as_array().unwrap().clone();
        assert!(page.len() <= count);
        all.push(page);
        match reply.header("x-ms-continuation") {
            Some(next) => token = Some(next.to_owned()),
            None => return all,
        }
        between(all.len()).await;
    }
}

async fn fleet(n: usize) -> Server {
    let server = Server::new();
    for n in 0..n {
        let row = json!([{"id": format!("d{n:02}"), "importMode": "create", "tags": {"n": n, "even": n % 2 == 0}}]);
        server.hub("POST", "/devices", &row.to_string()).await.expect(200);
    }
    server
}

#[tokio::test]
async fn twins_columns_and_aggregates() {
    let server = fleet(7).await;
    server.hub("PUT", "/devices/d03/modules/m", "{}").await.expect(200);
    server.hub("PATCH", "/twins/d03/modules/m", "{\"tags\":{\"role\":\"probe\"}}").await.expect(200);
    let all = query(&server, "select * from devices", None, None).await.expect(200);
    assert_eq!(all.header("x-ms-item-type"), Some("Twin"));
    assert_eq!(all.json().as_array().unwrap().len(), 7);
    assert_eq!(all.json()[2], server.hub("GET", "/twins/d02", "").await.json());
    let raw = query(&server, "SELECT deviceId, tags.n FROM devices WHERE tags.even AND tags.n > 2", None, None).await;
    assert_eq!(raw.header("x-ms-item-type"), Some("Raw"));
    assert_eq!(raw.json(), json!([{"deviceId": "d04", "n": 4}, {"deviceId": "d06", "n": 6}]));
    for (text, expected) in [
        ("SELECT COUNT() AS n FROM devices", json!([{"n": 7}])),
        (
            "SELECT tags.even, SUM(tags.n) AS s FROM devices GROUP BY tags.even",
            json!([{"even": false, "s": 9}, {"even": true, "s": 12}]),
        ),
        (
            "SELECT deviceId FROM devices WHERE deviceId IN ['d05', 'd01', 'nobody', 'not an id']",
            json!([{"deviceId": "d01"}, {"deviceId": "d05"}]),
        ),
        ("SELECT deviceId FROM devices WHERE deviceId = 'd01' AND tags.even", json!([])),
        (
            "SELECT deviceId, moduleId, tags.role FROM devices.modules",
            json!([{"deviceId": "d03", "moduleId": "m", "role": "probe"}]),
        ),
        ("SELECT moduleId FROM devices.modules WHERE deviceId = 'd03'", json!([{"moduleId": "m"}])),
        ("SELECT moduleId FROM devices.modules WHERE deviceId = 'd04'", json!([])),
        ("SELECT TOP 2 deviceId FROM devices WHERE tags.n >= 3", json!([{"deviceId": "d03"}, {"deviceId": "d04"}])),
        ("SELECT TOP 0 * FROM devices", json!([])),
    ] {
        assert_eq!(rows(&server, text).await, expected, "{text}");
    }
}

#[tokio::test]
async fn pages_meet_and_the_last_has_no_token() {
    let server = fleet(7).await;
    for module in ["a", "b", "c"] {
        server.hub("PUT", &format!("/devices/d01/modules/{module}"), "{}").await.expect(200);
    }
    for (text, count, sizes) in [
        ("SELECT * FROM devices", 3, vec![3, 3, 1]),
        ("SELECT * FROM devices", 7, vec![7]),
        ("SELECT * FROM devices WHERE tags.even", 2, vec![2, 2]),
        ("SELECT TOP 4 * FROM devices", 3, vec![3, 1]),
        ("SELECT * FROM devices.modules", 2, vec![2, 1]),
        ("SELECT * FROM devices.modules WHERE deviceId IN ['d00', 'd01']", 1, vec![1, 1, 1]),
        ("SELECT * FROM devices WHERE deviceId IN ['d00', 'd05', 'd06']", 2, vec![2, 1]),
    ] {
        let found = pages(&server, text, count, async |_| {}).await;
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{text} by {count}");
    }
}

/// Whatever comes and goes between two pages: what was there all the time is found once.
#[tokio::test]
async fn changes_between_pages_cost_no_row_and_repeat_none() {
    let server = fleet(20).await;
    let found = pages(&server, "SELECT deviceId FROM devices", 3, async |page| {
        // The very device that the token names, one before it, one behind it, and new ones on both sides.
        for path in [format!("/devices/d{:02}", page * 3 - 1), format!("/devices/d{:02}", 19 - page)] {
            server.hub("DELETE", &path, "").await;
        }
        for id in [format!("a{page}"), format!("d{page:02}x"), format!("z{page}")] {
            server.hub("PUT", &format!("/devices/{id}"), &json!({"deviceId": id}).to_string()).await.expect(200);
        }
        server.hub("PATCH", &format!("/twins/z{page}"), "{\"tags\":{\"n\":1}}").await.expect(200);
    })
    .await;
    let ids: Vec<String> =
        found.into_iter().flatten().map(|row| row["deviceId"].as_str().unwrap().to_owned()).collect();
    let unique: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(unique.len(), ids.len(), "no row twice");
    assert!(ids.is_sorted());
    let left = server.hub("GET", "/devices", "").await.json();
    for device in left.as_array().unwrap() {
        let id = device["deviceId"].as_str().unwrap();
        assert!(unique.contains(id) || !id.starts_with('d') || id.ends_with('x'), "{id} was there all the time");
    }
}

#[tokio::test]
async fn mistakes_name_the_column() {
    let server = fleet(2).await;
    for (text, hint) in [
        ("SELECT * FROM devices WHERE deviceId == 'x'", "column 39"),
        ("SELECT * FROM enrollments", "column 15"),
        ("SELECT a, COUNT() FROM devices", "column 8"),
        ("", "column 1"),
    ] {
        let refused = query(&server, text, None, None).await.expect(400);
        assert_eq!(refused.header("iothub-errorcode"), Some("ArgumentInvalid"));
        assert!(refused.json()["Message"].as_str().unwrap().contains(hint), "{text} {:?}", refused.body);
    }
    let first = query(&server, "SELECT * FROM devices", Some("1"), None).await.expect(200);
    let token = first.header("x-ms-continuation").unwrap();
    query(&server, "SELECT deviceId FROM devices", Some("1"), Some(token)).await.expect(400);
    for wrong in ["x", "AAAA", "!!"] {
        query(&server, "SELECT * FROM devices", None, Some(wrong)).await.expect(400);
    }
    query(&server, "SELECT * FROM devices", Some("many"), None).await.expect(400);
    for body in ["", "{}", "[]", "{\"query\":1}"] {
        server.hub("POST", "/devices/query", body).await.expect(400);
    }
}

#[tokio::test]
async fn jobs_are_refused_with_the_ways_that_there_are() {
    let server = Server::new();
    let refused = server.hub("POST", "/jobs/create", "{\"type\":\"export\"}").await.expect(501);
    assert!(refused.json()["Message"].as_str().unwrap().contains("POST /devices"));
    assert_eq!(server.hub("GET", "/jobs", "").await.expect(200).json(), json!([]));
    assert_eq!(server.hub("GET", "/jobs/j", "").await.expect(404).header("iothub-errorcode"), Some("JobNotFound"));
    server.hub("PUT", "/jobs/v2/j", "{}").await.expect(501);
}
