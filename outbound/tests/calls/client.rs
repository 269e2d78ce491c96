//! The client: whom it calls, whom it refuses, and how calls end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use unicity_outbound::client::{Allowed, Call, CallError, Client, ClientSettings, Endpoint, Reach, Reply, Trust};

use crate::server::{Act, Authority, NAME, Names, Server};

fn call(method: Method) -> Call {
    Call {
        method,
        path_and_query: "/api/choose?code=geheim".into(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        // Far off: no test waits for it, but the one that says so.
        deadline: Duration::from_secs(60),
        reply_bytes_max: 4096,
    }
}

/// A client that resolves by these names, and an endpoint that it may call.
fn allowing(names: Arc<Names>, host: &str, port: u16, trust: Trust, reach: Reach) -> (Client, Endpoint) {
    let client = Client::new(ClientSettings::default(), names);
    client.allow(Allowed::new(host, port, reach).unwrap());
    (client, Endpoint::new(host, port, trust).unwrap())
}

/// A client, and the endpoint of a server that it trusts.
fn reaching(authority: &Authority, server: &Server) -> (Client, Endpoint) {
    allowing(Names::here(), NAME, server.port, authority.trust(), Reach::Private)
}

/// One call to a server that does this.
async fn once(act: Act, call: Call) -> (Result<Reply, CallError>, Server) {
    let authority = Authority::new();
    let server = Server::new(&authority, [act]).await;
    let (client, endpoint) = reaching(&authority, &server);
    (client.call(&endpoint, call).await, server)
}

#[tokio::test]
async fn an_answer_comes_whole_and_its_connection_is_kept() {
    let authority = Authority::new();
    let server =
        Server::new(&authority, [Act::status(200, "Retry-After: 3\r\n", "one"), Act::status(503, "", "")]).await;
    let (client, endpoint) = reaching(&authority, &server);
    let reply = client.call(&endpoint, call(Method::POST)).await.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, &b"one"[..]));
    assert_eq!(reply.retry_after(), Some(Duration::from_secs(3)));
    // An error is an answer as well.
    let reply = client.call(&endpoint, call(Method::POST)).await.unwrap();
    assert_eq!((reply.status, reply.retry_after()), (StatusCode::SERVICE_UNAVAILABLE, None));
    let seen = server.seen();
    assert_eq!(seen[0].line(), "POST /api/choose?code=geheim HTTP/1.1");
    assert_eq!(seen[0].header("host"), Some(&*format!("{NAME}:{}", server.port)));
    assert_eq!(seen[0].body, b"{}");
    assert_eq!(seen.iter().map(|seen| seen.connection).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let authority = Authority::new();
        let server = Server::new(&authority, []).await;
        let elsewhere = format!("Location: https://{NAME}:{}/elsewhere\r\n", server.port);
        server.then(Act::status(status, &elsewhere, ""));
        server.then(Act::status(200, "", "followed"));
        let (client, endpoint) = reaching(&authority, &server);
        let reply = client.call(&endpoint, call(Method::GET)).await.unwrap();
        assert_eq!(reply.status.as_u16(), status);
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    let (result, _server) = once(Act::Endless, call(Method::POST)).await;
    let error = result.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { max: 4096, .. }) && error.may_have_arrived(), "{error}");
}

#[tokio::test]
async fn an_answer_of_just_the_bound_is_taken() {
    for (length, fits) in [(4096, true), (4097, false)] {
        let (result, _server) = once(Act::status(200, "", &"x".repeat(length)), call(Method::POST)).await;
        assert_eq!(result.is_ok(), fits, "{length}");
    }
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for() {
    let call = Call { deadline: Duration::from_millis(20), ..call(Method::POST) };
    let (result, _server) = once(Act::Silence, call).await;
    assert!(matches!(result, Err(CallError::Timeout { .. })), "{result:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_none() {
    for act in [
        Act::AnswerAndClose(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{\"iot".to_vec()),
        Act::AnswerAndClose(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"iot\r\n".to_vec()),
        Act::AnswerAndClose(b"HTTP/1.1 200".to_vec()),
        Act::AnswerAndClose(b"220 mail.example ESMTP\r\n".to_vec()),
        Act::Close,
    ] {
        let (result, server) = once(act, call(Method::POST)).await;
        let error = result.unwrap_err();
        assert!(matches!(error, CallError::Broken(_) | CallError::Protocol(_)) && error.may_have_arrived(), "{error}");
        assert_eq!(server.seen().len(), 1, "what may have been done is not done again");
    }
}

#[tokio::test]
async fn a_certificate_must_be_what_it_should() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (why, issuer, name, until) in [
        ("another authority", &other, NAME, 2100),
        ("another name", &authority, "other.example", 2100),
        ("expired", &authority, NAME, 2020),
    ] {
        let server = Server::with(issuer, name, until, [Act::status(200, "", "{}")]).await;
        let (client, endpoint) = reaching(&authority, &server);
        let error = client.call(&endpoint, call(Method::POST)).await.unwrap_err();
        assert!(matches!(error, CallError::Tls(_)) && !error.may_have_arrived(), "{why}: {error}");
        assert_eq!(server.seen().len(), 0, "{why}");
    }
}

#[tokio::test]
async fn a_kept_connection_serves_only_those_who_trust_alike() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::new(&authority, [Act::status(200, "", ""), Act::status(200, "", "")]).await;
    let (client, endpoint) = reaching(&authority, &server);
    client.call(&endpoint, call(Method::POST)).await.unwrap();
    let stranger = Endpoint::new(NAME, server.port, other.trust()).unwrap();
    let result = client.call(&stranger, call(Method::POST)).await;
    assert!(matches!(result, Err(CallError::Tls(_))), "{result:?}");
    // Nor those who may not call any more.
    client.set_allowed([]);
    let result = client.call(&endpoint, call(Method::POST)).await;
    assert!(matches!(result, Err(CallError::NotAllowed { .. })), "{result:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn what_was_closed_in_between_is_opened_anew() {
    let authority = Authority::new();
    let close = || Act::AnswerAndClose(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n".to_vec());
    // Closed at once, and closed only when the next request is there: the client cannot know before.
    for acts in [vec![close(), close()], vec![Act::status(200, "", ""), Act::Close, close()]] {
        let server = Server::new(&authority, acts).await;
        let (client, endpoint) = reaching(&authority, &server);
        for _ in 0..2 {
            let reply = client.call(&endpoint, call(Method::PUT)).await.unwrap();
            assert_eq!(reply.status, StatusCode::OK);
        }
        assert_eq!(server.connections(), 2);
    }
}

#[tokio::test]
async fn a_post_that_may_have_been_done_is_not_sent_again() {
    let authority = Authority::new();
    let acts = [Act::status(200, "", ""), Act::Close, Act::status(200, "", "")];
    let server = Server::new(&authority, acts).await;
    let (client, endpoint) = reaching(&authority, &server);
    client.call(&endpoint, call(Method::POST)).await.unwrap();
    let result = client.call(&endpoint, call(Method::POST)).await;
    assert!(matches!(result, Err(CallError::Broken(_))), "{result:?}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_name_that_leads_here_is_not_called_unless_it_may() {
    let authority = Authority::new();
    // One such address spoils the others, wherever it stands; none of them is connected to.
    for addresses in
        [&["127.0.0.1"][..], &["::ffff:127.0.0.1"], &["192.0.2.1", "127.0.0.1"], &["127.0.0.1", "192.0.2.1"]]
    {
        let server = Server::new(&authority, [Act::status(200, "", "")]).await;
        let (client, endpoint) =
            allowing(Names::new(&[addresses]), NAME, server.port, authority.trust(), Reach::Public);
        let error = client.call(&endpoint, call(Method::POST)).await.unwrap_err();
        assert!(matches!(error, CallError::AddressRefused { .. }) && !error.may_have_arrived(), "{error}");
        assert_eq!(server.connections(), 0);
    }
}

#[tokio::test]
async fn nobody_is_called_whom_no_operator_named() {
    let authority = Authority::new();
    let server = Server::new(&authority, [Act::status(200, "", "")]).await;
    let names = Names::here();
    let (client, _) = allowing(names.clone(), NAME, server.port, authority.trust(), Reach::Private);
    for (host, port) in [("other.example", server.port), (NAME, 443), ("127.0.0.1", server.port)] {
        let endpoint = Endpoint::new(host, port, authority.trust()).unwrap();
        let result = client.call(&endpoint, call(Method::POST)).await;
        assert!(matches!(result, Err(CallError::NotAllowed { .. })), "{host}: {result:?}");
    }
    assert_eq!((names.asked(), server.connections()), (0, 0));
}

#[tokio::test]
async fn a_name_is_looked_up_once_for_a_connection() {
    let authority = Authority::new();
    let server = Server::new(&authority, [Act::status(200, "", ""), Act::AnswerAndClose(Vec::new())]).await;
    // Here first, and where clouds keep credentials ever after.
    let names = Names::new(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let (client, endpoint) = allowing(names.clone(), NAME, server.port, authority.trust(), Reach::Private);
    client.call(&endpoint, call(Method::PUT)).await.unwrap();
    assert_eq!(names.asked(), 1);
    // The kept connection breaks; the new one would lead elsewhere.
    let error = client.call(&endpoint, call(Method::PUT)).await.unwrap_err();
    assert!(matches!(error, CallError::AddressRefused { .. }), "{error}");
    assert_eq!((names.asked(), server.connections()), (2, 1));
}

#[tokio::test]
async fn link_local_addresses_are_never_called() {
    let trust = Authority::new().trust();
    let names = Names::here();
    for host in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]"] {
        let (client, endpoint) = allowing(names.clone(), host, 443, trust.clone(), Reach::Private);
        let result = client.call(&endpoint, call(Method::GET)).await;
        assert!(matches!(result, Err(CallError::AddressRefused { .. })), "{host}: {result:?}");
    }
    assert_eq!(names.asked(), 0, "an address is no name");
}

#[tokio::test]
async fn nobody_there() {
    let trust = Authority::new().trust();
    // Bound, so that nobody else gets it, but not listened at.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let (client, endpoint) = allowing(Names::here(), NAME, port, trust.clone(), Reach::Private);
    let error = client.call(&endpoint, call(Method::POST)).await.unwrap_err();
    assert!(matches!(error, CallError::Connect { .. }) && !error.may_have_arrived(), "{error}");
    let (client, endpoint) = allowing(Names::new(&[&[]]), NAME, port, trust, Reach::Private);
    let error = client.call(&endpoint, call(Method::POST)).await.unwrap_err();
    assert!(matches!(error, CallError::NameNotResolved { .. }) && !error.may_have_arrived(), "{error}");
}

#[tokio::test]
async fn nothing_shows_what_is_secret() {
    let mut call = Call { body: Bytes::from_static(b"geheim"), ..call(Method::POST) };
    call.headers.insert("authorization", "geheim".parse().unwrap());
    let shown = format!("{call:?}");
    assert!(shown.contains("/api/choose?****") && !shown.contains("geheim"), "{shown}");
    let (result, _server) = once(Act::status(200, "X-Key: geheim\r\n", "geheim"), call.clone()).await;
    let shown = format!("{:?}", result.unwrap());
    assert!(shown.contains("200") && !shown.contains("geheim"), "{shown}");
    for act in [Act::Close, Act::Endless] {
        let error = once(act, call.clone()).await.0.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
    }
    let malformed = Call { path_and_query: "/x y?geheim".into(), ..call };
    let error = once(Act::Close, malformed).await.0.unwrap_err();
    assert!(matches!(error, CallError::Invalid(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
}
