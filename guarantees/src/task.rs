//! Registrations of devices and commands of operators, in steps: what was read when, what was decided on, who cuts.

use std::sync::Arc;

use unicity_hub::{CloseReason, SessionControl as _};
use unicity_identity::device::DeviceAuthentication;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    Attestation, ClientIdentity, DeviceStatus, EnrollmentRef, Entropy, Facets, RegistrationId, RevocationTarget,
    derive_device_key,
};
use unicity_provisioning::attest::Attestor;
use unicity_provisioning::registry::{RegisterCommand, Revoked};
use unicity_provisioning::trust::Trust;
use unicity_provisioning::{Actor, Attested, Claim, Command, Outcome, Proof, RegistryError, Request};

use crate::breaks::{Break, Violation};
use crate::registry::{Answer, Ticket};
use crate::world::{SCOPE, World};

/// What a task does next.
pub(crate) enum Phase {
    /// A device proves itself.
    Attest,
    /// A request waits for room in the writer's queue.
    Submit(Box<Command>),
    /// It waits for its answer.
    Await(Ticket),
    Done,
}

pub(crate) struct Task {
    pub(crate) phase: Phase,
    /// A registration: the id as it is sent, and the token.
    pub(crate) registers: Option<(String, String)>,
    /// The client whose session ends with an operator's command, whatever the answer says of it.
    pub(crate) cuts: Option<ClientIdentity>,
    pub(crate) is_slow: bool,
    /// Registrations whose rows follow a revocation.
    rows: Vec<RegistrationId>,
}

impl Task {
    pub(crate) fn operator(command: Command, cuts: Option<ClientIdentity>) -> Self {
        Self { phase: Phase::Submit(Box::new(command)), registers: None, cuts, is_slow: false, rows: Vec::new() }
    }

    pub(crate) fn registration(id: String, token: String) -> Self {
        Self { phase: Phase::Attest, registers: Some((id, token)), cuts: None, is_slow: false, rows: Vec::new() }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }
}

/// Who has to go after an answer.
enum Leaver {
    Client(ClientIdentity),
    /// Whom a revocation means (`api/src/revocations.rs`).
    Revoked(Box<Revoked>),
    /// Rows of one (`api/src/follow.rs`).
    Rows(Vec<RegistrationId>),
}

impl Leaver {
    fn of(answer: &Answer, task: &Task) -> Option<Self> {
        match answer.as_ref().ok()? {
            Outcome::Registered { displaced, .. } => displaced.clone().map(Self::Client),
            Outcome::Revoked(revoked) => Some(Self::Revoked(revoked.clone())),
            Outcome::Revocation(_) => Some(Self::Rows(task.rows.clone())),
            _ => task.cuts.clone().map(Self::Client),
        }
    }

    fn means(&self, client: &ClientIdentity, facets: &Facets) -> bool {
        match self {
            Self::Client(leaving) => leaving == client,
            Self::Revoked(revoked) => meant(revoked, facets),
            Self::Rows(rows) => facets.registration.as_ref().is_some_and(|id| rows.contains(id)),
        }
    }
}

fn meant(revoked: &Revoked, facets: &Facets) -> bool {
    let revocations = std::iter::once(&revoked.revocation).chain(&revoked.group);
    let mut targets = revocations.map(|revocation| &revocation.target);
    let owner = match &revoked.owner {
        Some(KeyOwner::Registration(id)) => Some(id),
        _ => None,
    };
    targets.any(|target| facets.are_met_by(target)) || (owner.is_some() && facets.registration.as_ref() == owner)
}

impl World {
    /// Whether somebody who got an answer is about to cut this client's session.
    pub(crate) fn is_about_to_be_cut(&self, client: &ClientIdentity, facets: &Facets) -> bool {
        self.tasks.iter().any(|task| match task.phase {
            Phase::Await(ticket) => {
                let leaver = self.registry.answer(ticket).and_then(|answer| Leaver::of(answer, task));
                leaver.is_some_and(|leaver| leaver.means(client, facets))
            }
            _ => false,
        })
    }

    pub(crate) fn step_task(&mut self, index: usize) -> Result<(), Violation> {
        let phase = std::mem::replace(&mut self.tasks[index].phase, Phase::Done);
        let next = match phase {
            Phase::Attest => match self.attest(index) {
                Some(command) => Phase::Submit(Box::new(command)),
                None => {
                    self.seen.refused += 1;
                    Phase::Done
                }
            },
            // Between what it read and its turn much may happen.
            Phase::Submit(command) if self.tasks[index].is_slow && !self.rng.once_in(3) => Phase::Submit(command),
            Phase::Submit(command) => {
                let entropy = Entropy::from_seed(self.rng.seed());
                let actor = Actor::Server;
                let request = Request { command: (*command).clone(), actor, now: self.now, entropy };
                self.registry.submit(request).map_or(Phase::Submit(command), Phase::Await)
            }
            Phase::Await(ticket) => match self.registry.take_answer(ticket) {
                None => Phase::Await(ticket),
                Some(answer) => self.answered(index, &answer),
            },
            Phase::Done => Phase::Done,
        };
        self.tasks[index].phase = next;
        Ok(())
    }

    fn answered(&mut self, index: usize, answer: &Answer) -> Phase {
        match answer {
            Ok(outcome) => {
                if matches!(outcome, Outcome::Registered { .. }) {
                    self.seen.registered += 1;
                }
                let reason = CloseReason::IdentityChanged("an answer said so");
                let leaver = Leaver::of(answer, &self.tasks[index]).filter(|_| self.broken != Break::CutLeftOut);
                self.seen.cuts += match leaver {
                    None => 0,
                    Some(leaver) if self.broken == Break::DisplacedForgotten => self.close_newest(&leaver, &reason),
                    Some(Leaver::Client(client)) => usize::from(self.sessions.close(&client, reason)),
                    Some(Leaver::Revoked(revoked)) => {
                        self.sessions.close_where(&reason, |facets| meant(&revoked, facets))
                    }
                    Some(Leaver::Rows(rows)) => self.sessions.close_where(&reason, |facets| {
                        facets.registration.as_ref().is_some_and(|id| rows.contains(id))
                    }),
                };
                match outcome {
                    Outcome::Revoked(revoked) => self.follow(index, &revoked.revocation.target),
                    _ => Phase::Done,
                }
            }
            Err(RegistryError::EnrollmentChanged) => Phase::Attest,
            Err(_) => {
                self.seen.refused += 1;
                Phase::Done
            }
        }
    }

    /// Closes only those of whom the table says that they are the live ones.
    fn close_newest(&self, leaver: &Leaver, reason: &CloseReason) -> usize {
        let newest = self.connections.iter().filter(|connection| {
            let (Some(client), Some(facets)) = (connection.client(), connection.mailbox.facets()) else { return false };
            leaver.means(client, facets) && connection.epoch.is_some() && self.sessions.live(client) == connection.epoch
        });
        newest.map(|connection| connection.mailbox.close(reason.clone())).count()
    }

    /// The rows of a revocation: who is a member now.
    fn follow(&mut self, index: usize, target: &RevocationTarget) -> Phase {
        self.seen.revoked += 1;
        if !target.has_rows() {
            return Phase::Done;
        }
        let rows = self.registry.synced.registrations.keys().cloned().collect::<Vec<_>>();
        let command = Command::FollowRevocation { target: target.clone(), registrations: rows.clone(), complete: true };
        self.tasks[index].rows = rows;
        Phase::Submit(Box::new(command))
    }

    /// The real attestation, and what the service makes of it (`provisioning::service`).
    pub(crate) fn attest(&mut self, index: usize) -> Option<Command> {
        let (id, token) = self.tasks[index].registers.clone()?;
        let registry = &self.registry.synced;
        let attestor = Attestor {
            view: registry,
            vault: &self.vault,
            settings: &self.settings,
            trust: &|| Ok(Arc::new(Trust::default())),
            stale: Default::default(),
            challenges: None,
            now: self.now,
        };
        let claim = Claim::with_token(SCOPE, &id, Some(&token));
        let attested = attestor.attest(claim).ok().filter(|it| it.enabled)?;
        attestor.check_revoked(&attested, claim).ok()?;
        let authentication = self.authentication(&attested)?;
        let command = RegisterCommand {
            attested,
            authentication,
            storage_root_key: None,
            device_payload: None,
            continuity: Default::default(),
            circumstances: Default::default(),
        };
        Some(Command::Register(Box::new(command)))
    }

    fn authentication(&mut self, attested: &Attested) -> Option<DeviceAuthentication> {
        let id: &RegistrationId = &attested.registration_id;
        match (&attested.proof, &attested.enrollment) {
            (Proof::EnrolledKeys, _) => match &self.registry.synced.individuals.get(id)?.terms.attestation {
                Attestation::SymmetricKey { primary, secondary } => {
                    Some(DeviceAuthentication::Sas { primary: primary.clone(), secondary: secondary.clone() })
                }
                _ => None,
            },
            (Proof::DerivedKeys { spelling }, EnrollmentRef::Group(group)) => {
                let Attestation::SymmetricKey { primary, .. } =
                    self.registry.synced.groups.get(group)?.terms.attestation.clone()
                else {
                    return None;
                };
                let key = derive_device_key(&self.vault.open(&primary).ok()?, spelling);
                let slot = self.slot(&key);
                Some(DeviceAuthentication::Sas { primary: slot.clone(), secondary: slot })
            }
            _ => None,
        }
    }

    /// Whom an operator's command on a device cuts, by what the operator's API read before (`api/src/hub/device.rs`).
    pub(crate) fn cut_of(
        &self,
        client: &ClientIdentity,
        status: DeviceStatus,
        authentication: Option<&DeviceAuthentication>,
    ) -> Option<ClientIdentity> {
        let place = (client.hub.clone(), client.device_id.clone());
        let before = self.registry.synced.devices.get(&place);
        let changes_keys = match (before, authentication) {
            (Some(before), Some(after)) => before.authentication.keys() != after.keys(),
            _ => false,
        };
        (status == DeviceStatus::Disabled || changes_keys).then(|| client.clone())
    }
}
