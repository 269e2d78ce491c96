//! Looks at a run once a second while it goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};

use super::Shared;
use crate::{LiveCounts, Observed, SecondOfRun, Timeline};

/// Something that looks along: a sampler of processes, a terminal view.
pub trait Observe: Send {
    /// The measured part begins.
    fn begin(&mut self) {}
    /// A second of it is over.
    fn second(&mut self, _second: &mut SecondOfRun) {}
    /// It has ended: the next calls are about another run.
    fn end(&mut self) {}
    /// What was seen of the processes, asked for at the end.
    fn observed(&self) -> Observed {
        Observed::default()
    }
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observe for NoObserver {}

/// What was seen of the measured part.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// Its length; zero if it never began.
    pub elapsed: Duration,
    /// The counts at its end, without those of the warm-up; `connected` as it was at the end.
    pub counts: LiveCounts,
    /// Once a second, and once at the end.
    pub timeline: Vec<SecondOfRun>,
    /// The processes, if somebody looked at them.
    pub observed: Observed,
}

/// A task that looks; end it with [`end`](Self::end).
pub struct Monitor<O> {
    task: JoinHandle<(Watched, O)>,
    end: oneshot::Sender<()>,
}

impl<O: Observe + 'static> Monitor<O> {
    /// Begins to look.
    #[must_use]
    pub fn start(shared: &Arc<Shared>, observer: O) -> Self {
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(watch(Arc::clone(shared), observer, ended));
        Self { task, end }
    }

    /// The measured part is over, now.
    pub async fn end(self) -> (Watched, Option<O>) {
        let _ = self.end.send(());
        self.task.await.map_or_else(|_| (Watched::default(), None), |(watched, observer)| (watched, Some(observer)))
    }
}

async fn watch<O: Observe>(shared: Arc<Shared>, mut observer: O, mut ended: oneshot::Receiver<()>) -> (Watched, O) {
    let measured = tokio::select! {
        biased;
        measured = shared.measuring() => measured,
        _ = &mut ended => {
            observer.end();
            return (Watched::default(), observer);
        }
    };
    observer.begin();
    let mut ticks = interval_at(measured.since + Duration::from_secs(1), Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut timeline = Timeline::default();
    let mut last = measured.before;
    loop {
        let is_end = tokio::select! {
            biased;
            _ = &mut ended => true,
            _ = ticks.tick() => false,
        };
        let now = shared.live.counts();
        let elapsed = measured.since.elapsed();
        let mut second = SecondOfRun {
            at: elapsed.as_secs_f64(),
            completed: now.completed - last.completed,
            failed: now.failed - last.failed,
            messages: now.messages - last.messages,
            connected: now.connected,
            server_cpu_ms: None,
            server_rss_bytes: None,
        };
        observer.second(&mut second);
        last = now;
        if is_end {
            observer.end();
            let observed = observer.observed();
            let before = measured.before;
            let counts = LiveCounts {
                started: now.started - before.started,
                completed: now.completed - before.completed,
                failed: now.failed - before.failed,
                connected: now.connected,
                messages: now.messages - before.messages,
            };
            return (Watched { elapsed, counts, timeline: timeline.end(second), observed }, observer);
        }
        timeline.push(second);
    }
}
