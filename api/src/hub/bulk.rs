//! Bulk changes of devices and modules (`service-rest.md` 12.3): rows are independent of one another, and each that fails is named.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::{ClientIdentity, DeviceId, HubName, ModuleId, Refusal, TwinEdit};
use unicity_provisioning::Precondition;

use super::{device, module, twin};
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::conditional::from_text;
use crate::dps::{members, parse_id, parse_json, word};
use crate::failure::Failure;

/// Rows of one request.
const ROWS_MAX: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
    UpdateIfMatch,
    Delete,
    DeleteIfMatch,
    CreateOrUpdate,
    CreateOrUpdateIfMatch,
    UpdateTwin,
    UpdateTwinIfMatch,
}

/// In Node's spelling and that of the REST reference; compared without case.
const MODES: &[(&str, Mode)] = &[
    ("create", Mode::Create),
    ("update", Mode::Update),
    ("updateIfMatchETag", Mode::UpdateIfMatch),
    ("delete", Mode::Delete),
    ("deleteIfMatchETag", Mode::DeleteIfMatch),
    ("createOrUpdate", Mode::CreateOrUpdate),
    ("createOrUpdateIfMatchETag", Mode::CreateOrUpdateIfMatch),
    ("updateTwin", Mode::UpdateTwin),
    ("updateTwinIfMatchETag", Mode::UpdateTwinIfMatch),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RowBody {
    id: Option<String>,
    module_id: Option<String>,
    #[serde(rename = "eTag", alias = "etag")]
    etag: Option<String>,
    #[serde(rename = "twinETag", alias = "twinEtag")]
    twin_etag: Option<String>,
    import_mode: Option<String>,
}

/// One row: whose, and what the client sent.
struct Row {
    device_id: DeviceId,
    module_id: Option<ModuleId>,
    body: RowBody,
    all: Value,
}

fn rows(body: &[u8]) -> Result<Vec<Row>, Failure> {
    let Value::Array(items) = parse_json(body)? else {
        return Err(Failure::invalid("body", "it is not an array of devices".into()));
    };
    if items.len() > ROWS_MAX {
        return Err(Failure::invalid("body", format!("it has {} rows, at most {ROWS_MAX} are allowed", items.len())));
    }
    let mut seen = BTreeSet::new();
    let mut rows = Vec::with_capacity(items.len());
    for mut all in items {
        let body: RowBody = members(&all)?;
        let id = body.id.as_deref().ok_or_else(|| Failure::invalid("id", "a row has none".into()))?;
        let device_id: DeviceId = parse_id(id)?;
        let module_id: Option<ModuleId> =
            body.module_id.as_deref().filter(|id| !id.is_empty()).map(parse_id).transpose()?;
        if !seen.insert((device_id.clone(), module_id.clone())) {
            return Err(Failure::new(400_011, "DeviceDefinedMultipleTimes", format!("{device_id} is there twice")));
        }
        // As the body of a single device has it.
        if let Value::Object(members) = &mut all {
            members.insert("deviceId".into(), json!(device_id));
        }
        rows.push(Row { device_id, module_id, body, all });
    }
    Ok(rows)
}

pub(super) async fn run(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let hub = proven.principal.hub()?.name.clone();
    let rows = rows(&proven.body)?;
    // All at once, so that the writer can put them under one sync; it takes them in the order of the rows.
    let outcomes = join_all(rows.iter().map(|row| change(shared, &hub, row, proven))).await;
    let failed = outcomes.into_iter().zip(&rows).filter_map(|(outcome, row)| Some((outcome.err()?, row)));
    let errors: Vec<Value> = failed
        .map(|(failure, row)| {
            let mut error = json!({
                "deviceId": row.device_id,
                "errorCode": failure.code().name,
                "errorStatus": failure.cause().to_string(),
            });
            if let Some(module) = &row.module_id {
                error["moduleId"] = json!(module);
            }
            error
        })
        .collect();
    // As the real service does: the body is the same, and the status says that something failed.
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let mut answer = json_answer(status, &json!({"isSuccessful": errors.is_empty(), "errors": errors, "warnings": []}));
    if !errors.is_empty() {
        answer.headers_mut().insert("iothub-errorcode", http::HeaderValue::from_static("BulkRegistryOperationFailure"));
    }
    Ok(answer)
}

fn needed(etag: Option<&String>, name: &str) -> Result<Precondition, Failure> {
    match etag.filter(|etag| !etag.is_empty()) {
        Some(etag) => Ok(from_text(etag)),
        None => Err(Failure::invalid(name, "it is missing, and the import mode needs it".into())),
    }
}

/// Does one row.
async fn change(shared: &Shared, hub: &HubName, row: &Row, proven: &Proven) -> Result<(), Failure> {
    let mode = match row.body.import_mode.as_deref().filter(|text| !text.is_empty()) {
        None => Mode::CreateOrUpdate,
        Some(text) => word("importMode", text, MODES)?,
    };
    let etag = row.body.etag.as_ref();
    let precondition = match mode {
        Mode::Create => Precondition::Absent,
        Mode::Update => Precondition::Any,
        Mode::Delete | Mode::UpdateTwin => Precondition::None,
        Mode::UpdateIfMatch | Mode::DeleteIfMatch => needed(etag, "eTag")?,
        Mode::UpdateTwinIfMatch => needed(row.body.twin_etag.as_ref().or(etag), "twinETag")?,
        Mode::CreateOrUpdate | Mode::CreateOrUpdateIfMatch if !exists(shared, hub, row)? => Precondition::Absent,
        Mode::CreateOrUpdate => Precondition::Any,
        Mode::CreateOrUpdateIfMatch => needed(etag, "eTag")?,
    };
    match mode {
        Mode::Delete | Mode::DeleteIfMatch => return remove(shared, hub, row, precondition, proven).await,
        Mode::UpdateTwin | Mode::UpdateTwinIfMatch => {
            // Here as everywhere: a section that is not named stays.
            let edit = TwinEdit::patch(&row.all).map_err(Refusal::from)?;
            twin::write(shared, client(hub, row), edit, precondition, proven).await?;
            return Ok(());
        }
        _ => {}
    }
    // Before anything is written: a row is not to be done by half.
    let edit = TwinEdit::replace_given(&row.all).map_err(Refusal::from)?;
    check_size(&client(hub, row), &edit)?;
    match &row.module_id {
        None => drop(device::write(shared, hub, &row.device_id, &precondition, &row.all, proven).await?),
        Some(module) => {
            let place = module::Place { hub: hub.clone(), device_id: row.device_id.clone(), module_id: module.clone() };
            module::write(shared, place, precondition, &row.all, proven).await?;
        }
    }
    if !edit.is_nothing() {
        twin::write(shared, client(hub, row), edit, Precondition::None, proven).await?;
    }
    Ok(())
}

async fn remove(
    shared: &Shared,
    hub: &HubName,
    row: &Row,
    precondition: Precondition,
    proven: &Proven,
) -> Result<(), Failure> {
    let (hub, device_id) = (hub.clone(), row.device_id.clone());
    match row.module_id.clone() {
        None => device::remove(shared, hub, device_id, precondition, proven).await,
        Some(module_id) => {
            module::remove(shared, module::Place { hub, device_id, module_id }, precondition, proven).await
        }
    }
}

fn exists(shared: &Shared, hub: &HubName, row: &Row) -> Result<bool, Failure> {
    let registry = shared.provisioning.registry();
    Ok(match &row.module_id {
        None => registry.device(hub, &row.device_id)?.is_some(),
        Some(module) => registry.module(hub, &row.device_id, module)?.is_some(),
    })
}

fn client(hub: &HubName, row: &Row) -> ClientIdentity {
    ClientIdentity { hub: hub.clone(), device_id: row.device_id.clone(), module_id: row.module_id.clone() }
}

/// Whether sections that replace others fit: that depends on nothing that is stored.
fn check_size(client: &ClientIdentity, edit: &TwinEdit) -> Result<(), Refusal> {
    let empty = unicity_identity::Twin::new(
        client.clone(),
        unicity_identity::GenerationId(0),
        unicity_identity::Timestamp::default(),
    );
    empty.edit(edit, unicity_identity::Timestamp::default()).map(drop)
}
