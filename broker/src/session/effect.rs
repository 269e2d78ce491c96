//! What goes in and out of a session beside packets.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use unicity_hub::{AppendError, Appended, CloseReason, Message, SessionStamp};
use unicity_identity::{Entropy, QoS, Refusal, Subscription};
use unicity_provisioning::Answer;

use crate::close::CloseCause;
use crate::codec::{ConnectCode, DecodeError, Packet, Password};

/// Names one thing that a session waits for. Rises with each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a session wants done. The order counts.
#[derive(Debug)]
pub enum Effect {
    /// Send a packet.
    Send(Packet),
    /// Send bytes of another protocol version.
    SendBytes(&'static [u8]),
    /// Check a registering device's credential; answer with [`Event::Attested`] or [`Event::ConnectRefused`].
    Attest(Box<ProvisioningConnect>),
    /// Check a hub client's credential and make it the one session of its identity; answer with [`Event::HubOpened`] or
    /// [`Event::ConnectRefused`].
    OpenHub(Box<HubConnect>),
    /// Record a refusal. Its CONNACK follows.
    Refused(Box<RefusedConnect>),
    /// Work on a request of the provisioning role; answer with [`Event::Answered`]. There is one at a time.
    Request(Request),
    /// Hand a message to the telemetry log; answer with [`Event::Appended`].
    Append {
        /// To be repeated in the answer.
        ticket: Ticket,
        /// The message with its stamp.
        message: Box<Message>,
    },
    /// Store what a clean-session-0 client is subscribed to; answer with [`Event::SubscriptionsSaved`]. There is one at a time.
    SaveSubscriptions(Vec<Subscription>),
    /// Log that filters were refused.
    FiltersRefused(Vec<String>),
    /// Log that an answer waits for its subscription.
    AnswerKept {
        /// Its topic.
        topic: String,
    },
    /// Close the connection, after what was sent before. The last effect of a session.
    Close(CloseCause),
}

/// What happened outside.
#[derive(Debug)]
pub enum Event {
    /// The registering device is proven.
    Attested,
    /// The hub client is proven, and its session is the one of its identity.
    HubOpened(Box<HubOpened>),
    /// The client is refused.
    ConnectRefused(Box<Refusal>),
    /// A request of the provisioning role has its answer.
    Answered(Answer),
    /// The log has stored messages whose tickets follow each other, or none of them.
    Appended {
        /// The first.
        first: Ticket,
        /// How many.
        count: u64,
        /// Where the last one is, or why not.
        result: Result<Appended, AppendError>,
    },
    /// The subscriptions are stored, or not, with the cause in words.
    SubscriptionsSaved(Result<(), String>),
    /// The client's bytes are no packet.
    Undecodable(DecodeError),
    /// The client has closed the stream.
    PeerClosed,
    /// The stream broke.
    Io(String),
    /// The client reads nothing.
    WriteStalled,
    /// The driver cannot go on.
    Internal(String),
    /// The session is to end.
    CloseRequested(CloseReason),
    /// The server stops.
    Stop,
}

/// A CONNECT of the provisioning role.
#[derive(Debug, Clone)]
pub struct ProvisioningConnect {
    /// The id scope as sent.
    pub id_scope: String,
    /// The registration id as sent.
    pub registration_id: String,
    /// The password.
    pub token: Option<Password>,
    /// The client's API version, for diagnosis.
    pub api_version: String,
    /// The client's name for itself.
    pub client_type: Option<String>,
}

/// A CONNECT of the hub role. Nothing in it is proven.
#[derive(Debug, Clone)]
pub struct HubConnect {
    /// The hub's host as sent.
    pub host: String,
    /// The device id as sent.
    pub device_id: String,
    /// The module id as sent.
    pub module_id: Option<String>,
    /// The password.
    pub token: Option<Password>,
    /// The client wants to begin anew.
    pub clean_session: bool,
    /// How often it promises to be heard, in seconds; 0: it promises nothing.
    pub keep_alive_seconds: u16,
    /// What to store if it goes without DISCONNECT.
    pub will: Option<WillMessage>,
    /// The client's API version, for diagnosis.
    pub api_version: String,
    /// The client's name for itself.
    pub client_type: Option<String>,
}

/// A will as telemetry, yet without its stamp.
#[derive(Debug, Clone)]
pub struct WillMessage {
    /// With which guarantee.
    pub qos: QoS,
    /// Application properties, the will's mark among them.
    pub properties: Vec<(String, Option<String>)>,
    /// System properties by their long name.
    pub system_properties: Vec<(String, String)>,
    /// The payload.
    pub body: Bytes,
}

/// A hub session that may go on.
#[derive(Debug)]
pub struct HubOpened {
    /// The stamp of all its messages; from it comes which topics are its own.
    pub stamp: Arc<SessionStamp>,
    /// Its state outlives it: the client asked for clean session 0.
    pub durable: bool,
    /// There was state.
    pub session_present: bool,
    /// What it is subscribed to.
    pub subscriptions: Vec<Subscription>,
    /// When its token ends, if that ends the session.
    pub token_deadline: Option<Instant>,
    /// Where the tracking ids of its error answers come from.
    pub entropy: Entropy,
}

/// A refused CONNECT, for the log and the ring of refusals.
#[derive(Debug)]
pub struct RefusedConnect {
    /// What the client is told.
    pub code: ConnectCode,
    /// Why.
    pub refusal: Refusal,
    /// What the client called itself.
    pub subject: String,
}

/// What a registering device asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// To be registered.
    Register {
        /// The request's body, perhaps empty.
        body: Bytes,
    },
    /// How an operation went.
    Status {
        /// Which.
        operation_id: String,
    },
    /// Something that is refused; the driver records it and makes the answer.
    Refuse(Refusal),
}
