//! How an identity at a hub elsewhere says whose it is: in its status reason, the one member that the real service keeps verbatim and
//! shows with an identity that is enabled, too.
//!
//! `unicity 0ne00000000 reg meter-1 assigned 5.0123….…`: the service, the registration, how it stands, and the operation that last wrote
//! it. Longer registration ids are named by a digest, since the member holds 128 characters.

use ring::digest;
use unicity_identity::{IdScope, OperationId, RegistrationId};

/// Registration ids up to this length are spelled out: with scope, state and operation it stays below 128 characters.
const SPELLED_MAX: usize = 32;

/// How an identity stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerState {
    /// Made, not assigned yet: disabled.
    Pending,
    /// Assigned.
    Assigned,
    /// Disabled since the device moves away.
    Leaving,
    /// Disabled for good: revoked.
    Ended,
}

impl MarkerState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Leaving => "leaving",
            Self::Ended => "ended",
        }
    }
}

/// Whose an identity is.
#[derive(Debug, Clone)]
pub struct Marker {
    owner: String,
    operation: String,
}

impl Marker {
    /// The marker of a registration's transfer.
    #[must_use]
    pub fn new(scope: &IdScope, registration: &RegistrationId, operation: &OperationId) -> Self {
        let id = registration.as_str();
        let name = if id.len() <= SPELLED_MAX {
            id.to_owned()
        } else {
            let hash = digest::digest(&digest::SHA256, id.as_bytes());
            // No registration id has such a sign.
            let hex: String = hash.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("#{hex}")
        };
        Self { owner: format!("unicity {scope} reg {name} "), operation: operation.to_string() }
    }

    /// Its text.
    #[must_use]
    pub fn text(&self, state: MarkerState) -> String {
        format!("{}{} {}", self.owner, state.as_str(), self.operation)
    }

    /// Whether an identity is this registration's, whichever transfer wrote it.
    #[must_use]
    pub fn owns(&self, reason: Option<&str>) -> bool {
        reason.is_some_and(|reason| reason.starts_with(&self.owner))
    }

    /// Whether this very transfer wrote it, in this state.
    #[must_use]
    pub fn is(&self, state: MarkerState, reason: Option<&str>) -> bool {
        reason == Some(self.text(state).as_str())
    }
}

#[cfg(test)]
mod tests {
    use unicity_identity::Entropy;

    use super::*;

    fn marker(id: &str, seed: u8) -> Marker {
        let scope = "0ne0000000A".parse().expect("an id scope");
        Marker::new(&scope, &id.parse().expect("an id"), &Entropy::from_seed([seed; 32]).operation_id())
    }

    #[test]
    fn it_always_fits_and_tells_owners_apart() {
        let long = "m".repeat(128);
        for id in ["a", "meter-1", long.as_str()] {
            let text = marker(id, 1).text(MarkerState::Assigned);
            assert!(text.len() <= 128, "{text} has {}", text.len());
            assert!(marker(id, 2).owns(Some(&text)));
            assert!(!marker(id, 2).is(MarkerState::Assigned, Some(&text)));
            assert!(marker(id, 1).is(MarkerState::Assigned, Some(&text)));
            assert!(!marker(id, 1).is(MarkerState::Pending, Some(&text)));
        }
        let of = |id| marker(id, 1).text(MarkerState::Assigned);
        assert!(!marker("meter", 1).owns(Some(&of("meter-1"))));
        assert!(!marker(&"m".repeat(127), 1).owns(Some(&of(&"m".repeat(128)))));
        assert!(!marker("meter", 1).owns(None));
    }
}
