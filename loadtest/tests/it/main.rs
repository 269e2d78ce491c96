//! The tool against a server whose delays and errors are known.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test as tests do")]

mod boots;
mod floor;
mod server;
mod sessions;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use server::{SCOPE, Script, Server};
use unicity_device_sim::Endpoint;
use unicity_identity::{Environment, SharedAccessKey, Timestamp};
use unicity_loadtest::client::{DeviceTls, TlsVersions};
use unicity_loadtest::workload::{Broker, Mix, Pool, Service, Site, SiteKind};

fn environment() -> Environment {
    Environment::new(|| Timestamp(1_790_000_000_000), || [7; 32])
}

fn pool(count: usize, tls: Option<&DeviceTls>) -> Arc<Pool> {
    let key = SharedAccessKey::from_bytes((0..32).collect()).unwrap();
    let pool = Pool::make("lt-", count, Mix::SYMMETRIC, Some(&key), None, None, tls, &environment());
    Arc::new(pool.unwrap())
}

/// The server, and devices that find it and its hub.
async fn service(script: Script, devices: usize, resume: bool, patience: Duration) -> (Server, Arc<Site>, Arc<Pool>) {
    let server = Server::start(script).await;
    let tls = DeviceTls::new(server.ca_pem.as_bytes(), TlsVersions::Any, resume).unwrap();
    let kind = SiteKind::Service(Service { id_scope: SCOPE.parse().unwrap() });
    let resolved = HashMap::from([("Hub.Example".to_owned(), server.address)]);
    let endpoint = Endpoint::from(server.address);
    let mut site = Site::new(kind, &endpoint, resolved, 1, Some(tls.clone()), environment()).await.unwrap();
    site.patience.step = patience;
    site.patience.requests_max = 3;
    (server, Arc::new(site), pool(devices, Some(&tls)))
}

/// A plain broker without TLS.
async fn broker(script: Script, devices: usize) -> (Server, Arc<Site>, Arc<Pool>) {
    let server = Server::start(Script { tls: false, ..script }).await;
    let kind = SiteKind::Broker(Broker {
        user_name: Some("u{n}".to_owned()),
        password: Some("p-{id}".to_owned()),
        topic: "bench/{n}".to_owned(),
    });
    let endpoint = Endpoint::from(server.address);
    let mut site = Site::new(kind, &endpoint, HashMap::new(), 1, None, environment()).await.unwrap();
    site.keep_alive = Duration::from_secs(1);
    (server, Arc::new(site), pool(devices, None))
}
