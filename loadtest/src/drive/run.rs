//! The two loops. Closed: so many at work, each begins the next when one is done. Open: operations begin on a schedule, whatever
//! became of those before, which is how independent devices behave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Arrivals, Offered, Shared};
use crate::Stage;
use crate::client::{Failed, Trace};

/// An operation that begins later than this after it was meant to counts as late.
const LATE: Duration = Duration::from_millis(20);

/// One operation of a workload, of the device `index`.
pub trait Operation: Send + Sync + 'static {
    /// Does it.
    fn run(&self, index: u64, trace: &mut Trace) -> impl Future<Output = Result<(), Failed>> + Send;
}

/// When a loop ends; both ends count, and there must be one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// After so many operations.
    pub count: Option<u64>,
    /// After this long, warm-up included.
    pub time: Option<Duration>,
}

/// What became of the schedule of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Operations that were meant to begin.
    pub offered: u64,
    /// Those of them that began late, because too many were at work, or because the generator was.
    pub late: u64,
    /// Those that never began, because the time was over first.
    pub never: u64,
    /// The 99th percentile of how late operations began because this program was late, not because too many were at work.
    pub lag_p99: Duration,
}

async fn one<O: Operation>(operation: &O, shared: &Shared, index: u64, intended: Option<Instant>) {
    shared.live.start();
    let began = Instant::now();
    let mut trace = Trace::default();
    let result = operation.run(index, &mut trace).await;
    let ended = Instant::now();
    shared.record(index, |recorder| {
        for &(stage, took) in trace.times() {
            recorder.record(stage, took);
        }
        if result.is_ok() {
            recorder.record(Stage::Total, ended.saturating_duration_since(intended.unwrap_or(began)));
            if intended.is_some() {
                recorder.record(Stage::TotalUncorrected, ended.saturating_duration_since(began));
            }
        }
    });
    match result {
        Ok(()) => shared.done(),
        Err(failed) => shared.failed(index, &failed),
    }
}

/// `concurrency` workers; operation `first` and those after it. Returns when all are done that began.
pub async fn closed_loop<O: Operation>(
    operation: &Arc<O>,
    shared: &Arc<Shared>,
    concurrency: usize,
    first: u64,
    bounds: Bounds,
) {
    let next = Arc::new(AtomicU64::new(0));
    let end = bounds.time.map(|time| Instant::now() + time);
    let count = bounds.count.unwrap_or(u64::MAX);
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (operation, shared, next) = (Arc::clone(operation), Arc::clone(shared), Arc::clone(&next));
        workers.spawn(async move {
            while !shared.stop.is_wished() && end.is_none_or(|end| Instant::now() < end) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                one(&*operation, &shared, first + index, None).await;
            }
        });
    }
    while workers.join_next().await.is_some() {}
}

/// `rate` operations a second, at most `in_flight_max` of them at work: beyond that they begin late, and the wait counts in
/// [`Stage::Total`]. Returns when all are done that began.
#[expect(clippy::too_many_arguments, reason = "they are the command line's")]
pub async fn open_loop<O: Operation>(
    operation: &Arc<O>,
    shared: &Arc<Shared>,
    arrivals: Arrivals,
    rate: f64,
    seed: u64,
    in_flight_max: usize,
    first: u64,
    bounds: Bounds,
) -> Tally {
    let began = Instant::now();
    let end = bounds.time.map(|time| began + time);
    let slots = Arc::new(Semaphore::new(in_flight_max));
    let mut working = JoinSet::new();
    let mut tally = Tally::default();
    let mut lags = Histogram::<u64>::new(2).expect("two digits are within what a histogram can have");
    let mut was_held = false;
    let count = bounds.count.unwrap_or(u64::MAX);
    for (index, offset) in (0..count).zip(Offered::new(arrivals, rate, seed)) {
        let intended = began + offset;
        if end.is_some_and(|end| intended >= end) || shared.stop.is_wished() {
            break;
        }
        if intended > Instant::now() {
            tokio::select! {
                () = sleep_until(intended) => {}
                () = shared.stop.wished() => break,
            }
        }
        tally.offered += 1;
        if !was_held {
            // It grows to what it is given.
            let _ = lags.record(u64::try_from(intended.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        // As long as there is a backlog of those that were held back, the next ones are late because of them.
        was_held = slots.available_permits() == 0 || (was_held && intended.elapsed() > LATE);
        let slot = async {
            match end {
                Some(end) => tokio::time::timeout_at(end, Arc::clone(&slots).acquire_owned()).await.ok()?.ok(),
                None => Arc::clone(&slots).acquire_owned().await.ok(),
            }
        };
        let slot = tokio::select! {
            slot = slot => slot,
            () = shared.stop.wished() => None,
        };
        let Some(slot) = slot else {
            tally.never += 1;
            // The rest of the schedule was offered, too.
            if let Some(end) = end.filter(|_| !shared.stop.is_wished()) {
                let rest = Offered::new(arrivals, rate, seed).skip(usize::try_from(index + 1).unwrap_or(usize::MAX));
                let limit = count - index - 1;
                let rest = (0..limit).zip(rest).take_while(|(_, offset)| began + *offset < end).count() as u64;
                tally.offered += rest;
                tally.never += rest;
            }
            break;
        };
        tally.late += u64::from(intended.elapsed() > LATE);
        let (operation, shared) = (Arc::clone(operation), Arc::clone(shared));
        working.spawn(async move {
            one(&*operation, &shared, first + index, Some(intended)).await;
            drop(slot);
        });
        while working.try_join_next().is_some() {}
    }
    while working.join_next().await.is_some() {}
    tally.lag_p99 = Duration::from_micros(lags.value_at_quantile(0.99));
    tally
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::time::sleep;

    use super::*;
    use crate::drive::{Stop, Warmup};

    /// A server that does one thing at a time, each in 1 ms, and once rests for a second.
    struct Stalling {
        server: tokio::sync::Mutex<()>,
        stall_at: u64,
    }

    impl Operation for Stalling {
        async fn run(&self, index: u64, _trace: &mut Trace) -> Result<(), Failed> {
            let _turn = self.server.lock().await;
            sleep(if index == self.stall_at { Duration::from_secs(1) } else { Duration::from_millis(1) }).await;
            Ok(())
        }
    }

    fn shared() -> Arc<Shared> {
        Shared::new(Stop::default(), Warmup::None)
    }

    fn p99(shared: &Shared, stage: Stage) -> u64 {
        shared.collect().times(stage).unwrap().value_at_quantile(0.90)
    }

    /// 100 a second for 10 s, and a stall of a second: about 100 of 1,000 were hindered, on average for half a second. A
    /// generator that waits for its turn before it looks at the clock sees one slow operation.
    #[tokio::test(start_paused = true)]
    async fn the_corrected_times_have_the_stall_and_the_uncorrected_have_not() {
        let operation = Arc::new(Stalling { server: tokio::sync::Mutex::new(()), stall_at: 500 });
        let shared = shared();
        let bounds = Bounds { count: Some(1000), time: None };
        // One at a time: whoever is held back has not begun yet.
        let tally = open_loop(&operation, &shared, Arrivals::Uniform, 100.0, 1, 1, 0, bounds).await;
        assert_eq!((tally.offered, tally.never), (1000, 0));
        assert!((90..=120).contains(&tally.late), "{tally:?}");
        let recorder = shared.collect();
        let above = |stage, micros| {
            let times = recorder.times(stage).unwrap();
            assert_eq!(times.len(), 1000);
            times.len() - times.count_between(0, micros)
        };
        assert!(above(Stage::Total, 100_000) >= 80);
        assert_eq!(above(Stage::TotalUncorrected, 100_000), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_loop_does_not_wait_for_what_is_slow() {
        struct Slow;
        impl Operation for Slow {
            async fn run(&self, _: u64, _: &mut Trace) -> Result<(), Failed> {
                sleep(Duration::from_secs(5)).await;
                Ok(())
            }
        }
        let shared = shared();
        let bounds = Bounds { count: None, time: Some(Duration::from_secs(1)) };
        let tally = open_loop(&Arc::new(Slow), &shared, Arrivals::Uniform, 50.0, 1, 100, 0, bounds).await;
        assert_eq!((tally.late, tally.never, shared.live.counts().completed), (0, 0, tally.offered));
        assert!((49..=50).contains(&tally.offered));
        // With fewer slots than it takes, the rest of the schedule never begins, and is counted.
        let shared = self::shared();
        let tally = open_loop(&Arc::new(Slow), &shared, Arrivals::Uniform, 50.0, 1, 10, 0, bounds).await;
        assert_eq!(shared.live.counts().completed, 10);
        assert_eq!(tally.offered - tally.never, 10);
        assert!(tally.offered >= 49);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_never_has_more_at_work_and_does_each_once() {
        #[derive(Default)]
        struct Watching(Mutex<(usize, usize, Vec<u64>)>);
        impl Operation for Watching {
            async fn run(&self, index: u64, _: &mut Trace) -> Result<(), Failed> {
                {
                    let mut seen = self.0.lock();
                    seen.0 += 1;
                    seen.1 = seen.1.max(seen.0);
                    seen.2.push(index);
                }
                sleep(Duration::from_millis(index % 7)).await;
                self.0.lock().0 -= 1;
                Ok(())
            }
        }
        let (operation, shared) = (Arc::new(Watching::default()), shared());
        closed_loop(&operation, &shared, 8, 100, Bounds { count: Some(200), time: None }).await;
        let mut seen = operation.0.lock();
        assert_eq!(seen.1, 8);
        seen.2.sort_unstable();
        assert_eq!(seen.2, (100..300).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_warm_up_is_left_out_and_a_stop_ends_the_loop() {
        struct Growing;
        impl Operation for Growing {
            async fn run(&self, index: u64, _: &mut Trace) -> Result<(), Failed> {
                sleep(Duration::from_millis(if index < 10 { 1000 } else { 1 })).await;
                Ok(())
            }
        }
        let shared = Shared::new(Stop::default(), Warmup::Operations(10));
        closed_loop(&Arc::new(Growing), &shared, 1, 0, Bounds { count: Some(50), time: None }).await;
        assert_eq!(shared.measured().unwrap().before.completed, 10);
        assert!(p99(&shared, Stage::Total) < 100_000);

        let shared = self::shared();
        let stop = shared.stop.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(5)).await;
            stop.stop();
        });
        closed_loop(&Arc::new(Growing), &shared, 1, 0, Bounds { count: Some(50), time: None }).await;
        assert_eq!(shared.live.counts().completed, 5);
    }
}
