//! The way to hubs over HTTPS, with a token of the link's policy for each request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use unicity_identity::{Environment, HubPlace, LinkedHub, RemoteLink, SasToken, Vault};

use super::message::{Condition, HubAnswer, HubApi, HubReply, HubRequest, Method, Pending};
use crate::client::{Allowed, Call, Client, Endpoint, Reach, Trust};

/// The version of the service API that is spoken.
const API_VERSION: &str = "2021-04-12";
/// A token's life, in seconds: long enough for clocks that differ.
const TOKEN_SECONDS: u64 = 600;
/// For one request, everything included.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer: a twin with all its metadata.
const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Hubs over HTTPS.
pub struct HttpsHubs {
    client: Client,
    vault: Arc<Vault>,
    environment: Environment,
    reach: Reach,
    /// Made once for each link.
    endpoints: Mutex<HashMap<unicity_identity::HubName, (RemoteLink, unicity_identity::HubHost, Endpoint)>>,
}

/// A link that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The hub is in this process.
    #[error("the hub is in this process")]
    Local,
    /// Its key does not open.
    #[error("the link's key cannot be opened: {0}")]
    Key(String),
    /// Its host is neither a name nor an address.
    #[error("the link's host is neither a name nor an address")]
    Host,
}

impl HttpsHubs {
    /// The way over this client. `reach`: how far a hub's name may lead.
    #[must_use]
    pub fn new(client: Client, vault: Arc<Vault>, environment: Environment, reach: Reach) -> Self {
        Self { client, vault, environment, reach, endpoints: Mutex::default() }
    }

    fn endpoint(&self, hub: &LinkedHub, link: &RemoteLink) -> Result<Endpoint, LinkError> {
        let mut all = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, host, endpoint)) = all.get(&hub.name)
            && known == link
            && *host == hub.host
        {
            return Ok(endpoint.clone());
        }
        let trust = match &link.ca {
            Some(ca) => Trust::Ca(ca.clone()),
            None => Trust::Platform,
        };
        let endpoint = Endpoint::new(hub.host.as_str(), link.port, trust).map_err(|_| LinkError::Host)?;
        self.client.allow(Allowed::new(hub.host.as_str(), link.port, self.reach).map_err(|_| LinkError::Host)?);
        all.insert(hub.name.clone(), (link.clone(), hub.host.clone(), endpoint.clone()));
        Ok(endpoint)
    }

    fn authorization(&self, hub: &LinkedHub, link: &RemoteLink) -> Result<HeaderValue, LinkError> {
        let key = self.vault.open(&link.key).map_err(|error| LinkError::Key(error.to_string()))?;
        let expiry = self.environment.now().unix_seconds().saturating_add(TOKEN_SECONDS);
        let token = SasToken::create(&key, hub.host.as_str(), expiry, Some(&link.policy));
        let mut value = HeaderValue::from_str(&token).map_err(|error| LinkError::Key(error.to_string()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn prepare(&self, hub: &LinkedHub, request: HubRequest) -> Result<(Endpoint, Call), LinkError> {
        let HubPlace::Remote(link) = &hub.place else { return Err(LinkError::Local) };
        let endpoint = self.endpoint(hub, link)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, self.authorization(hub, link)?);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        match &request.condition {
            Condition::None => {}
            Condition::Absent => drop(headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"))),
            Condition::Matches(etag) => {
                // An etag that no header can carry matches nothing, which is what the hub is told.
                let value = HeaderValue::from_str(&format!("\"{etag}\""));
                headers.insert(header::IF_MATCH, value.unwrap_or_else(|_| HeaderValue::from_static("\"\"")));
            }
        }
        let body = request.body.map(|body| body.to_string()).unwrap_or_default();
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        }
        let target = match request.path.starts_with("/unicity/") {
            true => request.path,
            false => format!("{}?api-version={API_VERSION}", request.path),
        };
        let method = match request.method {
            Method::Get => http::Method::GET,
            Method::Put => http::Method::PUT,
            Method::Delete => http::Method::DELETE,
        };
        let call = Call {
            method,
            path_and_query: target,
            headers,
            body: Bytes::from(body),
            deadline: DEADLINE,
            reply_bytes_max: REPLY_BYTES_MAX,
        };
        Ok((endpoint, call))
    }
}

impl HubApi for HttpsHubs {
    fn call<'a>(&'a self, hub: &'a LinkedHub, request: HubRequest) -> Pending<'a, HubAnswer> {
        Box::pin(async move {
            let (endpoint, call) = match self.prepare(hub, request) {
                Ok(prepared) => prepared,
                Err(error) => return HubAnswer::Lost { cause: error.to_string() },
            };
            match self.client.call(&endpoint, call).await {
                Ok(reply) => HubAnswer::Reply(HubReply {
                    status: reply.status.as_u16(),
                    retry_after: reply.retry_after(),
                    body: serde_json::from_slice(&reply.body).unwrap_or(Value::Null),
                }),
                Err(error) => HubAnswer::Lost { cause: error.to_string() },
            }
        })
    }
}
