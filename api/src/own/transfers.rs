//! Transfers: devices on their way to or from a hub elsewhere, and those that did not get there.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use unicity_identity::{Refusal, RegistrationId};
use unicity_provisioning::registry::MoveCommand;
use unicity_provisioning::transfer::{Transfer, TransferCause, TransferEnd, TransferStage, TwinFate};
use unicity_provisioning::{Command, Outcome};

use super::listing::{limit, page};
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::dps::parse_id;
use crate::failure::Failure;

/// Transfers read at once.
const PAGE: usize = 1000;

fn stage(stage: &TransferStage) -> &'static str {
    match stage {
        TransferStage::Ask => "ask",
        TransferStage::Disable => "disable",
        TransferStage::Read => "read",
        TransferStage::Create => "create",
        TransferStage::Fill => "fill",
        TransferStage::Enable => "enable",
        TransferStage::Delete => "delete",
        TransferStage::Failed { .. } => "failed",
        TransferStage::Verify => "verify",
        TransferStage::Undo { .. } => "undo",
        TransferStage::End => "end",
    }
}

fn end(end: &TransferEnd) -> Value {
    json!({"hub": end.hub, "deviceId": end.device_id})
}

/// A transfer without what it carries along: its twin and keys are nobody's to see here.
pub(super) fn show(transfer: &Transfer) -> Value {
    let mut shown = json!({
        "registrationId": transfer.registration_id,
        "operationId": transfer.operation_id.as_str(),
        "stage": stage(&transfer.stage),
        "from": transfer.source.as_ref().map(end),
        "to": transfer.target.as_ref().map(end),
        "twin": match transfer.fate {
            TwinFate::Initial => "initial",
            TwinFate::Migrate => "migrate",
            TwinFate::Reset => "reset",
            TwinFate::Keep => "keep",
        },
        "policy": transfer.allocation.policy,
        "reason": transfer.allocation.reason,
        "begun": transfer.begun.to_string(),
        "updated": transfer.updated.to_string(),
    });
    if let TransferCause::Rebalance(number) = transfer.cause {
        shown["rebalance"] = json!(number);
    }
    if let TransferStage::Failed { code, message } | TransferStage::Undo { code, message } = &transfer.stage {
        shown["errorCode"] = json!(code);
        shown["message"] = json!(message);
    }
    if !transfer.discard.is_empty() {
        shown["toBeDeleted"] = transfer.discard.iter().map(end).collect();
    }
    shown
}

/// Those under way and those that failed last, in the order of registration ids; with `failed=true` only the latter.
pub(super) async fn list(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let mut after: Option<RegistrationId> = proven.target.query("after").map(parse_id).transpose()?;
    let (limit, only_failed) = (limit(&proven.target)?, proven.target.flag("failed")?);
    let registry = shared.provisioning.registry().clone();
    Shared::blocking(move || {
        let mut items = Vec::new();
        loop {
            let found = registry.list_transfers(after.as_ref(), PAGE)?;
            let last = found.items.len();
            for (number, transfer) in (1..).zip(&found.items) {
                if only_failed && !transfer.is_failed() {
                    continue;
                }
                items.push(show(transfer));
                if items.len() == limit {
                    let is_last = number == last && !found.more;
                    return Ok(page(items, (!is_last).then(|| transfer.registration_id.to_string())));
                }
            }
            if !found.more {
                return Ok(page(items, None));
            }
            after = found.items.last().map(|last| last.registration_id.clone());
        }
    })
    .await
}

fn find(shared: &Shared, id: &RegistrationId) -> Result<Transfer, Failure> {
    let found = shared.provisioning.registry().transfer(id)?;
    found.ok_or_else(|| {
        Failure::new(404_216, "TransferNotFound", format!("no transfer of {id} is under way, and none failed"))
    })
}

pub(super) fn get(shared: &Shared, id: &str) -> Result<Response<ApiBody>, Failure> {
    Ok(json_answer(StatusCode::OK, &show(&find(shared, &parse_id(id)?)?)))
}

/// Tries one anew that failed: where the device belongs is decided again.
pub(super) async fn retry(shared: &Shared, id: &str, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let id: RegistrationId = parse_id(id)?;
    let transfer = find(shared, &id)?;
    let refused = |why: &str| Failure::from(Refusal::Invalid { what: format!("transfer of {id}"), why: why.into() });
    if !transfer.is_failed() {
        return Err(refused("it is under way; what did not answer is asked again without a word from you"));
    }
    let Some(registration) = shared.provisioning.registry().registration(&id)? else {
        return Err(refused("the device has no assignment yet: it begins anew itself when it registers again"));
    };
    let rebalance = match transfer.cause {
        TransferCause::Rebalance(number) => number,
        TransferCause::Registration => 0,
    };
    let command = Command::Move(Box::new(MoveCommand {
        registration_id: id.clone(),
        from: registration.hub,
        rebalance,
        circumstances: shared.provisioning.circumstances(None),
    }));
    match shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await? {
        Outcome::Moved { registration, displaced } => {
            shared.provisioning.moved(displaced.as_ref());
            Ok(json_answer(StatusCode::OK, &json!({"outcome": "moved", "hub": registration.hub})))
        }
        Outcome::Transferring { transfer, displaced } => {
            shared.provisioning.took_up(&transfer, displaced.as_ref());
            Ok(json_answer(StatusCode::OK, &json!({"outcome": "begun", "transfer": show(&transfer)})))
        }
        Outcome::NotMoved(why) => Err(refused(&format!("it is not begun: {why}"))),
        other => Err(Shared::unexpected(&other)),
    }
}
