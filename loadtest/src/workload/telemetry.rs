//! Workloads of many open sessions that send, or only stay.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::measurement::{begin_after, prepare};
use super::operations::Settle;
use super::sender::{Sender, Sent, Until};
use super::{Measurement, Pace, Pool, Quality, Site};
use crate::client::codec::Template;
use crate::client::{Failed, Trace};
use crate::drive::{Monitor, Observe, Shared, Stop, Warmup, note};
use crate::{Recorder, Stage};

/// Sessions and what they do.
#[derive(Debug, Clone)]
pub struct SessionsPlan {
    /// How many.
    pub sessions: usize,
    /// How many connect at once.
    pub concurrency: usize,
    /// How often each sends.
    pub pace: Pace,
    /// QoS 0 or 1.
    pub quality: Quality,
    /// The most publishes of a session without a PUBACK.
    pub window: u16,
    /// What a message says.
    pub payload: Vec<u8>,
    /// How many messages each sends; no end of its own if none.
    pub messages: Option<u64>,
    /// How long all send, warm-up included.
    pub time: Option<Duration>,
    /// What is left out of the sending.
    pub warmup: Warmup,
    /// For schedules.
    pub seed: u64,
    /// The server, to see what a session costs it.
    pub server_pid: Option<u32>,
}

/// Registers the first `count` devices of a pool, so that each knows its hub; nothing to do at a plain broker.
///
/// # Errors
/// The first failure: what is measured afterwards needs all of them.
pub async fn settle(
    site: &Arc<Site>,
    pool: &Arc<Pool>,
    count: usize,
    concurrency: usize,
    stop: &Stop,
) -> Result<(), String> {
    if matches!(site.kind, super::SiteKind::Broker(_)) {
        return Ok(());
    }
    let operation = Arc::new(Settle { site: Arc::clone(site), pool: Arc::clone(pool) });
    let done = prepare(&operation, count as u64, concurrency, stop).await;
    match done.recorder.failures().iter().next() {
        None => Ok(()),
        Some(((stage, kind), failure)) => Err(format!(
            "{} of {count} devices cannot register beforehand; the first at stage {} ({kind}): {}",
            done.counts.failed,
            stage.name(),
            failure.first
        )),
    }
}

struct Run {
    site: Arc<Site>,
    pool: Arc<Pool>,
    plan: SessionsPlan,
    shared: Arc<Shared>,
    sent: Sent,
    gate: Semaphore,
    /// Times of the connecting, which no warm-up leaves out.
    connecting: Mutex<Recorder>,
}

/// Opens all sessions, then lets them send or stay; messages are the operations.
pub async fn stream<W: Observe + 'static>(
    site: &Arc<Site>,
    pool: &Arc<Pool>,
    plan: SessionsPlan,
    stop: &Stop,
    observer: W,
) -> (Measurement, Option<W>) {
    // Its end is told to the senders when they begin; the wish of a person must not end the next run, too.
    let shared =
        Shared::new(stop.clone(), if plan.warmup == Warmup::None { Warmup::None } else { Warmup::For(Duration::ZERO) });
    let run = Arc::new(Run {
        site: Arc::clone(site),
        pool: Arc::clone(pool),
        gate: Semaphore::new(plan.concurrency.max(1)),
        shared: Arc::clone(&shared),
        sent: Sent::default(),
        connecting: Mutex::new(Recorder::default()),
        plan,
    });
    let plan = &run.plan;
    let memory_before = plan.server_pid.and_then(resident_bytes);
    let began = Instant::now();
    let monitor = Monitor::start(&shared, observer);
    let (ready, mut ready_ones) = mpsc::channel(plan.sessions.max(1));
    let (go, gone) = watch::channel(None);
    let mut devices = JoinSet::new();
    for number in 0..plan.sessions as u64 {
        devices.spawn(device(Arc::clone(&run), number, ready.clone(), gone.clone()));
    }
    drop((ready, gone));
    let mut connected = 0u64;
    while let Some(is_connected) = ready_ones.recv().await {
        connected += u64::from(is_connected);
    }
    let ramp = began.elapsed();
    let memory_connected = plan.server_pid.and_then(resident_bytes);

    let start = Instant::now();
    match plan.warmup {
        Warmup::Operations(messages) => {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                while shared.live.counts().messages < messages && !shared.stop.is_wished() {
                    sleep(Duration::from_millis(5)).await;
                }
                shared.begin();
            });
        }
        other => begin_after(&shared, other),
    }
    let until = Until { end: plan.time.map(|time| start + time), messages: plan.messages };
    go.send_replace(Some((start, until)));
    let finished = async {
        // With a number of messages the last device decides.
        while devices.join_next().await.is_some() {}
    };
    tokio::select! {
        () = finished => {}
        () = async { match until.end { Some(end) => sleep_until(end).await, None => std::future::pending().await } } => {}
        () = stop.wished() => {}
    }
    let (watched, observer) = monitor.end().await;
    while devices.join_next().await.is_some() {}

    let mut measurement = Measurement::of(&shared, watched);
    measurement.recorder.merge(run.connecting.lock().clone());
    let (sent, acknowledged) = (run.sent.sent.load(Ordering::Relaxed), run.sent.acknowledged.load(Ordering::Relaxed));
    if plan.pace == Pace::Idle {
        measurement.counts.completed = connected;
        measurement.counts.started = plan.sessions as u64;
    } else {
        measurement.counts.completed = measurement.counts.messages;
        measurement.counts.started = measurement.counts.messages + (sent - acknowledged);
    }
    measurement.counts.failed = measurement.all.failed;
    let figures = &mut measurement.figures;
    figures.insert("sessions".to_owned(), connected as f64);
    figures.insert("connect-seconds".to_owned(), ramp.as_secs_f64());
    figures.insert("messages-sent".to_owned(), sent as f64);
    figures.insert("messages-lost".to_owned(), (sent - acknowledged) as f64);
    if let (Some(before), Some(after)) = (memory_before, memory_connected)
        && connected > 0
    {
        let bytes = (after as f64 - before as f64) / connected as f64;
        figures.insert("server-bytes-per-connection".to_owned(), bytes);
    }
    if let (Pace::Rate { per_second, .. }, Some(time)) = (plan.pace, plan.time)
        && !stop.is_wished()
    {
        let offered = per_second * connected as f64 * time.as_secs_f64();
        if (sent as f64) < offered * 0.95 {
            let reached = sent as f64 / time.as_secs_f64();
            measurement.warnings.push(format!(
                "offered load not reached: {:.0} messages a second were offered, {reached:.0} sent",
                per_second * connected as f64
            ));
        }
    }
    if measurement.elapsed.is_zero() {
        measurement.warnings.push("the run ended within its warm-up: nothing was measured".to_owned());
    }
    (measurement, observer)
}

async fn device(
    run: Arc<Run>,
    number: u64,
    ready: mpsc::Sender<bool>,
    mut go: watch::Receiver<Option<(Instant, Until)>>,
) {
    let identity = run.pool.get(number);
    let (site, plan, shared) = (&run.site, &run.plan, &run.shared);
    let mut trace = Trace::default();
    let session = {
        let Ok(_turn) = run.gate.acquire().await else { return };
        if shared.stop.is_wished() {
            return;
        }
        shared.live.start();
        site.telemetry_session(&identity, &mut trace).await
    };
    {
        let mut recorder = run.connecting.lock();
        trace.times().iter().for_each(|(stage, took)| recorder.record(*stage, *took));
        if let Err(failed) = &session {
            note(&mut recorder, failed);
        }
    }
    let is_connected = session.is_ok();
    let sent = ready.try_send(is_connected);
    debug_assert!(sent.is_ok(), "the channel has a place for each device");
    drop(ready);
    let Ok(session) = session else {
        shared.live.fail();
        return;
    };
    shared.live.connect();
    let topic = site.telemetry_topic(&identity);
    let template = match plan.quality {
        Quality::AtLeastOnce => Template::acknowledged(&topic, &plan.payload),
        Quality::AtMostOnce => Template::unacknowledged(&topic, &plan.payload),
    };
    let mut sender = Sender::new(session, shared, &run.sent, number, plan.quality, plan.window, site);
    let mut told = None;
    let waited = sender.stay(async {
        if let Ok(found) = go.wait_for(Option::is_some).await {
            told = *found;
        }
    });
    let result = match waited.await {
        Ok(()) => match told {
            None => Ok(()),
            Some((_, until)) if plan.pace == Pace::Idle => {
                let stop = shared.stop.clone();
                sender
                    .stay(async {
                        match until.end {
                            Some(end) => tokio::select! { () = sleep_until(end) => {} () = stop.wished() => {} },
                            None => stop.wished().await,
                        }
                    })
                    .await
            }
            Some((start, until)) => sender.send(&template, plan.pace, start, until, plan.seed).await,
        },
        Err(error) => Err(error),
    };
    let unacknowledged = sender.unacknowledged();
    shared.live.disconnect();
    match result {
        Ok(()) => sender.session.disconnect().await,
        Err(error) => {
            let stage = if plan.pace == Pace::Idle { Stage::Connect } else { Stage::Puback };
            shared.failed(number, &Failed { stage, error });
        }
    }
    if unacknowledged > 0 {
        let text = format!("{unacknowledged} publishes of {} have no PUBACK", identity.name);
        shared.record(number, |recorder| recorder.fail(Stage::Puback, "unacknowledged", || text));
    }
}

/// Resident memory of a process, in bytes.
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
