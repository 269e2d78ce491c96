//! The stage `Ask` as the runner sees it.

use std::future::Future;
use std::pin::Pin;

use unicity_provisioning::Provisioning;
use unicity_provisioning::transfer::Transfer;

use crate::Step;

/// Asks the function that an operator named for a transfer.
pub trait Ask: Send + Sync {
    /// Makes the try of this number, from 1 on.
    fn ask<'a>(
        &'a self,
        provisioning: &'a Provisioning,
        transfer: &'a Transfer,
        attempt: u32,
    ) -> Pin<Box<dyn Future<Output = Step> + Send + 'a>>;
}

impl Ask for crate::webhook::Webhook {
    fn ask<'a>(
        &'a self,
        provisioning: &'a Provisioning,
        transfer: &'a Transfer,
        attempt: u32,
    ) -> Pin<Box<dyn Future<Output = Step> + Send + 'a>> {
        Box::pin(Self::ask(self, provisioning, transfer, attempt))
    }
}
