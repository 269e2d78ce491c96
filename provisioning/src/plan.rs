//! What other hubs, weights or policies would move: evaluated over all registrations with the very question that a rebalance
//! decides by, on state as it would be then. Nothing is written, and no operator's function is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ring::digest;
use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    ClientIdentity, DeviceId, DeviceIdentity, EnrollmentGroup, EnrollmentGroupId, HubDirectory, HubName,
    IndividualEnrollment, KeyFingerprint, Registration, RegistrationId, Subscription,
};

use crate::allocation::LiveFacts;
use crate::decide::{Prospect, foresee};
use crate::registry::{Fault, Registry, RegistryView};
use crate::service::Settings;
use crate::transfer::Transfer;

/// Reasons that are told apart; further ones are counted together.
pub const REASONS_MAX: usize = 32;
const FURTHER: &str = "further reasons";
/// Registrations read at once.
const PAGE: usize = 1000;

/// What sums up a sequence of moves, so that a plan can be compared with what was done: a chain of SHA-256 over the digest so far and
/// the next move, in the order of the registration ids. That it is a chain lets it go on after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MoveDigest(pub [u8; 32]);

impl MoveDigest {
    /// Takes the next move in.
    pub fn add(&mut self, id: &RegistrationId, from: &HubName, to: &HubName) {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        // No id and no hub's name has a line break.
        context.update(format!("{id}\n{from}\n{to}\n").as_bytes());
        self.0.copy_from_slice(context.finish().as_ref());
    }
}

/// Counts one more registration for a reason, with few reasons told apart.
pub fn count_reason(reasons: &mut Vec<(String, u64)>, why: &str) {
    let known = reasons.iter().position(|(known, _)| known == why);
    let why = if known.is_none() && reasons.len() >= REASONS_MAX { FURTHER } else { why };
    match reasons.iter_mut().find(|(known, _)| known == why) {
        Some((_, count)) => *count += 1,
        None => reasons.push((why.to_owned(), 1)),
    }
}

/// What is to be assumed.
#[derive(Debug, Clone)]
pub struct Assumption {
    /// The hubs.
    pub hubs: Arc<HubDirectory>,
    /// The service's policy; `None`: that of the configuration.
    pub policy: Option<AllocationPolicy>,
    /// Only devices of this hub.
    pub from: Option<HubName>,
}

/// One registration that would move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMove {
    /// Which.
    pub registration_id: RegistrationId,
    /// From where.
    pub from: HubName,
    /// To where.
    pub to: HubName,
}

/// What a plan comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Registrations looked at.
    pub seen: u64,
    /// Those that are where they belong.
    pub stay: u64,
    /// Those that would move.
    pub moves: u64,
    /// Those that stay though they might go, by reason.
    pub cannot: Vec<(String, u64)>,
    /// Moves by hub of departure and arrival.
    pub matrix: BTreeMap<(HubName, HubName), u64>,
    /// Identities of each hub before and after.
    pub loads: BTreeMap<HubName, (u64, u64)>,
    /// Policies that took part whose choice depends on more than hubs and terms, with how many registrations they chose for: of
    /// these the forecast is an estimate.
    pub estimated: BTreeMap<String, u64>,
    /// Over all moves.
    pub digest: MoveDigest,
}

/// Walks all registrations. `each` is given every move; the walk ends early when it answers false: nobody listens any more.
///
/// # Errors
/// [`Fault`] if state could not be read.
pub fn forecast(
    registry: &dyn Registry,
    settings: &Settings,
    assumption: &Assumption,
    live: &LiveFacts,
    each: &mut dyn FnMut(&PlannedMove) -> bool,
) -> Result<Forecast, Fault> {
    let mut view = Assumed { base: registry, assumption, loads: BTreeMap::new() };
    let mut forecast = Forecast::default();
    let before: BTreeMap<HubName, u64> = assumption
        .hubs
        .iter()
        .map(|hub| Ok((hub.name.clone(), registry.hub_load(&hub.name)?)))
        .collect::<Result<_, Fault>>()?;
    let undetermined: BTreeSet<&str> = ["geoLatency", "leastLoaded", "custom"].into();
    let mut after: Option<RegistrationId> = None;
    'walk: loop {
        let page = registry.list_registrations(after.as_ref(), PAGE)?;
        after = page.items.last().map(|last| last.registration_id.clone());
        for registration in page.items {
            if assumption.from.as_ref().is_some_and(|from| *from != registration.hub) {
                continue;
            }
            forecast.seen += 1;
            let foreseen = foresee(&view, settings, &registration, live)?;
            if let Some(note) = &foreseen.allocation
                && undetermined.contains(note.policy.as_str())
            {
                *forecast.estimated.entry(note.policy.clone()).or_default() += 1;
            }
            match foreseen.prospect {
                Prospect::Belongs => forecast.stay += 1,
                Prospect::Cannot(why) => count_reason(&mut forecast.cannot, &why),
                Prospect::Goes(to) => {
                    let planned =
                        PlannedMove { registration_id: registration.registration_id, from: registration.hub, to };
                    view.note(&planned);
                    forecast.moves += 1;
                    forecast.digest.add(&planned.registration_id, &planned.from, &planned.to);
                    *forecast.matrix.entry((planned.from.clone(), planned.to.clone())).or_default() += 1;
                    if !each(&planned) {
                        break 'walk;
                    }
                }
            }
        }
        if !page.more {
            break;
        }
    }
    for (hub, before) in before {
        let after = before.saturating_add_signed(view.loads.get(&hub).copied().unwrap_or(0));
        forecast.loads.insert(hub, (before, after));
    }
    Ok(forecast)
}

/// State as it would be.
struct Assumed<'a> {
    base: &'a dyn Registry,
    assumption: &'a Assumption,
    /// By how much loads differ by the moves up to here.
    loads: BTreeMap<HubName, i64>,
}

impl Assumed<'_> {
    fn note(&mut self, planned: &PlannedMove) {
        *self.loads.entry(planned.from.clone()).or_default() -= 1;
        *self.loads.entry(planned.to.clone()).or_default() += 1;
    }
}

impl RegistryView for Assumed<'_> {
    fn individual(&self, id: &RegistrationId) -> Result<Option<IndividualEnrollment>, Fault> {
        self.base.individual(id)
    }
    fn group(&self, id: &EnrollmentGroupId) -> Result<Option<EnrollmentGroup>, Fault> {
        self.base.group(id)
    }
    fn groups(&self) -> Result<Vec<EnrollmentGroup>, Fault> {
        self.base.groups()
    }
    fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, Fault> {
        self.base.registration(id)
    }
    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, Fault> {
        self.base.device(hub, id)
    }
    fn key_owner(&self, key: &KeyFingerprint) -> Result<Option<KeyOwner>, Fault> {
        self.base.key_owner(key)
    }
    fn subscriptions(&self, client: &ClientIdentity) -> Result<Option<Vec<Subscription>>, Fault> {
        self.base.subscriptions(client)
    }
    fn transfer(&self, id: &RegistrationId) -> Result<Option<Transfer>, Fault> {
        self.base.transfer(id)
    }
    fn hubs(&self, _: &HubDirectory) -> Result<Arc<HubDirectory>, Fault> {
        Ok(self.assumption.hubs.clone())
    }
    fn default_policy(&self) -> Result<Option<AllocationPolicy>, Fault> {
        Ok(self.assumption.policy.clone())
    }
    fn hub_load(&self, hub: &HubName) -> Result<u64, Fault> {
        let difference = self.loads.get(hub).copied().unwrap_or(0);
        Ok(self.base.hub_load(hub)?.saturating_add_signed(difference))
    }
}
