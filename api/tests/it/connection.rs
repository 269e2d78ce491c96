//! What a stranger can do to a connection, and how a connection ends.

use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use unicity_api::ApiSettings;
use unicity_listener::{Listener, ListenerSettings, Transport};

use crate::server::{Server, body_of, dps_request, enrollment, key};

#[tokio::test]
async fn a_body_above_the_limit_is_413_announced_or_not() {
    let settings = ApiSettings { body_bytes_max: 1000, ..ApiSettings::default() };
    let server = Server::with(settings, &["alpha"]);
    let body = "x".repeat(1001);
    let reply = server.dps("PUT", "/enrollments/a", &body).await.expect(413);
    assert_eq!(reply.json()["errorCode"], 413_001);
    let (mut client, _task) = server.connect();
    let head = dps_request("PUT", "/enrollments/a").body(()).unwrap();
    let token = head.headers()["authorization"].to_str().unwrap();
    let text = format!(
        "PUT {} HTTP/1.1\r\nHost: dps.local\r\nAuthorization: {token}\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{body}\r\n0\r\n\r\n",
        head.uri()
    );
    client.write_all(text.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn without_a_token_the_body_is_not_awaited() {
    let server = Server::new();
    let (mut client, _task) = server.connect();
    let head = "PUT /enrollments/a?api-version=1 HTTP/1.1\r\nHost: dps.local\r\nContent-Length: 1000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn who_sends_no_head_or_no_body_is_let_go() {
    let settings = ApiSettings {
        head_timeout: Duration::from_millis(20),
        body_timeout: Duration::from_millis(20),
        ..ApiSettings::default()
    };
    let server = Server::with(settings, &["alpha"]);
    for sent in ["", "GET /unicity/info HT"] {
        let (mut client, task) = server.connect();
        client.write_all(sent.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        task.await.unwrap();
    }
    let (mut client, task) = server.connect();
    let head = dps_request("PUT", "/enrollments/a").body(()).unwrap();
    let token = head.headers()["authorization"].to_str().unwrap();
    let text = format!(
        "PUT {} HTTP/1.1\r\nHost: dps.local\r\nAuthorization: {token}\r\nContent-Length: 9\r\n\r\n{{",
        head.uri()
    );
    client.write_all(text.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
    task.await.unwrap();
}

#[tokio::test]
async fn idle_connections_end_when_the_server_stops() {
    let server = Server::new();
    let (mut client, task) = server.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    server.stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn several_requests_go_over_one_connection() {
    let server = Server::new();
    server.dps("PUT", "/enrollments/a", &enrollment("registrationId", "a", &key(50))).await.expect(200);
    let (client, _task) = server.connect();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        sender.ready().await.unwrap();
        // A body with a GET is let pass, and must not break what follows.
        let request = dps_request("GET", "/enrollments/a").body(body_of("{}")).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let _ = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
    }
}

#[tokio::test]
async fn every_answer_has_an_id_and_bad_targets_have_answers() {
    let server = Server::new();
    for (path, status) in
        [("/%FF", 400), ("/", 404), ("/enrollments/a", 400), ("/enrollments/a?api-version=1&x=%FF", 400)]
    {
        let reply =
            server.send(Request::get(path).header("Host", "dps.local").body(body_of("")).unwrap()).await.expect(status);
        assert!(reply.header("x-ms-request-id").is_some());
        assert!(reply.header("strict-transport-security").is_some());
        assert!(reply.json()["message"].is_string());
    }
    let reply = server.dps("PATCH", "/enrollments/a", "").await.expect(405);
    assert_eq!(reply.header("allow"), Some("GET, PUT, DELETE"));
}

#[tokio::test]
async fn a_connection_counts_as_a_strangers_until_a_token_is_proven() {
    let server = Server::new();
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(address, Transport::Plain, ListenerSettings::named("https")).unwrap();
    let (address, metrics) = (listener.local_addr(), listener.metrics());
    let serving = tokio::spawn(listener.serve(server.api.clone(), server.stop.clone(), Duration::from_secs(30)));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let wrong = Request::get("/unicity/info").header("Host", "dps.local").body(body_of("")).unwrap();
    assert_eq!(sender.send_request(wrong).await.unwrap().status(), 401);
    assert_eq!(metrics.unauthenticated(), 1);
    let right = dps_request("GET", "/unicity/info").body(body_of("")).unwrap();
    sender.ready().await.unwrap();
    assert_eq!(sender.send_request(right).await.unwrap().status(), 200);
    assert_eq!(metrics.unauthenticated(), 0);
    server.stop.cancel();
    assert_eq!(serving.await.unwrap().cut, 0, "an idle connection ends at once");
    drop(sender);
    let _ = connection.await.unwrap();
}
