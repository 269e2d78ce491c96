//! The attacks, move by move. Whether a session still lives is asked by publishing through it, so no wait decides.

use super::play::{Play, Session};
use super::report::{Actor, AttackOutcome};
use crate::device::{TOKEN_SECONDS, expiry, hub_resource, provisioning_resource};
use crate::{Credential, Device, SimError, provision_with};

const TPM_KEEPS_IT: &str = "the key is in the owner's TPM";

/// A copy of the owner's credential, if there can be one.
fn copied(play: &Play<'_, '_>) -> Option<Credential> {
    match &play.owner.key {
        Credential::Tpm(_) => None,
        other => Some(other.clone()),
    }
}

pub(super) async fn takeover(play: &mut Play<'_, '_>) -> Result<AttackOutcome, SimError> {
    let Some(stolen) = copied(play) else { return Ok(play.impossible(TPM_KEEPS_IT)) };
    let mut owner = play.owner_goes_live().await?;
    let thief = play.connect(Actor::Thief, "connect", play.scene.dialer, &stolen).await;
    Ok(contest(play, &mut owner, thief).await)
}

/// Who has the session now; then the owner, if it lost it, comes back.
async fn contest(play: &mut Play<'_, '_>, owner: &mut Session, thief: Option<Session>) -> AttackOutcome {
    let owner_lives = play.publish(Actor::Owner, owner).await;
    let Some(mut thief) = thief else { return AttackOutcome::of_contest(false, owner_lives) };
    let thief_lives = play.publish(Actor::Thief, &mut thief).await;
    let outcome = AttackOutcome::of_contest(thief_lives, owner_lives);
    if !owner_lives && let Some(back) = play.owner_returns().await {
        play.publish(Actor::Thief, &mut thief).await;
        back.disconnect().await;
    }
    thief.disconnect().await;
    outcome
}

pub(super) async fn ping_pong(play: &mut Play<'_, '_>) -> Result<AttackOutcome, SimError> {
    let Some(stolen) = copied(play) else { return Ok(play.impossible(TPM_KEEPS_IT)) };
    let mut owner = Some(play.owner_goes_live().await?);
    let mut thief: Option<Session> = None;
    let mut trades = 0;
    for _ in 0..play.scene.rounds {
        thief = play.connect(Actor::Thief, "connect", play.scene.dialer, &stolen).await;
        owner = still(play, Actor::Owner, owner).await;
        trades += u32::from(thief.is_some() && owner.is_none());
        if owner.is_none() {
            owner = play.owner_returns().await;
            let had = thief.is_some();
            thief = still(play, Actor::Thief, thief).await;
            trades += u32::from(had && owner.is_some() && thief.is_none());
        }
        if thief.is_none() && owner.is_none() {
            break;
        }
    }
    let outcome = if trades == 2 * play.scene.rounds {
        AttackOutcome::Traded
    } else {
        AttackOutcome::of_contest(thief.is_some(), owner.is_some())
    };
    for session in [owner, thief].into_iter().flatten() {
        session.disconnect().await;
    }
    Ok(outcome)
}

/// The session, if it still lives.
async fn still(play: &mut Play<'_, '_>, who: Actor, session: Option<Session>) -> Option<Session> {
    let mut session = session?;
    play.publish(who, &mut session).await.then_some(session)
}

pub(super) async fn register_only(play: &mut Play<'_, '_>) -> Result<AttackOutcome, SimError> {
    let stolen = match &play.owner.key {
        // The public keys can be copied, and shown by another TPM.
        Credential::Tpm(tpm) => {
            let tpm = tpm.clone();
            let made = tokio::task::spawn_blocking(move || tpm.impostor()).await;
            made.unwrap_or_else(|error| Err(SimError::Tpm(error.to_string())))?.into()
        }
        other => other.clone(),
    };
    let mut owner = play.owner_goes_live().await?;
    let thief = Device { key: stolen, ..play.owner.clone() };
    let registered = play.register("register", play.scene.dialer, &thief).await;
    let owner_lives = play.publish(Actor::Owner, &mut owner).await;
    owner.disconnect().await;
    Ok(AttackOutcome::of_contest(registered.is_some(), owner_lives))
}

pub(super) async fn old_token(play: &mut Play<'_, '_>) -> Result<AttackOutcome, SimError> {
    let at_hub = hub_resource(&play.assignment.hub_host, &play.assignment.device_id);
    let at_service = provisioning_resource(&play.owner);
    // As if it had been read an hour ago at the latest.
    let past = play.scene.env.now().unix_seconds().saturating_sub(TOKEN_SECONDS);
    let Some(captured) = play.owner.key.token(&at_hub, expiry(play.scene.env), None).await? else {
        return Ok(play.impossible("a certificate has no token"));
    };
    let mut granted = false;
    for (resource, registers) in [(&at_hub, false), (&at_service, true)] {
        let Some(token) = play.owner.key.token(resource, past, None).await? else { continue };
        let token = Credential::Token(token);
        if registers {
            let thief = Device { key: token, ..play.owner.clone() };
            granted |= play.register("register with an expired token", play.scene.dialer, &thief).await.is_some();
        } else {
            granted |= reaches(play, "connect with an expired token", token).await;
        }
    }
    if let Some(remake) = play.scene.remake {
        let (dialer, endpoint, env) = (play.scene.dialer, play.scene.endpoint, play.scene.env);
        play.owner = remake().await?;
        play.assignment = provision_with::<crate::DirectClient>(dialer, endpoint, &play.owner, env).await?;
        granted |= reaches(play, "connect with a token of before", Credential::Token(captured)).await;
        // The new credential must work, or the refusal would say nothing.
        play.owner_goes_live().await?.disconnect().await;
    }
    Ok(if granted { AttackOutcome::Accepted } else { AttackOutcome::Refused })
}

async fn reaches(play: &mut Play<'_, '_>, step: &'static str, credential: Credential) -> bool {
    let Some(session) = play.connect(Actor::Thief, step, play.scene.dialer, &credential).await else { return false };
    session.disconnect().await;
    true
}

pub(super) async fn reissued_certificate(play: &mut Play<'_, '_>) -> Result<AttackOutcome, SimError> {
    let Credential::Certificate(certificate) = play.owner.key.clone() else {
        return Ok(play.impossible("the owner has no certificate"));
    };
    let Some(issuer) = play.scene.issuer else { return Ok(play.impossible("no authority issues for the thief")) };
    let Some(id) = play.beside("reissued") else { return Ok(play.impossible("the owner's id leaves no room")) };
    let key = issuer.issue_over(&id, &certificate, play.scene.env)?.into();
    Ok(under_another_id(play, Device { registration_id: id, key, id_scope: play.owner.id_scope.clone() }).await)
}

pub(super) async fn same_key_other_id(play: &mut Play<'_, '_>) -> Result<AttackOutcome, SimError> {
    let Some(key) = copied(play) else { return Ok(play.impossible(TPM_KEEPS_IT)) };
    let Some(id) = play.beside("other") else { return Ok(play.impossible("the owner's id leaves no room")) };
    Ok(under_another_id(play, Device { registration_id: id, key, id_scope: play.owner.id_scope.clone() }).await)
}

async fn under_another_id(play: &mut Play<'_, '_>, thief: Device) -> AttackOutcome {
    play.claimed = thief.registration_id.clone();
    match play.register("register another id", play.scene.dialer, &thief).await {
        Some(_) => AttackOutcome::Accepted,
        None => AttackOutcome::Refused,
    }
}

pub(super) async fn other_topic(play: &mut Play<'_, '_>) -> Result<AttackOutcome, SimError> {
    let Some(accomplice) = play.scene.accomplice else {
        return Ok(play.impossible("the thief has no device of its own"));
    };
    play.claimed = accomplice.registration_id.clone();
    let mut owner = play.owner_goes_live().await?;
    let (dialer, env) = (play.scene.dialer, play.scene.env);
    let own = provision_with::<crate::DirectClient>(dialer, play.scene.endpoint, accomplice, env).await?;
    let mut thief = Session::connect_with(dialer, &own, &accomplice.key, env).await?;
    let device = play.assignment.device_id.to_string();
    let granted = play.publish_to(Actor::Thief, &mut thief, &device).await;
    let owner_lives = play.publish(Actor::Owner, &mut owner).await;
    owner.disconnect().await;
    thief.disconnect().await;
    Ok(AttackOutcome::of_contest(granted, owner_lives))
}

pub(super) async fn overlap(play: &mut Play<'_, '_>) -> Result<AttackOutcome, SimError> {
    let Some(stolen) = copied(play) else { return Ok(play.impossible(TPM_KEEPS_IT)) };
    let mut owner = play.owner_goes_live().await?;
    let [first, second] = play.scene.sources.map(|source| play.scene.dialer.clone().with_source(source));
    let thief = Device { key: stolen.clone(), ..play.owner.clone() };
    play.register("register from one address", &first, &thief).await;
    let thief = play.connect(Actor::Thief, "connect from another", &second, &stolen).await;
    Ok(contest(play, &mut owner, thief).await)
}
