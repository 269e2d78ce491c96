//! What came of one call on behalf of a transfer.

use std::time::Duration;

use unicity_provisioning::transfer::TransferEvent;

/// What came of the call that a transfer's stage asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The transfer goes on with this.
    Event(TransferEvent),
    /// Nothing is known of whether it was done: the same again, later.
    Later {
        /// How long the other side asked to be left alone; `None`: it did not say.
        after: Option<Duration>,
        /// Why, for the operator, without secrets.
        cause: String,
    },
}
