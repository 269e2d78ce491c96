//! One device's steps: what it sends, and what it makes of each answer.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::ConnectReturnCode;
use unicity_device_sim::{
    ConnackCode, Dialer, HubSession, Limits, Message, RawOutcome, SessionEnd, SimError, provision,
};

use crate::responder::{HUB, Responder, Script, device, environment};

const ASSIGNING: &str = r#"{"operationId":"4.ab","status":"assigning"}"#;

async fn answered_with(answers: Vec<(&'static str, &'static str)>) -> (Responder, Result<u32, SimError>) {
    let responder = Responder::start(Script { answers, ..Script::default() }).await;
    let assigned =
        provision(&responder.impatient_dialer(), &responder.endpoint(), &device("dev-1"), &environment()).await;
    let requests = assigned.map(|assignment| {
        assert_eq!((assignment.hub_host.as_str(), assignment.device_id.as_str()), (HUB, "dev-1"));
        assignment.times.requests
    });
    (responder, requests)
}

#[tokio::test]
async fn an_answer_at_once_takes_one_request() {
    let (responder, requests) = answered_with(vec![]).await;
    assert_eq!(requests.unwrap(), 1);
    let topic = responder.seen.lock().unwrap().register_topics[0].clone();
    assert!(topic.starts_with("$dps/registrations/PUT/iotdps-register/?$rid="), "{topic}");
}

#[tokio::test]
async fn a_202_is_polled_with_its_operation() {
    let (responder, requests) = answered_with(vec![("202 &retry-after=0", ASSIGNING), ("200", "")]).await;
    assert_eq!(requests.unwrap(), 2);
    let topics = responder.seen.lock().unwrap().register_topics.clone();
    assert!(topics[1].starts_with("$dps/registrations/GET/iotdps-get-operationstatus/?$rid="), "{}", topics[1]);
    assert!(topics[1].ends_with("&operationId=4.ab"), "{}", topics[1]);
    let rid = |topic: &str| topic.split("$rid=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    assert_ne!(rid(&topics[0]), rid(&topics[1]), "a request id was used twice");
}

#[tokio::test]
async fn a_429_is_asked_again_and_not_for_ever() {
    let (responder, requests) = answered_with(vec![("429 &retry-after=0", "{}"), ("200", "")]).await;
    assert_eq!(requests.unwrap(), 2);
    let topics = responder.seen.lock().unwrap().register_topics.clone();
    assert!(topics[1].contains("/PUT/iotdps-register/"), "{}", topics[1]);

    let (responder, requests) = answered_with(vec![("503 &retry-after=0", "{}")]).await;
    assert!(matches!(requests, Err(SimError::GaveUp { requests: 3, status: 503 })), "{requests:?}");
    assert_eq!(responder.seen.lock().unwrap().register_topics.len(), 3);
}

#[tokio::test]
async fn a_final_answer_is_an_error_with_its_evidence() {
    let body = r#"{"errorCode":401002,"trackingId":"ab-1","message":"no"}"#;
    let (_, refused) = answered_with(vec![("401", body)]).await;
    match refused {
        Err(SimError::Rejected { status: 401, rejection }) => {
            assert_eq!(rejection.tracking_id.as_deref(), Some("ab-1"));
        }
        other => panic!("{other:?}"),
    }
    let (_, refused) = answered_with(vec![("200", r#"{"status":"disabled"}"#)]).await;
    assert!(matches!(refused, Err(SimError::Disabled)), "{refused:?}");
}

#[tokio::test]
async fn each_connack_code_reaches_the_caller() {
    for code in [
        ConnectReturnCode::BadClientId,
        ConnectReturnCode::ServiceUnavailable,
        ConnectReturnCode::BadUserNamePassword,
        ConnectReturnCode::NotAuthorized,
    ] {
        let responder = Responder::start(Script { refusals: vec![code], ..Script::default() }).await;
        let refused = provision(&responder.dialer(), &responder.endpoint(), &device("dev-1"), &environment()).await;
        match refused {
            Err(SimError::Refused(refusal)) => assert_eq!(refusal, ConnackCode(code as u8)),
            other => panic!("{code:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_device_with_another_key_is_refused_by_the_responder_too() {
    let responder = Responder::start(Script::default()).await;
    let thief = unicity_device_sim::Device { key: device("dev-2").key, ..device("dev-1") };
    let refused = provision(&responder.dialer(), &responder.endpoint(), &thief, &environment()).await;
    assert!(matches!(refused, Err(SimError::Refused(ConnackCode::NOT_AUTHORIZED))), "{refused:?}");
}

#[tokio::test]
async fn only_the_right_name_under_the_right_root_is_believed() {
    let (responder, stranger) = (Responder::start(Script::default()).await, Responder::start(Script::default()).await);
    let (endpoint, device, env) = (responder.endpoint(), device("dev-1"), environment());

    let wrong_root = Dialer::new(stranger.ca_pem.as_bytes()).unwrap();
    let error = provision(&wrong_root, &endpoint, &device, &env).await.unwrap_err();
    assert_eq!(error.kind(), "tls", "{error}");

    let right_root = Dialer::new(responder.ca_pem.as_bytes()).unwrap();
    let wrong_name = right_root.with_resolved("other.example", responder.address).unwrap();
    let error = provision(&wrong_name, &"other.example".parse().unwrap(), &device, &env).await.unwrap_err();
    assert_eq!(error.kind(), "tls", "{error}");
    assert_eq!(responder.seen.lock().unwrap().connections, 0);
}

#[tokio::test]
async fn nobody_there_is_told_from_silence() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let responder = Responder::start(Script::default()).await;
    let error = provision(&responder.dialer(), &free.into(), &device("dev-1"), &environment()).await.unwrap_err();
    assert_eq!(error.kind(), "connect", "{error}");
    assert!(error.may_heal());

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = responder.dialer().with_limits(Limits { connect: Duration::from_secs(1), ..Limits::default() });
    let endpoint = silent.local_addr().unwrap().into();
    let error = provision(&dialer, &endpoint, &device("dev-1"), &environment()).await.unwrap_err();
    assert!(matches!(error, SimError::Timeout { awaited: "CONNACK", .. }), "{error}");
}

async fn at_the_hub(responder: &Responder, id: &str) -> HubSession {
    at_the_hub_with(responder, id, Limits::default()).await
}

async fn at_the_hub_with(responder: &Responder, id: &str, limits: Limits) -> HubSession {
    let (dialer, device, env) = (responder.dialer().with_limits(limits), device(id), environment());
    let assignment = provision(&dialer, &responder.endpoint(), &device, &env).await.unwrap();
    HubSession::connect(&dialer, &assignment, &device.key, &env).await.unwrap()
}

#[tokio::test]
async fn more_messages_than_the_window_arrive_in_order_with_their_properties() {
    let responder = Responder::start(Script::default()).await;
    let mut session = at_the_hub(&responder, "dev-1").await;
    let message = |number: u32| Message {
        body: Bytes::from(number.to_string()),
        properties: vec![("$.ct".to_owned(), "text/plain".to_owned()), ("n&n".to_owned(), number.to_string())],
    };
    session.send(&message(0)).await.unwrap();
    let mut acknowledged = 0;
    session.send_all((1..100).map(message), |_| acknowledged += 1).await.unwrap();
    assert_eq!((acknowledged, session.sent(), session.acknowledged()), (99, 100, 100));
    session.disconnect().await;

    let seen = responder.seen.lock().unwrap();
    assert_eq!(seen.telemetry.len(), 100);
    for (number, (id, bag, body)) in seen.telemetry.iter().enumerate() {
        assert_eq!(id, "dev-1");
        assert_eq!(bag, &format!("%24.ct=text%2Fplain&n%26n={number}"));
        assert_eq!(body, number.to_string().as_bytes());
    }
}

#[tokio::test]
async fn a_foreign_topic_ends_the_session_and_ones_own_does_not() {
    let responder = Responder::start(Script::default()).await;
    let mut session = at_the_hub(&responder, "dev-1").await;
    let own = session.publish_raw("devices/dev-1/messages/events/", Bytes::new()).await.unwrap();
    assert_eq!(own, RawOutcome::Acknowledged);
    let foreign = session.publish_raw("devices/dev-2/messages/events/", Bytes::new()).await.unwrap();
    assert_eq!(foreign, RawOutcome::Ended(SessionEnd::ClosedByServer));
    let after = session.send(&Message::default()).await;
    assert!(matches!(after, Err(SimError::Ended(SessionEnd::ClosedByServer))), "{after:?}");
    assert_eq!(session.acknowledged(), 1);
}

#[tokio::test]
async fn a_second_session_ends_the_first() {
    let responder = Responder::start(Script::default()).await;
    let mut first = at_the_hub(&responder, "dev-1").await;
    let mut second = at_the_hub(&responder, "dev-1").await;
    assert_eq!(first.ended().await, SessionEnd::ClosedByServer);
    second.send(&Message::default()).await.unwrap();
}

#[tokio::test]
async fn a_message_without_acknowledgement_is_not_waited_for_for_ever() {
    let responder = Responder::start(Script { hub_acknowledges_nothing: true, ..Script::default() }).await;
    let limits = Limits { answer: Duration::from_millis(200), ..Limits::default() };
    let mut session = at_the_hub_with(&responder, "dev-1", limits).await;
    let unanswered = session.send(&Message::default()).await;
    assert!(matches!(unanswered, Err(SimError::Timeout { awaited: "PUBACK", .. })), "{unanswered:?}");
    assert_eq!((session.sent(), session.acknowledged()), (1, 0));
}

#[tokio::test]
async fn an_idle_session_pings_while_it_is_awaited() {
    let responder = Responder::start(Script::default()).await;
    let limits = Limits { keep_alive: Duration::from_secs(1), ..Limits::default() };
    let mut session = at_the_hub_with(&responder, "dev-1", limits).await;
    let pinged_twice = async {
        while responder.seen.lock().unwrap().pings < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = pinged_twice => {}
        end = session.ended() => panic!("{end}"),
    }
    session.send(&Message::default()).await.unwrap();
}
