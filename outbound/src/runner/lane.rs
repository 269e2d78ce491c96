//! Whom the next step of a transfer has to do with.

use unicity_identity::HubName;
use unicity_provisioning::transfer::{Transfer, TransferStage};

/// Whom a step waits for: steps are bounded, spaced and held back for each by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A hub elsewhere.
    Hub(HubName),
    /// The operators' functions.
    Functions,
}

/// The lane of a transfer's next step; `None`: there is none, it came to nothing.
#[must_use]
pub fn lane_of(transfer: &Transfer) -> Option<Lane> {
    let source = transfer.source.as_ref();
    let target = transfer.target.as_ref();
    let end = match transfer.stage {
        TransferStage::Ask => return Some(Lane::Functions),
        TransferStage::Failed { .. } => return None,
        TransferStage::Disable | TransferStage::Read => source,
        TransferStage::Create | TransferStage::Fill | TransferStage::Enable | TransferStage::Verify => target,
        TransferStage::Delete | TransferStage::Undo { .. } => transfer.discard.first().or(source),
        TransferStage::End => source.or(transfer.discard.first()),
    };
    // With no end there is nothing to do, which a step finds out and records.
    Some(end.map_or(Lane::Functions, |end| Lane::Hub(end.hub.clone())))
}
