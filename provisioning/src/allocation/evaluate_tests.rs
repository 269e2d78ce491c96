//! Allocation as properties over any hubs, terms and live facts: who is never chosen, who moves, and how many go where.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use unicity_identity::enrollment::{AllocationPolicy, CustomAllocation, StickyBy};
use unicity_identity::{HubDirectory, HubHost, HubName, HubTerms, LinkedHub, RegistrationId};

use super::*;

/// How many ids a share is counted over.
const IDS: u32 = 20_000;

/// All that an allocation rests on, owned.
#[derive(Debug, Clone)]
struct Case {
    hubs: Vec<LinkedHub>,
    policy: AllocationPolicy,
    named: Vec<HubHost>,
    current: Option<HubName>,
    live: LiveFacts,
    loads: BTreeMap<HubName, u64>,
}

impl Case {
    fn new(policy: AllocationPolicy, hubs: Vec<LinkedHub>) -> Self {
        Self { hubs, policy, named: vec![], current: None, live: LiveFacts::default(), loads: BTreeMap::new() }
    }

    /// For the device of this id; what is sticky about it is its id too, so that a sticky policy spreads as the others do.
    fn evaluate(&self, id: &str) -> Evaluation {
        let registration_id: RegistrationId = id.parse().unwrap();
        let inputs = Inputs {
            registration_id: &registration_id,
            policy: &self.policy,
            source: PolicySource::Service,
            named: &self.named,
            sticky_key: id,
            current: self.current.as_ref(),
            live: &self.live,
            load: &|hub| Ok(self.loads.get(hub).copied().unwrap_or(0)),
        };
        evaluate(&HubDirectory::new(self.hubs.clone()).unwrap(), &inputs).unwrap()
    }

    fn hub_of(&self, id: &str) -> HubName {
        chosen(&self.evaluate(id)).unwrap_or_else(|| panic!("nobody takes {id}: {self:?}"))
    }

    fn hub(&mut self, name: &HubName) -> &mut LinkedHub {
        self.hubs.iter_mut().find(|hub| hub.name == *name).unwrap()
    }

    fn load(&self, hub: &HubName) -> u64 {
        let reported = self.live.reported_load.get(hub).copied().unwrap_or(0);
        self.loads.get(hub).copied().unwrap_or(0).max(reported)
    }

    /// Whether the hub may be given the device, said once more and in other words than `evaluate` has it.
    fn may_take(&self, hub: &LinkedHub) -> bool {
        let HubTerms { weight, apply_allocation, draining, capacity, .. } = hub.terms;
        let is_listed =
            self.named.is_empty() || self.named.iter().any(|host| *host == hub.host || hub.aliases.contains(host));
        let has_room =
            self.current.as_ref() == Some(&hub.name) || capacity.is_none_or(|capacity| self.load(&hub.name) < capacity);
        is_listed && apply_allocation && weight > 0 && !draining && !self.live.down.contains_key(&hub.name) && has_room
    }
}

fn chosen(evaluation: &Evaluation) -> Option<HubName> {
    match &evaluation.choice {
        Choice::Hub(hub) | Choice::Stay(hub) => Some(hub.clone()),
        Choice::Ask(_) | Choice::Nobody(_) => None,
    }
}

fn name(n: usize) -> HubName {
    format!("hub-{n}").parse().unwrap()
}

fn hub(n: usize, weight: u32) -> LinkedHub {
    let mut hub = LinkedHub::local(name(n), format!("hub-{n}.local").parse().unwrap());
    hub.terms.weight = weight;
    hub
}

fn weighted(weights: &[u32]) -> Vec<LinkedHub> {
    weights.iter().enumerate().map(|(n, weight)| hub(n, *weight)).collect()
}

fn latency(round_trip_us: u32) -> Latency {
    Latency { round_trip_us, source: LatencySource::Measured }
}

/// Policies that hash.
fn hashing() -> impl Strategy<Value = AllocationPolicy> {
    prop_oneof![Just(AllocationPolicy::Hashed), Just(AllocationPolicy::Sticky(StickyBy::Batch))]
}

fn any_policy() -> impl Strategy<Value = AllocationPolicy> {
    prop_oneof![
        hashing(),
        Just(AllocationPolicy::Sticky(StickyBy::Tag("site".to_owned()))),
        Just(AllocationPolicy::Static),
        Just(AllocationPolicy::GeoLatency),
        Just(AllocationPolicy::LeastLoaded),
    ]
}

/// Pearson's statistic of counts against the shares of weights.
fn chi_square(counts: &BTreeMap<HubName, u32>, hubs: &[LinkedHub]) -> f64 {
    let weights: f64 = hubs.iter().map(|hub| f64::from(hub.terms.weight)).sum();
    let total: f64 = counts.values().map(|count| f64::from(*count)).sum();
    let part = |hub: &LinkedHub| {
        let expected = total * f64::from(hub.terms.weight) / weights;
        (f64::from(counts.get(&hub.name).copied().unwrap_or(0)) - expected).powi(2) / expected
    };
    hubs.iter().map(part).sum()
}

/// What the statistic of a fair allocation is above once in `e^25` times (Laurent and Massart's bound for a chi-square variable).
fn chi_square_max(hubs: usize) -> f64 {
    const NATS: f64 = 25.0;
    let freedom = f64::from(u32::try_from(hubs - 1).unwrap());
    freedom + 2.0 * (freedom * NATS).sqrt() + 2.0 * NATS
}

fn counts(case: &Case) -> BTreeMap<HubName, u32> {
    let mut counts = BTreeMap::new();
    for n in 0..IDS {
        *counts.entry(case.hub_of(&format!("device-{n:05}"))).or_default() += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn each_hub_gets_the_share_of_its_weight(
        policy in prop_oneof![hashing(), Just(AllocationPolicy::GeoLatency)],
        is_near in any::<bool>(),
        weights in proptest::collection::vec(1u32..=100, 2..6),
    ) {
        let mut case = Case::new(policy, weighted(&weights));
        // Under `geoLatency`, hubs that are as near as each other share, and those of which nothing is known.
        if is_near {
            case.live.latency = case.hubs.iter().map(|hub| (hub.name.clone(), latency(900))).collect();
        }
        let open = case.hubs.clone();
        // Who takes no part takes no share.
        let mut closed = hub(99, 1000);
        closed.terms.draining = true;
        case.hubs.push(closed);
        let statistic = chi_square(&counts(&case), &open);
        prop_assert!(statistic < chi_square_max(open.len()), "{statistic} for {weights:?}");
    }

    /// Whoever was chosen had at most its share, to the thousandth that loads are compared in: so no hub ends with more than that and
    /// the one device, and none with less than the others leave it.
    #[test]
    fn the_least_loaded_hub_fills_up_in_step_with_its_weight(weights in proptest::collection::vec(1u32..=100, 2..6)) {
        let mut case = Case::new(AllocationPolicy::LeastLoaded, weighted(&weights));
        for n in 0..IDS {
            let hub = case.hub_of(&format!("device-{n:05}"));
            *case.loads.entry(hub).or_default() += 1;
        }
        let (total, hubs) = (f64::from(IDS), f64::from(u32::try_from(weights.len()).unwrap()));
        let sum = f64::from(weights.iter().sum::<u32>());
        for hub in &case.hubs {
            let share = total * f64::from(hub.terms.weight) / sum;
            let load = case.load(&hub.name) as f64;
            prop_assert!(load <= share * 1.001 + 1.0, "{}: {load} of {share}", hub.name);
            prop_assert!(load >= share - total * 0.001 - hubs, "{}: {load} of {share}", hub.name);
        }
    }
}

#[test]
fn the_bound_on_shares_tells_a_weight_that_is_a_fifth_too_much() {
    for policy in [AllocationPolicy::Hashed, AllocationPolicy::Sticky(StickyBy::Batch)] {
        let counted = counts(&Case::new(policy, weighted(&[6, 5, 5, 5])));
        assert!(chi_square(&counted, &weighted(&[6, 5, 5, 5])) < chi_square_max(4));
        assert!(chi_square(&counted, &weighted(&[5, 5, 5, 5])) > chi_square_max(4));
    }
}

/// Where a population is before and after a change, and who moved from where to where.
fn moves(before: &Case, after: &Case) -> Vec<(HubName, HubName)> {
    let ids = (0..150).map(|n| format!("device-{n:05}"));
    let places = ids.map(|id| (before.hub_of(&id), after.hub_of(&id)));
    places.filter(|(from, to)| from != to).collect()
}

/// A way in which a hub takes no devices any more.
#[derive(Debug, Clone, Copy)]
enum Closing {
    Removed,
    Draining,
    NotApplied,
    Down,
    Full,
}

fn close(case: &mut Case, hub: &HubName, how: Closing) {
    match how {
        Closing::Removed => case.hubs.retain(|other| other.name != *hub),
        Closing::Draining => case.hub(hub).terms.draining = true,
        Closing::NotApplied => case.hub(hub).terms.apply_allocation = false,
        Closing::Down => drop(case.live.down.insert(hub.clone(), "it does not answer".to_owned())),
        Closing::Full => {
            case.hub(hub).terms.capacity = Some(10);
            case.loads.insert(hub.clone(), 10);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_hub_that_comes_takes_and_one_that_goes_gives_and_nobody_else_moves(
        policy in hashing(),
        weights in proptest::collection::vec(1u32..=1000, 2..7),
        which in any::<prop::sample::Index>(),
        how in prop::sample::select(vec![
            Closing::Removed, Closing::Draining, Closing::NotApplied, Closing::Down, Closing::Full,
        ]),
    ) {
        let all = Case::new(policy, weighted(&weights));
        let hub = name(which.index(weights.len()));
        let mut without = all.clone();
        close(&mut without, &hub, how);
        for (from, to) in moves(&all, &without) {
            prop_assert!(from == hub && to != hub, "{from} -> {to} though {hub} went");
        }
        for (from, to) in moves(&without, &all) {
            prop_assert!(to == hub && from != hub, "{from} -> {to} though {hub} came");
        }
    }

    #[test]
    fn a_hub_of_more_weight_takes_and_one_of_less_gives_and_nobody_else_moves(
        policy in hashing(),
        weights in proptest::collection::vec(1u32..=1000, 2..7),
        which in any::<prop::sample::Index>(),
        more in 1u32..=1000,
    ) {
        let light = Case::new(policy, weighted(&weights));
        let hub = name(which.index(weights.len()));
        let mut heavy = light.clone();
        heavy.hub(&hub).terms.weight += more;
        for (from, to) in moves(&light, &heavy) {
            prop_assert!(to == hub, "{from} -> {to} though {hub} got more");
        }
        for (from, to) in moves(&heavy, &light) {
            prop_assert!(from == hub, "{from} -> {to} though {hub} got less");
        }
    }

    /// Devices are where their latencies put them; a hub that comes is at any distance.
    #[test]
    fn a_hub_that_comes_takes_only_those_that_it_is_nearer_to(
        latencies in proptest::collection::vec(proptest::option::of(1000u32..5000), 2..6),
        newest in 1000u32..5000,
        n in 0u32..100_000,
    ) {
        let id = format!("device-{n:05}");
        let mut before = Case::new(AllocationPolicy::GeoLatency, weighted(&vec![1; latencies.len()]));
        before.live.latency =
            latencies.iter().enumerate().filter_map(|(n, us)| Some((name(n), latency((*us)?)))).collect();
        let here = before.hub_of(&id);
        let mut after = Case { current: Some(here.clone()), ..before.clone() };
        after.hubs.push(hub(99, 1));
        after.live.latency.insert(name(99), latency(newest));
        let there = after.hub_of(&id);
        prop_assert!(there == here || there == name(99));
        if let Some(own) = before.live.latency.get(&here) {
            prop_assert_eq!(there == name(99), own.round_trip_us * 100 > newest * 110, "{} for {}", newest, own.round_trip_us);
        }
    }
}

/// Any hub: its terms, load, distance and whether it answers.
fn any_hub() -> impl Strategy<Value = (HubTerms, [u64; 2], Option<u32>, bool)> {
    let terms = (0u32..4, proptest::option::of(0u64..4), 0u8..12).prop_map(|(weight, capacity, flags)| HubTerms {
        weight,
        capacity,
        draining: flags % 4 == 0,
        apply_allocation: flags % 3 != 0,
        ..HubTerms::default()
    });
    (terms, [0u64..5, 0u64..5], proptest::option::of(1u32..1000), prop::bool::weighted(0.2))
}

/// Any case, with hubs 0 and up of which some are named, by host or alias; hub 9 is linked nowhere.
fn any_case() -> impl Strategy<Value = Case> {
    let hubs = proptest::collection::vec(any_hub(), 0..6);
    let numbers = || prop_oneof![4 => 0usize..6, 1 => Just(9)];
    let named = proptest::collection::vec((numbers(), any::<bool>()), 0..4);
    (any_policy(), hubs, named, proptest::option::of(numbers())).prop_map(|(policy, hubs, named, current)| {
        let mut case = Case::new(policy, vec![]);
        for (n, (terms, [load, reported], us, is_down)) in hubs.into_iter().enumerate() {
            let alias = format!("alias-{n}.local").parse().unwrap();
            case.hubs.push(LinkedHub { terms, aliases: vec![alias], ..hub(n, 1) });
            case.loads.insert(name(n), load);
            case.live.reported_load.insert(name(n), reported);
            case.live.latency.extend(us.map(|us| (name(n), latency(us))));
            case.live.down.extend(is_down.then(|| (name(n), "it does not answer".to_owned())));
        }
        let host = |(n, by_alias): (usize, bool)| {
            format!("{}-{n}.local", if by_alias { "alias" } else { "hub" }).parse().unwrap()
        };
        case.named = named.into_iter().map(host).collect();
        case.current = current.map(name);
        case
    })
}

fn check_choice(case: &Case, evaluation: &Evaluation) -> Result<(), TestCaseError> {
    let linked = |name: &HubName| case.hubs.iter().find(|hub| hub.name == *name);
    let current = case.current.as_ref().filter(|name| linked(name).is_some());
    let is_stuck = current.is_some_and(|hub| case.live.down.contains_key(hub));
    // A static policy has one candidate, the hub named first.
    let is_static = case.policy == AllocationPolicy::Static;
    let may_take = |hub: &&LinkedHub| {
        case.may_take(hub) && (!is_static || case.named.first().is_some_and(|host| hub.answers_to(host.as_str())))
    };
    let able: BTreeSet<_> = case.hubs.iter().filter(may_take).map(|hub| &hub.name).collect();
    match &evaluation.choice {
        Choice::Hub(hub) => {
            prop_assert!(able.contains(hub), "{hub} may not take it");
            prop_assert!(!is_stuck, "its own hub cannot give it up");
        }
        Choice::Stay(hub) => {
            prop_assert_eq!(Some(hub), current, "it cannot stay where it is not");
            prop_assert!(is_stuck || able.is_empty(), "{:?} may take it", able);
        }
        Choice::Nobody(why) => {
            prop_assert!(
                current.is_none() && able.is_empty(),
                "{}, but {:?} may, and it is at {:?}",
                why,
                able,
                current
            );
        }
        Choice::Ask(_) => {
            prop_assert!(matches!(case.policy, AllocationPolicy::Custom(_)) && !able.is_empty() && !is_stuck)
        }
    }
    let excluded: BTreeSet<_> = evaluation.excluded.iter().map(|it| &it.hub).collect();
    for hub in &case.hubs {
        prop_assert_eq!(excluded.contains(&hub.name), !case.may_take(hub), "{}", &hub.name);
        if !is_static {
            let takes_part = evaluation.candidates.iter().any(|candidate| candidate.hub == hub.name);
            prop_assert_eq!(takes_part, case.may_take(hub), "{}", &hub.name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_policy_chooses_a_hub_that_may_not_take_the_device(case in any_case(), n in 0u32..1000) {
        check_choice(&case, &case.evaluate(&format!("device-{n}")))?;
        let function = CustomAllocation { webhook_url: "https://f.example/".to_owned(), api_version: "2021-10-01".to_owned() };
        let asks = Case { policy: AllocationPolicy::Custom(Box::new(function)), ..case };
        check_choice(&asks, &asks.evaluate(&format!("device-{n}")))?;
    }

    #[test]
    fn the_same_question_has_the_same_answer_in_any_order_of_hubs(
        (case, other) in any_case().prop_flat_map(|case| {
            let shuffled = (Just(case.hubs.clone()).prop_shuffle(), Just(case.named.clone()).prop_shuffle());
            (Just(case), shuffled).prop_map(|(case, (hubs, named))| {
                // The order of hosts means something where the first is the one.
                let named = if case.policy == AllocationPolicy::Static { case.named.clone() } else { named };
                (case.clone(), Case { hubs, named, ..case })
            })
        }),
        n in 0u32..1000,
    ) {
        let id = format!("device-{n}");
        let (one, two) = (case.evaluate(&id), other.evaluate(&id));
        prop_assert_eq!(&one, &case.evaluate(&id));
        match (&one.choice, &two.choice) {
            // Its words list the hubs in their order.
            (Choice::Nobody(_), Choice::Nobody(_)) => {}
            (one, two) => prop_assert_eq!(one, two),
        }
        let sorted = |evaluation: &Evaluation| {
            let mut candidates = evaluation.candidates.clone();
            let mut excluded = evaluation.excluded.clone();
            candidates.sort_by(|a, b| a.hub.cmp(&b.hub));
            excluded.sort_by(|a, b| a.hub.cmp(&b.hub));
            (candidates, excluded)
        };
        prop_assert_eq!(sorted(&one), sorted(&two));
    }

    /// Devices that register again must not dance.
    #[test]
    fn whoever_is_where_it_was_put_is_put_there_again(case in any_case(), n in 0u32..1000) {
        let id = format!("device-{n}");
        if let Choice::Hub(hub) = case.evaluate(&id).choice {
            let there = Case { current: Some(hub.clone()), ..case };
            prop_assert_eq!(there.evaluate(&id).choice, Choice::Hub(hub));
        }
    }

    /// Nobody is turned away while one hub has room, and no hub gets more than it may hold.
    #[test]
    fn capacities_are_filled_and_never_exceeded(
        policy in prop_oneof![hashing(), Just(AllocationPolicy::GeoLatency), Just(AllocationPolicy::LeastLoaded)],
        hubs in proptest::collection::vec((1u32..=10, 0u64..8), 1..5),
    ) {
        let mut case = Case::new(policy, vec![]);
        for (n, (weight, capacity)) in hubs.iter().enumerate() {
            let mut hub = hub(n, *weight);
            hub.terms.capacity = Some(*capacity);
            case.hubs.push(hub);
        }
        let room: u64 = hubs.iter().map(|(_, capacity)| capacity).sum();
        for n in 0..room {
            let hub = case.hub_of(&format!("device-{n}"));
            *case.loads.entry(hub).or_default() += 1;
        }
        for hub in &case.hubs {
            prop_assert_eq!(Some(case.load(&hub.name)), hub.terms.capacity);
        }
        let late = case.evaluate("late");
        prop_assert!(matches!(late.choice, Choice::Nobody(_)), "{:?}", late.choice);
    }
}
