//! One run of an operation under a loop, with everything that was seen of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::drive::{
    Arrivals, Bounds, Monitor, NoObserver, Observe, Operation, Shared, Stop, Tally, Warmup, Watched, closed_loop,
    open_loop,
};
use crate::{LiveCounts, Observed, Recorder, SecondOfRun};

/// How operations are started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pacing {
    /// So many at work.
    Closed {
        /// How many.
        concurrency: usize,
    },
    /// On a schedule.
    Open {
        /// Operations a second.
        rate: f64,
        /// How they lie in time.
        arrivals: Arrivals,
        /// The most at work.
        in_flight_max: usize,
    },
}

/// The loop of a run.
#[derive(Debug, Clone, Copy)]
pub struct LoopPlan {
    /// Closed or open.
    pub pacing: Pacing,
    /// When it ends.
    pub bounds: Bounds,
    /// What is left out.
    pub warmup: Warmup,
    /// For the schedule.
    pub seed: u64,
    /// The first device.
    pub first: u64,
}

/// What was seen of a run.
#[derive(Debug, Clone, Default)]
pub struct Measurement {
    /// Times and failures of the measured part.
    pub recorder: Recorder,
    /// Its counts. For telemetry an operation is a message.
    pub counts: LiveCounts,
    /// Its length.
    pub elapsed: Duration,
    /// Second by second.
    pub timeline: Vec<SecondOfRun>,
    /// The processes.
    pub observed: Observed,
    /// What became of an open loop's schedule.
    pub tally: Option<Tally>,
    /// Operations that began, done and failed, warm-up included.
    pub all: LiveCounts,
    /// Figures of this workload alone, by name.
    pub figures: BTreeMap<String, f64>,
    /// What a reader must know.
    pub warnings: Vec<String>,
}

impl Measurement {
    /// Puts together what was seen.
    #[must_use]
    pub(crate) fn of(shared: &Shared, watched: Watched) -> Self {
        Self {
            recorder: shared.collect(),
            counts: watched.counts,
            elapsed: watched.elapsed,
            timeline: watched.timeline,
            observed: watched.observed,
            all: shared.live.counts(),
            ..Self::default()
        }
    }

    /// Operations done a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.counts.completed as f64 / seconds } else { 0.0 }
    }
}

/// Begins the measured part when the warm-up is over; one by operations ends by itself.
pub(crate) fn begin_after(shared: &Arc<Shared>, warmup: Warmup) {
    match warmup {
        Warmup::None => shared.begin(),
        Warmup::For(time) => {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                shared.begin();
            });
        }
        Warmup::Operations(_) => {}
    }
}

/// Runs an operation under a loop.
pub async fn run_operations<O: Operation, W: Observe + 'static>(
    operation: &Arc<O>,
    plan: &LoopPlan,
    stop: &Stop,
    observer: W,
) -> (Measurement, Option<W>) {
    let shared = Shared::new(stop.clone(), plan.warmup);
    let monitor = Monitor::start(&shared, observer);
    begin_after(&shared, plan.warmup);
    let tally = match plan.pacing {
        Pacing::Closed { concurrency } => {
            closed_loop(operation, &shared, concurrency, plan.first, plan.bounds).await;
            None
        }
        Pacing::Open { rate, arrivals, in_flight_max } => {
            Some(open_loop(operation, &shared, arrivals, rate, plan.seed, in_flight_max, plan.first, plan.bounds).await)
        }
    };
    let (watched, observer) = monitor.end().await;
    let mut measurement = Measurement { tally, ..Measurement::of(&shared, watched) };
    if shared.measured().is_none() {
        measurement.warnings.push("the run ended within its warm-up: nothing was measured".to_owned());
    }
    if let Some(tally) = tally.filter(|tally| tally.late + tally.never > 0) {
        measurement.warnings.push(format!(
            "offered load not reached: of {} operations {} began more than 20 ms late and {} never",
            tally.offered, tally.late, tally.never
        ));
    }
    (measurement, observer)
}

/// Runs an operation once for each of `count` devices, `concurrency` at a time, and looks at nothing but failures.
pub(crate) async fn prepare<O: Operation>(
    operation: &Arc<O>,
    count: u64,
    concurrency: usize,
    stop: &Stop,
) -> Measurement {
    let plan = LoopPlan {
        pacing: Pacing::Closed { concurrency },
        bounds: Bounds { count: Some(count), time: None },
        warmup: Warmup::None,
        seed: 0,
        first: 0,
    };
    run_operations(operation, &plan, stop, NoObserver).await.0
}
