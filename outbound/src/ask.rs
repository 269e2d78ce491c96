//! Who asks operators' functions, as whoever runs transfers sees it.

use std::future::Future;
use std::pin::Pin;

use unicity_provisioning::Provisioning;
use unicity_provisioning::transfer::Transfer;

use crate::Step;
use crate::webhook::Webhook;

/// Asks the function of a transfer at the stage `Ask` for a hub.
pub trait Ask: Send + Sync {
    /// Makes one attempt; they count from 1. The last one ends with an event, never with `Later`, unless our own state cannot be read.
    fn ask(
        &self,
        provisioning: &Provisioning,
        transfer: &Transfer,
        attempt: u32,
    ) -> Pin<Box<dyn Future<Output = Step> + Send>>;
}

impl Ask for Webhook {
    fn ask(
        &self,
        provisioning: &Provisioning,
        transfer: &Transfer,
        attempt: u32,
    ) -> Pin<Box<dyn Future<Output = Step> + Send>> {
        // Shared parts and one record: cheap beside a call.
        let (webhook, provisioning, transfer) = (self.clone(), provisioning.clone(), transfer.clone());
        Box::pin(async move { Self::ask(&webhook, &provisioning, &transfer, attempt).await })
    }
}
