//! The admin port: plain HTTP, for the machine's own supervisor and scraper. No authentication, and nothing here to steal.

use std::sync::Arc;

use http::{Method, Response, StatusCode, header};
use tokio_util::sync::CancellationToken;
use unicity_listener::{ByteStream, ConnectionInfo, Service};

use crate::body::{ApiBody, text};
use crate::connection::serve_http;
use crate::metrics::{MetricsSource, exposition};
use crate::settings::ApiSettings;

/// Says why the server should get no traffic: the store is poisoned, or it is stopping. Must return at once.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Serves `/healthz` (the process answers), `/readyz` (it can do its work; 503 with the reason if not) and `/metrics`.
#[derive(Clone)]
pub struct Admin {
    readiness: Readiness,
    metrics: Arc<[MetricsSource]>,
    settings: Arc<ApiSettings>,
}

impl Admin {
    /// Puts the service together; of `settings` only the deadline for heads counts.
    #[must_use]
    pub fn new(readiness: Readiness, metrics: Vec<MetricsSource>, settings: Arc<ApiSettings>) -> Self {
        Self { readiness, metrics: metrics.into(), settings }
    }

    /// Answers one request.
    #[must_use]
    pub fn handle(&self, method: &Method, path: &str) -> Response<ApiBody> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is offered here\n");
            answer.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match (self.readiness)() {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {reason}\n")),
            },
            "/metrics" => {
                let samples: Vec<_> = self.metrics.iter().flat_map(|source| source()).collect();
                let mut answer = text(StatusCode::OK, &exposition(&samples));
                answer.headers_mut().insert(
                    header::CONTENT_TYPE,
                    http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
                );
                answer
            }
            _ => text(StatusCode::NOT_FOUND, "there is /healthz, /readyz and /metrics\n"),
        }
    }
}

impl Service for Admin {
    async fn serve(&self, stream: Box<dyn ByteStream>, info: ConnectionInfo, stop: CancellationToken) {
        // The port is this machine's own: nobody has to prove anything, so nobody counts as a stranger.
        info.unauthenticated.authenticated();
        serve_http(stream, &self.settings, stop, |request| async move {
            self.handle(request.method(), request.uri().path())
        })
        .await;
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admin")
    }
}
