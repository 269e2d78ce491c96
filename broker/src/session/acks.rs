//! The acknowledgements of one session, sent in the order in which what they acknowledge came (design rule 9): a PUBACK that waits
//! for the disk holds back a SUBACK behind it, whatever the SUBACK itself waits for.

use std::collections::VecDeque;

use super::{Effect, Effects, Ticket};
use crate::codec::Packet;

#[derive(Debug, Default)]
pub(super) struct AckQueue {
    slots: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    ticket: Ticket,
    ready: bool,
    packet: Packet,
}

impl AckQueue {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Queues a packet that may go when its turn comes.
    pub(super) fn push_ready(&mut self, ticket: Ticket, packet: Packet, effects: &mut Effects) {
        if self.slots.is_empty() {
            effects.push_back(Effect::Send(packet));
        } else {
            self.slots.push_back(Slot { ticket, ready: true, packet });
        }
    }

    /// Queues a packet that waits for [`Self::complete`]. Tickets must rise.
    pub(super) fn push_waiting(&mut self, ticket: Ticket, packet: Packet) {
        self.slots.push_back(Slot { ticket, ready: false, packet });
    }

    /// What this ticket stands for is done: its packet goes, with all that waited for nothing but it. An unknown ticket has no
    /// acknowledgement (QoS 0). Says whether there was one.
    pub(super) fn complete(&mut self, ticket: Ticket, effects: &mut Effects) -> bool {
        self.complete_all(ticket, 1, effects) == 1
    }

    /// [`Self::complete`] for `count` tickets from `first` on; says how many acknowledgements there were.
    pub(super) fn complete_all(&mut self, first: Ticket, count: u64, effects: &mut Effects) -> u64 {
        let end = Ticket(first.0.saturating_add(count));
        let begin = match self.slots.front() {
            // Nearly always: what was asked for first is done first.
            Some(front) if front.ticket >= first => 0,
            _ => self.slots.partition_point(|slot| slot.ticket < first),
        };
        let mut found = 0;
        for slot in self.slots.range_mut(begin..).take_while(|slot| slot.ticket < end) {
            slot.ready = true;
            found += 1;
        }
        while self.slots.front().is_some_and(|slot| slot.ready) {
            effects.extend(self.slots.pop_front().map(|slot| Effect::Send(slot.packet)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(effect: &Effect) -> u16 {
        match effect {
            Effect::Send(Packet::PubAck { id }) => id.get(),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        /// Whatever completes when, acknowledgements leave in the order of receipt, each once, none early.
        #[test]
        fn acknowledgements_keep_the_order_of_receipt(
            ready in proptest::collection::vec(any::<bool>(), 1..40),
            order in proptest::collection::vec((any::<proptest::sample::Index>(), 1usize..5), 0..120),
        ) {
            let mut queue = AckQueue::default();
            let mut effects = Effects::new();
            let mut waiting = Vec::new();
            for (n, ready) in ready.iter().enumerate() {
                let number = u16::try_from(n).unwrap() + 1;
                let packet = Packet::PubAck { id: number.try_into().unwrap() };
                if *ready {
                    queue.push_ready(Ticket(u64::from(number)), packet, &mut effects);
                } else {
                    queue.push_waiting(Ticket(u64::from(number)), packet);
                    waiting.push(number);
                }
            }
            for (index, most) in order {
                if waiting.is_empty() { break }
                let at = index.index(waiting.len());
                let first = waiting[at];
                let mut count = 0;
                // Of what lies between, some may need no completion: it is not counted by the caller, and not by the queue.
                while count < most && waiting.get(at) == Some(&(first + count as u16)) {
                    waiting.remove(at);
                    count += 1;
                }
                let found = queue.complete_all(Ticket(u64::from(first)), count as u64, &mut effects);
                prop_assert_eq!(found, count as u64);
                prop_assert!(!queue.complete(Ticket(9999), &mut effects));
                let first_missing = waiting.iter().min().copied().unwrap_or(u16::MAX);
                prop_assert!(effects.iter().all(|effect| id(effect) < first_missing));
            }
            for number in std::mem::take(&mut waiting) {
                queue.complete(Ticket(u64::from(number)), &mut effects);
            }
            let sent: Vec<u16> = effects.iter().map(id).collect();
            prop_assert_eq!(sent, (1..=u16::try_from(ready.len()).unwrap()).collect::<Vec<_>>());
            prop_assert!(queue.is_empty());
        }
    }
}
