//! Runs a fleet by its plan: a task a device, a bounded number of connections being opened, one clock wheel for all waits.

mod clones;
mod life;
mod registration;
mod session;
mod voice;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use unicity_identity::{DeviceId, Environment};

use crate::client::MqttClient;
use crate::events::{Event, EventSink};
use crate::fleet_file::{ClientKind, FleetPlan, GroupPlan};
use crate::life::DeviceOutcome;
use crate::message::{MessageSource, weather_station};
use crate::progress::Progress;
use crate::stages::{Stage, StageHistograms};
use crate::state::State;
use crate::summary::Summary;
use crate::{Device, Dialer, DirectClient, Endpoint, Limits, RumqttClient};

use life::Life;

/// How long devices have, once told to stop, before their tasks end wherever they are.
const STOP_GRACE: Duration = Duration::from_secs(4);
/// Histograms that devices share by turns, so that they seldom wait for each other.
const SHARDS: usize = 16;

/// One device of a planned fleet.
#[derive(Debug, Clone)]
pub struct Member {
    /// What it leaves the factory with.
    pub device: Device,
    /// The position of its group in the plan.
    pub group: usize,
    /// Its number within the group, from 0.
    pub index: usize,
    /// Devices of the group.
    pub of: usize,
    /// Hub and id there that it knows from an earlier run.
    pub assigned: Option<(String, DeviceId)>,
}

/// A planned fleet before it runs.
pub struct Engine {
    shared: Shared,
    members: Vec<Member>,
    client: ClientKind,
    stopper: Arc<watch::Sender<bool>>,
}

/// Stops a planned fleet: devices wait for the acknowledgements of what is in flight, disconnect, and none connects any more.
#[derive(Clone, Debug)]
pub struct EngineStopper(Arc<watch::Sender<bool>>);

impl EngineStopper {
    /// Stops; a second call does nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// What became of a planned fleet.
#[derive(Debug, Clone, Serialize)]
pub struct EngineReport {
    /// The run in figures.
    #[serde(flatten)]
    pub summary: Summary,
    /// What copied credentials were good for.
    pub attacks: Vec<AttackCount>,
    /// Devices that a stop found in the middle of something for so long that they were cut off.
    pub cut_off: u64,
}

/// What a server did about one kind of attack, and how often.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AttackCount {
    /// The attack.
    pub attack: &'static str,
    /// What the server did.
    pub seen: String,
    /// How often.
    pub count: u64,
}

impl EngineReport {
    /// Whether all devices did what they were to do, or were stopped while nothing was wrong. Who was cut off counts by its
    /// messages alone: the server misses a DISCONNECT, nobody a message.
    #[must_use]
    pub fn is_good(&self) -> bool {
        if self.summary.stopped { self.summary.is_untroubled() } else { self.summary.is_complete() }
    }
}

/// What all devices share.
struct Shared {
    endpoint: Endpoint,
    seed: u64,
    groups: Vec<Group>,
    env: Environment,
    progress: Arc<Progress>,
    times: [Mutex<StageHistograms>; SHARDS],
    attacks: Mutex<std::collections::BTreeMap<(&'static str, String), u64>>,
    handshakes: Arc<Semaphore>,
    events: EventSink,
    state: Option<State>,
    /// What devices say whose group has no template.
    usual: MessageSource,
    began: Instant,
    stop: watch::Receiver<bool>,
}

struct Group {
    plan: GroupPlan,
    name: Arc<str>,
    /// One for each source address.
    dialers: Vec<Arc<Dialer>>,
    /// Whether the hub refused a subscription, which is told once.
    refusal_told: AtomicBool,
}

impl Shared {
    fn group(&self, member: &Member) -> &Group {
        &self.groups[member.group]
    }

    fn record(&self, member: &Member, stage: Stage, took: Duration) {
        self.times[member.index % SHARDS].lock().record(stage, took);
    }
}

impl Engine {
    /// A fleet of `members`, made from `plan`, which dials with `dialer`.
    #[must_use]
    pub fn new(
        plan: FleetPlan,
        members: Vec<Member>,
        dialer: &Dialer,
        endpoint: Endpoint,
        state: Option<State>,
        events: EventSink,
        env: Environment,
    ) -> Self {
        let (sender, stop) = watch::channel(false);
        let sources = plan.sources;
        let group = |plan: GroupPlan| {
            let limits = Limits { window: plan.telemetry.window, ..dialer.limits().clone() };
            let dialer = dialer.clone().with_limits(limits);
            let dialers = if sources.is_empty() {
                vec![Arc::new(dialer)]
            } else {
                sources.iter().map(|source| Arc::new(dialer.clone().with_source(*source))).collect()
            };
            Group { name: plan.name.as_str().into(), plan, dialers, refusal_told: AtomicBool::new(false) }
        };
        let shared = Shared {
            endpoint,
            seed: plan.seed,
            groups: plan.groups.into_iter().map(group).collect(),
            env,
            progress: Arc::new(Progress::default()),
            times: std::array::from_fn(|_| Mutex::default()),
            attacks: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(plan.handshakes.max(1))),
            events,
            state,
            usual: weather_station(),
            began: Instant::now(),
            stop,
        };
        Self { shared, members, client: plan.client, stopper: Arc::new(sender) }
    }

    /// The live counts.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.shared.progress)
    }

    /// A handle that stops the run.
    #[must_use]
    pub fn stopper(&self) -> EngineStopper {
        EngineStopper(Arc::clone(&self.stopper))
    }

    /// Runs to the end of the last device, or until stopped; then it ends within seconds.
    pub async fn run(self) -> EngineReport {
        match self.client {
            ClientKind::Rumqttc => self.run_with::<RumqttClient>().await,
            ClientKind::Direct => self.run_with::<DirectClient>().await,
        }
    }

    async fn run_with<C: MqttClient>(mut self) -> EngineReport {
        let began = Instant::now();
        self.shared.began = began;
        let (count, shared) = (self.members.len(), Arc::new(self.shared));
        shared.progress.devices.store(count as u64, std::sync::atomic::Ordering::Relaxed);
        shared.events.tell(Event::Started { devices: count, unix_ms: shared.env.now().0 });
        let mut tasks = JoinSet::new();
        for member in self.members {
            let shared = Arc::clone(&shared);
            if member.index < shared.group(&member).plan.clones.as_ref().map_or(0, |clones| clones.count) {
                tasks.spawn(clones::suffer(shared, member));
            } else {
                tasks.spawn(Life::<C>::new(shared, member).live());
            }
        }
        let (outcomes, cut_off) = ended(&shared, tasks).await;
        // Every task is gone, and with it all other handles.
        let active = began.elapsed();
        let mut stages = StageHistograms::default();
        for times in &shared.times {
            stages.merge(&times.lock());
        }
        let stopped = *shared.stop.borrow();
        let summary = Summary::new(&shared.progress, &outcomes, &stages, active, began.elapsed(), stopped);
        let attacks = std::mem::take(&mut *shared.attacks.lock())
            .into_iter()
            .map(|((attack, seen), count)| AttackCount { attack, seen, count })
            .collect();
        let report = EngineReport { summary, attacks, cut_off };
        if let Some(shared) = Arc::into_inner(shared) {
            let last = Event::Summary(Box::new(report.clone()));
            let _ = tokio::task::spawn_blocking(move || shared.events.finish(last)).await;
        }
        report
    }
}

/// Waits for all devices, tells each second what was acknowledged, and cuts off who does not stop when told to.
async fn ended(shared: &Shared, mut tasks: JoinSet<DeviceOutcome>) -> (Vec<DeviceOutcome>, u64) {
    let (mut outcomes, mut cut_off, mut told) = (Vec::with_capacity(tasks.len()), 0, 0);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut stop = shared.stop.clone();
    let mut stopping_until: Option<Instant> = None;
    let mut tell = || {
        let now = shared.progress.snapshot();
        if now.acknowledged > told {
            shared.events.tell(Event::Acknowledged {
                count: now.acknowledged - told,
                total: now.acknowledged,
                open: now.open,
            });
            told = now.acknowledged;
        }
    };
    loop {
        tokio::select! {
            joined = tasks.join_next() => match joined {
                None => break,
                Some(Ok(outcome)) => outcomes.push(outcome),
                Some(Err(error)) => match error.try_into_panic() {
                    // A panic in a device's task is a defect of ours.
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => cut_off += 1,
                },
            },
            _ = seconds.tick() => tell(),
            // An error means that nobody is left who could stop it.
            Ok(_) = stop.wait_for(|stopped| *stopped), if stopping_until.is_none() => {
                stopping_until = Some(Instant::now() + STOP_GRACE);
            }
            () = until(stopping_until) => {
                tasks.abort_all();
                stopping_until = Some(Instant::now() + STOP_GRACE);
            }
        }
    }
    tell();
    (outcomes, cut_off)
}

/// Sleeps until then; for ever without a then.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
