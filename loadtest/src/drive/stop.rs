//! The wish that a run ends, of a person or of its time limit.

use std::sync::Arc;

use tokio::sync::watch;

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// Nothing new begins from now on.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether somebody wished it.
    #[must_use]
    pub fn is_wished(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when somebody does.
    pub async fn wished(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|wished| *wished).await;
    }
}
