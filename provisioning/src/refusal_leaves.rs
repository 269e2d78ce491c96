//! Which refusals become leaves of the audit log (design rule 19): those of a device that has proven its key, and few of them.
//!
//! A stranger must not be able to fill the log, so a refusal without a proven key is only counted, in metrics and in the ring of
//! evidence. A device that holds a key and is refused again and again gets one leaf a minute for each reason.

use std::collections::HashMap;

use unicity_identity::{Refusal, Timestamp};

/// The time for which one leaf speaks, in milliseconds.
const SPEAKS_FOR_MS: u64 = 60_000;
/// Leaves in that time, over all identities.
const LEAVES_MAX: usize = 600;

/// Whether a refusal can only follow a proof: whoever gets it holds the key.
#[must_use]
pub fn follows_proof(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::EnrollmentDisabled { .. }
            | Refusal::DeviceDisabled { .. }
            | Refusal::KeyInUse { .. }
            | Refusal::KeyDenied { .. }
            | Refusal::DeviceIdInUse { .. }
            | Refusal::NoHub { .. }
            | Refusal::Revoked { .. }
            | Refusal::Quarantined { .. }
            | Refusal::OlderSessionLives { .. }
    )
}

/// The refusals that had a leaf of late. Bounded by [`LEAVES_MAX`].
#[derive(Debug, Default)]
pub struct RefusalLeaves {
    /// By identity and name of the refusal, when it had its leaf.
    noted: HashMap<(String, &'static str), Timestamp>,
}

impl RefusalLeaves {
    /// Whether this refusal of `identity` gets a leaf; it counts as having it from now on.
    pub fn is_due(&mut self, identity: &str, refusal: &Refusal, now: Timestamp) -> bool {
        if !follows_proof(refusal) {
            return false;
        }
        // A clock that was put back must not silence the log: what lies ahead of it is forgotten too.
        let speaks = |at: Timestamp| at <= now && now < at.plus_ms(SPEAKS_FOR_MS);
        let key = (identity.to_owned(), refusal.code().name);
        if self.noted.get(&key).is_some_and(|at| speaks(*at)) {
            return false;
        }
        if self.noted.len() >= LEAVES_MAX {
            self.noted.retain(|_, at| speaks(*at));
        }
        if self.noted.len() >= LEAVES_MAX {
            return false;
        }
        self.noted.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use unicity_identity::EnrollmentRef;

    use super::*;

    fn disabled() -> Refusal {
        Refusal::EnrollmentDisabled { enrollment: EnrollmentRef::Individual("a".parse().unwrap()) }
    }

    #[test]
    fn a_refusal_without_proof_never_gets_a_leaf_and_one_with_proof_gets_one_a_minute_and_reason() {
        let mut leaves = RefusalLeaves::default();
        let at = |seconds: u64| Timestamp(1_000_000 + seconds * 1_000);
        let no_hub = Refusal::NoHub { registration_id: "a".parse().unwrap(), why: String::new() };
        let table = [
            ("a", Refusal::NoCredential, 0, false),
            ("a", Refusal::WrongKey { subject: "a".into() }, 0, false),
            ("a", disabled(), 0, true),
            ("a", disabled(), 59, false),
            ("a", no_hub, 59, true),
            ("b", disabled(), 59, true),
            ("a", disabled(), 60, true),
            // The clock was put back.
            ("a", disabled(), 5, true),
        ];
        for (row, (identity, refusal, seconds, due)) in table.into_iter().enumerate() {
            assert_eq!(leaves.is_due(identity, &refusal, at(seconds)), due, "row {row}");
        }
    }

    #[test]
    fn many_identities_get_no_more_leaves_than_the_bound_and_the_next_minute_has_its_own() {
        let mut leaves = RefusalLeaves::default();
        let due = |leaves: &mut RefusalLeaves, now| {
            (0..2 * LEAVES_MAX).filter(|n| leaves.is_due(&n.to_string(), &disabled(), now)).count()
        };
        assert_eq!(due(&mut leaves, Timestamp(1_000)), LEAVES_MAX);
        assert_eq!(due(&mut leaves, Timestamp(2_000)), 0);
        assert_eq!(due(&mut leaves, Timestamp(61_000)), LEAVES_MAX);
    }
}
