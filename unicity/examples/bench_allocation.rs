//! What choosing a hub costs: each policy with 2, 10 and 50 hubs, evidence for `why` included, in one thread.
//!
//! `cargo xtask bench allocation [--evaluations N] [--rounds N]`
//!
//! Policies and numbers of hubs take turns, and the median of the rounds counts. A webhook's own time is not in it: `custom` is what it takes
//! to find out whom to ask. `plan` is what an evaluation costs in `unicity plan`, which is the same.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use unicity_identity::enrollment::{AllocationPolicy, CustomAllocation, StickyBy};
use unicity_identity::{Coordinates, HubDirectory, HubName, LinkedHub, RegistrationId};
use unicity_provisioning::allocation::{
    Choice, Inputs, LatencyMap, LiveFacts, Network, Origin, PolicySource, evaluate,
};

type Failure = Box<dyn std::error::Error>;

const HUBS: [usize; 3] = [2, 10, 50];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Failure> {
    let (mut evaluations, mut rounds) = (20_000usize, 5usize);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--evaluations" => evaluations = value.parse()?,
            "--rounds" => rounds = value.parse()?,
            "--dir" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let ids: Vec<RegistrationId> =
        (0..evaluations.max(1)).map(|number| format!("device-{number:07}").parse()).collect::<Result<_, _>>()?;
    let custom =
        CustomAllocation { webhook_url: "https://functions.example/api".into(), api_version: "2021-10-01".into() };
    let policies = [
        ("hashed", AllocationPolicy::Hashed),
        ("static", AllocationPolicy::Static),
        ("geoLatency", AllocationPolicy::GeoLatency),
        ("leastLoaded", AllocationPolicy::LeastLoaded),
        ("sticky", AllocationPolicy::Sticky(StickyBy::Batch)),
        ("custom", AllocationPolicy::Custom(Box::new(custom))),
    ];
    let fleets: Vec<Fleet> = HUBS.iter().map(|count| Fleet::new(*count)).collect::<Result<_, _>>()?;
    let mut times: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds.max(1) {
        for (row, (_, policy)) in policies.iter().enumerate() {
            for (column, fleet) in fleets.iter().enumerate() {
                let took = fleet.measure(policy, &ids)?;
                times.entry((row, column)).or_default().push(took);
            }
        }
    }
    println!("microseconds an evaluation, median of {rounds} rounds of {evaluations} (lowest to highest)");
    println!("{:<12} {:>24} {:>24} {:>24}", "policy", "2 hubs", "10 hubs", "50 hubs");
    for (row, (name, _)) in policies.iter().enumerate() {
        let mut line = format!("{name:<12}");
        for column in 0..HUBS.len() {
            let mut all = times.remove(&(row, column)).unwrap_or_default();
            all.sort_by(f64::total_cmp);
            let (low, high) = (all.first().copied().unwrap_or(0.0), all.last().copied().unwrap_or(0.0));
            let median = all.get(all.len() / 2).copied().unwrap_or(0.0);
            line.push_str(&format!(" {:>24}", format!("{median:.2} ({low:.2} to {high:.2})")));
        }
        println!("{line}");
    }
    Ok(())
}

/// Hubs with all that a policy may look at.
struct Fleet {
    hubs: HubDirectory,
    live: LiveFacts,
    loads: BTreeMap<HubName, u64>,
}

impl Fleet {
    fn new(count: usize) -> Result<Self, Failure> {
        let mut hubs = Vec::new();
        let mut loads = BTreeMap::new();
        for number in 0..count {
            let name: HubName = format!("hub-{number}").parse()?;
            let mut hub = LinkedHub::local(name.clone(), format!("hub-{number}.example").parse()?);
            hub.terms.weight = 1 + u32::try_from(number % 3)?;
            hub.terms.region = Some(format!("region-{number}"));
            hub.terms.coordinates = Coordinates::new(number as f64 - 25.0, number as f64);
            hub.terms.capacity = Some(1_000_000);
            loads.insert(name, number as u64 * 100);
            hubs.push(hub);
        }
        let hubs = HubDirectory::new(hubs)?;
        let mut map = LatencyMap::default();
        let network: Network = "10.0.0.0/8".parse()?;
        map.put_network(network, Origin { region: None, coordinates: Coordinates::new(3.0, 4.0) });
        let latency = map.latencies("10.1.2.3".parse()?, &hubs);
        Ok(Self { hubs, live: LiveFacts { latency, ..LiveFacts::default() }, loads })
    }

    /// Microseconds of an evaluation.
    fn measure(&self, policy: &AllocationPolicy, ids: &[RegistrationId]) -> Result<f64, Failure> {
        let named = match policy {
            AllocationPolicy::Static => vec!["hub-1.example".parse()?],
            _ => Vec::new(),
        };
        let load = |hub: &HubName| Ok(self.loads.get(hub).copied().unwrap_or(0));
        let started = Instant::now();
        for id in ids {
            let inputs = Inputs {
                registration_id: id,
                policy,
                source: PolicySource::Service,
                named: &named,
                sticky_key: "week-7",
                current: None,
                live: &self.live,
                load: &load,
            };
            if matches!(black_box(evaluate(&self.hubs, &inputs)?).choice, Choice::Nobody(_)) {
                return Err(format!("{} finds no hub", policy.as_str()).into());
            }
        }
        Ok(started.elapsed().as_secs_f64() * 1e6 / ids.len() as f64)
    }
}
