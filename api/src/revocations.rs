//! What several calls need to know of revocations (U7): how one is shown, whether a record is meant by one, which sessions end.

use serde_json::{Value, json};
use unicity_hub::{CloseReason, Marked};
use unicity_identity::error::KeyOwner;
use unicity_identity::{Facets, KeyFingerprint, Revocation, RevocationTarget};
use unicity_provisioning::registry::Revoked;

use crate::api::Shared;
use crate::failure::Failure;

/// What the sessions that a revocation ends are told in the log.
pub(crate) const REVOKED: CloseReason = CloseReason::IdentityChanged("the device was revoked");

/// What the sessions of certificates are told that are not trusted any more.
const UNTRUSTED: CloseReason =
    CloseReason::IdentityChanged("the certificate is revoked, denied or vouched for by nobody any more");

/// So many sessions are told in one go that they end.
const ENDING_TOGETHER: usize = 32;

/// The one member that names a target, as a request names it too.
pub(crate) fn show_target(target: &RevocationTarget) -> Value {
    match target {
        RevocationTarget::Registration(id) => json!({"registrationId": id}),
        RevocationTarget::Key(key) => json!({"keyFingerprint": key.to_string()}),
        RevocationTarget::Certificate(sha256) => json!({"certificateSha256": KeyFingerprint(*sha256).to_string()}),
        RevocationTarget::Authority { name, key } => json!({"authority": name, "authorityKey": key.to_string()}),
        RevocationTarget::Group(id) => json!({"groupId": id}),
        RevocationTarget::Batch(label) => json!({"batch": label}),
    }
}

/// A revocation as JSON.
pub(crate) fn show(revocation: &Revocation) -> Value {
    let mut shown = json!({
        "target": show_target(&revocation.target),
        "revoked": revocation.target.to_string(),
        "at": revocation.at.to_string(),
        "by": revocation.by,
        "complete": revocation.complete,
        "rows": revocation.rows,
    });
    if let Some(reason) = &revocation.reason {
        shown["reason"] = json!(reason);
    }
    shown
}

/// Adds `revoked` to a record that a revocation means.
pub(crate) fn mark(shared: &Shared, record: &mut Value, facets: &Facets) -> Result<(), Failure> {
    if let Some(revocation) = shared.provisioning.registry().revoked()?.covers(facets) {
        record["revoked"] = show(revocation);
    }
    Ok(())
}

/// Ends the live sessions, in both roles, that a revocation means; says how many.
pub(crate) fn cut(shared: &Shared, revoked: &Revoked) -> usize {
    let targets: Vec<&RevocationTarget> =
        [Some(&revoked.revocation), revoked.group.as_ref()].into_iter().flatten().map(|it| &it.target).collect();
    // Who holds a revoked key ends as a whole, also where its session was opened with another of its keys.
    let owner = match &revoked.owner {
        Some(KeyOwner::Registration(id)) => Some(id),
        _ => None,
    };
    let marked = shared.sessions.mark_where(&REVOKED, |facets| {
        targets.iter().any(|target| facets.are_met_by(target))
            || (owner.is_some() && facets.registration.as_ref() == owner)
    });
    end(marked)
}

/// Has sessions go that do nothing more, a few at a time, and says how many they are. Thousands that say goodbye at once would hold
/// everyone else up, and first of all those who are refused now.
pub(crate) fn end(mut marked: Marked) -> usize {
    let count = marked.len();
    if marked.wake(ENDING_TOGETHER) > 0 {
        tokio::spawn(async move {
            while marked.wake(ENDING_TOGETHER) > 0 {
                tokio::task::yield_now().await;
            }
        });
    }
    count
}

/// Ends the sessions whose proof rests on a key that is denied now.
pub(crate) fn cut_key(shared: &Shared, key: &KeyFingerprint) -> usize {
    end(shared.sessions.mark_where(&UNTRUSTED, |facets| facets.relied_on().any(|relied_on| relied_on == key)))
}

/// Ends the sessions whose certificate would not be let in any more, after a change of authorities, lists or rules.
pub(crate) async fn cut_untrusted(shared: &Shared) -> Result<usize, Failure> {
    let sessions = shared.sessions.clone();
    let cut = end(Shared::blocking(move || Ok(sessions.rejudge(&UNTRUSTED))).await?);
    if cut > 0 {
        tracing::info!(sessions = cut, "sessions were cut whose certificates are not trusted any more");
    }
    Ok(cut)
}
