//! Queries over the twins of a hub (`service-rest.md` 12.6). A page is bounded in rows, bytes and records looked at; a continuation names
//! the last record that was, so that pages meet without gap or overlap whatever changes in between.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicity_hub::Query;
use unicity_hub::query::{Groups, QueryError};
use unicity_identity::{DeviceId, ModuleId, Refusal};

use super::walk::{Found, Walk};
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json_text};
use crate::dps::paging::{CONTINUATION, Paging};
use crate::dps::{members, parse_json};
use crate::failure::Failure;

/// Records that one page looks at. A condition that hardly anything meets then gives short pages instead of long waits.
const SCAN_MAX: usize = 10_000;
/// Bytes of one page, and what the row that passes it has more.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct QueryBody {
    query: Option<String>,
}

/// Where the next page begins.
#[derive(Serialize, Deserialize)]
struct Continuation {
    /// Of the query's text: a token is good for no other.
    #[serde(rename = "q")]
    query: u64,
    /// After this device,
    #[serde(rename = "d")]
    device: DeviceId,
    /// and this module of it.
    #[serde(rename = "m", skip_serializing_if = "Option::is_none", default)]
    module: Option<ModuleId>,
    /// Rows that TOP still allows.
    #[serde(rename = "t", skip_serializing_if = "Option::is_none", default)]
    top: Option<u64>,
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::invalid("query", error.to_string())
    }
}

/// FNV-1a, 64 bits: it only has to tell a mistake.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

fn continuation(paging: &Paging, fingerprint: u64) -> Result<Option<Continuation>, Failure> {
    let Some(text) = paging.after_text() else { return Ok(None) };
    match serde_json::from_str::<Continuation>(text) {
        Ok(found) if found.query == fingerprint => Ok(Some(found)),
        Ok(_) => Err(Failure::invalid(CONTINUATION, "it is the token of another query".into())),
        Err(_) => Err(Failure::invalid(CONTINUATION, "it is not a token of this service".into())),
    }
}

pub(super) async fn run(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = proven.principal.hub()?.name.clone();
    let body: QueryBody = members(&parse_json(&proven.body)?)?;
    let text = body.query.ok_or_else(|| Failure::invalid("query", "it is missing".into()))?;
    let query = Query::parse(&text)?;
    let paging = Paging::of(&proven.headers)?;
    let fingerprint = fingerprint(&text);
    let from = continuation(&paging, fingerprint)?;
    let after = from.as_ref().map(|from| (from.device.clone(), from.module.clone()));
    let walk = Walk::new(shared.provisioning.registry().clone(), shared.sessions.clone(), hub, &query, after);
    if query.is_grouped() {
        // It goes through all records: one at a time, so that asking often costs the others nothing.
        let _turn = shared
            .device_count
            .acquire()
            .await
            .map_err(|_| Refusal::Unavailable { why: "the server is stopping".into() })?;
        return Shared::blocking(move || grouped(&query, walk)).await;
    }
    let top = from.map_or(query.top, |from| from.top);
    Shared::blocking(move || page(&query, fingerprint, walk, paging.limit, top)).await
}

/// Bounded in memory by the number of groups.
fn grouped(query: &Query, mut walk: Walk) -> Result<Response<ApiBody>, Failure> {
    let mut groups = Groups::new(query);
    while let Some(found) = walk.next()? {
        groups.add(&walk.document(&found)?)?;
    }
    Ok(answer(Value::Array(groups.rows()).to_string(), query, None))
}

fn page(
    query: &Query,
    fingerprint: u64,
    mut walk: Walk,
    limit: usize,
    top: Option<u64>,
) -> Result<Response<ApiBody>, Failure> {
    let (mut rows, mut seen, mut text) = (0u64, 0, String::from("["));
    let most = top.unwrap_or(u64::MAX).min(limit as u64);
    let mut last: Option<Found> = None;
    while rows < most && seen < SCAN_MAX && text.len() < PAGE_BYTES {
        let Some(found) = walk.next()? else { break };
        seen += 1;
        let document = walk.document(&found)?;
        if query.takes(&document) {
            if rows > 0 {
                text.push(',');
            }
            text.push_str(&query.show(document).to_string());
            rows += 1;
        }
        last = Some(found);
    }
    text.push(']');
    let left = top.map(|top| top.saturating_sub(rows));
    let next = match last {
        Some(last) if left != Some(0) && walk.has_more()? => Some(Continuation {
            query: fingerprint,
            device: last.device.device_id.clone(),
            module: last.module.map(|module| module.module_id),
            top: left,
        }),
        _ => None,
    };
    Ok(answer(text, query, next))
}

fn answer(text: String, query: &Query, next: Option<Continuation>) -> Response<ApiBody> {
    let mut answer = json_text(StatusCode::OK, text);
    let headers = answer.headers_mut();
    // The case matters to .NET.
    let item_type = if query.is_whole() { "Twin" } else { "Raw" };
    headers.insert("x-ms-item-type", HeaderValue::from_static(item_type));
    // Absent on the last page: Node goes on for ever if it is empty.
    let token = next.and_then(|next| serde_json::to_string(&next).ok());
    if let Some(token) = token.and_then(|text| HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(text)).ok()) {
        headers.insert(CONTINUATION, token);
    }
    answer
}
