//! What the writer, the checkpointer and the readers share.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};
use unicity_provisioning::RegistryError;

use super::index::Index;
use super::metrics::RegistryMetrics;
use super::options::RegistryOptions;
use super::overlay::Overlay;
use super::view::View;
use crate::vfs::Vfs;

pub(super) struct Core {
    pub(super) options: RegistryOptions,
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) overlay: Overlay,
    pub(super) index: Index,
    pub(super) metrics: RegistryMetrics,
    pub(super) room: Room,
    /// Leaves of all synced decisions: the index that the next one's leaf gets.
    pub(super) leaves_synced: AtomicU64,
    /// The first failure of a write or sync, in words.
    poison: OnceLock<String>,
}

impl Core {
    pub(super) fn new(options: RegistryOptions, vfs: Arc<dyn Vfs>, index: Index) -> Self {
        Self {
            options,
            vfs,
            overlay: Overlay::default(),
            index,
            metrics: RegistryMetrics::default(),
            room: Room::default(),
            leaves_synced: AtomicU64::new(0),
            poison: OnceLock::new(),
        }
    }

    /// Synced state.
    pub(super) fn view(&self) -> View<'_> {
        View { writer: None, overlay: &self.overlay, index: &self.index }
    }

    /// Takes no write from now on.
    pub(super) fn poison(&self, why: &str) {
        if self.poison.set(why.to_owned()).is_ok() {
            tracing::error!(dir = %self.options.dir.display(), cause = why, "the registry is closed to writes until a restart");
        }
        // A writer that waits for room has to see it.
        self.room.changed();
    }

    pub(super) fn poisoned(&self) -> Option<RegistryError> {
        self.poison.get().map(|why| RegistryError::Poisoned(why.clone()))
    }
}

/// Where the writer and the checkpointer wait for each other.
#[derive(Default)]
pub(super) struct Room {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Checkpoints asked for, and done or failed, in all.
    asked: u64,
    answered: u64,
    /// Why the newest checkpoint did not succeed.
    failure: Option<String>,
    stopping: bool,
}

/// What the checkpointer should do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A checkpoint. The number goes back to [`Room::answer`].
    Checkpoint(u64),
    /// Nothing more.
    Stop,
}

impl Room {
    /// The overlay changed in a way that somebody may wait for.
    pub(super) fn changed(&self) {
        // With the lock: whoever looked before, and found nothing, waits by now.
        let _state = self.state.lock();
        self.changed.notify_all();
    }

    /// The writer waits until the active layer has room.
    ///
    /// # Errors
    /// The reason if checkpoints fail, so that waiting would be for nothing.
    pub(super) fn wait(&self, core: &Core) -> Result<(), RegistryError> {
        let has_room = || !core.options.is_full(core.overlay.sizes().0);
        if has_room() {
            return Ok(());
        }
        core.metrics.add_back_pressure();
        let mut state = self.state.lock();
        while !has_room() {
            if let Some(poisoned) = core.poisoned() {
                return Err(poisoned);
            }
            if let Some(failure) = &state.failure {
                return Err(RegistryError::Full(failure.clone()));
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// The checkpointer waits for work.
    pub(super) fn next_work(&self, core: &Core) -> Work {
        let active = || core.overlay.sizes().0;
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return Work::Stop;
            }
            let due = state.failure.is_none() && core.options.is_due(active());
            if due || state.asked > state.answered {
                return Work::Checkpoint(state.asked);
            }
            let before = active();
            // After a failure this is also the time until the next attempt.
            if self.changed.wait_for(&mut state, core.options.checkpoint_idle).timed_out() {
                let is_idle_with_changes = !before.is_nothing() && active() == before;
                if is_idle_with_changes || state.failure.is_some() {
                    return Work::Checkpoint(state.asked);
                }
            }
        }
    }

    /// The checkpointer tells what came of a checkpoint.
    pub(super) fn answer(&self, asked: u64, result: Result<(), String>) {
        let mut state = self.state.lock();
        state.answered = state.answered.max(asked);
        state.failure = result.err();
        self.changed.notify_all();
    }

    /// Asks for a checkpoint of everything synced so far and waits for it.
    pub(super) fn ask(&self) -> Result<(), String> {
        let mut state = self.state.lock();
        state.asked += 1;
        let mine = state.asked;
        self.changed.notify_all();
        while state.answered < mine && !state.stopping {
            self.changed.wait(&mut state);
        }
        if state.answered < mine {
            return Err("the registry is being closed".to_owned());
        }
        state.failure.clone().map_or(Ok(()), Err)
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }
}
