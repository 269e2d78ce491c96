//! Watches the measured part of a run: a task that looks at the counts and the processes once a second.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::clock::ClockWatch;
use super::timeline::{ServerTick, Timeline};
use super::usage::{ProcessSampler, Sample, UsageError};
use crate::{Live, LiveCounts, SecondOfRun};

const TICK: Duration = Duration::from_secs(1);

/// The watch over a running measurement. Dropped without [`end`](Self::end), it stops and what it saw is lost.
#[derive(Debug)]
pub struct Watch {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Watched>,
}

/// What was seen from [`Watch::begin`] to [`Watch::end`].
#[derive(Debug)]
pub struct Watched {
    /// When it began, by the wall clock.
    pub began: SystemTime,
    /// How long it took.
    pub elapsed: Duration,
    /// How the counts grew; `connected` is how many more sessions are open at the end.
    pub counts: LiveCounts,
    /// Sessions open at the end.
    pub connected: u64,
    /// Once a second.
    pub timeline: Vec<SecondOfRun>,
    /// The server at the beginning and when it was last seen.
    pub server: Option<(Sample, Sample)>,
    /// Why the server could not be seen to the end.
    pub server_lost: Option<String>,
    /// This process at the beginning and the end.
    pub generator: Option<(Sample, Sample)>,
    /// By how much the wall clock jumped.
    pub clock_jumped: Option<Duration>,
    /// The latest that a tick of this watch came: the runtime was busy for so long.
    pub tick_late: Duration,
}

impl Watch {
    /// Begins the measured part: now. To be called within a tokio runtime, when warm-up is over.
    ///
    /// # Errors
    /// [`UsageError`] if the server cannot be sampled at all. Where this process cannot be sampled (no /proc), the run goes on
    /// without its usage.
    pub fn begin(live: Arc<Live>, server: Option<ProcessSampler>) -> Result<Self, UsageError> {
        let server = server.map(Observed::begin).transpose()?;
        let generator = ProcessSampler::of_this_process().and_then(Observed::begin).ok();
        let looker = Looker {
            began: wall(),
            steady: Instant::now(),
            first: live.counts(),
            timeline: Timeline::begin(live.counts()),
            clock: ClockWatch::begin(Instant::now(), wall()),
            live,
            server,
            generator,
            tick_late: Duration::ZERO,
        };
        let (stop, stopped) = oneshot::channel();
        Ok(Self { stop, task: tokio::spawn(looker.run(stopped)) })
    }

    /// Ends the measured part: now.
    ///
    /// # Panics
    /// If the watching task did, or if its runtime is being shut down.
    pub async fn end(self) -> Watched {
        // It waits for nothing else, so it is there to be told.
        let _ = self.stop.send(());
        self.task.await.expect("the watch neither panics nor is aborted")
    }
}

/// A process, when it was first and last seen.
#[derive(Debug)]
struct Observed {
    sampler: ProcessSampler,
    first: Sample,
    last: Sample,
    lost: Option<String>,
}

impl Observed {
    fn begin(mut sampler: ProcessSampler) -> Result<Self, UsageError> {
        let first = sampler.sample()?;
        Ok(Self { sampler, last: first.clone(), first, lost: None })
    }

    fn look(&mut self) -> Option<ServerTick> {
        if self.lost.is_some() {
            return None;
        }
        match self.sampler.sample() {
            Ok(now) => {
                #[expect(clippy::cast_precision_loss, reason = "microseconds of a second")]
                let cpu_ms = now.cpu_us_since(&self.last) as f64 / 1000.0;
                self.last = now;
                Some(ServerTick { cpu_ms, rss_bytes: self.last.rss_bytes() })
            }
            Err(error) => {
                self.lost = Some(error.to_string());
                None
            }
        }
    }
}

struct Looker {
    began: SystemTime,
    steady: Instant,
    first: LiveCounts,
    live: Arc<Live>,
    timeline: Timeline,
    server: Option<Observed>,
    generator: Option<Observed>,
    clock: ClockWatch,
    tick_late: Duration,
}

impl Looker {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Watched {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => return self.end(),
                due = ticks.tick() => {
                    self.tick_late = self.tick_late.max(due.elapsed());
                    let at = self.steady.elapsed().as_secs_f64();
                    let server = self.server.as_mut().and_then(Observed::look);
                    // Its threads come and go too: what they used is kept from look to look.
                    self.generator.as_mut().and_then(Observed::look);
                    self.clock.look(Instant::now(), wall());
                    self.timeline.tick(at, self.live.counts(), server);
                }
            }
        }
    }

    fn end(mut self) -> Watched {
        let elapsed = self.steady.elapsed();
        let counts = self.live.counts();
        let server = self.server.as_mut().and_then(Observed::look);
        self.generator.as_mut().and_then(Observed::look);
        self.clock.look(Instant::now(), wall());
        let lost = self.server.as_mut().and_then(|server| server.lost.take());
        Watched {
            began: self.began,
            elapsed,
            counts: LiveCounts {
                started: counts.started.saturating_sub(self.first.started),
                completed: counts.completed.saturating_sub(self.first.completed),
                failed: counts.failed.saturating_sub(self.first.failed),
                connected: counts.connected.saturating_sub(self.first.connected),
                messages: counts.messages.saturating_sub(self.first.messages),
            },
            connected: counts.connected,
            timeline: self.timeline.end(elapsed.as_secs_f64(), counts, server),
            server: self.server.map(|server| (server.first, server.last)),
            server_lost: lost,
            generator: self.generator.map(|generator| (generator.first, generator.last)),
            clock_jumped: self.clock.jumped(),
            tick_late: self.tick_late,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a report says when it was made; nothing is decided by it")]
fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_happens_within_the_watch_is_counted() {
        let live = Arc::new(Live::default());
        live.connect();
        live.complete();
        let this = ProcessSampler::of_this_process().unwrap();
        let watch = Watch::begin(Arc::clone(&live), Some(this)).unwrap();
        for _ in 0..3 {
            live.start();
            live.connect();
            live.complete();
        }
        live.fail();
        live.acknowledge(9);
        let seen = watch.end().await;
        assert_eq!(seen.counts, LiveCounts { started: 3, completed: 3, failed: 1, connected: 3, messages: 9 });
        assert_eq!(seen.connected, 4);
        assert_eq!(seen.timeline.iter().map(|second| second.completed).sum::<u64>(), 3);
        assert!(seen.server.is_some() && seen.generator.is_some() && seen.server_lost.is_none());
    }

    #[tokio::test]
    async fn a_server_that_ends_does_not_end_the_watch() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let sampler = ProcessSampler::of(child.id()).unwrap();
        let watch = Watch::begin(Arc::default(), Some(sampler)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let seen = watch.end().await;
        assert!(seen.server_lost.unwrap().contains(&child.id().to_string()));
        assert!(seen.server.is_some());
    }
}
