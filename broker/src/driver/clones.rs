//! Two devices with one credential, at the hub's door: the policies, what is observed, and what follows (U5).
//!
//! An ordinary CONNECT costs one look-up more, for a quarantine. The policy is looked up only when a session would take over from a
//! live one; whether the older one stays is then decided in the same step that changes the table.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::{info, warn};
use unicity_hub::suspicion::{Ending, Finding, LeafDue, SessionSeen, TlsTraits, Traits};
use unicity_hub::{CloseReason, HubGrant, Inserted, SessionControl, SessionEpoch, SessionStamp, Takeover};
use unicity_identity::error::KeyOwner;
use unicity_identity::{ClientIdentity, ClonePolicy, Refusal, StandingState};
use unicity_listener::{ConnectionInfo, TlsVersion};
use unicity_provisioning::leaf::LeafEvent;
use unicity_provisioning::registry::StandingVerdict;
use unicity_provisioning::{Actor, Command, Outcome, Pending, RegistryError, Request, clones};

use super::Shared;
use crate::close::CloseCause;
use crate::session::HubConnect;

/// The longest part of a client's own name that is remembered, in characters.
const CLIENT_TYPE_MAX: usize = 64;

/// What TLS showed of a client.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    tls: Option<TlsTraits>,
    resumed: bool,
}

impl Facts {
    pub(super) fn of(info: &ConnectionInfo) -> Self {
        let tls = info.tls_version.map(|version| TlsTraits {
            version: match version {
                TlsVersion::Tls12 => "TLS 1.2",
                TlsVersion::Tls13 => "TLS 1.3",
            },
            cipher: info.cipher.unwrap_or("-"),
            alpn: info.alpn.as_ref().map(|alpn| String::from_utf8_lossy(alpn).into()),
        });
        Self { tls, resumed: info.resumed }
    }
}

/// Refuses who is in quarantine. Called before the session takes its place and once more after: a quarantine in between finds the
/// session, or is found.
pub(super) fn check(shared: &Shared, grant: &HubGrant) -> Result<(), Refusal> {
    clones::check(shared.parts.provisioning.registry().as_ref(), &grant.owner())
}

/// Makes a session the live one of its client, with the next epoch, unless the policy lets the older one stay.
pub(super) fn take_place(
    shared: &Shared,
    grant: &HubGrant,
    control: &Arc<dyn SessionControl>,
) -> Result<(SessionEpoch, Option<Takeover>), Refusal> {
    let mut policy = None;
    loop {
        let stays = |older: &dyn SessionControl| match policy {
            // Not known yet: nothing changes until it is.
            None => true,
            Some(ClonePolicy::Oldest) => older.is_alive(),
            Some(ClonePolicy::Newest | ClonePolicy::Quarantine) => false,
        };
        let parts = &shared.parts;
        let (epoch, inserted) = parts.sessions.insert_next(&grant.client, &parts.epochs, Arc::clone(control), stays);
        match inserted {
            Inserted::First => return Ok((epoch, None)),
            Inserted::TookOver(old) => return Ok((epoch, Some(old))),
            Inserted::Superseded { by } => {
                return Err(Refusal::Superseded { by: Some(by.to_string()) });
            }
            Inserted::OlderStays { epoch } if policy.is_some() => {
                return Err(Refusal::OlderSessionLives { owner: grant.owner(), epoch: epoch.to_string() });
            }
            Inserted::OlderStays { .. } => {
                let provisioning = &shared.parts.provisioning;
                let found =
                    clones::policy_of(provisioning.registry().as_ref(), provisioning.settings(), &grant.owner());
                policy = Some(found.map_err(|fault| Refusal::Unavailable { why: fault.to_string() })?);
            }
        }
    }
}

/// Observes that a session has begun; `took_over`: the live one before it, and whether its client counted as alive.
pub(super) fn opened(
    shared: &Arc<Shared>,
    stamp: &SessionStamp,
    peer: IpAddr,
    facts: &Facts,
    connect: &HubConnect,
    took_over: Option<(SessionEpoch, bool)>,
) {
    let client_type = connect.client_type.as_deref().map(|name| name.chars().take(CLIENT_TYPE_MAX).collect());
    let traits = Traits {
        tls: facts.tls.clone(),
        keep_alive_seconds: connect.keep_alive_seconds,
        clean_session: connect.clean_session,
        client_type,
    };
    let session = SessionSeen {
        epoch: stamp.epoch,
        at: shared.parts.environment.now(),
        key: stamp.key_fingerprint,
        peer,
        traits: Arc::new(traits),
        resumed: facts.resumed,
        took_over: None,
        end: None,
    };
    follow(shared, &stamp.client, shared.parts.suspicion.opened(&stamp.client, session, took_over));
}

/// Observes that a session has ended; `answered`: its client closed its end when it was told.
pub(super) fn ended(shared: &Arc<Shared>, stamp: &SessionStamp, cause: &CloseCause, answered: bool) {
    let how = match cause {
        CloseCause::Disconnected => Ending::Disconnected,
        CloseCause::PeerClosed | CloseCause::Io(_) | CloseCause::KeepAlive | CloseCause::WriteStalled => Ending::Lost,
        _ => Ending::Closed,
    };
    let now = shared.parts.environment.now();
    follow(shared, &stamp.client, shared.parts.suspicion.ended(&stamp.client, stamp.epoch, now, how, answered));
}

/// Writes a takeover into the audit log. `None`: there were many of late, and it is counted with a later one.
pub(super) fn leaf(
    shared: &Shared,
    stamp: &SessionStamp,
    older: SessionEpoch,
) -> Option<Pending<Result<Outcome, RegistryError>>> {
    let now = shared.parts.environment.now();
    let LeafDue::Now { uncounted } = shared.parts.suspicion.leaf(&stamp.client, now) else { return None };
    let event = LeafEvent::TakenOver {
        hub: stamp.client.hub.clone(),
        device_id: stamp.client.device_id.clone(),
        generation: stamp.generation,
        key_fingerprint: stamp.key_fingerprint,
        older: older.to_string(),
        newer: stamp.epoch.to_string(),
        uncounted,
    };
    Some(submit(shared, Command::Note(Box::new(event)), Actor::Device))
}

/// Waits for a leaf, if there is one to wait for. The error is in words.
pub(super) async fn synced(noted: Option<Pending<Result<Outcome, RegistryError>>>) -> Result<(), String> {
    match noted {
        Some(noted) => noted.await.map(drop).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

fn submit(shared: &Shared, command: Command, actor: Actor) -> Pending<Result<Outcome, RegistryError>> {
    let environment = &shared.parts.environment;
    let request = Request { command, actor, now: environment.now(), entropy: environment.entropy() };
    shared.parts.provisioning.registry().submit(request)
}

/// Lets a finding have its consequences, in a task of its own: no session waits for it. Findings are rare by themselves.
fn follow(shared: &Arc<Shared>, client: &ClientIdentity, finding: Option<Finding>) {
    let Some(finding) = finding else { return };
    let (shared, client) = (Arc::clone(shared), client.clone());
    tokio::spawn(async move {
        if let Err(why) = act(&shared, &client, finding).await {
            warn!(device.id = %client, why, "a suspicion could not be recorded");
        }
    });
}

async fn act(shared: &Shared, client: &ClientIdentity, mut finding: Finding) -> Result<(), String> {
    let provisioning = &shared.parts.provisioning;
    let registry = provisioning.registry();
    let say = |fault: unicity_provisioning::Fault| fault.to_string();
    let Some(device) = registry.device(&client.hub, &client.device_id).map_err(say)? else { return Ok(()) };
    let owner = match device.registration {
        Some(id) => KeyOwner::Registration(id),
        None => KeyOwner::Device(device.hub, device.device_id),
    };
    if let Some(standing) = registry.standing(&owner).map_err(say)? {
        if standing.state == StandingState::Released {
            // What was before the release has been judged already.
            let now = shared.parts.environment.now();
            match shared.parts.suspicion.ignore_until(client, standing.since, now) {
                Some(newer) => finding = newer,
                None => return Ok(()),
            }
        }
        let known = standing.evidence.iter().map(|evidence| evidence.at).max();
        finding.evidence.retain(|evidence| known.is_none_or(|known| evidence.at > known));
    }
    let policy = clones::policy_of(registry.as_ref(), provisioning.settings(), &owner).map_err(say)?;
    let Finding { score, evidence } = finding;
    let verdict = StandingVerdict::Suspect { score, evidence, quarantine: policy == ClonePolicy::Quarantine };
    let command = Command::SetStanding { owner: owner.clone(), verdict };
    let outcome = submit(shared, command, Actor::Server).await.map_err(|error| error.to_string())?;
    let Outcome::Standing(standing) = outcome else { return Err("the registry answered something else".into()) };
    warn!(device.id = %client, %owner, score, state = %standing.state, policy = policy.as_str(),
        "two devices seem to hold this identity's key");
    if standing.state == StandingState::Quarantined
        && shared.parts.sessions.close(client, CloseReason::IdentityChanged("put into quarantine"))
    {
        info!(device.id = %client, "session ended by quarantine");
    }
    Ok(())
}
