//! Refusals with their evidence, what the server is, and backups.

use std::path::PathBuf;

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::TrackingId;
use unicity_provisioning::evidence::RefusalRecord;
use unicity_provisioning::leaf::LeafEvent;
use unicity_provisioning::{Command, UnicityMode};

use super::listing::limit;
use crate::api::{Proven, Shared};
use crate::backup::BackupError;
use crate::body::{ApiBody, json as json_answer};
use crate::dps::{members, parse_id, parse_json};
use crate::failure::Failure;

pub(super) fn show(record: &RefusalRecord) -> Value {
    let mut shown = json!({
        "trackingId": record.tracking_id,
        "timestampUtc": record.at.to_string(),
        "subject": record.subject,
        "errorCode": record.code.number,
        "errorName": record.code.name,
        "cause": record.cause,
        "remedy": record.remedy,
    });
    if let Some(peer) = record.peer {
        shown["peer"] = json!(peer.to_string());
    }
    if let Some(evidence) = record.evidence.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        shown["evidence"] = evidence;
    }
    shown
}

/// The newest refusals, newest first.
pub(super) fn refusals(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let latest = shared.provisioning.refusals().latest(limit(&proven.target)?);
    Ok(json_answer(StatusCode::OK, &json!({"items": latest.iter().map(show).collect::<Vec<_>>()})))
}

/// One refusal by its tracking id. It is kept in memory, bounded: an old one, or one of before the last start, is not found.
pub(super) fn refusal(shared: &Shared, id: &str) -> Result<Response<ApiBody>, Failure> {
    let id: TrackingId = parse_id(id)?;
    match shared.provisioning.refusals().get(&id) {
        Some(record) => Ok(json_answer(StatusCode::OK, &show(&record))),
        None => Err(Failure::new(
            404_000,
            "NotFound",
            format!("no refusal {id} is kept; older ones make room for newer ones, and a restart begins anew"),
        )),
    }
}

/// What this server is.
pub(super) fn info(shared: &Shared) -> Response<ApiBody> {
    let settings = shared.provisioning.settings();
    let hubs: Vec<Value> = settings
        .hubs
        .iter()
        .map(|hub| {
            let reader = shared.telemetry.reader(&hub.name);
            // The offset that each partition's next record will get.
            let ends: Option<Vec<u64>> =
                reader.map(|reader| (0..reader.partitions()).map(|partition| reader.bounds(partition).1).collect());
            json!({
                "name": hub.name,
                "host": hub.host,
                "aliases": hub.aliases,
                "allocationWeight": hub.terms.weight,
                "applyAllocationPolicy": hub.terms.apply_allocation,
                "assignedBy": shared.settings.assigned_by.get(&hub.name),
                "partitions": shared.telemetry.partitions(&hub.name),
                "partitionEnds": ends,
            })
        })
        .collect();
    json_answer(
        StatusCode::OK,
        &json!({
            "version": shared.version,
            "idScope": settings.id_scope,
            "hostNames": shared.settings.host_names,
            "unicityMode": match settings.mode {
                UnicityMode::Strict => "strict",
                UnicityMode::Compat => "compat",
            },
            "provisioning": shared.provisioning.check_served().is_ok(),
            "hubs": hubs,
        }),
    )
}

#[derive(Deserialize)]
struct BackupBody {
    directory: Option<String>,
}

/// Makes a backup on the server's own disk. The path must be absolute: what a relative one is relative to only the server knows.
pub(super) async fn backup(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let backup = shared.backup.as_ref().ok_or_else(|| Failure::not_offered("a backup over this port"))?;
    let body = parse_json(&proven.body)?;
    let directory = members::<BackupBody>(&body)?.directory.map(PathBuf::from);
    let directory = directory
        .filter(|path| path.is_absolute())
        .ok_or_else(|| Failure::invalid("directory", "it is missing, or not an absolute path".into()))?;
    // A copy of everything: on record before it is made. A registry that takes no writes is when a copy is needed most.
    let command = Command::Note(Box::new(LeafEvent::BackupRequested {}));
    if let Err(failure) = shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await {
        tracing::warn!(policy = proven.principal.policy, cause = %failure.cause(), "a backup is not in the audit log");
    }
    match backup(directory).await {
        Ok(summary) => Ok(json_answer(StatusCode::OK, &summary)),
        Err(BackupError::Refused(why)) => Err(Failure::invalid("directory", why)),
        Err(BackupError::Failed(why)) => {
            Err(Failure::new(500_001, "BackupFailed", format!("no backup was made: {why}")))
        }
    }
}
