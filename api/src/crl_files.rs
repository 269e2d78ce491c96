//! How the files stand that revocation lists are read from. The binary reads them (it knows the configuration and the disk) and
//! hands what they hold to [`crate::Api::store_revocation_list`]; this is where both sides meet.

use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use unicity_identity::Timestamp;

/// Why a file's content is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlFileFault {
    /// A stable name.
    pub name: &'static str,
    /// What is wrong.
    pub cause: String,
    /// What can be done.
    pub remedy: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlFileState {
    /// Where it is.
    pub path: PathBuf,
    /// When it was last looked at.
    pub checked: Timestamp,
    /// When its content last came into force, or was found to be in force.
    pub read: Option<Timestamp>,
    /// Whose list it was then.
    pub issuer: Option<String>,
    /// Why what it holds now is not in force; an older list stays.
    pub fault: Option<CrlFileFault>,
}

/// All configured files, and the bell that asks for another look at them.
#[derive(Debug, Default)]
pub struct CrlFiles {
    states: Mutex<Vec<CrlFileState>>,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    asked: Notify,
}

/// Who waits for the round that has begun; let go when it is dropped.
#[derive(Debug)]
pub struct Waiting(#[expect(dead_code, reason = "dropping them is what answers")] Vec<oneshot::Sender<()>>);

impl CrlFiles {
    /// How they stand, in the order of the configuration.
    #[must_use]
    pub fn states(&self) -> Vec<CrlFileState> {
        self.states.lock().clone()
    }

    /// For the reader: waits until somebody asks for a round.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// For the reader: a round begins; whoever asked until now waits for its end.
    pub fn begin(&self) -> Waiting {
        Waiting(std::mem::take(&mut *self.waiting.lock()))
    }

    /// For the reader: what a round found. No states: nothing is read any more.
    pub fn finish(&self, states: Vec<CrlFileState>, waiting: Waiting) {
        *self.states.lock() = states;
        drop(waiting);
    }

    /// Asks for a round without waiting for it.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Asks for a round, and waits for its end. Returns at once when there is nothing to read.
    pub async fn reload(&self) {
        let (sender, done) = oneshot::channel();
        {
            let states = self.states.lock();
            if states.is_empty() {
                return;
            }
            self.waiting.lock().push(sender);
        }
        self.ask();
        // That the sender is gone is the answer.
        let _ = done.await;
    }
}
