//! The policies: from inputs to a choice with its reasons.

use std::cmp::Reverse;

use unicity_identity::enrollment::AllocationPolicy;
use unicity_identity::{HubDirectory, HubName, LinkedHub};

use super::rendezvous::Bid;
use super::{Candidate, Choice, Evaluation, Excluded, Inputs, LatencySource};
use crate::registry::Fault;

/// A device stays at its hub under `leastLoaded` unless another one is emptier by more than this, in thousandths of its capacity or
/// weight's share: devices that register again must not dance after each other.
const LOAD_SLACK_PERMILLE: u64 = 100;
/// A device stays at its hub under `geoLatency` unless another one is nearer by more than this share of its round trip, in percent.
const LATENCY_SLACK_PERCENT: u64 = 10;

/// Chooses a hub.
///
/// A hub that is not named, takes no part in allocation, is draining, full or down is never chosen. A device whose own hub is down
/// stays: to move it, that hub would have to give it up first. A hub counts as full only for devices that it does not have yet.
///
/// # Errors
/// [`Fault`] if a load could not be read.
pub fn evaluate(hubs: &HubDirectory, inputs: &Inputs<'_>) -> Result<Evaluation, Fault> {
    let mut excluded = Vec::new();
    let mut open: Vec<&LinkedHub> = Vec::new();
    for hub in hubs.iter() {
        match exclusion(hub, inputs)? {
            Some(why) => excluded.push(Excluded { hub: hub.name.clone(), why: why.to_owned() }),
            None => open.push(hub),
        }
    }
    let policy = inputs.policy.as_str();
    let source = inputs.source;
    let mut result = match inputs.policy {
        AllocationPolicy::Hashed => by_bid(&open, inputs.registration_id.as_str()),
        AllocationPolicy::Sticky(_) => by_bid(&open, inputs.sticky_key),
        AllocationPolicy::Static => fixed(&open, inputs),
        AllocationPolicy::GeoLatency => by_latency(&open, inputs),
        AllocationPolicy::LeastLoaded => by_load(&open, inputs)?,
        AllocationPolicy::Custom(ask) => {
            let candidates = open.iter().map(|hub| plain(hub)).collect();
            Ranked { best: None, candidates, reason: "the operator's function decides".to_owned(), ask: Some(ask) }
        }
    };
    let current = inputs.current.and_then(|name| hubs.by_name(name));
    let choice = match (current, result.best.take(), result.ask) {
        // Nobody can take a device from a hub that does not answer.
        (Some(current), _, _) if inputs.live.down.contains_key(&current.name) => {
            result.reason =
                format!("{} does not answer, and no device leaves a hub that cannot give it up", current.name);
            Choice::Stay(current.name.clone())
        }
        (_, _, Some(ask)) if !open.is_empty() => Choice::Ask(ask.clone()),
        (_, Some(best), _) => Choice::Hub(best),
        (Some(current), None, _) => {
            result.reason = format!("no hub can take it ({}), so it stays at {}", why_none(&excluded), current.name);
            Choice::Stay(current.name.clone())
        }
        (None, None, _) => Choice::Nobody(nobody(inputs, &excluded)),
    };
    let Ranked { candidates, reason, .. } = result;
    Ok(Evaluation { choice, policy, source, candidates, excluded, reason })
}

/// Why a hub takes no part; `None`: it does.
fn exclusion(hub: &LinkedHub, inputs: &Inputs<'_>) -> Result<Option<&'static str>, Fault> {
    let is_named = inputs.named.is_empty() || inputs.named.iter().any(|named| hub.answers_to(named.as_str()));
    let is_current = inputs.current == Some(&hub.name);
    Ok(if !is_named {
        Some("notNamed")
    } else if !hub.terms.apply_allocation || hub.terms.weight == 0 {
        Some("notApplied")
    } else if hub.terms.draining {
        Some("draining")
    } else if inputs.live.down.contains_key(&hub.name) {
        Some("down")
    } else if let Some(capacity) = hub.terms.capacity
        && !is_current
        && load_of(hub, inputs)? >= capacity
    {
        Some("full")
    } else {
        None
    })
}

/// What a hub holds: what this service gave it, or what it says itself if that is more.
fn load_of(hub: &LinkedHub, inputs: &Inputs<'_>) -> Result<u64, Fault> {
    let reported = inputs.live.reported_load.get(&hub.name).copied().unwrap_or(0);
    Ok((inputs.load)(&hub.name)?.max(reported))
}

/// Hubs in a policy's order.
struct Ranked<'a> {
    best: Option<HubName>,
    candidates: Vec<Candidate>,
    reason: String,
    ask: Option<&'a unicity_identity::enrollment::CustomAllocation>,
}

fn plain(hub: &LinkedHub) -> Candidate {
    Candidate { hub: hub.name.clone(), weight: hub.terms.weight, score: None, basis: None }
}

fn scored(hub: &LinkedHub, score: u64, basis: &str) -> Candidate {
    Candidate { score: Some(score), basis: Some(basis.to_owned()), ..plain(hub) }
}

fn by_bid<'a>(open: &[&LinkedHub], key: &str) -> Ranked<'a> {
    let bids: Vec<_> = open.iter().map(|hub| (*hub, Bid::of(&hub.name, hub.terms.weight, key))).collect();
    let best = bids.iter().max_by(|(a, bid_a), (b, bid_b)| bid_a.cmp(bid_b).then_with(|| b.name.cmp(&a.name)));
    Ranked {
        best: best.map(|(hub, _)| hub.name.clone()),
        candidates: bids.iter().map(|(hub, bid)| scored(hub, bid.to_millis(), "bid")).collect(),
        reason: format!("the highest bid of weighted rendezvous hashing over {key:?}"),
        ask: None,
    }
}

fn fixed<'a>(open: &[&LinkedHub], inputs: &Inputs<'_>) -> Ranked<'a> {
    let named = inputs.named.first();
    let best = named.and_then(|named| open.iter().find(|hub| hub.answers_to(named.as_str())));
    Ranked {
        best: best.map(|hub| hub.name.clone()),
        candidates: best.iter().map(|hub| plain(hub)).collect(),
        reason: "the one hub that the enrollment names".to_owned(),
        ask: None,
    }
}

fn by_latency<'a>(open: &[&LinkedHub], inputs: &Inputs<'_>) -> Ranked<'a> {
    let known: Vec<_> =
        open.iter().filter_map(|hub| inputs.live.latency.get(&hub.name).map(|latency| (*hub, *latency))).collect();
    if known.is_empty() {
        let mut ranked = by_bid(open, inputs.registration_id.as_str());
        ranked.reason = format!("nothing is known of how far any hub is from the device; {}", ranked.reason);
        return ranked;
    }
    let nearest = known.iter().map(|(_, latency)| latency.round_trip_us).min().unwrap_or(0);
    let current = known.iter().find(|(hub, _)| inputs.current == Some(&hub.name));
    let stays = current.filter(|(_, latency)| {
        u64::from(latency.round_trip_us) * 100 <= u64::from(nearest) * (100 + LATENCY_SLACK_PERCENT)
    });
    let ties: Vec<_> =
        known.iter().filter(|(_, latency)| latency.round_trip_us == nearest).map(|(hub, _)| *hub).collect();
    let (best, reason) = match stays {
        Some((hub, _)) => {
            (Some(hub.name.clone()), format!("no hub is nearer than its own by more than {LATENCY_SLACK_PERCENT} %"))
        }
        None => {
            let reason =
                if ties.len() > 1 { "the lowest latency; equal ones share by weight" } else { "the lowest latency" };
            (by_bid(&ties, inputs.registration_id.as_str()).best, reason.to_owned())
        }
    };
    let candidates = open
        .iter()
        .map(|hub| match inputs.live.latency.get(&hub.name) {
            Some(latency) => scored(
                hub,
                u64::from(latency.round_trip_us),
                match latency.source {
                    LatencySource::Measured => "roundTripMicros.measured",
                    LatencySource::Region => "roundTripMicros.region",
                    LatencySource::Distance => "roundTripMicros.distance",
                },
            ),
            None => plain(hub),
        })
        .collect();
    Ranked { best, candidates, reason, ask: None }
}

/// How full each is: of its capacity, if it has one, else of its weight's share of all that the candidates hold.
fn by_load<'a>(open: &[&LinkedHub], inputs: &Inputs<'_>) -> Result<Ranked<'a>, Fault> {
    let loads = open.iter().map(|hub| Ok((*hub, load_of(hub, inputs)?))).collect::<Result<Vec<_>, Fault>>()?;
    let total: u128 = loads.iter().map(|(_, load)| u128::from(*load)).sum::<u128>().max(1);
    let weights: u128 = loads.iter().map(|(hub, _)| u128::from(hub.terms.weight)).sum::<u128>().max(1);
    let permille = |hub: &LinkedHub, load: u64| {
        let room = match hub.terms.capacity {
            Some(capacity) => u128::from(capacity.max(1)) * weights,
            None => u128::from(hub.terms.weight) * total,
        };
        u64::try_from(u128::from(load) * 1000 * weights / room.max(1)).unwrap_or(u64::MAX)
    };
    let fill: Vec<_> = loads.iter().map(|(hub, load)| (*hub, permille(hub, *load))).collect();
    let key = inputs.registration_id.as_str();
    let least = fill.iter().map(|(_, fill)| *fill).min().unwrap_or(0);
    let stays = fill
        .iter()
        .find(|(hub, _)| inputs.current == Some(&hub.name))
        .filter(|(_, fill)| *fill <= least.saturating_add(LOAD_SLACK_PERMILLE));
    let (best, reason) = match stays {
        Some((hub, _)) => (
            Some(hub.name.clone()),
            format!("no hub is emptier than its own by more than {LOAD_SLACK_PERMILLE} permille"),
        ),
        None => {
            let best =
                fill.iter().min_by_key(|(hub, fill)| (*fill, Reverse(Bid::of(&hub.name, hub.terms.weight, key))));
            (best.map(|(hub, _)| hub.name.clone()), "the most room for its capacity or weight".to_owned())
        }
    };
    let candidates = fill.iter().map(|(hub, fill)| scored(hub, *fill, "loadPermille")).collect();
    Ok(Ranked { best, candidates, reason, ask: None })
}

fn why_none(excluded: &[Excluded]) -> String {
    if excluded.is_empty() {
        return "none is linked".to_owned();
    }
    excluded.iter().map(|it| format!("{}: {}", it.hub, it.why)).collect::<Vec<_>>().join(", ")
}

fn nobody(inputs: &Inputs<'_>, excluded: &[Excluded]) -> String {
    match (inputs.policy, inputs.named) {
        (AllocationPolicy::Static, []) => "the static policy needs a hub named in the enrollment".to_owned(),
        (AllocationPolicy::Static, [named, ..]) => {
            format!("hub {named} is not linked, or takes no new devices ({})", why_none(excluded))
        }
        (_, []) => format!("no hub is linked that takes new devices ({})", why_none(excluded)),
        (_, named) => {
            let named: Vec<_> = named.iter().map(ToString::to_string).collect();
            format!("none of {} is linked and takes new devices ({})", named.join(", "), why_none(excluded))
        }
    }
}
