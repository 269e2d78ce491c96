//! Where a device belongs: the policy in force for its enrollment, and what its re-provisioning policy lets happen
//! (`service-rest.md` 5 and 7).

use unicity_identity::enrollment::{AllocationPolicy, EnrollmentTerms, ReprovisionPolicy, StickyBy};
use unicity_identity::json::JsonText;
use unicity_identity::{EnrollmentRef, HubDirectory, IndividualEnrollment, Registration, RegistrationId};

use crate::allocation::{Choice, Evaluation, Inputs, LiveFacts, PolicySource, evaluate};
use crate::registry::{Fault, RegistryView};
use crate::service::Settings;
use crate::transfer::{AllocationNote, TwinFate};

/// Whose hub is chosen.
pub(crate) struct Subject<'a> {
    pub(crate) registration_id: &'a RegistrationId,
    pub(crate) terms: &'a EnrollmentTerms,
    /// Whose terms they are.
    pub(crate) source: PolicySource,
    pub(crate) individual: Option<&'a IndividualEnrollment>,
    /// Under which enrollment it registers, or did; a group only counts without an individual enrollment.
    pub(crate) enrollment: &'a EnrollmentRef,
}

/// What is to happen.
pub(crate) struct Goal {
    pub(crate) choice: Choice,
    pub(crate) fate: TwinFate,
    pub(crate) note: AllocationNote,
}

/// What is to happen with a device that registers, or that a rebalance looks at. `current`: its assignment, if that hub is linked.
///
/// # Errors
/// [`Fault`] if state could not be read.
pub(crate) fn goal(
    view: &dyn RegistryView,
    settings: &Settings,
    hubs: &HubDirectory,
    subject: &Subject<'_>,
    current: Option<&Registration>,
    live: &LiveFacts,
    stays_by_default: bool,
) -> Result<Goal, Fault> {
    let reprovision = subject
        .terms
        .reprovision
        .unwrap_or(ReprovisionPolicy { update_hub_assignment: !stays_by_default, migrate_device_data: true });
    if let Some(current) = current.filter(|_| !reprovision.update_hub_assignment) {
        let note = AllocationNote {
            policy: "kept".to_owned(),
            reason: "its re-provisioning policy leaves it at its hub".to_owned(),
            ..AllocationNote::default()
        };
        return Ok(Goal { choice: Choice::Stay(current.hub.clone()), fate: TwinFate::Keep, note });
    }
    let evaluation = evaluation(view, settings, hubs, subject, current, live)?;
    let is_same = matches!(
        (&evaluation.choice, current),
        (Choice::Hub(hub) | Choice::Stay(hub), Some(current)) if current.hub == *hub
    );
    let fate = match (current, &evaluation.choice) {
        (None, _) => TwinFate::Initial,
        // A hub that does not answer could not begin anew either.
        (Some(_), Choice::Stay(_)) => TwinFate::Keep,
        (Some(_), _) if !reprovision.migrate_device_data => TwinFate::Reset,
        (Some(_), _) if is_same => TwinFate::Keep,
        (Some(_), _) => TwinFate::Migrate,
    };
    let note = note(&evaluation);
    Ok(Goal { choice: evaluation.choice, fate, note })
}

/// The allocation by itself, whatever the re-provisioning policy says.
///
/// # Errors
/// [`Fault`] if state could not be read.
pub(crate) fn evaluation(
    view: &dyn RegistryView,
    settings: &Settings,
    hubs: &HubDirectory,
    subject: &Subject<'_>,
    current: Option<&Registration>,
    live: &LiveFacts,
) -> Result<Evaluation, Fault> {
    let default;
    let (policy, source) = match &subject.terms.allocation {
        Some(policy) => (policy, subject.source),
        None => {
            default = view.default_policy()?.unwrap_or_else(|| settings.allocation.policy.clone());
            (&default, PolicySource::Service)
        }
    };
    let sticky_key = sticky_key(policy, subject);
    let inputs = Inputs {
        registration_id: subject.registration_id,
        policy,
        source,
        named: &subject.terms.hubs,
        sticky_key: &sticky_key,
        current: current.map(|registration| &registration.hub),
        live,
        load: &|hub| view.hub_load(hub),
    };
    evaluate(hubs, &inputs)
}

fn note(evaluation: &Evaluation) -> AllocationNote {
    AllocationNote {
        policy: evaluation.policy.to_owned(),
        source: match evaluation.source {
            PolicySource::Individual => "individual",
            PolicySource::Group => "group",
            PolicySource::Service => "service",
        }
        .to_owned(),
        candidates: evaluation.candidates.clone(),
        excluded: evaluation.excluded.clone(),
        reason: evaluation.reason.clone(),
    }
}

/// What a sticky policy hashes, so that devices with the same one share a hub. The prefix keeps a batch,
/// a group and a tag of one name apart.
fn sticky_key(policy: &AllocationPolicy, subject: &Subject<'_>) -> String {
    let alone = || subject.registration_id.to_string();
    match policy {
        AllocationPolicy::Sticky(StickyBy::Batch) => {
            match (subject.individual.map(|enrollment| enrollment.batch.as_ref()), subject.enrollment) {
                (Some(Some(batch)), _) => format!("batch {batch}"),
                (None, EnrollmentRef::Group(group)) => format!("group {group}"),
                _ => alone(),
            }
        }
        AllocationPolicy::Sticky(StickyBy::Tag(path)) => {
            match subject.terms.initial_twin.as_ref().and_then(|twin| tag(twin, path)) {
                Some(value) => format!("tag {value}"),
                None => alone(),
            }
        }
        _ => String::new(),
    }
}

/// The tag at a dotted path, as text; only strings, numbers and truth values count.
fn tag(initial_twin: &JsonText, path: &str) -> Option<String> {
    let twin = initial_twin.to_value();
    let found = path.split('.').try_fold(twin.get("tags")?, |value, name| value.get(name))?;
    match found {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
