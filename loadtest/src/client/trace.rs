//! What one operation of one device took, step by step.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use unicity_device_sim::SimError;

use crate::Stage;

/// A step that failed, and why.
#[derive(Debug)]
pub struct Failed {
    /// At what stage.
    pub stage: Stage,
    /// Why.
    pub error: SimError,
}

impl Failed {
    /// An error at a stage, for `map_err`.
    pub fn at(stage: Stage) -> impl FnOnce(SimError) -> Self {
        move |error| Self { stage, error }
    }
}

/// The times of the steps that were taken; given to a recorder when the operation is over, all at once.
#[derive(Debug, Default)]
pub struct Trace {
    times: Vec<(Stage, Duration)>,
}

impl Trace {
    /// One time.
    pub fn record(&mut self, stage: Stage, took: Duration) {
        self.times.push((stage, took));
    }

    /// The times in the order in which the steps ended.
    #[must_use]
    pub fn times(&self) -> &[(Stage, Duration)] {
        &self.times
    }

    /// Does a step: its time counts if it succeeds, and it fails if `awaited` is not there after `patience`.
    ///
    /// # Errors
    /// What `work` says, or [`SimError::Timeout`].
    pub async fn step<T>(
        &mut self,
        stage: Stage,
        patience: Duration,
        awaited: &'static str,
        work: impl Future<Output = Result<T, SimError>>,
    ) -> Result<T, Failed> {
        let began = Instant::now();
        let late = SimError::Timeout { awaited, after: patience };
        let done = timeout(patience, work).await.unwrap_or(Err(late)).map_err(Failed::at(stage))?;
        self.record(stage, began.elapsed());
        Ok(done)
    }
}
