//! Requests to a hub and its answers, without HTTP around them.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;
use unicity_identity::LinkedHub;

/// A value that comes later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a hub elsewhere runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubKind {
    /// A node of this service: takes a whole twin over.
    Unicity,
    /// Another one with the same service API: its reported properties are the device's alone.
    Other,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Writes.
    Put,
    /// Deletes.
    Delete,
}

/// Under which condition a write holds. There is no write without one: a request that was lost on its way and comes late must
/// not undo what was done since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// None: it reads.
    None,
    /// There is nothing yet.
    Absent,
    /// What is there has this etag, without quotes.
    Matches(String),
}

/// A request. `Debug` shows no body, which may hold keys.
#[derive(Clone, PartialEq)]
pub struct HubRequest {
    /// What it does.
    pub method: Method,
    /// From the first `/` on, percent-encoded, without the api-version.
    pub path: String,
    /// Under which condition.
    pub condition: Condition,
    /// The body.
    pub body: Option<Value>,
}

impl std::fmt::Debug for HubRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} ({:?})", self.method, self.path, self.condition)
    }
}

impl HubRequest {
    /// A request that reads.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), condition: Condition::None, body: None }
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct HubReply {
    /// The HTTP status.
    pub status: u16,
    /// How long the hub asked to be left alone.
    pub retry_after: Option<Duration>,
    /// The body; `Null` if it is no JSON.
    pub body: Value,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum HubAnswer {
    /// An answer.
    Reply(HubReply),
    /// None: whether it was done is not known.
    Lost {
        /// Why, without secrets.
        cause: String,
    },
}

impl HubReply {
    /// What the hub says of a refusal: its code and words, shortened.
    #[must_use]
    pub fn message(&self) -> String {
        let text = ["Message", "message"].iter().find_map(|name| self.body.get(name)).and_then(Value::as_str);
        let text: String = text.unwrap_or("no reason given").chars().filter(|c| !c.is_control()).take(200).collect();
        format!("status {}: {text}", self.status)
    }
}

/// The way to a hub.
pub trait HubApi: Send + Sync {
    /// Makes one request. Statuses are not judged.
    fn call<'a>(&'a self, hub: &'a LinkedHub, request: HubRequest) -> Pending<'a, HubAnswer>;
}
