//! A plan predicts what the rebalance then does, over the registry that serves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use unicity_identity::enrollment::{AllocationPolicy, CustomAllocation, StickyBy};
use unicity_identity::{Environment, HubDirectory, HubName, HubTerms, LinkedHub, MasterKey, Timestamp, Vault};
use unicity_outbound::Rebalancer;
use unicity_provisioning::allocation::LiveFacts;
use unicity_provisioning::plan::{Assumption, Forecast, forecast};
use unicity_provisioning::rebalance::{Rebalance, RebalanceOrder, RebalanceState, Rebalancing as _};
use unicity_provisioning::registry::HubEdit;
use unicity_provisioning::{Actor, Command, Provisioning, RefusalRing, RegistryView as _, Settings};
use unicity_store::registry::{RegistryOptions, RegistryStore};
use unicity_store::vfs::OsVfs;
use zeroize::Zeroizing;

use crate::fleet::{self, register, request, submit};

fn name(text: &str) -> HubName {
    text.parse().unwrap()
}

/// Three hubs, and a fourth that takes nothing yet.
fn settings() -> Arc<Settings> {
    let hubs = ["hub-1", "hub-2", "hub-3", "hub-4"].map(|text| {
        let mut hub = LinkedHub::local(name(text), format!("{text}.local").parse().unwrap());
        hub.terms.apply_allocation = text != "hub-4";
        hub
    });
    Arc::new(Settings { hubs: HubDirectory::new(hubs.into()).unwrap(), ..(*fleet::settings()).clone() })
}

struct World {
    registry: Arc<RegistryStore>,
    provisioning: Provisioning,
    rebalancer: Rebalancer,
    _folder: Option<tempfile::TempDir>,
}

impl World {
    fn open(path: &Path, settings: Arc<Settings>) -> Self {
        let options = RegistryOptions::new(path, settings.clone());
        let registry = RegistryStore::open(options, Arc::new(OsVfs)).unwrap();
        let vault = Arc::new(Vault::new(MasterKey::from_bytes(&[1; 32]), &Zeroizing::new([2; 32])));
        let provisioning = Provisioning::new(registry.clone(), vault, settings, Arc::new(RefusalRing::new(10)));
        let clock = AtomicU64::new(1_800_000_000_000);
        let environment = Environment::new(
            move || Timestamp(clock.fetch_add(1, Ordering::Relaxed)),
            || *b"a seed that is good enough here.",
        );
        let rebalancer = Rebalancer::new(provisioning.clone(), environment);
        Self { registry, provisioning, rebalancer, _folder: None }
    }

    /// One with so many registrations of one group.
    fn with_fleet(devices: u64, settings: Arc<Settings>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self::open(folder.path(), settings);
        let group = fleet::group(world.registry.as_ref());
        let all = (0..devices).map(|n| register(&group, n));
        assert_eq!(fleet::submit_all(world.registry.as_ref(), all, 2000), 0);
        Self { _folder: Some(folder), ..world }
    }

    fn set(&self, command: Command) {
        submit(self.registry.as_ref(), request(command, 7)).unwrap();
    }

    fn set_terms(&self, hub: &str, change: impl FnOnce(&mut HubTerms)) {
        let mut terms = self.provisioning.hubs().unwrap().by_name(&name(hub)).unwrap().terms.clone();
        change(&mut terms);
        self.set(Command::SetHub { name: name(hub), edit: Box::new(HubEdit::Terms(terms)) });
    }

    /// What would come of it if hubs had these terms and the service this policy.
    fn plan(&self, change: impl Fn(&mut LinkedHub), policy: Option<AllocationPolicy>) -> Forecast {
        let mut hubs: Vec<LinkedHub> = self.provisioning.hubs().unwrap().iter().cloned().collect();
        hubs.iter_mut().for_each(change);
        let hubs = Arc::new(HubDirectory::new(hubs).unwrap());
        let assumption = Assumption { hubs, policy, from: None };
        let settings = self.provisioning.settings();
        forecast(self.registry.as_ref(), settings, &assumption, &LiveFacts::default(), &mut |_| true).unwrap()
    }

    fn rebalance(&self, number: u32) -> Rebalance {
        self.registry.rebalances().unwrap().into_iter().find(|it| it.number == number).unwrap()
    }

    /// Waits until a rebalance is as wanted.
    async fn until(&self, number: u32, wanted: impl Fn(&Rebalance) -> bool) -> Rebalance {
        loop {
            let found = self.rebalance(number);
            if wanted(&found) {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    async fn run_to_the_end(&self, order: RebalanceOrder) -> Rebalance {
        let stop = CancellationToken::new();
        let running = tokio::spawn(self.rebalancer.clone().run(stop.clone()));
        let begun = self.rebalancer.start(order, Actor::Server).await.unwrap();
        let done = self.until(begun.number, |it| it.state == RebalanceState::Done).await;
        stop.cancel();
        running.await.unwrap();
        done
    }
}

fn order(digest: Option<[u8; 32]>) -> RebalanceOrder {
    RebalanceOrder { rate: u32::MAX, from: None, plan_digest: digest }
}

fn takes_all(hub: &mut LinkedHub) {
    hub.terms.apply_allocation = true;
}

#[track_caller]
fn assert_same(planned: &Forecast, done: &Rebalance) {
    assert_eq!((planned.seen, planned.moves, planned.digest.0), (done.seen, done.moved, done.digest));
    assert_eq!(planned.estimated.len(), 0);
    let planned_cannot: u64 = planned.cannot.iter().map(|(_, count)| count).sum();
    assert_eq!(planned_cannot, done.skipped, "{:?} {:?}", planned.cannot, done.reasons);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_hub_over_100_000_registrations_is_filled_exactly_as_planned() {
    let world = World::with_fleet(100_000, settings());
    let planned = world.plan(takes_all, None);
    assert_eq!(planned.seen, 100_000);
    // A quarter; within five standard deviations of a fair coin.
    assert!((24_300..25_700).contains(&planned.moves), "{}", planned.moves);
    assert!(planned.matrix.keys().all(|(_, to)| *to == name("hub-4")), "{:?}", planned.matrix);
    world.set_terms("hub-4", |terms| terms.apply_allocation = true);
    let done = world.run_to_the_end(order(None)).await;
    assert_same(&planned, &done);
    for (hub, (_, after)) in &planned.loads {
        assert_eq!(world.registry.hub_load(hub).unwrap(), *after, "{hub}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_goes_on_after_a_stop_and_after_a_restart() {
    let world = World::with_fleet(3_000, settings());
    let drains = |hub: &mut LinkedHub| hub.terms.draining = hub.name == name("hub-2");
    let planned = world.plan(drains, None);
    assert_eq!(planned.moves, world.registry.hub_load(&name("hub-2")).unwrap());
    assert!(planned.matrix.keys().all(|(from, to)| *from == name("hub-2") && *to != name("hub-4")));
    world.set_terms("hub-2", |terms| terms.draining = true);

    let stop = CancellationToken::new();
    let running = tokio::spawn(world.rebalancer.clone().run(stop.clone()));
    // Slow enough to be stopped on its way, whatever the machine does.
    let slow = RebalanceOrder { rate: 50, from: Some(name("hub-2")), plan_digest: None };
    world.rebalancer.start(slow.clone(), Actor::Server).await.unwrap();
    assert!(world.rebalancer.start(slow, Actor::Server).await.is_err(), "one at a time");
    let moved = || planned.moves - world.registry.hub_load(&name("hub-2")).unwrap();
    while moved() < 10 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let stopped = world.rebalancer.set_running(1, false, Actor::Server).await.unwrap();
    assert_eq!(stopped.state, RebalanceState::Stopped);
    let resting = world.until(1, |it| it.moved == moved() && it.moved > 0).await;
    assert!(resting.moved < planned.moves && resting.state == RebalanceState::Stopped, "{resting:?}");
    world.rebalancer.set_running(1, false, Actor::Server).await.unwrap();
    world.rebalancer.set_running(1, true, Actor::Server).await.unwrap();
    while moved() < resting.moved + 10 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    stop.cancel();
    running.await.unwrap();
    let left = world.rebalance(1);
    assert_eq!((left.state, left.moved), (RebalanceState::Running, moved()));
    assert!(left.moved < planned.moves);

    // Another process over the same directory; at full speed, which the record allows to change.
    let World { registry, rebalancer, provisioning, _folder } = world;
    registry.close().unwrap();
    drop((registry, rebalancer, provisioning));
    let world = World::open(_folder.as_ref().unwrap().path(), settings());
    let faster = Rebalance { rate: u32::MAX, ..world.rebalance(1) };
    world.set(Command::PutRebalance(Box::new(faster)));
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.rebalancer.clone().run(stop.clone()));
    let done = world.until(1, |it| it.state == RebalanceState::Done).await;
    assert_eq!((done.moved, done.digest, done.skipped), (planned.moves, planned.digest.0, 0));
    assert_eq!(world.registry.hub_load(&name("hub-2")).unwrap(), 0);
    assert!(world.rebalancer.set_running(1, true, Actor::Server).await.is_err(), "it is done");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deterministic_policies_are_foreseen_exactly() {
    type Change = fn(&mut LinkedHub);
    let heavier: Change = |hub| hub.terms.weight = if hub.name.as_str() == "hub-3" { 5 } else { 1 };
    let closed: Change = |hub| hub.terms.apply_allocation = hub.name.as_str() == "hub-1";
    // Half of what would come finds no room, one move after the other.
    let limited: Change = |hub| {
        takes_all(hub);
        hub.terms.capacity = (hub.name.as_str() == "hub-4").then_some(60);
    };
    let sticky = || Some(AllocationPolicy::Sticky(StickyBy::Tag("site".into())));
    for (case, change, policy) in [
        ("weights", heavier, None),
        ("one hub is left", closed, None),
        ("a fourth with little room", limited, None),
        ("sticky", takes_all as Change, sticky()),
    ] {
        let world = World::with_fleet(500, settings());
        let planned = world.plan(change, policy.clone());
        assert!(planned.moves > 0, "{case}");
        for hub in ["hub-1", "hub-2", "hub-3", "hub-4"] {
            world.set_terms(hub, |terms| {
                let mut changed =
                    LinkedHub { terms: terms.clone(), ..LinkedHub::local(name(hub), "h".parse().unwrap()) };
                change(&mut changed);
                *terms = changed.terms;
            });
        }
        if let Some(policy) = policy {
            world.set(Command::SetDefaultPolicy(Some(policy)));
        }
        let done = world.run_to_the_end(order(Some(planned.digest.0))).await;
        assert_same(&planned, &done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_the_moment_is_an_estimate() {
    let world = World::with_fleet(100, settings());
    for (policy, moves) in [(AllocationPolicy::LeastLoaded, true), (AllocationPolicy::GeoLatency, true)] {
        let planned = world.plan(takes_all, Some(policy.clone()));
        assert_eq!(planned.estimated.get(policy.as_str()), Some(&100), "{policy:?}");
        assert_eq!(planned.moves > 0, moves, "{policy:?}");
    }
    // A function is not asked: its devices stay, and are said to be unknown. Nothing listens there, and nothing tries.
    let custom = CustomAllocation { webhook_url: "https://192.0.2.1/".into(), api_version: "2021-06-01".into() };
    let planned = world.plan(takes_all, Some(AllocationPolicy::Custom(Box::new(custom))));
    assert_eq!((planned.moves, planned.estimated.get("custom")), (0, Some(&100)));
    assert_eq!(planned.cannot.len(), 1);

    let other = order(Some([1; 32]));
    assert!(world.rebalancer.start(other, Actor::Server).await.is_err(), "not what was planned");
}
