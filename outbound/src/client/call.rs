//! A request and its answer. Neither is printed with what it carries: headers hold tokens, bodies keys.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};

/// A request.
#[derive(Clone)]
pub struct Call {
    /// The method. `GET`, `HEAD`, `PUT`, `DELETE` and `OPTIONS` may be sent a second time if a kept connection broke before an answer.
    pub method: Method,
    /// Path and query, percent-encoded, beginning with a slash.
    pub path_and_query: String,
    /// Headers; `Host`, `Content-Length` and those of the connection are the client's own.
    pub headers: HeaderMap,
    /// The body; empty: none.
    pub body: Bytes,
    /// How long all of it may take: name, connection, TLS, request and the whole reply.
    pub deadline: Duration,
    /// Longest body of the reply that is read.
    pub reply_bytes_max: usize,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("path", &masked(&self.path_and_query))
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// An answer, of whatever status.
#[derive(Clone)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

impl Reply {
    /// How long the other side asks to be left alone: the header `Retry-After` in seconds. A date there is not read, since the clocks
    /// of both sides may differ.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        text.trim().parse().ok().map(Duration::from_secs)
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// A URL or path with its query masked, since that may hold a key.
#[must_use]
pub fn masked(url: &str) -> String {
    match url.split_once('?') {
        None => url.into(),
        Some((path, _)) => format!("{path}?****"),
    }
}
