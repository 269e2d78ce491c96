//! Where a device would be moved that has not asked for it: the question that a rebalance decides by, and that a plan foresees with.

use unicity_identity::enrollment::EnrollmentTerms;
use unicity_identity::{DeviceId, DeviceIdentity, EnrollmentRef, HubDirectory, HubName};
use unicity_identity::{IndividualEnrollment, Registration};

use super::assign::check_foreign;
use super::{allocate, keys};
use crate::allocation::{Choice, LiveFacts, PolicySource};
use crate::registry::{Fault, RegistryError, RegistryView};
use crate::service::Settings;
use crate::transfer::AllocationNote;

/// What would become of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prospect {
    /// It would go to this hub.
    Goes(HubName),
    /// It is where it belongs.
    Belongs,
    /// It stays, though it might go: why, in words that many devices share.
    Cannot(String),
}

/// A prospect and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// What would become of it.
    pub prospect: Prospect,
    /// How the allocation came out; `None` where it was not evaluated.
    pub allocation: Option<AllocationNote>,
}

/// What would become of a registration now.
///
/// # Errors
/// [`Fault`] if state could not be read.
pub fn foresee(
    view: &dyn RegistryView,
    settings: &Settings,
    registration: &Registration,
    live: &LiveFacts,
) -> Result<Foreseen, Fault> {
    let hubs = view.hubs(&settings.hubs)?;
    let found = match look(view, settings, &hubs, registration, live) {
        Ok(found) => found,
        Err(RegistryError::Fault(fault)) => return Err(fault),
        Err(other) => return Err(Fault(other.to_string())),
    };
    Ok(match found {
        Looked::Stays { why, note: allocation } => Foreseen { prospect: Prospect::Cannot(why), allocation },
        Looked::Belongs { note } => Foreseen { prospect: Prospect::Belongs, allocation: Some(note) },
        Looked::Goes(going) => Foreseen { prospect: Prospect::Goes(going.to), allocation: Some(going.goal.note) },
    })
}

/// All that a move needs.
pub(super) struct Going {
    pub(super) to: HubName,
    pub(super) goal: allocate::Goal,
    pub(super) terms: EnrollmentTerms,
    pub(super) individual: Option<IndividualEnrollment>,
    pub(super) device: DeviceIdentity,
    pub(super) device_id: DeviceId,
}

pub(super) enum Looked {
    Stays { why: String, note: Option<AllocationNote> },
    Belongs { note: AllocationNote },
    Goes(Box<Going>),
}

pub(super) fn look(
    view: &dyn RegistryView,
    settings: &Settings,
    hubs: &HubDirectory,
    registration: &Registration,
    live: &LiveFacts,
) -> Result<Looked, RegistryError> {
    let id = &registration.registration_id;
    let stays = |why: &str| Ok(Looked::Stays { why: why.to_owned(), note: None });
    if view.transfer(id)?.is_some_and(|transfer| !transfer.is_failed()) {
        return stays("a transfer of it is under way");
    }
    let individual = view.individual(id)?;
    let Some((terms, source)) = terms_of(view, &registration.enrollment, individual.as_ref())? else {
        return stays("its enrollment is gone");
    };
    let Some(device) = keys::device_of(view, hubs, id, individual.as_ref())? else {
        return stays("it has no identity at its hub");
    };
    let enrollment = &registration.enrollment;
    let own = individual.as_ref();
    let subject = allocate::Subject { registration_id: id, terms: &terms, source, individual: own, enrollment };
    let current = hubs.by_name(&registration.hub).map(|_| registration);
    let goal = allocate::goal(view, settings, hubs, &subject, current, live, false)?;
    let to = match &goal.choice {
        Choice::Hub(hub) if *hub != registration.hub => hub.clone(),
        Choice::Hub(_) => return Ok(Looked::Belongs { note: goal.note }),
        Choice::Stay(_) | Choice::Nobody(_) => {
            return Ok(Looked::Stays { why: goal.note.reason.clone(), note: Some(goal.note) });
        }
        // Whoever decides is asked when the device registers again.
        Choice::Ask(_) => {
            let why = "its hub is chosen by an operator's function, when it registers".to_owned();
            return Ok(Looked::Stays { why, note: Some(goal.note) });
        }
    };
    let device_id = individual.as_ref().and_then(|found| found.device_id.clone()).unwrap_or_else(|| id.to_device_id());
    match check_foreign(settings, id, view.device(&to, &device_id)?.as_ref(), &mut Vec::new()) {
        Ok(_) => {}
        Err(RegistryError::Refused(_)) => {
            let why = "another identity has its device id at the hub that it belongs to".to_owned();
            return Ok(Looked::Stays { why, note: Some(goal.note) });
        }
        Err(error) => return Err(error),
    }
    Ok(Looked::Goes(Box::new(Going { to, goal, terms, individual, device, device_id })))
}

fn terms_of(
    view: &dyn RegistryView,
    enrollment: &EnrollmentRef,
    individual: Option<&IndividualEnrollment>,
) -> Result<Option<(EnrollmentTerms, PolicySource)>, RegistryError> {
    Ok(match (enrollment, individual) {
        (_, Some(found)) => Some((found.terms.clone(), PolicySource::Individual)),
        (EnrollmentRef::Group(group), None) => view.group(group)?.map(|found| (found.terms, PolicySource::Group)),
        (EnrollmentRef::Individual(_), None) => None,
    })
}
