//! The fence of one partition: which session of each identity may append (U3, design rule 7).
//!
//! Opening a session travels through the same queue as the appends, so that every offset of an older session lies below every
//! offset of a newer one. The appender asks here as it gives out offsets; only the open session's messages pass.

use std::collections::HashMap;

use unicity_identity::ClientIdentity;

use crate::SessionEpoch;

/// The open sessions of a partition. Bounded by the number of live sessions, since each closes its own.
#[derive(Debug, Default)]
pub struct Fence {
    open: HashMap<ClientIdentity, Open>,
}

#[derive(Debug)]
struct Open {
    epoch: SessionEpoch,
    last_sequence: u64,
}

/// A message may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// The message's number within its session.
    pub sequence: u64,
    /// It is the session's first: a session-open record goes before it.
    pub first: bool,
}

impl Fence {
    /// Opens a session and closes any older one of the same client. An epoch at or below the open one changes nothing, so that
    /// two openings may arrive in either order; the answer tells whether the session is open now.
    pub fn open(&mut self, client: &ClientIdentity, epoch: SessionEpoch) -> bool {
        match self.open.get_mut(client) {
            Some(open) if open.epoch >= epoch => open.epoch == epoch,
            Some(open) => {
                *open = Open { epoch, last_sequence: 0 };
                true
            }
            None => {
                self.open.insert(client.clone(), Open { epoch, last_sequence: 0 });
                true
            }
        }
    }

    /// Lets a message pass if its session is the open one.
    pub fn admit(&mut self, client: &ClientIdentity, epoch: SessionEpoch) -> Option<Permit> {
        self.admit_all(client, epoch, 1)
    }

    /// Lets `count` messages of one session pass at once. The permit is of the first; the others have the numbers after its.
    pub fn admit_all(&mut self, client: &ClientIdentity, epoch: SessionEpoch, count: u64) -> Option<Permit> {
        let open = self.open.get_mut(client).filter(|open| open.epoch == epoch)?;
        let sequence = open.last_sequence + 1;
        open.last_sequence += count;
        Some(Permit { sequence, first: sequence == 1 })
    }

    /// Closes a session, unless a newer one is open.
    pub fn close(&mut self, client: &ClientIdentity, epoch: SessionEpoch) {
        if self.open.get(client).is_some_and(|open| open.epoch == epoch) {
            self.open.remove(client);
        }
    }

    /// The number of open sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(n: u8) -> ClientIdentity {
        ClientIdentity { hub: "default".parse().unwrap(), device_id: format!("d{n}").parse().unwrap(), module_id: None }
    }

    fn epoch(counter: u64) -> SessionEpoch {
        SessionEpoch { boot: 1, counter }
    }

    #[derive(Debug, Clone)]
    enum Action {
        Open(u8, u64),
        Admit(u8, u64, u64),
        Close(u8, u64),
    }

    proptest! {
        /// U3: once a newer session has been opened, nothing of an older one is stored; sequences have no gaps.
        #[test]
        fn nothing_of_an_older_epoch_passes_after_a_newer_one_opened(
            actions in proptest::collection::vec(
                (0u8..3, 1u64..6, 0u8..3, 1u64..4).prop_map(|(c, e, kind, count)| match kind {
                    0 => Action::Open(c, e),
                    1 => Action::Admit(c, e, count),
                    _ => Action::Close(c, e),
                }),
                0..80,
            )
        ) {
            let mut fence = Fence::default();
            let mut newest = [0u64; 3];
            let mut sequence = std::collections::HashMap::new();
            for action in actions {
                match action {
                    // Epochs are given out once: the model never opens one at or below the newest, once that is closed.
                    Action::Open(c, e) if e > newest[c as usize] => {
                        prop_assert!(fence.open(&client(c), epoch(e)));
                        newest[c as usize] = e;
                    }
                    Action::Open(..) => {}
                    Action::Admit(c, e, count) => {
                        if let Some(permit) = fence.admit_all(&client(c), epoch(e), count) {
                            prop_assert_eq!(e, newest[c as usize]);
                            let last = sequence.entry((c, e)).or_insert(0);
                            prop_assert_eq!(permit.sequence, *last + 1);
                            prop_assert_eq!(permit.first, *last == 0);
                            *last += count;
                        }
                    }
                    Action::Close(c, e) => fence.close(&client(c), epoch(e)),
                }
            }
        }
    }
}
