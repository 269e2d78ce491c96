//! Messages on their way from a session to the log's queue: what one read of the socket brought goes in one hand-over, with one
//! callback and one wake for all of its acknowledgements.

use unicity_hub::{Entry, Message};

use crate::session::Ticket;

/// Bytes of one hand-over; a longer message goes alone, so that only it is refused should it be too long for a record.
const BYTES_MAX: usize = 64 * 1024;

/// Messages of one session, the oldest first; their tickets follow each other.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: Vec<Message>,
    first: Ticket,
    bytes: usize,
}

/// What is handed over at once.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) entry: Entry,
    pub(super) first: Ticket,
    pub(super) count: u64,
    pub(super) body_bytes: usize,
}

impl Outbox {
    /// Whether what is there has to be taken before `message` is added; `messages_max` may be there at once.
    pub(super) fn must_go_before(&self, ticket: Ticket, message: &Message, messages_max: usize) -> bool {
        let count = self.messages.len();
        count > 0
            && (count >= messages_max
                || self.bytes + bytes_of(message) > BYTES_MAX
                || self.first.0 + count as u64 != ticket.0)
    }

    /// Adds a message, which [`Self::must_go_before`] was asked about.
    pub(super) fn push(&mut self, ticket: Ticket, message: Message) {
        if self.messages.is_empty() {
            self.first = ticket;
        }
        self.bytes += bytes_of(&message);
        self.messages.push(message);
    }

    /// All there is, if there is anything.
    pub(super) fn take(&mut self) -> Option<Bundle> {
        let mut messages = std::mem::take(&mut self.messages);
        self.bytes = 0;
        let (count, body_bytes) = (messages.len() as u64, messages.iter().map(|message| message.body.len()).sum());
        let entry = match messages.len() {
            0 => return None,
            1 => Entry::Message(Box::new(messages.remove(0))),
            _ => Entry::Messages(messages),
        };
        Some(Bundle { entry, first: self.first, count, body_bytes })
    }
}

fn bytes_of(message: &Message) -> usize {
    let properties = message.properties.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len));
    let system = message.system_properties.iter().map(|(name, value)| name.len() + value.len());
    message.body.len() + properties.chain(system).sum::<usize>()
}
