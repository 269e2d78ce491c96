//! Many devices, a bounded number of them at work.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use unicity_identity::Environment;

use crate::client::MqttClient;
use crate::life::{DeviceOutcome, Held, Surroundings};
use crate::message::{MessageSource, weather_station};
use crate::progress::Progress;
use crate::stages::StageHistograms;
use crate::summary::Summary;
use crate::{Device, Dialer, Endpoint, RumqttClient};

/// What the devices of a fleet do.
#[derive(Clone)]
pub struct FleetSettings {
    /// Messages that each device sends.
    pub messages: u64,
    /// Devices at work at once, each with at most one TLS session. Held sessions come on top.
    pub concurrency: usize,
    /// Keeps each hub session open after its messages until the fleet is stopped; otherwise it is closed at once, and
    /// never more than `concurrency` are open.
    pub hold: bool,
    /// Attempts to register, and again to connect to the hub, when what fails may heal.
    pub attempts_max: u32,
    /// What devices say.
    pub message: MessageSource,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self { messages: 1, concurrency: 64, hold: false, attempts_max: 5, message: weather_station() }
    }
}

impl fmt::Debug for FleetSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetSettings")
            .field("messages", &self.messages)
            .field("concurrency", &self.concurrency)
            .field("hold", &self.hold)
            .field("attempts_max", &self.attempts_max)
            .finish_non_exhaustive()
    }
}

/// A run of many devices, before it starts.
pub struct Fleet {
    surroundings: Surroundings,
    stopper: Stopper,
}

/// Stops a fleet: devices finish the step and the messages they are at, disconnect, and no new one starts.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// Stops; a second call does nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// What became of a fleet.
#[derive(Debug, Clone)]
pub struct FleetResult {
    /// The run in figures.
    pub summary: Summary,
    /// Each device that started, in no particular order.
    pub devices: Vec<DeviceOutcome>,
    /// The stages' times, for other quantiles than the summary's.
    pub stages: StageHistograms,
}

impl Fleet {
    /// A fleet that will register at `endpoint`.
    #[must_use]
    pub fn new(dialer: Dialer, endpoint: Endpoint, settings: FleetSettings, env: Environment) -> Self {
        let (sender, stop) = watch::channel(false);
        let progress = Arc::new(Progress::default());
        let surroundings = Surroundings { dialer, endpoint, settings, env, progress, stop };
        Self { surroundings, stopper: Stopper(Arc::new(sender)) }
    }

    /// The live counts.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.surroundings.progress)
    }

    /// A handle that stops the run.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs `devices` with rumqttc to the end of the last one, or until stopped; with `hold` only until stopped.
    pub async fn run(self, devices: Vec<Device>) -> FleetResult {
        self.run_with::<RumqttClient>(devices).await
    }

    /// [`run`](Self::run) with a client of choice.
    pub async fn run_with<C: MqttClient>(self, devices: Vec<Device>) -> FleetResult {
        let started = Instant::now();
        let count = devices.len();
        self.surroundings.progress.devices.store(count as u64, std::sync::atomic::Ordering::Relaxed);
        let surroundings = Arc::new(self.surroundings);
        let waiting = Arc::new(Mutex::new(devices.into_iter()));

        let mut workers = JoinSet::new();
        for _ in 0..surroundings.settings.concurrency.clamp(1, count.max(1)) {
            workers.spawn(work::<C>(Arc::clone(&surroundings), Arc::clone(&waiting)));
        }
        let (mut stages, mut outcomes, mut held) = (StageHistograms::default(), Vec::with_capacity(count), Vec::new());
        while let Some(worker) = workers.join_next().await {
            let done = unless_panicked(worker);
            stages.merge(&done.times);
            outcomes.extend(done.outcomes);
            held.push(done.held);
        }
        let active = started.elapsed();
        for mut sessions in held {
            while let Some(session) = sessions.join_next().await {
                unless_panicked(session);
            }
        }
        let stopped = surroundings.is_stopped();
        let summary = Summary::new(&surroundings.progress, &outcomes, &stages, active, started.elapsed(), stopped);
        FleetResult { summary, devices: outcomes, stages }
    }
}

/// What one worker brings home.
struct Done {
    times: StageHistograms,
    outcomes: Vec<DeviceOutcome>,
    held: JoinSet<()>,
}

async fn work<C: MqttClient>(surroundings: Arc<Surroundings>, waiting: Arc<Mutex<std::vec::IntoIter<Device>>>) -> Done {
    let mut done = Done { times: StageHistograms::default(), outcomes: Vec::new(), held: JoinSet::new() };
    while !surroundings.is_stopped() {
        let Some(device) = waiting.lock().next() else { break };
        let (outcome, held) = surroundings.live::<C>(&device, &mut done.times).await;
        done.outcomes.push(outcome);
        if let Some(held) = held {
            done.held.spawn(hold(Arc::clone(&surroundings), held));
        }
    }
    done
}

async fn hold<C: MqttClient>(surroundings: Arc<Surroundings>, held: Held<C>) {
    let Held { mut session, open: _open } = held;
    tokio::select! {
        biased;
        () = surroundings.stopped() => {}
        end = session.ended() => {
            surroundings.progress.session_dropped(&end);
            return;
        }
    }
    session.disconnect().await;
}

/// A panic in a device's task is a defect of ours: it goes on where it is seen.
fn unless_panicked<T>(joined: Result<T, JoinError>) -> T {
    match joined {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => unreachable!("no task of a fleet is ever aborted: {error}"),
        },
    }
}
