//! `unicity revoke` (U7): one record, synced; then the predicate holds everywhere; then live sessions are cut; the answer says how long
//! each took. Rows follow behind, and a GET shows how far they are. Tokens need no list of their own: their keys are denied. Queued
//! commands would end here too; this hub has none yet.

use std::time::Instant;

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{
    AuthorityName, BatchLabel, EnrollmentGroupId, Facets, KeyFingerprint, Refusal, RegistrationId, RevocationTarget,
};
use unicity_provisioning::{Command, Outcome, Registry};

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::dps::{members, parse_id, parse_json};
use crate::failure::Failure;
use crate::revocations::{cut, show, show_target};
use crate::{certificate, follow};

/// What is meant, in a body or in query parameters with the same names: a DELETE may have no body.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RevokeBody {
    registration_id: Option<String>,
    key_fingerprint: Option<String>,
    certificate: Option<String>,
    certificate_sha256: Option<String>,
    authority: Option<String>,
    group_id: Option<String>,
    batch: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

fn hash(what: &str, text: &str) -> Result<KeyFingerprint, Failure> {
    let digits: String = text.chars().filter(|char| *char != ':' && !char.is_whitespace()).collect();
    digits.to_ascii_lowercase().parse().map_err(|error| Failure::invalid(what, format!("{error}")))
}

impl RevokeBody {
    fn read(proven: &Proven) -> Result<Self, Failure> {
        if !proven.body.is_empty() {
            return members(&parse_json(&proven.body)?);
        }
        let parameter = |name: &str| proven.target.query(name).map(str::to_owned);
        Ok(Self {
            registration_id: parameter("registrationId"),
            key_fingerprint: parameter("keyFingerprint"),
            certificate_sha256: parameter("certificateSha256"),
            authority: parameter("authority"),
            group_id: parameter("groupId"),
            batch: parameter("batch"),
            ..Self::default()
        })
    }

    /// The one target that is named; `None`: none is.
    fn target(&self, shared: &Shared) -> Result<Option<RevocationTarget>, Failure> {
        let there = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let mut named = Vec::new();
        if let Some(text) = there(&self.registration_id) {
            named.push(RevocationTarget::Registration(parse_id::<RegistrationId>(&text)?));
        }
        if let Some(text) = there(&self.key_fingerprint) {
            named.push(RevocationTarget::Key(hash("keyFingerprint", &text)?));
        }
        if let Some(text) = there(&self.certificate) {
            let certificate = certificate::one("certificate", &text)?;
            let sha256 = <[u8; 32]>::try_from(certificate.summary().sha256.as_bytes());
            let sha256 = sha256.map_err(|_| Failure::invalid("certificate", "its hash has another length".into()))?;
            named.push(RevocationTarget::Certificate(sha256));
        }
        if let Some(text) = there(&self.certificate_sha256) {
            named.push(RevocationTarget::Certificate(hash("certificateSha256", &text)?.0));
        }
        if let Some(text) = there(&self.authority) {
            named.push(authority(shared, parse_id(&text)?)?);
        }
        if let Some(text) = there(&self.group_id) {
            named.push(RevocationTarget::Group(parse_id::<EnrollmentGroupId>(&text)?));
        }
        if let Some(text) = there(&self.batch) {
            named.push(RevocationTarget::Batch(parse_id::<BatchLabel>(&text)?));
        }
        match (named.pop(), named.is_empty()) {
            (target, true) => Ok(target),
            _ => Err(Failure::invalid("body", "it names more than one target; revoke one at a time".into())),
        }
    }

    fn one_target(&self, shared: &Shared) -> Result<RevocationTarget, Failure> {
        self.target(shared)?.ok_or_else(|| {
            Failure::invalid(
                "body",
                "it names none of registrationId, keyFingerprint, certificate, certificateSha256, authority, groupId and batch"
                    .into(),
            )
        })
    }
}

/// An authority by its name: one that is there, or one that was revoked under that name and removed since.
fn authority(shared: &Shared, name: AuthorityName) -> Result<RevocationTarget, Failure> {
    let registry = shared.provisioning.registry();
    if let Some(found) = registry.authority(&name)? {
        return Ok(RevocationTarget::Authority { key: found.key, name });
    }
    let is_it =
        |target: &RevocationTarget| matches!(target, RevocationTarget::Authority { name: of, .. } if *of == name);
    let known = registry.revocations()?.into_iter().map(|revocation| revocation.target).find(is_it);
    known.ok_or_else(|| Refusal::NotFound(Subject::Authority(name)).into())
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// Revokes, or says what it would touch.
pub(super) async fn revoke(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body = RevokeBody::read(proven)?;
    let target = body.one_target(shared)?;
    if body.dry_run {
        return preview(shared, target).await;
    }
    let reason = body.reason.filter(|text| !text.trim().is_empty());
    reason.as_deref().map_or(Ok(()), super::check_reason)?;
    if let RevocationTarget::Batch(label) = &target
        && !body.force
    {
        be_carried(shared, label.clone()).await?;
    }
    let registry = shared.provisioning.registry();
    let (began, synced_before) = (Instant::now(), registry.sync_ns_total());
    let command = Command::Revoke { target, reason, force: body.force };
    let revoked = match shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await? {
        Outcome::Revoked(revoked) => revoked,
        other => return Err(Shared::unexpected(&other)),
    };
    let durable_ms = milliseconds(began);
    // At a hub elsewhere it is disabled by a transfer, which the periodic look at all transfers would find later.
    if let RevocationTarget::Registration(id) = &revoked.revocation.target {
        shared.provisioning.took_up_any(id)?;
    } else if let Some(KeyOwner::Registration(id)) = &revoked.owner {
        shared.provisioning.took_up_any(id)?;
    }
    // What the disk was busy with meanwhile: this record, and the end of the one before it.
    let sync_ms = registry.sync_ns_total().zip(synced_before).map(|(after, before)| {
        #[expect(clippy::cast_precision_loss, reason = "a duration in milliseconds for people")]
        let sync_ms = after.saturating_sub(before) as f64 / 1e6;
        sync_ms.min(durable_ms)
    });
    let cutting = Instant::now();
    let sessions = cut(shared, &revoked);
    let cut_ms = milliseconds(cutting);
    let follows = !revoked.revocation.complete || revoked.group.is_some();
    if follows {
        shared.follow.notify_one();
    }
    tracing::info!(
        target = %revoked.revocation.target, sessions, keys = revoked.keys, rows = revoked.rows, durable_ms, cut_ms, follows,
        "revoked"
    );
    let mut answer = json!({
        "revocation": show(&revoked.revocation),
        "durableMs": durable_ms,
        "syncMs": sync_ms,
        "cutMs": cut_ms,
        "sessionsCut": sessions,
        "keysDenied": revoked.keys,
        "rowsEnded": revoked.rows,
        "rowsFollow": follows,
    });
    if let Some(group) = &revoked.group {
        answer["group"] = show(group);
    }
    Ok(json_answer(StatusCode::OK, &answer))
}

/// Refuses a batch label that no enrollment carries: a misspelt one would seem to have ended something. One in force is known.
async fn be_carried(shared: &Shared, label: BatchLabel) -> Result<(), Failure> {
    let provisioning = shared.provisioning.clone();
    Shared::blocking(move || {
        let registry = provisioning.registry().as_ref();
        let target = RevocationTarget::Batch(label.clone());
        if registry.revocation(&target)?.is_some() || follow::is_any(registry, &target)? {
            return Ok(());
        }
        Err(Refusal::NotFound(Subject::Batch(label)).into())
    })
    .await
}

/// What a revocation would touch, by the records and sessions of this moment.
async fn preview(shared: &Shared, target: RevocationTarget) -> Result<Response<ApiBody>, Failure> {
    let provisioning = shared.provisioning.clone();
    let sessions = shared.sessions.clone();
    Shared::blocking(move || {
        let registry = provisioning.registry().as_ref();
        let Means { known, also, devices, keys } = means(registry, &target)?;
        let targets: Vec<&RevocationTarget> = std::iter::once(&target).chain(&also).collect();
        let is_met = |facets: &Facets| targets.iter().any(|target| facets.are_met_by(target));
        let live = sessions.count_where(is_met);
        let mut answer = json!({
            "dryRun": true,
            "target": show_target(&target),
            "revoked": target.to_string(),
            "known": known,
            "inForce": registry.revocation(&target)?.is_some(),
            "devices": devices.max(match target {
                // Whom a certificate is of, or vouches for, no record tells for sure; who shows it does.
                RevocationTarget::Certificate(_) | RevocationTarget::Authority { .. } => live,
                _ => 0,
            }),
            // Whoever shows a chain that leads to it ends too, by however many intermediates: no record counts those.
            "atLeast": matches!(target, RevocationTarget::Authority { .. }),
            "sessions": live,
            "keys": keys,
        });
        if let Some(also) = also.first() {
            answer["also"] = json!(also.to_string());
        }
        Ok(json_answer(StatusCode::OK, &answer))
    })
    .await
}

/// What a target means.
struct Means {
    known: bool,
    /// What ends with it: who holds a key.
    also: Vec<RevocationTarget>,
    devices: usize,
    /// Keys that are denied with the record.
    keys: usize,
}

fn means(registry: &dyn Registry, target: &RevocationTarget) -> Result<Means, Failure> {
    let none = |known| Means { known, also: Vec::new(), devices: 0, keys: 0 };
    Ok(match target {
        RevocationTarget::Registration(id) => {
            let (individual, registration) = (registry.individual(id)?, registry.registration(id)?);
            let device = match &registration {
                Some(registration) => registry.device(&registration.hub, &registration.device_id)?,
                None => None,
            };
            let mut keys: std::collections::BTreeSet<KeyFingerprint> =
                individual.iter().flat_map(|enrollment| enrollment.terms.attestation.keys()).collect();
            keys.extend(device.iter().flat_map(|device| device.authentication.keys()));
            let known = individual.is_some() || registration.is_some();
            Means { devices: usize::from(known), keys: keys.len(), ..none(known) }
        }
        RevocationTarget::Key(key) => match registry.key_owner(key)? {
            None => Means { keys: 1, ..none(false) },
            Some(KeyOwner::Device(..) | KeyOwner::Module(..)) => Means { devices: 1, keys: 1, ..none(true) },
            Some(KeyOwner::Registration(id)) => {
                let also = RevocationTarget::Registration(id);
                Means { also: vec![also.clone()], ..means(registry, &also)? }
            }
            Some(KeyOwner::Group(id)) => {
                let also = RevocationTarget::Group(id);
                Means { also: vec![also.clone()], ..means(registry, &also)? }
            }
        },
        RevocationTarget::Certificate(_) => none(true),
        RevocationTarget::Group(id) => {
            let group = registry.group(id)?;
            let keys = group.as_ref().map_or(0, |group| group.terms.attestation.keys().len());
            Means { devices: follow::count(registry, target)?, keys, ..none(group.is_some()) }
        }
        RevocationTarget::Authority { .. } => Means { devices: follow::count(registry, target)?, ..none(true) },
        RevocationTarget::Batch(_) => {
            let devices = follow::count(registry, target)?;
            Means { devices, ..none(devices > 0) }
        }
    })
}

/// All revocations in force, or the one that is named: how far its rows are.
pub(super) fn list(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let registry = shared.provisioning.registry();
    match RevokeBody::read(proven)?.target(shared)? {
        None => {
            let shown: Vec<Value> = registry.revocations()?.iter().map(show).collect();
            Ok(json_answer(StatusCode::OK, &json!({"value": shown})))
        }
        Some(target) => match registry.revocation(&target)? {
            Some(revocation) => Ok(json_answer(StatusCode::OK, &show(&revocation))),
            None => Err(Refusal::NotFound(Subject::Revocation(target)).into()),
        },
    }
}

/// Lifts one. What it ended stays ended, and denied keys stay denied: an operator enables what is to come back.
pub(super) async fn lift(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let target = RevokeBody::read(proven)?.one_target(shared)?;
    let command = Command::LiftRevocation { target };
    shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    Ok(no_content())
}
