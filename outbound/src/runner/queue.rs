//! How the runner is told of transfers: a bounded queue, which nobody waits for.

use std::sync::Arc;

use tokio::sync::mpsc;
use unicity_identity::RegistrationId;
use unicity_provisioning::service::TransferHook;

/// Tells the runner of transfers.
#[derive(Debug, Clone)]
pub struct TransferQueue {
    sender: mpsc::Sender<RegistrationId>,
}

/// Its other end.
#[derive(Debug)]
pub struct TransferInbox(pub(super) mpsc::Receiver<RegistrationId>);

impl TransferQueue {
    /// A queue for so many. When it is full, what comes is not queued: its record is durable, and the next scan finds it.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, TransferInbox) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (Self { sender }, TransferInbox(receiver))
    }

    /// For `Provisioning::with_transfers`.
    #[must_use]
    pub fn hook(&self) -> TransferHook {
        let sender = self.sender.clone();
        Arc::new(move |transfer| {
            if sender.try_send(transfer.registration_id.clone()).is_err() {
                tracing::debug!(
                    registration_id = %transfer.registration_id,
                    "the queue of transfers is full; the next look at all transfers takes this one up"
                );
            }
        })
    }
}
