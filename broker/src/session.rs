//! The session, as a state machine without IO: packets, events and the passing of time go in; effects come out.
//!
//! ```text
//! AwaitConnect -> Authenticating -> Provisioning -> Closed
//!                                 \ Hub          /
//! ```
//!
//! The machine decides all that MQTT and the hub's rules say of one connection. What takes time or a lock (checking a
//! credential, storing a message, registering) is an [`Effect`] that the driver answers with an [`Event`]. Nothing here waits,
//! and all that is kept is bounded: when a bound is reached [`Session::accepts_input`] turns `false`, and the driver reads
//! nothing more from the client until it is `true` again.

mod acks;
mod connect;
mod effect;
mod filter;
mod hub;
mod keep_alive;
mod provisioning;
mod request;
mod telemetry;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use unicity_hub::CloseReason;
use unicity_identity::{Refusal, Timestamp};
use unicity_provisioning::Settings;

pub use effect::{
    Effect, Event, HubConnect, HubOpened, ProvisioningConnect, RefusedConnect, Request, Ticket, WillMessage,
};

use crate::close::CloseCause;
use crate::codec::{ConnAck, ConnectCode, DecodeError, Packet};
use crate::settings::BrokerSettings;
use connect::Connected;
use hub::HubRole;
use keep_alive::KeepAlive;
use provisioning::ProvisioningRole;

/// A moment on both clocks: one that never jumps, for deadlines, and one that tells the time, for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The clock for deadlines.
    pub at: Instant,
    /// The clock for records.
    pub wall: Timestamp,
}

/// What a session may do to the outside: a queue that the driver empties after each call.
type Effects = VecDeque<Effect>;

enum Phase {
    AwaitConnect { deadline: Instant },
    Authenticating { deadline: Instant, keep_alive_seconds: u16, subject: String },
    Provisioning(ProvisioningRole),
    Hub(HubRole),
    Closed,
}

/// One connection's session.
pub struct Session {
    settings: Arc<BrokerSettings>,
    service: Arc<Settings>,
    phase: Phase,
    keep_alive: Option<KeepAlive>,
    reading: bool,
    stopping: Option<Instant>,
    acked: u64,
    effects: Effects,
}

/// MQTT 5's own CONNACK: no session, reason 0x84 (unsupported protocol version), no properties (MQTT 5, 3.2).
const CONNACK_V5_UNSUPPORTED: &[u8] = &[0x20, 3, 0, 0x84, 0];

impl Session {
    /// A new connection; its CONNECT is awaited.
    #[must_use]
    pub fn new(now: Moment, settings: Arc<BrokerSettings>, service: Arc<Settings>) -> Self {
        let phase = Phase::AwaitConnect { deadline: now.at + settings.connect_deadline };
        Self {
            settings,
            service,
            phase,
            keep_alive: None,
            reading: true,
            stopping: None,
            acked: 0,
            effects: Effects::new(),
        }
    }

    /// Whether the session can take a packet now. If not, the client is left waiting, and so are its bytes.
    #[must_use]
    pub fn accepts_input(&self) -> bool {
        if self.stopping.is_some() {
            return false;
        }
        match &self.phase {
            Phase::AwaitConnect { .. } => true,
            Phase::Authenticating { .. } | Phase::Closed => false,
            Phase::Provisioning(role) => role.accepts_input(&self.settings),
            Phase::Hub(role) => role.accepts_input(&self.settings),
        }
    }

    /// Whether all is over, but for the effects that are left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Telemetry messages that were acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// The next effect, in the order in which they have to happen.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Gives memory back that is of use only while something happens. Not for after each packet: it would be asked for again.
    pub fn rest(&mut self) {
        if self.effects.is_empty() {
            self.effects = Effects::new();
        }
    }

    /// Bytes came from the client, perhaps not a whole packet: it is alive.
    pub fn heard(&mut self, now: Moment) {
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.heard(now.at);
        }
    }

    /// The driver reads from the client, or has stopped to: the keep-alive clock stands still meanwhile (design rule 9).
    pub fn set_reading(&mut self, now: Moment, reading: bool) {
        if self.reading != reading {
            self.reading = reading;
            if let Some(keep_alive) = &mut self.keep_alive {
                keep_alive.set_running(now.at, reading);
            }
        }
    }

    /// A packet came. Only to be called while [`Self::accepts_input`].
    pub fn handle_packet(&mut self, now: Moment, packet: Packet) {
        self.heard(now);
        let packet_name = packet.name();
        let result = match (&mut self.phase, packet) {
            (Phase::Closed, _) => return,
            (Phase::AwaitConnect { .. }, Packet::Connect(connect)) => {
                self.connect(now, *connect);
                Ok(())
            }
            (Phase::AwaitConnect { .. }, _) => {
                Err(CloseCause::Unexpected { packet: packet_name, when: "before CONNECT" })
            }
            (Phase::Authenticating { .. }, _) => {
                Err(CloseCause::Unexpected { packet: packet_name, when: "while the session is busy" })
            }
            (_, Packet::Connect(_)) => Err(CloseCause::Unexpected { packet: packet_name, when: "twice" }),
            (_, Packet::Disconnect) => Err(CloseCause::Disconnected),
            (_, Packet::PingReq) => {
                // Exactly one, at once: it is no acknowledgement, and need not wait for the disk.
                self.effects.push_back(Effect::Send(Packet::PingResp));
                Ok(())
            }
            (Phase::Provisioning(role), packet) => role.handle_packet(now, packet, &self.settings, &mut self.effects),
            (Phase::Hub(role), packet) => role.handle_packet(now, packet, &self.settings, &mut self.effects),
        };
        self.settle(result);
    }

    /// Something happened outside.
    pub fn handle_event(&mut self, now: Moment, event: Event) {
        if self.is_closed() {
            return;
        }
        let result = match (event, &mut self.phase) {
            (Event::Undecodable(error), _) => {
                self.undecodable(error);
                Ok(())
            }
            (Event::PeerClosed, _) => Err(CloseCause::PeerClosed),
            (Event::Io(error), _) => Err(CloseCause::Io(error)),
            (Event::WriteStalled, _) => Err(CloseCause::WriteStalled),
            (Event::Internal(what), _) => Err(CloseCause::Internal(what)),
            (Event::Stop, _) => self.stop(now),
            (Event::CloseRequested(reason), Phase::Authenticating { .. }) => {
                self.refuse_unsaid(reason);
                Ok(())
            }
            (Event::CloseRequested(reason), _) => Err(reason.into()),
            (Event::ConnectRefused(refusal), Phase::Authenticating { .. }) => {
                self.refuse(connect::code_of(&refusal), *refusal);
                Ok(())
            }
            (Event::Attested, Phase::Authenticating { .. }) => {
                self.accept(now, false);
                self.phase = Phase::Provisioning(ProvisioningRole::new(now, &self.settings));
                Ok(())
            }
            (Event::HubOpened(opened), Phase::Authenticating { .. }) => {
                self.accept(now, opened.session_present);
                self.phase = Phase::Hub(HubRole::new(*opened));
                Ok(())
            }
            (Event::Answered(answer), Phase::Provisioning(role)) => {
                role.answered(now, answer, &self.settings, &mut self.effects)
            }
            (Event::Appended { first, count, result }, Phase::Hub(role)) => {
                let result = role.appended(first, count, result, &mut self.effects);
                self.acked = role.acked();
                result
            }
            (Event::SubscriptionsSaved(result), Phase::Hub(role)) => {
                role.subscriptions_saved(result, &mut self.effects)
            }
            // An answer to a question of another phase: the session has gone on.
            _ => Ok(()),
        };
        self.settle(result);
        self.end_if_stopped();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        let due = |deadline: Instant| deadline <= now.at;
        if self.stopping.is_some_and(due) {
            return self.settle(Err(CloseCause::Stopping));
        }
        if self.keep_alive.as_ref().and_then(KeepAlive::deadline).is_some_and(due) {
            return self.settle(Err(CloseCause::KeepAlive));
        }
        match &self.phase {
            Phase::AwaitConnect { deadline } if due(*deadline) => self.settle(Err(CloseCause::ConnectDeadline)),
            Phase::Authenticating { deadline, .. } if due(*deadline) => {
                let why = "the session was not opened in time: the disk is slow or full".to_owned();
                self.refuse(ConnectCode::ServerUnavailable, Refusal::Unavailable { why });
            }
            Phase::Provisioning(role) if role.idle_deadline(&self.settings).is_some_and(due) => {
                self.settle(Err(CloseCause::ProvisioningIdle));
            }
            Phase::Hub(role) if role.token_deadline().is_some_and(due) => self.settle(Err(CloseCause::TokenExpired)),
            _ => {}
        }
    }

    /// When [`Self::handle_timeout`] has to be called next, unless something else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.phase {
            Phase::Closed => return None,
            Phase::AwaitConnect { deadline } | Phase::Authenticating { deadline, .. } => Some(*deadline),
            Phase::Provisioning(role) => role.idle_deadline(&self.settings),
            Phase::Hub(role) => role.token_deadline(),
        };
        let keep_alive = self.keep_alive.as_ref().and_then(KeepAlive::deadline);
        [own, keep_alive, self.stopping].into_iter().flatten().min()
    }

    fn connect(&mut self, now: Moment, connect: crate::codec::Connect) {
        let keep_alive_seconds = connect.keep_alive;
        match connect::examine(connect, &self.service.hubs) {
            Ok((connected, subject)) => {
                let deadline = now.at + self.settings.accept_deadline;
                self.phase = Phase::Authenticating { deadline, keep_alive_seconds, subject };
                self.effects.push_back(match connected {
                    Connected::Provisioning(connect) => Effect::Attest(connect),
                    Connected::Hub(connect) => Effect::OpenHub(connect),
                });
            }
            Err(refused) => {
                let connect::Refused { code, refusal, subject } = *refused;
                self.phase = Phase::Authenticating { deadline: now.at, keep_alive_seconds, subject };
                self.refuse(code, refusal);
            }
        }
    }

    fn accept(&mut self, now: Moment, session_present: bool) {
        let Phase::Authenticating { keep_alive_seconds, .. } = &self.phase else { return };
        let mut keep_alive = KeepAlive::new(now.at, *keep_alive_seconds, self.settings.keep_alive_max);
        keep_alive.set_running(now.at, self.reading);
        self.keep_alive = Some(keep_alive);
        let connack = ConnAck { session_present, code: ConnectCode::Accepted };
        self.effects.push_back(Effect::Send(Packet::ConnAck(connack)));
    }

    /// Says no, and why to the operator. Never a silent close: a client whose socket just closes takes it for a broken network.
    fn refuse(&mut self, code: ConnectCode, refusal: Refusal) {
        let subject = match &mut self.phase {
            Phase::Authenticating { subject, .. } => std::mem::take(subject),
            _ => String::new(),
        };
        self.effects.push_back(Effect::Refused(Box::new(RefusedConnect { code, refusal, subject })));
        let connack = ConnAck { session_present: false, code };
        self.effects.push_back(Effect::Send(Packet::ConnAck(connack)));
        self.settle(Err(CloseCause::ConnectRefused { code: code as u8 }));
    }

    /// The session was ended before it began: all of these may heal, so the answer is 3 (design rule 25).
    fn refuse_unsaid(&mut self, reason: CloseReason) {
        let cause = CloseCause::from(reason);
        self.refuse(ConnectCode::ServerUnavailable, Refusal::Unavailable { why: cause.to_string() });
    }

    /// Bytes that are no packet. Before CONNECT some of them are a CONNECT all the same, and get an answer:
    ///
    /// - MQTT 5 gets the CONNACK of MQTT 5, which its clients read and fall back on.
    /// - MQTT 3.1 (`MQIsdp`) and bridges (level 0x84) get code 1, as the standard says (MQTT-3.1.2-2). Python's library, which
    ///   must never see a 1, sends MQTT 3.1 only after one, and such a client of level 4 never gets it here.
    /// - A user name or password that is no text gets code 4.
    fn undecodable(&mut self, error: DecodeError) {
        if matches!(self.phase, Phase::AwaitConnect { .. }) {
            match &error {
                DecodeError::UnsupportedLevel { name, level: 5 } if &**name == "MQTT" => {
                    self.effects.push_back(Effect::SendBytes(CONNACK_V5_UNSUPPORTED));
                    return self.settle(Err(CloseCause::Malformed(error)));
                }
                DecodeError::UnsupportedLevel { name, .. } if matches!(&**name, "MQTT" | "MQIsdp") => {
                    let connack = ConnAck { session_present: false, code: ConnectCode::UnacceptableLevel };
                    self.effects.push_back(Effect::Send(Packet::ConnAck(connack)));
                    return self.settle(Err(CloseCause::Malformed(error)));
                }
                DecodeError::NotUtf8 { field: "user name" | "password", .. }
                | DecodeError::NullCharacter { field: "user name", .. }
                | DecodeError::PasswordWithoutUserName => {
                    let refusal = Refusal::Invalid { what: "CONNECT".into(), why: error.to_string() };
                    return self.refuse(ConnectCode::BadUserNameOrPassword, refusal);
                }
                _ => {}
            }
        }
        self.settle(Err(error.into()));
    }

    /// The server stops: who has not come in is turned away, who waits for an acknowledgement gets it if the disk is quick.
    fn stop(&mut self, now: Moment) -> Result<(), CloseCause> {
        match &self.phase {
            Phase::AwaitConnect { .. } => Err(CloseCause::Stopping),
            Phase::Authenticating { .. } => {
                self.refuse_unsaid(CloseReason::Stopping);
                Ok(())
            }
            _ => {
                self.stopping.get_or_insert(now.at + self.settings.stop_grace);
                Ok(())
            }
        }
    }

    fn end_if_stopped(&mut self) {
        let idle = match &self.phase {
            Phase::Provisioning(role) => role.is_idle(),
            Phase::Hub(role) => role.is_idle(),
            _ => true,
        };
        if self.stopping.is_some() && idle {
            self.settle(Err(CloseCause::Stopping));
        }
    }

    fn settle(&mut self, result: Result<(), CloseCause>) {
        if let Err(cause) = result
            && !self.is_closed()
        {
            self.phase = Phase::Closed;
            self.keep_alive = None;
            self.effects.push_back(Effect::Close(cause));
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match &self.phase {
            Phase::AwaitConnect { .. } => "AwaitConnect",
            Phase::Authenticating { .. } => "Authenticating",
            Phase::Provisioning(_) => "Provisioning",
            Phase::Hub(_) => "Hub",
            Phase::Closed => "Closed",
        };
        f.debug_struct("Session").field("phase", &phase).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
