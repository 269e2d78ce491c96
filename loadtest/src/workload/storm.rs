//! Everybody at once: all sessions drop in the same moment, and every device wants to be back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::sender::{Sender, Sent};
use super::{Measurement, Pool, Quality, Site};
use crate::Stage;
use crate::client::{Failed, Session, Trace};
use crate::drive::{Monitor, Observe, Random, Shared, Stop, Warmup};

/// A storm.
#[derive(Debug, Clone, Copy)]
pub struct StormPlan {
    /// How many devices.
    pub devices: usize,
    /// How many connect at once before the storm; in it all do.
    pub concurrency: usize,
    /// Tries of each device before it gives up.
    pub tries_max: u32,
    /// The longest first wait after a failed try; it doubles with each, and each wait is a random part of it.
    pub backoff: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// When whoever is not back yet gives up.
    pub time_max: Duration,
    /// For the waits.
    pub seed: u64,
}

/// The wait before try `tries` + 1: a random part of a bound that doubles.
fn wait(plan: &StormPlan, tries: u32, random: &mut Random) -> Duration {
    let bound = plan.backoff.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(plan.backoff_max);
    bound.mul_f64(random.fraction())
}

struct Run {
    site: Arc<Site>,
    pool: Arc<Pool>,
    plan: StormPlan,
    shared: Arc<Shared>,
    sent: Sent,
    gate: Semaphore,
}

/// Connects all, drops all, measures how long each takes to be back: [`Stage::Total`], from the moment of the drop.
pub async fn storm<W: Observe + 'static>(
    site: &Arc<Site>,
    pool: &Arc<Pool>,
    plan: StormPlan,
    stop: &Stop,
    observer: W,
) -> (Measurement, Option<W>) {
    // What comes before the storm is its warm-up.
    let shared = Shared::new(stop.clone(), Warmup::For(Duration::ZERO));
    let run = Arc::new(Run {
        site: Arc::clone(site),
        pool: Arc::clone(pool),
        plan,
        shared: Arc::clone(&shared),
        sent: Sent::default(),
        gate: Semaphore::new(plan.concurrency.max(1)),
    });
    let monitor = Monitor::start(&shared, observer);
    let (ready, mut ready_ones) = mpsc::channel(plan.devices.max(1));
    let (drop_all, dropped) = watch::channel(None);
    let (back, mut back_ones) = mpsc::channel(plan.devices.max(1));
    let (end, ended) = watch::channel(false);
    let mut devices = JoinSet::new();
    for number in 0..plan.devices as u64 {
        let signals =
            Signals { ready: ready.clone(), dropped: dropped.clone(), back: back.clone(), ended: ended.clone() };
        devices.spawn(device(Arc::clone(&run), number, signals));
    }
    drop((ready, back, dropped, ended));
    let mut held = 0u64;
    while let Some(first_error) = ready_ones.recv().await {
        match first_error {
            None => held += 1,
            Some(failed) => shared.failed(0, &failed),
        }
    }
    shared.begin();
    let dropped_at = Instant::now();
    drop_all.send_replace(Some(dropped_at));
    let mut returned = 0u64;
    let mut last = Duration::ZERO;
    let mut tries_most = 0;
    while let Some(Back { tries, took }) = back_ones.recv().await {
        tries_most = tries_most.max(tries);
        if let Some(took) = took {
            returned += 1;
            last = last.max(took);
        }
    }
    let (watched, observer) = monitor.end().await;
    end.send_replace(true);
    while devices.join_next().await.is_some() {}

    let mut measurement = Measurement::of(&shared, watched);
    let p99 = measurement.recorder.times(Stage::Total).map_or(0, |times| times.value_at_quantile(0.99));
    let p50 = measurement.recorder.times(Stage::Total).map_or(0, |times| times.value_at_quantile(0.5));
    let figures = &mut measurement.figures;
    figures.insert("held-before".to_owned(), held as f64);
    figures.insert("returned".to_owned(), returned as f64);
    figures.insert("all-back-seconds".to_owned(), last.as_secs_f64());
    figures.insert("tries-max".to_owned(), f64::from(tries_most));
    if last > Duration::ZERO {
        figures.insert("p99-of-all-back".to_owned(), p99 as f64 / 1e6 / last.as_secs_f64());
        figures.insert("p50-of-all-back".to_owned(), p50 as f64 / 1e6 / last.as_secs_f64());
        figures.insert("returned-per-second".to_owned(), returned as f64 / last.as_secs_f64());
    }
    if held < plan.devices as u64 {
        measurement.warnings.push(format!("only {held} of {} devices were connected before the storm", plan.devices));
    }
    (measurement, observer)
}

struct Back {
    tries: u32,
    took: Option<Duration>,
}

struct Signals {
    /// Connected before the storm, or why not.
    ready: mpsc::Sender<Option<Failed>>,
    dropped: watch::Receiver<Option<Instant>>,
    back: mpsc::Sender<Back>,
    ended: watch::Receiver<bool>,
}

async fn device(run: Arc<Run>, number: u64, signals: Signals) {
    let Signals { ready, mut dropped, back, mut ended } = signals;
    let identity = run.pool.get(number);
    let (site, shared) = (&run.site, &run.shared);
    let sender = |session: Session| Sender::new(session, shared, &run.sent, number, Quality::AtLeastOnce, 1, site);
    let first = {
        let Ok(_turn) = run.gate.acquire().await else { return };
        if shared.stop.is_wished() {
            return;
        }
        site.telemetry_session(&identity, &mut Trace::default()).await
    };
    let session = match first {
        Ok(session) => session,
        Err(failed) => {
            let _ = ready.try_send(Some(failed));
            return;
        }
    };
    shared.live.connect();
    let _ = ready.try_send(None);
    drop(ready);
    let mut held = sender(session);
    let mut dropped_at = None;
    let stayed = held.stay(async {
        if let Ok(at) = dropped.wait_for(Option::is_some).await {
            dropped_at = *at;
        }
    });
    // Whoever lost its session before the storm is in it all the same.
    let _ = stayed.await;
    drop(held);
    shared.live.disconnect();
    let since = match dropped_at {
        Some(at) => at,
        None => match dropped.wait_for(Option::is_some).await.ok().and_then(|at| *at) {
            Some(at) => at,
            None => return,
        },
    };
    shared.live.start();
    let (session, tries) = return_to(&run, &identity, number, since).await;
    let took = session.as_ref().map(|_| since.elapsed());
    if let Some(took) = took {
        shared.record(number, |recorder| recorder.record(Stage::Total, took));
        shared.done();
        shared.live.connect();
    }
    let sent = back.try_send(Back { tries, took });
    debug_assert!(sent.is_ok(), "the channel has a place for each device");
    drop(back);
    let Some(session) = session else { return };
    let mut held = sender(session);
    let stayed = held
        .stay(async {
            let _ = ended.wait_for(|ended| *ended).await;
        })
        .await;
    shared.live.disconnect();
    match stayed {
        Ok(()) => held.session.disconnect().await,
        Err(error) => {
            shared.record(number, |recorder| recorder.fail(Stage::Connect, error.kind(), || error.to_string()));
        }
    }
}

/// Tries until it is back. A failed try that a later one heals counts as `retried-` and its kind.
async fn return_to(run: &Run, identity: &super::Identity, number: u64, since: Instant) -> (Option<Session>, u32) {
    let (shared, plan) = (&run.shared, &run.plan);
    let mut random = Random::of(plan.seed, number);
    let mut tries = 0;
    loop {
        tries += 1;
        let mut trace = Trace::default();
        let failed = match run.site.telemetry_session(identity, &mut trace).await {
            Ok(session) => {
                shared.record(number, |recorder| {
                    trace.times().iter().for_each(|(stage, took)| recorder.record(*stage, *took));
                });
                return (Some(session), tries);
            }
            Err(failed) => failed,
        };
        let pause = wait(plan, tries, &mut random);
        let is_over = tries >= plan.tries_max || since.elapsed() + pause > plan.time_max || shared.stop.is_wished();
        if is_over || !failed.error.may_heal() {
            shared.failed(number, &failed);
            return (None, tries);
        }
        let kind = format!("retried-{}", failed.error.kind());
        shared.record(number, |recorder| recorder.fail(failed.stage, &kind, || failed.error.to_string()));
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.stop.wished() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let plan = StormPlan {
            devices: 1,
            concurrency: 1,
            tries_max: 9,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(2),
            time_max: Duration::from_secs(60),
            seed: 1,
        };
        let mut random = Random::new(7);
        for (tries, bound) in [(1, 100), (2, 200), (3, 400), (6, 2000), (60, 2000)] {
            let waits: Vec<_> = (0..200).map(|_| wait(&plan, tries, &mut random)).collect();
            let bound = Duration::from_millis(bound);
            assert!(waits.iter().all(|wait| *wait < bound), "{tries}");
            assert!(
                waits.iter().any(|wait| *wait > bound / 2) && waits.iter().any(|wait| *wait < bound / 2),
                "{tries}"
            );
        }
    }
}
