//! The rows of revocations follow behind (U7, design rule 12): devices are disabled and keys denied, some registrations a record, until
//! all are done. What it walks through was there when the revocation was decided: nothing new comes in behind it. After a restart it
//! begins anew, and finds done what is done.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use unicity_identity::{EnrollmentGroupId, EnrollmentRef, Entropy, Facets, Refusal, RegistrationId, RevocationTarget};
use unicity_provisioning::registry::Page;
use unicity_provisioning::{Actor, Command, Fault, Outcome, Registry, RegistryError, Request};

use crate::api::{Api, Shared};
use crate::failure::Failure;
use crate::revocations::{self, REVOKED};

/// Registrations of one record: a few milliseconds of the writer, so that others do not wait for long.
const CHUNK: usize = 128;
/// Records looked at in one go: the overlay is locked against the writer meanwhile.
const PAGE: usize = 256;
/// How long a revocation's rows wait for the sessions that it cut to be gone: the predicate holds meanwhile, and a walk through the
/// records would keep others waiting who come back in this moment.
const SETTLE: Duration = Duration::from_millis(500);
/// Registrations after whose end the live sessions are walked through once.
const CUT_AFTER: usize = 64 * CHUNK;
/// How long to wait after a failure: a full disk, as a rule.
const PATIENCE: Duration = Duration::from_secs(5);

impl Api {
    /// Lets the rows of revocations follow, those of an earlier start first, until `stop`.
    pub async fn follow_revocations(self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                match follow_all(&self.0).await {
                    Ok(()) => {
                        self.0.follow.notified().await;
                        tokio::time::sleep(SETTLE).await;
                    }
                    Err(error) => {
                        warn!(%error, "the rows of a revocation do not follow; it holds all the same; trying again");
                        tokio::time::sleep(PATIENCE).await;
                    }
                }
            }
        })
        .await;
    }
}

async fn follow_all(shared: &Arc<Shared>) -> Result<(), RegistryError> {
    loop {
        let revocations = shared.provisioning.registry().revocations()?;
        let Some(next) = revocations.into_iter().find(|revocation| !revocation.complete) else { return Ok(()) };
        let target = next.target;
        match follow(shared, &target).await {
            Ok(()) => {}
            // Lifted meanwhile.
            Err(RegistryError::Refused(Refusal::NotFound(_))) => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a walk looks for.
enum Wanted {
    Individuals(unicity_identity::BatchLabel),
    Members(BTreeSet<EnrollmentGroupId>),
}

fn wanted(registry: &dyn Registry, target: &RevocationTarget) -> Result<Option<Wanted>, Fault> {
    Ok(match target {
        RevocationTarget::Batch(label) => Some(Wanted::Individuals(label.clone())),
        RevocationTarget::Group(id) => Some(Wanted::Members([id.clone()].into())),
        RevocationTarget::Authority { key, .. } => {
            let groups = registry.groups()?.into_iter().filter(|group| group.terms.attestation.keys().contains(key));
            Some(Wanted::Members(groups.map(|group| group.group_id).collect()))
        }
        RevocationTarget::Registration(_) | RevocationTarget::Key(_) | RevocationTarget::Certificate(_) => None,
    })
}

/// The next registrations that a revocation may mean, and where to go on; `None`: there are no more.
type Found = (Vec<RegistrationId>, Option<RegistrationId>);

fn page_of<T>(page: Page<T>, id: impl Fn(&T) -> &RegistrationId, is_wanted: impl Fn(&T) -> bool) -> Found {
    let next = page.items.last().filter(|_| page.more).map(|last| id(last).clone());
    (page.items.iter().filter(|item| is_wanted(item)).map(|item| id(item).clone()).collect(), next)
}

fn look(registry: &dyn Registry, wanted: &Wanted, after: Option<&RegistrationId>) -> Result<Found, Fault> {
    Ok(match wanted {
        Wanted::Individuals(label) => page_of(
            registry.list_individuals(after, PAGE)?,
            |enrollment| &enrollment.registration_id,
            |enrollment| enrollment.batch.as_ref() == Some(label),
        ),
        Wanted::Members(groups) => page_of(
            registry.list_registrations(after, PAGE)?,
            |registration| &registration.registration_id,
            |registration| matches!(&registration.enrollment, EnrollmentRef::Group(id) if groups.contains(id)),
        ),
    })
}

/// Whether a revocation would mean any registration or enrollment, beside those that end with its own record.
pub(crate) fn is_any(registry: &dyn Registry, target: &RevocationTarget) -> Result<bool, Fault> {
    let Some(wanted) = wanted(registry, target)? else { return Ok(false) };
    let mut after = None;
    loop {
        let (found, next) = look(registry, &wanted, after.as_ref())?;
        if !found.is_empty() || next.is_none() {
            return Ok(!found.is_empty());
        }
        after = next;
    }
}

/// How many registrations a revocation would mean, beside those that end with its own record.
pub(crate) fn count(registry: &dyn Registry, target: &RevocationTarget) -> Result<usize, Fault> {
    let Some(wanted) = wanted(registry, target)? else { return Ok(0) };
    let (mut count, mut after) = (0, None);
    loop {
        let (found, next) = look(registry, &wanted, after.as_ref())?;
        count += found.len();
        match next {
            Some(next) => after = Some(next),
            None => return Ok(count),
        }
    }
}

async fn follow(shared: &Arc<Shared>, target: &RevocationTarget) -> Result<(), RegistryError> {
    let registry = shared.provisioning.registry();
    let wanted = wanted(registry.as_ref(), target)?.map(Arc::new);
    let mut after = None;
    let mut waiting: Vec<RegistrationId> = Vec::new();
    // Sessions that were not known as members when they connected: their label came later.
    let mut ended: HashSet<RegistrationId> = HashSet::new();
    while let Some(wanted) = &wanted {
        let (registry, wanted) = (registry.clone(), Arc::clone(wanted));
        let looked = Shared::blocking(move || Ok(look(registry.as_ref(), &wanted, after.as_ref())?));
        let (found, next) = looked.await.map_err(|failure: Failure| Fault(failure.cause().to_string()))?;
        waiting.extend(found);
        while waiting.len() >= CHUNK {
            let rest = waiting.split_off(CHUNK);
            let chunk = std::mem::replace(&mut waiting, rest);
            ended.extend(chunk.iter().cloned());
            end(shared, target, chunk, false).await?;
            if ended.len() >= CUT_AFTER {
                cut(shared, &ended);
                ended.clear();
            }
        }
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    ended.extend(waiting.iter().cloned());
    // Before the record that says that all is done, and so once more if there is a crash in between.
    end(shared, target, waiting, false).await?;
    cut(shared, &ended);
    end(shared, target, Vec::new(), true).await?;
    info!(%target, "the rows of a revocation are done");
    Ok(())
}

fn cut(shared: &Shared, ended: &HashSet<RegistrationId>) {
    let is_ended = |facets: &Facets| facets.registration.as_ref().is_some_and(|id| ended.contains(id));
    revocations::end(shared.sessions.mark_where(&REVOKED, is_ended));
}

/// Ends some registrations with one record, or with several where one would be too large.
async fn end(
    shared: &Arc<Shared>,
    target: &RevocationTarget,
    registrations: Vec<RegistrationId>,
    complete: bool,
) -> Result<(), RegistryError> {
    let mut left = vec![registrations];
    while let Some(registrations) = left.pop() {
        let command = Command::FollowRevocation {
            target: target.clone(),
            registrations: registrations.clone(),
            complete: complete && left.is_empty(),
        };
        let environment = &shared.environment;
        let entropy = Entropy::from_seed(environment.entropy().draw());
        let request = Request { command, actor: Actor::Server, now: environment.now(), entropy };
        match shared.provisioning.registry().submit(request).await {
            Ok(Outcome::Revocation(_)) => {}
            Ok(other) => drop(Shared::unexpected(&other)),
            Err(RegistryError::Refused(Refusal::TooLarge { .. })) if registrations.len() > 1 => {
                let mut first = registrations;
                left.push(first.split_off(first.len() / 2));
                left.push(first);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
