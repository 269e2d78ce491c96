//! The same over TLS: tokens, conditions, percent-encoding and broken connections as they really are.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use unicity_identity::{HubName, SasToken, SharedAccessKey};
use unicity_outbound::client::{Client, ClientSettings, Reach, SystemResolver};
use unicity_outbound::hub::{Condition, HttpsHubs, HubRequest, Method};
use unicity_outbound::runner::HubState;
use unicity_provisioning::UnicityMode;

use crate::faulty::{Fault, FaultyHubs};
use crate::world::{World, hub};

/// A hub's service API on a port of its own; the answer is the port and the certificate.
async fn serve(hubs: Arc<FaultyHubs>, name: &'static str, ip: &'static str) -> (u16, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed([ip.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, hubs) = (acceptor.clone(), hubs.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| answer(hubs.clone(), hub(name), ip, request));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (port, certificate.to_vec())
}

/// The connection is broken off.
#[derive(Debug, thiserror::Error)]
#[error("dropped")]
struct Dropped;

async fn answer(
    hubs: Arc<FaultyHubs>,
    hub: HubName,
    host: &str,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let text = |name: header::HeaderName| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let token = SasToken::parse(&text(header::AUTHORIZATION).unwrap()).unwrap();
    assert!(token.verify(&SharedAccessKey::from_bytes(vec![1; 32]).unwrap()), "signed with the link's key");
    assert!(token.covers(host, head.uri.path()));
    assert_eq!(token.policy(), Some("provisioning"));
    if !head.uri.path().starts_with("/unicity/") {
        assert_eq!(head.uri.query(), Some("api-version=2021-04-12"));
    }
    let request = HubRequest {
        method: match head.method.as_str() {
            "GET" => Method::Get,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            other => panic!("{other} is not for transfers"),
        },
        path: head.uri.path().to_owned(),
        condition: match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
            (Some(etag), None) => Condition::Matches(etag.trim_matches('"').to_owned()),
            (None, Some(star)) => {
                assert_eq!(star, "*");
                Condition::Absent
            }
            (None, None) => Condition::None,
            (Some(_), Some(_)) => panic!("one condition is enough"),
        },
        body: (!body.is_empty()).then(|| serde_json::from_slice(&body).unwrap()),
    };
    let fault = if request.path.starts_with("/statistics") { Fault::None } else { hubs.fault(&request) };
    let reply = hubs.serve(&hub, &request, fault).ok_or(Dropped)?;
    let mut response = Response::builder().status(reply.status);
    if let Some(after) = reply.retry_after {
        response = response.header(header::RETRY_AFTER, after.as_secs());
    }
    Ok(response.body(Full::new(Bytes::from(reply.body.to_string()))).unwrap())
}

async fn tour(seed: u64, faults: u64) {
    let world = World::new(UnicityMode::Strict, seed, faults).await;
    for (name, ip) in [("r1", "127.0.0.1"), ("r2", "127.0.0.2")] {
        let (port, ca) = serve(world.hubs.clone(), name, ip).await;
        world.link_at(name, ip, 1, port, Some(ca)).await;
    }
    let client = Client::new(ClientSettings::default(), Arc::new(SystemResolver));
    let hubs = HttpsHubs::new(client, world.vault.clone(), world.environment.clone(), Reach::Private);
    let running = world.start_with(Arc::new(hubs));
    for (host, name) in [("127.0.0.1", "r1"), ("127.0.0.2", "r2"), ("local.test", "local"), ("127.0.0.1", "r1")] {
        world.enroll_at(&[host], true).await;
        world.register(&[]).await.unwrap();
        world.settled().await;
        assert!(world.transfer().is_none(), "seed {seed}: {:?}", world.transfer());
        assert_eq!(world.enabled(), [name], "seed {seed}");
    }
    let twin = world.twin_at("r1");
    assert_eq!(twin["tags"]["plant"], 1, "seed {seed}: {twin}");
    assert_eq!(twin["properties"]["desired"]["rate"], 5, "seed {seed}: {twin}");
    let is_up = || world.live.health(&hub("r1")).is_some_and(|health| health.state == HubState::Active);
    world.until("a probe's answer", is_up).await;
    assert!(world.live.health(&hub("r1")).unwrap().round_trip_us.is_some());
    running.stop().await;
}

#[tokio::test]
async fn a_device_goes_from_hub_to_hub() {
    tour(1, 0).await;
}

#[tokio::test]
async fn a_device_goes_from_hub_to_hub_whatever_fails() {
    for seed in 0..6 {
        tour(seed + 40, 35).await;
    }
}
