//! Counts that are read while the run goes on: by the terminal view, and once a second for the report's time line.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by all workers.
#[derive(Debug, Default)]
pub struct Live {
    started: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    connected: AtomicU64,
    messages: AtomicU64,
}

/// [`Live`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveCounts {
    /// Operations begun.
    pub started: u64,
    /// Operations done.
    pub completed: u64,
    /// Operations failed for good.
    pub failed: u64,
    /// Sessions open now.
    pub connected: u64,
    /// Messages acknowledged.
    pub messages: u64,
}

impl Live {
    /// An operation begins.
    pub fn start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// An operation is done.
    pub fn complete(&self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    /// An operation failed for good.
    pub fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A session opened.
    pub fn connect(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    /// A session that was open is not any more.
    pub fn disconnect(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Messages acknowledged.
    pub fn acknowledge(&self, messages: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
    }

    /// How it stands.
    #[must_use]
    pub fn counts(&self) -> LiveCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LiveCounts {
            started: read(&self.started),
            completed: read(&self.completed),
            failed: read(&self.failed),
            connected: read(&self.connected),
            messages: read(&self.messages),
        }
    }
}
