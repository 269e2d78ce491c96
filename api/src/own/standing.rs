//! Identities that may have a clone: what is held of them, why, and the two words that a person may say (U5).
//!
//! An identity is named by `registrationId`, or by `deviceId` and, where there is more than one, `hub`; a device that was
//! provisioned stands for its registration.

use std::net::IpAddr;

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_hub::CloseReason;
use unicity_hub::suspicion::{Ending, SessionSeen};
use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{
    ClientIdentity, CloneEvidence, DeviceId, HubName, Refusal, RegistrationId, Standing, StandingState, Timestamp,
};
use unicity_provisioning::registry::StandingVerdict;
use unicity_provisioning::{Command, Outcome, clones};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::dps::{members, parse_id, parse_json};
use crate::failure::Failure;
use crate::target::Target;

/// An identity, and its device at its hub, where it has one.
struct Identity {
    owner: KeyOwner,
    client: Option<ClientIdentity>,
}

fn client(hub: HubName, device_id: DeviceId) -> ClientIdentity {
    ClientIdentity { hub, device_id, module_id: None }
}

fn find(shared: &Shared, target: &Target) -> Result<Identity, Failure> {
    let registry = shared.provisioning.registry();
    if let Some(id) = target.query("registrationId").filter(|id| !id.is_empty()) {
        let id: RegistrationId = parse_id(id)?;
        let registration = registry.registration(&id)?;
        if registration.is_none() && registry.individual(&id)?.is_none() {
            return Err(Refusal::NotFound(Subject::Registration(id)).into());
        }
        let client = registration.map(|registration| client(registration.hub, registration.device_id));
        return Ok(Identity { owner: KeyOwner::Registration(id), client });
    }
    let Some(device_id) = target.query("deviceId").filter(|id| !id.is_empty()) else {
        return Err(Failure::invalid("query", "it names neither a registrationId nor a deviceId".into()));
    };
    let device_id: DeviceId = parse_id(device_id)?;
    let mut hubs = shared.provisioning.settings().hubs.iter();
    let hub: HubName = match (target.query("hub").filter(|hub| !hub.is_empty()), hubs.next(), hubs.next()) {
        (Some(hub), ..) => parse_id(hub)?,
        (None, Some(only), None) => only.name.clone(),
        _ => return Err(Failure::invalid("hub", "there is more than one hub: name the device's".into())),
    };
    let device = registry.device(&hub, &device_id)?;
    let device = device.ok_or(Refusal::NotFound(Subject::Device(hub, device_id)))?;
    let owner = match device.registration {
        Some(id) => KeyOwner::Registration(id),
        None => KeyOwner::Device(device.hub.clone(), device.device_id.clone()),
    };
    Ok(Identity { owner, client: Some(client(device.hub, device.device_id)) })
}

fn name(owner: &KeyOwner) -> Value {
    match owner {
        KeyOwner::Registration(id) => json!({"registrationId": id}),
        KeyOwner::Group(id) => json!({"enrollmentGroupId": id}),
        KeyOwner::Device(hub, id) => json!({"hub": hub, "deviceId": id}),
        KeyOwner::Module(hub, id, module) => json!({"hub": hub, "deviceId": id, "moduleId": module}),
    }
}

fn evidence(evidence: &CloneEvidence) -> Value {
    json!({
        "at": evidence.at.to_string(),
        "signal": evidence.signal,
        "score": evidence.score,
        "detail": evidence.detail,
    })
}

/// A standing as it is shown everywhere.
pub(crate) fn show(standing: &Standing) -> Value {
    let mut shown = name(&standing.owner);
    shown["state"] = json!(standing.state.as_str());
    shown["since"] = json!(standing.since.to_string());
    shown["score"] = json!(standing.score);
    shown["quarantines"] = json!(standing.quarantines);
    shown["evidence"] = standing.evidence.iter().map(evidence).collect();
    if let Some(by) = &standing.released_by {
        shown["releasedBy"] = json!(by);
    }
    shown
}

/// All standings, the newest first: `{"value": [...]}`.
pub(super) async fn list(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    let registry = shared.provisioning.registry().clone();
    Shared::blocking(move || {
        let mut standings = registry.standings()?;
        standings.sort_by_key(|standing| std::cmp::Reverse(standing.since));
        Ok(json_answer(StatusCode::OK, &json!({"value": standings.iter().map(show).collect::<Vec<_>>()})))
    })
    .await
}

/// A session as it was observed.
pub(super) fn session(seen: &SessionSeen, live: bool) -> Value {
    let traits = &seen.traits;
    let mut shown = json!({
        "epoch": seen.epoch.to_string(),
        "began": seen.at.to_string(),
        "keyFingerprint": seen.key.to_string(),
        "peer": IpAddr::to_string(&seen.peer),
        "traits": {
            "keepAliveSeconds": traits.keep_alive_seconds,
            "cleanSession": traits.clean_session,
            "clientType": traits.client_type,
            "tls": traits.tls.as_ref().map(|tls| json!({
                "version": tls.version,
                "cipher": tls.cipher,
                "alpn": tls.alpn,
            })),
        },
        "resumed": seen.resumed,
    });
    if let Some(older) = seen.took_over {
        shown["tookOver"] = json!(older.to_string());
    }
    shown["end"] = match seen.end {
        None if live => json!("live"),
        None => json!("unknown"),
        Some((_, Ending::Disconnected)) => json!("disconnected"),
        Some((_, Ending::Lost)) => json!("lost"),
        Some((_, Ending::Closed)) => json!("closed"),
        Some((_, Ending::TakenOver { .. })) => json!("takenOver"),
    };
    if let Some((at, how)) = seen.end {
        shown["ended"] = json!(Timestamp::to_string(&at));
        if let Ending::TakenOver { by, heard, answered } = how {
            shown["takenOverBy"] = json!(by.to_string());
            // Both: somebody was there.
            shown["wasHeard"] = json!(heard);
            shown["answered"] = json!(answered);
        }
    }
    shown
}

/// One identity: its policy, its standing (`null`: nothing was ever suspected), what its sessions add up to now, and the sessions
/// themselves, the oldest first, as far as they are remembered.
pub(super) fn get(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let Identity { owner, client } = find(shared, &proven.target)?;
    let registry = shared.provisioning.registry();
    let policy = clones::policy_of(registry.as_ref(), shared.provisioning.settings(), &owner)?;
    let mut shown = name(&owner);
    shown["clonePolicy"] = json!(policy.as_str());
    shown["standing"] = registry.standing(&owner)?.as_ref().map(show).into();
    shown["sessions"] = json!([]);
    if let Some(client) = &client {
        let (sessions, finding) = shared.suspicion.recall(client, shared.environment.now());
        let live = shared.sessions.live(client);
        shown["hub"] = json!(client.hub);
        shown["deviceId"] = json!(client.device_id);
        shown["scoreNow"] = json!(finding.score);
        shown["evidenceNow"] = finding.evidence.iter().map(evidence).collect();
        shown["sessions"] = sessions.iter().map(|seen| session(seen, live == Some(seen.epoch))).collect();
    }
    if let KeyOwner::Registration(id) = &owner
        && let Some(continuity) = registry.continuity(id)?
    {
        shown["continuity"] = json!({"confirmed": continuity.confirmed, "issued": continuity.issued});
    }
    Ok(json_answer(StatusCode::OK, &shown))
}

async fn set(
    shared: &Shared,
    proven: &Proven,
    owner: KeyOwner,
    verdict: StandingVerdict,
) -> Result<Box<Standing>, Failure> {
    let command = Command::SetStanding { owner, verdict };
    match shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await? {
        Outcome::Standing(standing) => Ok(standing),
        other => Err(Shared::unexpected(&other)),
    }
}

#[derive(Deserialize, Default)]
struct QuarantineBody {
    reason: Option<String>,
}

/// Holds an identity back: its session ends, it cannot connect nor register, until somebody releases it.
pub(super) async fn quarantine(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let Identity { owner, client } = find(shared, &proven.target)?;
    let body: QuarantineBody = match proven.body.is_empty() {
        true => QuarantineBody::default(),
        false => members(&parse_json(&proven.body)?)?,
    };
    let reason = body.reason.unwrap_or_default();
    super::check_reason(&reason)?;
    let standing = set(shared, proven, owner, StandingVerdict::Quarantine { reason }).await?;
    // Only now that the write is synced: whoever comes back at once must find it.
    let cut = client.is_some_and(|client| {
        shared.sessions.close(&client, CloseReason::IdentityChanged("put into quarantine by an operator"))
    });
    tracing::warn!(owner = %standing.owner, cut, "put into quarantine by an operator");
    let mut shown = show(&standing);
    shown["sessionEnded"] = json!(cut);
    Ok(json_answer(StatusCode::OK, &shown))
}

/// Releases an identity, or dismisses a suspicion. What was observed up to now counts no more.
pub(super) async fn release(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let Identity { owner, client } = find(shared, &proven.target)?;
    let registry = shared.provisioning.registry();
    if registry.standing(&owner)?.is_some_and(|standing| standing.state == StandingState::Released) {
        // It is what was asked for; a second leaf would say nothing, and a cool-down begins only once.
        let standing = registry.standing(&owner)?.as_ref().map(show);
        return Ok(json_answer(StatusCode::OK, &json!(standing)));
    }
    let by = format!("policy {}", proven.principal.policy);
    let standing = set(shared, proven, owner, StandingVerdict::Release { by }).await?;
    if let Some(client) = client {
        shared.suspicion.ignore_until(&client, standing.since, standing.since);
    }
    tracing::info!(owner = %standing.owner, "released");
    Ok(json_answer(StatusCode::OK, &show(&standing)))
}
