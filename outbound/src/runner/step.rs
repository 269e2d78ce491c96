//! One step of one transfer: asked of the hub or the function, judged, recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use unicity_identity::enrollment::ProvisioningStatus;
use unicity_identity::{
    ClientIdentity, EnrollmentRef, Environment, Facets, HubDirectory, HubName, LinkedHub, Refusal, RegistrationId,
};
use unicity_provisioning::registry::{Actor, Fault, RegistryError, Request, StepCommand};
use unicity_provisioning::transfer::{Transfer, TransferEvent, TransferStage, TwinFate};
use unicity_provisioning::{Command, Outcome, Provisioning, revoked};

use super::ask::Ask;
use super::live::{LiveHubs, Verdict};
use super::metrics::RunnerMetrics;
use crate::Step;
use crate::hub::{Facts, HubAnswer, HubApi, HubKind, HubRequest, Marker, Next, Work};

/// What steps share.
pub(super) struct Shared {
    pub(super) provisioning: Provisioning,
    pub(super) hubs: Arc<dyn HubApi>,
    pub(super) live: Arc<LiveHubs>,
    pub(super) ask: Option<Arc<dyn Ask>>,
    pub(super) environment: Environment,
    pub(super) metrics: Arc<RunnerMetrics>,
    pub(super) kinds: Mutex<BTreeMap<HubName, HubKind>>,
}

/// What became of a transfer with a step.
#[derive(Debug)]
pub(super) enum Progress {
    /// It goes on at once.
    On,
    /// Later: after so long as was asked for.
    Later(Option<Duration>),
    /// Its hub is not to be called before so long; no try was made.
    Held(Duration),
    /// It ended, well or not.
    Ended,
}

/// Why a transfer cannot go on as it is.
struct Bar {
    code: u32,
    message: String,
    /// A revocation means the device: nothing of it may be enabled anywhere.
    is_revoked: bool,
}

fn bar(shared: &Shared, transfer: &Transfer) -> Result<Option<Bar>, Fault> {
    let view = shared.provisioning.registry().as_ref();
    let id = &transfer.registration_id;
    let (group, individual) = match &transfer.enrollment {
        EnrollmentRef::Group(group) => (Some(group), None),
        EnrollmentRef::Individual(id) => (None, view.individual(id)?),
    };
    let facets = Facets {
        registration: Some(id.clone()),
        group: group.cloned(),
        batch: individual.as_ref().and_then(|found| found.batch.clone()),
        proven: Some(transfer.key_fingerprint),
        keys: transfer.authentication.keys().into_iter().collect(),
        ..Facets::default()
    };
    let refusal = match revoked::check(view, &facets, || format!("registration {id}")) {
        Ok(()) => None,
        Err(RegistryError::Fault(fault)) => return Err(fault),
        Err(error) => Some(error.into_refusal()),
    };
    let is_revoked = refusal.is_some();
    // Once assigned, an enrollment that is disabled or deleted leaves the device alone, as the real service does.
    let refusal = match refusal {
        Some(refusal) => Some(refusal),
        None if transfer.is_committed() => None,
        None => {
            let status = match group {
                Some(group) => view.group(group)?.map(|found| found.terms.status),
                None => individual.map(|found| found.terms.status),
            };
            (status != Some(ProvisioningStatus::Enabled))
                .then(|| Refusal::EnrollmentDisabled { enrollment: transfer.enrollment.clone() })
        }
    };
    Ok(refusal.map(|refusal| Bar { code: refusal.code().number, message: refusal.to_string(), is_revoked }))
}

/// Whether the stage is on the way to an enabled identity.
fn heads_for_an_identity(stage: &TransferStage) -> bool {
    match stage {
        TransferStage::Ask
        | TransferStage::Disable
        | TransferStage::Read
        | TransferStage::Create
        | TransferStage::Fill
        | TransferStage::Enable
        | TransferStage::Verify => true,
        TransferStage::Delete | TransferStage::Failed { .. } | TransferStage::Undo { .. } | TransferStage::End => false,
    }
}

impl Shared {
    /// The hub is another one by now.
    pub(super) fn forget_kind(&self, hub: &HubName) {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).remove(hub);
    }

    fn read(&self, id: &RegistrationId) -> Result<Option<Transfer>, Fault> {
        self.provisioning.registry().transfer(id)
    }

    /// Makes the step that a transfer is at.
    pub(super) async fn step(&self, id: &RegistrationId, attempt: u32) -> Progress {
        match self.try_step(id, attempt).await {
            Ok(progress) => progress,
            Err(fault) => {
                tracing::error!(registration_id = %id, %fault, "a transfer waits");
                Progress::Later(None)
            }
        }
    }

    async fn try_step(&self, id: &RegistrationId, attempt: u32) -> Result<Progress, Fault> {
        let Some(transfer) = self.read(id)?.filter(|transfer| !transfer.is_failed()) else {
            return Ok(Progress::Ended);
        };
        let bar = bar(self, &transfer)?;
        let may_enable = !bar.as_ref().is_some_and(|bar| bar.is_revoked);
        let step = match (bar, &self.ask) {
            (Some(Bar { code, message, .. }), _) if heads_for_an_identity(&transfer.stage) => {
                Step::Event(TransferEvent::Refused { code, message })
            }
            (_, Some(ask)) if transfer.stage == TransferStage::Ask => {
                ask.ask(&self.provisioning, &transfer, attempt).await
            }
            (_, None) if transfer.stage == TransferStage::Ask => {
                let cause = "this service asks no functions".to_owned();
                Step::Later { after: None, cause }
            }
            _ => match self.ask_hubs(&transfer, may_enable).await? {
                Ok(step) => step,
                Err(wait) => return Ok(Progress::Held(wait)),
            },
        };
        match step {
            Step::Event(event) => self.record(transfer, event).await,
            Step::Later { after, cause } => {
                self.metrics.retried();
                let (id, stage) = (&transfer.registration_id, &transfer.stage);
                tracing::debug!(registration_id = %id, ?stage, attempt, cause, "a step is made again later");
                Ok(Progress::Later(after))
            }
        }
    }

    /// `Err`: its hub is not to be called before so long.
    async fn ask_hubs(&self, transfer: &Transfer, may_enable: bool) -> Result<Result<Step, Duration>, Fault> {
        let directory = self.provisioning.hubs()?;
        let mut work = Work::new(transfer.clone(), self.facts(transfer, &directory, may_enable)?);
        let mut next = work.begin();
        loop {
            let (name, request) = match next {
                Next::Step(step) => {
                    let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
                    kinds.extend(work.kinds().iter().map(|(hub, kind)| (hub.clone(), *kind)));
                    return Ok(Ok(step));
                }
                Next::Call(name, request) => (name, request),
            };
            // Another transfer may have taken its place: nothing may be written for this one any more.
            let is_current = self
                .read(&transfer.registration_id)?
                .is_some_and(|now| now.operation_id == transfer.operation_id && now.stage == transfer.stage);
            if !is_current {
                return Ok(Ok(Step::Event(TransferEvent::Gone)));
            }
            let Some(hub) = directory.by_name(&name) else {
                return Ok(Ok(Step::Later { after: None, cause: format!("hub {name} is linked no longer") }));
            };
            if let Err(wait) = self.live.admit(&name, self.environment.now()) {
                return Ok(Err(wait));
            }
            let answer = self.call(hub, request).await;
            next = work.answered(answer);
        }
    }

    async fn call(&self, hub: &LinkedHub, request: HubRequest) -> HubAnswer {
        let guard = Release { live: &self.live, hub: &hub.name, is_judged: false };
        let answer = self.hubs.call(hub, request).await;
        guard.judged(verdict(&answer));
        answer
    }

    fn facts(&self, transfer: &Transfer, directory: &HubDirectory, may_enable: bool) -> Result<Facts, Fault> {
        let settings = self.provisioning.settings();
        let view = self.provisioning.registry();
        let authentication = crate::hub::authentication(&transfer.authentication, self.provisioning.vault())
            .map_err(|error| Fault(format!("a key of {}: {error}", transfer.registration_id)))?;
        let local_twin = match (&transfer.source, transfer.fate, &transfer.stage) {
            (Some(source), TwinFate::Migrate, TransferStage::Fill) if transfer.twin.is_none() => {
                view.twin(&ClientIdentity {
                    hub: source.hub.clone(),
                    device_id: source.device_id.clone(),
                    module_id: None,
                })?
            }
            _ => None,
        };
        Ok(Facts {
            mode: settings.mode,
            marker: Marker::new(&settings.id_scope, &transfer.registration_id, &transfer.operation_id),
            authentication,
            local_twin,
            may_enable,
            remote: directory.iter().filter(|hub| hub.is_remote()).map(|hub| hub.name.clone()).collect(),
            kinds: self.kinds.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            now: self.environment.now(),
        })
    }

    /// Records what came of a step. Resolves when that is synced.
    async fn record(&self, transfer: Transfer, event: TransferEvent) -> Result<Progress, Fault> {
        let id = transfer.registration_id.clone();
        if let TransferEvent::Refused { code, message } = &event {
            tracing::warn!(registration_id = %id, stage = ?transfer.stage, code, message, "a step was refused");
        }
        let command = Command::StepTransfer(Box::new(StepCommand {
            registration_id: id.clone(),
            operation_id: transfer.operation_id.clone(),
            stage: transfer.stage,
            event,
            circumstances: self.provisioning.circumstances(None),
        }));
        let request =
            Request { command, actor: Actor::Server, now: self.environment.now(), entropy: self.environment.entropy() };
        match self.provisioning.registry().submit(request).await {
            Ok(Outcome::Transferring { transfer, displaced }) => {
                if transfer.is_failed() {
                    self.metrics.failed();
                }
                self.provisioning.took_up(&transfer, displaced.as_ref());
            }
            Ok(Outcome::Moved { displaced, .. }) => self.provisioning.moved(displaced.as_ref()),
            Ok(_) => {}
            Err(RegistryError::Stopping) => return Ok(Progress::Ended),
            Err(RegistryError::Fault(fault)) => return Err(fault),
            Err(error) => {
                tracing::error!(registration_id = %id, %error, "a step could not be recorded, and is made again");
                return Ok(Progress::Later(None));
            }
        }
        self.metrics.stepped();
        let goes_on = self.read(&id)?.is_some_and(|transfer| !transfer.is_failed());
        Ok(if goes_on { Progress::On } else { Progress::Ended })
    }
}

/// What an answer shows of its hub.
fn verdict(answer: &HubAnswer) -> Verdict {
    match answer {
        HubAnswer::Lost { cause } => Verdict::Bad(cause.clone()),
        HubAnswer::Reply(reply) => match reply.status {
            429 => Verdict::Busy(reply.retry_after),
            401 | 403 | 408 | 500.. => Verdict::Bad(reply.message()),
            _ => Verdict::Good,
        },
    }
}

/// Gives the leave to call back if the call is dropped.
struct Release<'a> {
    live: &'a LiveHubs,
    hub: &'a HubName,
    is_judged: bool,
}

impl Release<'_> {
    fn judged(mut self, verdict: Verdict) {
        self.is_judged = true;
        self.live.judged(self.hub, verdict);
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if !self.is_judged {
            self.live.released(self.hub);
        }
    }
}
