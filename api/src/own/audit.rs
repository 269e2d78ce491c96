//! The audit log: its static files, exactly as any web server would serve them, and three conveniences that need nothing that is not
//! in these files: a checkpoint now, leaves by what they are about, and proofs.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use unicity_audit::{Bounds, CHECKPOINT_FILE, Found, ReadError, Reader, Tile};
use unicity_identity::{Refusal, Timestamp};
use unicity_provisioning::leaf_filter::{LeafFilter, SealedPlace};

use super::listing::limit;
use crate::api::{Proven, Shared};
use crate::audit::{AuditLog, Files};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::failure::Failure;
use crate::target::Target;

/// Leaves that a search looks at unless told, and the most that it may be told.
pub(super) const SCAN_DEFAULT: u64 = 1_000_000;
const SCAN_MAX: u64 = 20_000_000;

pub(super) fn log(shared: &Shared) -> Result<Arc<dyn AuditLog>, Failure> {
    shared.audit.clone().ok_or_else(|| Failure::not_offered("the audit log over this port"))
}

pub(super) fn unreadable(error: ReadError) -> Failure {
    match error {
        ReadError::OutOfRange { .. } => Failure::new(404_000, "NotFound", error.to_string()),
        other => Refusal::Unavailable { why: format!("the audit log: {other}") }.into(),
    }
}

/// A file by its path below the log, or below `previous/N`, a log that this one follows.
pub(super) async fn file(shared: &Shared, path: String) -> Result<Response<ApiBody>, Failure> {
    let below = path.strip_prefix("previous/").and_then(|rest| rest.split_once('/'));
    let name = match below {
        Some((number, name)) if number.parse::<u32>().is_ok_and(|parsed| parsed.to_string() == number) => name,
        _ => path.as_str(),
    };
    let is_tile = Tile::parse(name).is_some();
    let missing = || Failure::new(404_000, "NotFound", "the audit log has no such file".into());
    if name != CHECKPOINT_FILE && !is_tile {
        return Err(missing());
    }
    let log = log(shared)?;
    let read = Shared::blocking(move || {
        log.read(&path).map_err(|error| Refusal::Unavailable { why: format!("the audit log: {error}") }.into())
    });
    let mut answer = Response::new(ApiBody::whole(read.await?.ok_or_else(missing)?));
    // A tile never changes, nor does a partial one; but whoever may read it has to have the right.
    let (kind, caching) = if is_tile {
        ("application/octet-stream", "private, max-age=31536000, immutable")
    } else {
        ("text/plain; charset=utf-8", "no-cache")
    };
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    Ok(answer)
}

/// The signed note over all that was decided by now.
pub(super) async fn checkpoint(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let seal = proven.target.query("seal").is_none() || proven.target.flag("seal")?;
    let note = sign(shared, seal).await?;
    let mut answer = Response::new(ApiBody::whole(note));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(answer)
}

/// One at a time: it waits for the disk.
pub(super) async fn sign(shared: &Shared, seal: bool) -> Result<String, Failure> {
    let log = log(shared)?;
    let _turn = shared.audit_work.acquire().await;
    log.checkpoint(seal).await.map_err(|why| Refusal::Unavailable { why }.into())
}

fn filter(target: &Target) -> Result<LeafFilter, Failure> {
    let some = |name: &str| target.query(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let seals = match (some("sealHub"), target.number("sealPartition")?, target.number("sealOffset")?) {
        (None, None, None) => None,
        (Some(hub), Some(partition), Some(offset)) => {
            Some(SealedPlace { hub: crate::dps::parse_id(&hub)?, partition, offset })
        }
        _ => return Err(Failure::invalid("sealHub", "sealHub, sealPartition and sealOffset go together".into())),
    };
    let events = some("event").unwrap_or_default().split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let not_after = target.number("notAfter")?.map(Timestamp);
    Ok(LeafFilter { identity: some("identity"), events, not_after, seals })
}

/// Searches what is in the log's files by now.
pub(super) fn search(
    log: Arc<dyn AuditLog>,
    filter: &LeafFilter,
    bounds: Bounds,
) -> Result<Found<(u64, Value)>, ReadError> {
    let size = log.size();
    let needles = filter.needles();
    let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
    Reader::new(Files(log), size).search(bounds, &needles, |index, entry| filter.take(entry).map(|leaf| (index, leaf)))
}

/// Leaves by what they are about, the newest first: `{"items": [{"index", "leaf"}], "next", "scanned", "size"}`. `next` is the
/// `before` by which to go on, and absent when the log's begin was reached.
pub(super) async fn leaves(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let target = &proven.target;
    let filter = filter(target)?;
    let scan_max = target.number("scan")?.unwrap_or(SCAN_DEFAULT).min(SCAN_MAX);
    let bounds = Bounds { before: target.number("before")?, limit: limit(target)?, scan_max };
    let log = log(shared)?;
    if log.size() < log.decided() {
        sign(shared, false).await.map(drop).or_else(unsigned)?;
    }
    let _turn = shared.audit_work.acquire().await;
    Shared::blocking(move || {
        let size = log.size();
        let found = search(log, &filter, bounds).map_err(unreadable)?;
        let items: Vec<Value> =
            found.items.into_iter().map(|(index, leaf)| json!({"index": index, "leaf": leaf})).collect();
        let mut body = json!({"items": items, "scanned": found.scanned, "size": size});
        if let Some(next) = found.next {
            body["next"] = json!(next);
        }
        Ok(json_answer(StatusCode::OK, &body))
    })
    .await
}

/// A log that is not signed, or a full disk, is no reason not to show what the log has.
pub(super) fn unsigned(failure: Failure) -> Result<(), Failure> {
    tracing::debug!(cause = %failure.cause(), "the audit log is shown without its newest leaves");
    Ok(())
}

/// The proof that the leaf at `index` is under the newest checkpoint: the text of <https://c2sp.org/tlog-proof>, the leaf with it.
pub(super) async fn proof(shared: &Shared, index: &str) -> Result<Response<ApiBody>, Failure> {
    let index: u64 =
        index.parse().map_err(|_| Failure::invalid("index", "it is the number of a leaf, from 0".into()))?;
    let log = log(shared)?;
    if index >= log.size() && index < log.decided() {
        sign(shared, false).await?;
    }
    let text = Shared::blocking(move || {
        let (reader, note) = Reader::at_checkpoint(Files(log)).map_err(unreadable)?;
        Ok(reader.prove(index, &note).map_err(unreadable)?.to_string())
    });
    let mut answer = Response::new(ApiBody::whole(text.await?));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(answer)
}

/// The public key, to be compared with one that came by another way.
pub(super) fn key(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    Ok(match log(shared)?.verifier_key() {
        Some(key) => crate::body::text(StatusCode::OK, &format!("{key}\n")),
        None => no_content(),
    })
}
