//! The registry's writer and its journal: decided before it is synced, synced before it is answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use unicity_identity::Refusal;
use unicity_provisioning::memory::Memory;
use unicity_provisioning::{Change, Command, Leaf, Outcome, RegistryError, Request, Settings, UnicityMode, decide};

use crate::breaks::{Break, Guarantee, Violation, violated};
use crate::properties;
use crate::rng::Rng;

/// Names a request until it is answered.
pub(crate) type Ticket = u64;
/// A request's answer.
pub(crate) type Answer = Result<Outcome, RegistryError>;

pub(crate) const QUEUE_MAX: usize = 6;

/// What one decision puts into the journal.
#[derive(Debug, Clone)]
struct Record {
    ticket: Ticket,
    changes: Vec<Change>,
    leaf: Option<Leaf>,
}

struct Decided {
    ticket: Ticket,
    /// `None`: refused, nothing to write.
    record: Option<Record>,
    answer: Answer,
}

#[derive(Default)]
pub(crate) struct Registry {
    next_ticket: Ticket,
    queue: VecDeque<(Ticket, Request)>,
    unsynced: Vec<Decided>,
    journal: Vec<Record>,
    /// The leaf log, which is the leaves of the journal's records unless it is broken.
    leaves: Vec<Vec<u8>>,
    /// Lengths and contents of the leaf log that were signed.
    checkpoint: Vec<Vec<u8>>,
    /// What the writer sees.
    pub(crate) decided: Memory,
    /// What everybody else sees.
    pub(crate) synced: Memory,
    answers: BTreeMap<Ticket, Answer>,
    /// Tickets that were told that it is done.
    promised: BTreeSet<Ticket>,
}

impl Registry {
    /// Queues a request; `None` if the queue is full.
    pub(crate) fn submit(&mut self, request: Request) -> Option<Ticket> {
        if self.queue.len() >= QUEUE_MAX {
            return None;
        }
        self.next_ticket += 1;
        self.queue.push_back((self.next_ticket, request));
        Some(self.next_ticket)
    }

    /// Whether an answer waits to be taken.
    pub(crate) fn answer(&self, ticket: Ticket) -> Option<&Answer> {
        self.answers.get(&ticket)
    }

    pub(crate) fn take_answer(&mut self, ticket: Ticket) -> Option<Answer> {
        self.answers.remove(&ticket)
    }

    /// The writer takes the next request.
    pub(crate) fn decide_next(&mut self, settings: &Settings, broken: Break, rng: &mut Rng) -> Result<(), Violation> {
        let Some((ticket, request)) = self.queue.pop_front() else { return Ok(()) };
        let blind = (broken == Break::StandingNotAsked && matches!(request.command, Command::Register(_)))
            .then(|| Memory { standings: BTreeMap::new(), ..self.decided.clone() });
        let view = match broken {
            Break::DecidedTooEarly => &self.synced,
            _ => blind.as_ref().unwrap_or(&self.decided),
        };
        let mut decision = decide(view, settings, request.clone());
        if broken == Break::DeviceIdNotChecked
            && matches!(&decision, Err(RegistryError::Refused(Refusal::DeviceIdInUse { .. })))
        {
            let lax = Settings { mode: UnicityMode::Compat, ..settings.clone() };
            decision = decide(view, &lax, request);
        }
        let before = self.decided.clone();
        let (record, answer) = match decision {
            Ok(mut decision) => {
                if broken == Break::KeyIndexForgotten {
                    decision.changes.retain(|change| !matches!(change, Change::PutKey(..)));
                }
                if broken == Break::LeafForgotten && rng.once_in(8) {
                    decision.leaf = None;
                }
                properties::leaf_tells_the_change(&decision)?;
                for change in &decision.changes {
                    self.decided.apply(change.clone());
                }
                (Some(Record { ticket, changes: decision.changes, leaf: decision.leaf }), Ok(decision.outcome))
            }
            Err(error) => (None, Err(error)),
        };
        if broken == Break::AnsweredTooEarly {
            self.give(ticket, answer.clone());
        }
        self.unsynced.push(Decided { ticket, record, answer });
        properties::identities_keep_their_owner(&before, &self.decided)?;
        properties::identities_are_unique(&self.decided)
    }

    fn give(&mut self, ticket: Ticket, answer: Answer) {
        if answer.is_ok() {
            self.promised.insert(ticket);
        }
        self.answers.insert(ticket, answer);
    }

    fn write(&mut self, record: Record, with_leaf: bool) {
        for change in &record.changes {
            self.synced.apply(change.clone());
        }
        if with_leaf {
            self.leaves.extend(record.leaf.as_ref().map(Leaf::to_bytes));
        }
        self.journal.push(record);
    }

    /// The disk has everything that was decided so far; answers leave.
    pub(crate) fn sync(&mut self, broken: Break) -> Result<(), Violation> {
        for decided in std::mem::take(&mut self.unsynced) {
            if let Some(record) = decided.record {
                self.write(record, true);
            }
            if broken != Break::AnsweredTooEarly {
                self.give(decided.ticket, decided.answer);
            }
        }
        self.check()
    }

    /// A checkpoint of the leaf log is signed, and known elsewhere from now on.
    pub(crate) fn sign_checkpoint(&mut self, broken: Break) {
        self.checkpoint.clone_from(&self.leaves);
        if broken == Break::CheckpointTooEarly {
            let records = self.unsynced.iter().filter_map(|decided| decided.record.as_ref());
            self.checkpoint.extend(records.filter_map(|record| record.leaf.as_ref().map(Leaf::to_bytes)));
        }
    }

    /// Power is lost: of what was not synced some beginning is there, the rest is not, and who waits hears nothing more.
    pub(crate) fn crash(&mut self, broken: Break, rng: &mut Rng) -> Result<(), Violation> {
        let unsynced = std::mem::take(&mut self.unsynced);
        let survived = rng.below(unsynced.len() + 1);
        let leaves_survived = if broken == Break::LeafApart { rng.below(unsynced.len() + 1) } else { survived };
        for (index, decided) in unsynced.into_iter().enumerate() {
            let Some(record) = decided.record else { continue };
            match (index < survived, index < leaves_survived) {
                (true, with_leaf) => self.write(record, with_leaf),
                (false, true) => self.leaves.extend(record.leaf.as_ref().map(Leaf::to_bytes)),
                (false, false) => {}
            }
        }
        self.queue.clear();
        self.answers.clear();
        // Replay: nothing but the journal.
        let mut replayed = Memory::default();
        for change in self.journal.iter().flat_map(|record| &record.changes) {
            replayed.apply(change.clone());
        }
        if replayed != self.synced {
            return violated(Guarantee::U8, "the journal does not give the state that was synced");
        }
        self.decided = replayed;
        self.check()
    }

    fn check(&self) -> Result<(), Violation> {
        let there: BTreeSet<_> = self.journal.iter().map(|record| record.ticket).collect();
        if let Some(lost) = self.promised.difference(&there).next() {
            return violated(Guarantee::U8, format!("request {lost} was answered, and is not in the journal"));
        }
        let told: Vec<_> = self.journal.iter().filter_map(|record| record.leaf.as_ref().map(Leaf::to_bytes)).collect();
        if told != self.leaves {
            return violated(Guarantee::U6, "the leaves of the log are not those of the journal's records");
        }
        if !self.leaves.starts_with(&self.checkpoint) {
            return violated(Guarantee::U6, "the log does not begin with what a checkpoint signed");
        }
        Ok(())
    }
}
