//! The runner: which transfers wait for whom, and which has its turn.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use unicity_identity::{Environment, HubName, HubPlace, RegistrationId, RemoteLink};
use unicity_provisioning::Provisioning;
use unicity_provisioning::registry::Fault;

use super::ask::Ask;
use super::lane::{Lane, lane_of};
use super::live::LiveHubs;
use super::metrics::RunnerMetrics;
use super::probe;
use super::queue::TransferInbox;
use super::settings::RunnerSettings;
use super::step::{Progress, Shared};
use crate::hub::HubApi;

/// Transfers that are read from the registry at a time.
const PAGE: usize = 256;
/// What a stop gives to steps under way. One that is cut off then is made again at the next start.
const STOP: Duration = Duration::from_secs(2);

/// What the runner is made of.
pub struct RunnerParts {
    /// The service whose transfers it runs.
    pub provisioning: Provisioning,
    /// What tells of them.
    pub inbox: TransferInbox,
    /// The way to hubs.
    pub hubs: Arc<dyn HubApi>,
    /// What is known of hubs; the same that the service has as its surroundings.
    pub live: Arc<LiveHubs>,
    /// Who asks operators' functions; without one such transfers wait.
    pub ask: Option<Arc<dyn Ask>>,
    /// Clock and randomness.
    pub environment: Environment,
    /// Its bounds.
    pub settings: RunnerSettings,
}

/// Drives transfers, and probes hubs. Dropped at any moment it leaves nothing behind that the next one does not go on with.
pub struct TransferRunner {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<RegistrationId>,
    settings: RunnerSettings,
    known: HashMap<RegistrationId, Known>,
    ready: BTreeMap<Lane, VecDeque<RegistrationId>>,
    delayed: BTreeMap<(Instant, u64), RegistrationId>,
    running: HashMap<Lane, usize>,
    steps: JoinSet<(RegistrationId, Progress)>,
    /// Where the next scan begins.
    cursor: Option<RegistrationId>,
    sequence: u64,
}

struct Known {
    lane: Lane,
    attempt: u32,
    turn: Turn,
}

enum Turn {
    Ready,
    Delayed((Instant, u64)),
    Running { was_told: bool },
}

impl TransferRunner {
    /// Puts the runner together.
    #[must_use]
    pub fn new(parts: RunnerParts) -> Self {
        let RunnerParts { provisioning, inbox, hubs, live, ask, environment, settings } = parts;
        let shared =
            Shared { provisioning, hubs, live, ask, environment, metrics: Arc::default(), kinds: Mutex::default() };
        Self {
            shared: Arc::new(shared),
            inbox: inbox.0,
            settings,
            known: HashMap::new(),
            ready: BTreeMap::new(),
            delayed: BTreeMap::new(),
            running: HashMap::new(),
            steps: JoinSet::new(),
            cursor: None,
            sequence: 0,
        }
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<RunnerMetrics> {
        self.shared.metrics.clone()
    }

    /// Runs until it is told to stop; steps under way have a moment to end then.
    pub async fn run(mut self, stop: CancellationToken) {
        self.look();
        let probes = tokio::spawn(probe::run(self.shared.clone(), self.settings.probe_every, stop.clone()));
        let _ends_with_this = AbortOnDrop(probes);
        let mut looks = tokio::time::interval_at(Instant::now() + self.settings.scan_every, self.settings.scan_every);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.dispatch();
            let live = self.shared.live.clone();
            let due = self.delayed.keys().next().map(|(due, _)| *due);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(id) = self.inbox.recv() => self.told(&id),
                Some(ended) = self.steps.join_next(), if !self.steps.is_empty() => match ended {
                    Ok((id, progress)) => self.stepped(&id, &progress),
                    Err(error) => {
                        tracing::error!(%error, "a step broke off");
                        self.forget_running();
                    }
                },
                () = until(due), if due.is_some() => self.wake(),
                risen = live.risen() => risen.iter().for_each(|hub| self.wake_lane(hub)),
                _ = looks.tick() => self.look(),
            }
        }
        let rest = async { while self.steps.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP, rest).await.is_err() {
            tracing::info!("steps of transfers were cut off; the next start makes them again");
        }
    }

    /// After a step that broke off nothing is known of whose it was: those that run are taken up anew.
    fn forget_running(&mut self) {
        self.steps.abort_all();
        self.steps = JoinSet::new();
        self.running.clear();
        let ids: Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| matches!(known.turn, Turn::Running { .. }))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.delay(&id, self.settings.backoff_max);
        }
    }

    fn count(&self) {
        self.shared.metrics.holds(self.known.len(), self.steps.len());
    }

    fn lane(&self, id: &RegistrationId) -> Result<Option<Lane>, Fault> {
        let transfer = self.shared.provisioning.registry().transfer(id)?;
        Ok(transfer.as_ref().and_then(lane_of))
    }

    /// A transfer was recorded, or took a step.
    fn told(&mut self, id: &RegistrationId) {
        match self.lane(id) {
            Ok(Some(lane)) => self.take_up(id, lane),
            Ok(None) => {}
            Err(fault) => tracing::error!(registration_id = %id, %fault, "a transfer is not taken up yet"),
        }
    }

    fn take_up(&mut self, id: &RegistrationId, lane: Lane) {
        match self.known.get_mut(id).map(|known| (known.lane == lane, &mut known.turn)) {
            Some((_, Turn::Running { was_told })) => *was_told = true,
            Some((_, Turn::Ready)) | Some((true, Turn::Delayed(_))) => {}
            Some((false, Turn::Delayed(at))) => {
                // It was sent elsewhere: what it waited for is no matter any more.
                let at = *at;
                self.delayed.remove(&at);
                self.queue(id, lane, 1);
            }
            None => {
                self.make_room();
                if self.known.len() < self.settings.known_max {
                    self.queue(id, lane, 1);
                }
            }
        }
    }

    fn queue(&mut self, id: &RegistrationId, lane: Lane, attempt: u32) {
        self.ready.entry(lane.clone()).or_default().push_back(id.clone());
        self.known.insert(id.clone(), Known { lane, attempt, turn: Turn::Ready });
        self.count();
    }

    /// Forgets those that wait longest, when there is no room: their records are durable.
    fn make_room(&mut self) {
        if self.known.len() < self.settings.known_max {
            return;
        }
        for _ in 0..self.settings.known_max.div_ceil(8) {
            let Some((_, id)) = self.delayed.pop_last() else { return };
            self.known.remove(&id);
        }
    }

    fn delay(&mut self, id: &RegistrationId, wait: Duration) {
        let Some(known) = self.known.get_mut(id) else { return };
        self.sequence += 1;
        let at = (Instant::now() + wait, self.sequence);
        known.turn = Turn::Delayed(at);
        self.delayed.insert(at, id.clone());
    }

    /// Those whose time has come.
    fn wake(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            let id = first.remove();
            self.requeue(&id);
        }
    }

    fn requeue(&mut self, id: &RegistrationId) {
        let Some(known) = self.known.remove(id) else { return };
        match self.lane(id) {
            Ok(Some(lane)) => self.queue(id, lane, known.attempt),
            Ok(None) => self.count(),
            Err(fault) => {
                tracing::error!(registration_id = %id, %fault, "a transfer waits");
                self.count();
            }
        }
    }

    fn dispatch(&mut self) {
        let Self { ready, running, known, shared, steps, settings, .. } = self;
        for (lane, waiting) in ready.iter_mut() {
            let most = match lane {
                Lane::Hub(_) => settings.steps_per_hub,
                Lane::Functions => settings.steps_of_functions,
            };
            let under_way = running.entry(lane.clone()).or_default();
            while *under_way < most.max(1)
                && let Some(id) = waiting.pop_front()
            {
                let Some(known) = known.get_mut(&id) else { continue };
                known.turn = Turn::Running { was_told: false };
                *under_way += 1;
                let (shared, attempt) = (shared.clone(), known.attempt);
                steps.spawn(async move {
                    let progress = shared.step(&id, attempt).await;
                    (id, progress)
                });
            }
        }
        ready.retain(|_, waiting| !waiting.is_empty());
        running.retain(|_, under_way| *under_way > 0);
        self.count();
    }

    fn stepped(&mut self, id: &RegistrationId, progress: &Progress) {
        let Some(known) = self.known.get_mut(id) else { return };
        if let Some(under_way) = self.running.get_mut(&known.lane) {
            *under_way = under_way.saturating_sub(1);
        }
        let was_told = matches!(known.turn, Turn::Running { was_told: true });
        match progress {
            Progress::On => {
                known.attempt = 1;
                self.requeue(id);
            }
            Progress::Ended if was_told => self.requeue(id),
            Progress::Ended => {
                self.known.remove(id);
                self.count();
            }
            Progress::Later(asked) => {
                let attempt = known.attempt;
                known.attempt = attempt.saturating_add(1);
                let wait = self.settings.wait(attempt, *asked, &mut self.shared.environment.entropy());
                self.delay(id, wait);
            }
            Progress::Held(wait) => self.delay(id, *wait),
        }
    }

    /// Looks at the links, and at transfers that nobody told of: those of before the start, and those that found the queue full.
    fn look(&mut self) {
        if let Err(fault) = self.look_at_links().and_then(|()| self.look_at_transfers()) {
            tracing::error!(%fault, "transfers cannot be looked for");
        }
    }

    fn look_at_links(&mut self) -> Result<(), Fault> {
        let directory = self.shared.provisioning.hubs()?;
        let links: BTreeMap<HubName, RemoteLink> = directory
            .iter()
            .filter_map(|hub| match &hub.place {
                HubPlace::Remote(link) => Some((hub.name.clone(), link.as_ref().clone())),
                HubPlace::Local => None,
            })
            .collect();
        for hub in self.shared.live.linked(&links, self.shared.environment.now()) {
            // Another key, or another place: what waited for the old one need not.
            tracing::info!(%hub, "the hub is linked anew; its transfers go on now");
            self.shared.forget_kind(&hub);
            self.wake_lane(&hub);
        }
        Ok(())
    }

    /// Those that wait for a hub need not any more.
    fn wake_lane(&mut self, hub: &HubName) {
        let lane = Lane::Hub(hub.clone());
        let waiting: Vec<_> = self
            .delayed
            .iter()
            .filter(|(_, id)| self.known.get(*id).is_some_and(|known| known.lane == lane))
            .map(|(at, id)| (*at, id.clone()))
            .collect();
        for (at, id) in waiting {
            self.delayed.remove(&at);
            self.requeue(&id);
        }
    }

    fn look_at_transfers(&mut self) -> Result<(), Fault> {
        let registry = self.shared.provisioning.registry().clone();
        let mut seen = 0;
        while seen < self.settings.known_max {
            let page = registry.list_transfers(self.cursor.as_ref(), PAGE)?;
            seen += page.items.len();
            self.cursor = page.items.last().map(|last| last.registration_id.clone()).filter(|_| page.more);
            for transfer in &page.items {
                if let Some(lane) = lane_of(transfer) {
                    self.take_up(&transfer.registration_id, lane);
                }
            }
            if self.cursor.is_none() {
                break;
            }
        }
        Ok(())
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
