//! The loop around one session: bytes and answers in, effects out.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, info, warn};
use unicity_hub::{AppendDone, AppendError, Appended, Entry, Message, Pending, RegisteringPlace};
use unicity_identity::Subscription;
use unicity_listener::{ByteStream, ConnectionInfo, UnauthenticatedPermit};
use unicity_provisioning::Command;
use unicity_provisioning::PresentedChain;
use unicity_provisioning::service::Registered;

use super::Shared;
use super::clones::{self, Facts};
use super::io::{Step, Wire};
use super::mailbox::{Letter, Mailbox};
use super::open::save;
use super::outbox::{Bundle, Outbox};
use super::place::{Place, nobody_waits};
use crate::close::CloseCause;
use crate::codec::{Decoder, encode};
use crate::metrics::{BrokerMetrics, Guarantee, RoleKind};
use crate::session::{Effect, Event, Moment, ProvisioningConnect, Session, Ticket};

/// How long the last bytes of a connection may take.
const FINISH_PATIENCE: Duration = Duration::from_secs(2);

/// What a job of the session ended with.
pub(super) enum JobDone {
    Event(Event),
    Opened(Box<(crate::session::HubOpened, Place)>),
    Answered { request: &'static str, registered: Box<Registered>, tracking_id: String },
}

/// The one thing beside messages that a session may wait for.
pub(super) type Job = Pin<Box<dyn Future<Output = JobDone> + Send>>;

/// A message for which the log's queue has no room.
pub(super) struct Stalled {
    entry: Entry,
    done: AppendDone,
    space: Pending<()>,
}

/// Counts an accepted connection while it lives.
pub(super) struct Counted(Arc<BrokerMetrics>, RoleKind);

impl Counted {
    pub(super) fn new(metrics: &Arc<BrokerMetrics>, role: RoleKind) -> Self {
        metrics.connected(role);
        Self(Arc::clone(metrics), role)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.gone(self.1);
    }
}

/// One connection.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    /// What TLS showed of the client.
    pub(super) facts: Facts,
    pub(super) unauthenticated: UnauthenticatedPermit,
    /// The certificates of the handshake, full or resumed, until a hub session is open.
    pub(super) chain: Option<Arc<PresentedChain>>,
    pub(super) wire: Wire,
    pub(super) decoder: Decoder,
    pub(super) session: Session,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) job: Option<Job>,
    pub(super) stalled: Option<Stalled>,
    /// Messages of the packets being decoded; in between it holds one at most, behind a stalled entry.
    pub(super) outbox: Outbox,
    /// The claim of a registering device: it is checked again with each request.
    pub(super) claim: Option<Arc<ProvisioningConnect>>,
    pub(super) place: Option<Place>,
    /// Where revocations find a registering device.
    pub(super) registering: Option<RegisteringPlace>,
    pub(super) counted: Option<Counted>,
    pub(super) last_offset: Option<u64>,
    pub(super) acked: u64,
    /// Since when the peer has taken nothing of what waits for it.
    pub(super) unread_since: Option<Instant>,
    pub(super) closing: Option<CloseCause>,
}

enum Wake {
    Step(Step),
    Job(JobDone),
    Space,
    Mail,
    Timer,
    Stop,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, stream: Box<dyn ByteStream>, info: ConnectionInfo) -> Self {
        let settings = Arc::clone(&shared.settings);
        let service = Arc::clone(shared.parts.provisioning.settings());
        let now = shared.moment();
        let session = Session::new(now, Arc::clone(&settings), service);
        Self {
            peer: info.peer,
            facts: Facts::of(&info),
            unauthenticated: info.unauthenticated,
            chain: PresentedChain::parse(&info.client_chain).map(Arc::new),
            wire: Wire::new(stream, settings.read_buffer_bytes),
            decoder: Decoder::new(settings.codec),
            session,
            mailbox: Arc::new(Mailbox::new(now.at)),
            job: None,
            stalled: None,
            outbox: Outbox::default(),
            claim: None,
            place: None,
            registering: None,
            counted: None,
            last_offset: None,
            acked: 0,
            unread_since: None,
            closing: None,
            shared,
        }
    }

    /// Serves the connection to its end. Boxed: a future holds what it is given twice, and each that it is handed on to again.
    pub(super) async fn run(mut self: Box<Self>, stop: CancellationToken) {
        let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
        let mut armed: Option<Instant> = None;
        let mut stopped = pin!(stop.cancelled());
        let mut is_stopped = false;
        let mut now = self.shared.moment();
        loop {
            self.take_mail(now);
            self.decode(now);
            if let Some(cause) = self.closing.take() {
                return Box::pin(self.finish(cause)).await;
            }
            let read = self.takes_input();
            self.session.set_reading(now, read);
            self.mailbox.liveness().set_reading(read);
            self.wire.rest();
            // A deadline that moved away is left alone: when the timer fires, the session finds that nothing is due.
            if let Some(wanted) = self.next_deadline(now)
                && armed.is_none_or(|armed| wanted < armed)
            {
                timer.as_mut().reset(wanted.into());
                armed = Some(wanted);
            }
            let Self { wire, job, stalled, mailbox, .. } = self.as_mut();
            // In this order: what ends the session or lets it go on comes before the client's bytes, of which there may be ever more.
            let wake = tokio::select! {
                biased;
                () = stopped.as_mut(), if !is_stopped => Wake::Stop,
                () = mailbox.arrived() => Wake::Mail,
                done = async { job.as_mut().expect("guarded").await }, if job.is_some() => Wake::Job(done),
                () = async { (&mut stalled.as_mut().expect("guarded").space).await }, if stalled.is_some() => Wake::Space,
                () = timer.as_mut(), if armed.is_some() => Wake::Timer,
                step = wire.step(read) => Wake::Step(step),
            };
            now = self.shared.moment();
            // Whatever it was: one that is to end does nothing more, though the wish has not woken it yet.
            if self.mailbox.is_close_asked() && !matches!(wake, Wake::Stop) {
                if let Wake::Job(_) = wake {
                    self.job = None;
                }
                continue;
            }
            match wake {
                Wake::Step(step) => self.stepped(now, step),
                Wake::Job(done) => {
                    self.job = None;
                    self.job_done(now, done);
                }
                Wake::Space => self.submit_stalled(),
                Wake::Mail => {}
                Wake::Timer => {
                    armed = None;
                    self.timed_out(now);
                }
                Wake::Stop => {
                    is_stopped = true;
                    self.tell(now, Event::Stop);
                }
            }
        }
    }

    /// Whether the client is read from. It is not while it has to wait, be it for the session, the log or itself.
    fn takes_input(&self) -> bool {
        self.session.accepts_input()
            && self.stalled.is_none()
            && self.wire.output.len() < self.shared.settings.unsent_bytes_max
    }

    fn next_deadline(&mut self, now: Moment) -> Option<Instant> {
        self.unread_since = self.wire.is_writing().then(|| self.unread_since.unwrap_or(now.at));
        let unread = self.unread_since.map(|since| since + self.shared.settings.write_timeout);
        [self.session.poll_timeout(), unread].into_iter().flatten().min()
    }

    fn timed_out(&mut self, now: Moment) {
        if self.unread_since.is_some_and(|since| since + self.shared.settings.write_timeout <= now.at) {
            return self.tell(now, Event::WriteStalled);
        }
        self.session.handle_timeout(now);
        self.apply(now);
        self.session.rest();
    }

    fn stepped(&mut self, now: Moment, step: Step) {
        match step {
            Step::Read => self.session.heard(now),
            Step::Wrote => self.unread_since = None,
            Step::End => self.tell(now, Event::PeerClosed),
            Step::Broken(error) => self.tell(now, Event::Io(error.to_string())),
        }
    }

    /// Decodes what came, and hands over the messages in it.
    fn decode(&mut self, now: Moment) {
        let mut is_heard = false;
        while self.closing.is_none() && self.takes_input() {
            match self.decoder.decode(&mut self.wire.input) {
                Ok(Some(packet)) => {
                    is_heard = true;
                    self.session.handle_packet(now, packet);
                    self.apply(now);
                }
                Ok(None) => break,
                Err(error) => {
                    self.tell(now, Event::Undecodable(error));
                    break;
                }
            }
        }
        if is_heard {
            self.mailbox.heard(now.at);
        }
        self.hand_over();
    }

    fn take_mail(&mut self, now: Moment) {
        let (appended, close) = self.mailbox.take();
        for Letter { first, count, result } in appended {
            self.count_append(now, count, &result);
            self.tell(now, Event::Appended { first, count, result });
        }
        if let Some(reason) = close {
            self.tell(now, Event::CloseRequested(reason));
        }
    }

    fn tell(&mut self, now: Moment, event: Event) {
        self.session.handle_event(now, event);
        self.apply(now);
    }

    /// Does what the session wants done.
    fn apply(&mut self, now: Moment) {
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Send(packet) => {
                    if let Err(error) = encode(&packet, &mut self.wire.output) {
                        self.session.handle_event(now, Event::Internal(error.to_string()));
                    }
                }
                Effect::SendBytes(bytes) => self.wire.output.extend_from_slice(bytes),
                Effect::Attest(connect) => self.attest(now, *connect),
                Effect::OpenHub(connect) => self.open_hub(now, *connect),
                Effect::Refused(refused) => self.refused(now, *refused),
                Effect::Request(request) => self.request(now, request),
                Effect::Append { ticket, message } => self.append(now, ticket, message),
                Effect::SaveSubscriptions(subscriptions) => self.save_subscriptions(subscriptions),
                Effect::FiltersRefused(filters) => info!(?filters, "subscriptions refused: not this client's"),
                Effect::AnswerKept { topic } => {
                    self.shared.metrics.answer_kept();
                    info!(topic, "answer kept, since the client has not subscribed to it");
                }
                Effect::Close(cause) => self.closing = Some(cause),
            }
        }
        let acked = self.session.acked();
        if acked != self.acked {
            self.shared.metrics.messages_acked(acked - self.acked);
            self.acked = acked;
        }
    }

    fn job_done(&mut self, now: Moment, done: JobDone) {
        match done {
            JobDone::Event(event) => self.session.handle_event(now, event),
            JobDone::Answered { request, registered, tracking_id } => {
                self.answered(now, request, *registered, &tracking_id);
            }
            JobDone::Opened(opened) => {
                let (opened, place) = *opened;
                Span::current().record("role", "hub");
                Span::current().record("device.id", tracing::field::display(&opened.stamp.client));
                Span::current().record("epoch", tracing::field::display(&opened.stamp.epoch));
                self.place = Some(place);
                // Whoever judges it again has its bytes.
                self.chain = None;
                self.accepted(RoleKind::Hub);
                self.session.handle_event(now, Event::HubOpened(Box::new(opened)));
                self.apply(now);
                return self.session.rest();
            }
        }
        self.apply(now);
    }

    fn append(&mut self, now: Moment, ticket: Ticket, message: Box<Message>) {
        let Some(place) = &self.place else {
            return self.session.handle_event(now, Event::Internal("a message without a session".into()));
        };
        if !Arc::ptr_eq(&message.stamp, &place.stamp) {
            self.shared.metrics.violated(Guarantee::U4);
            return self.session.handle_event(now, Event::Internal("a message with another session's stamp".into()));
        }
        if self.outbox.must_go_before(ticket, &message, self.shared.settings.hand_over_max) {
            self.hand_over();
        }
        self.outbox.push(ticket, *message);
    }

    fn hand_over(&mut self) {
        if self.stalled.is_none()
            && let Some(Bundle { entry, first, count, body_bytes }) = self.outbox.take()
        {
            self.shared.metrics.messages_accepted(count, body_bytes);
            self.submit(entry, self.mailbox.callback(first, count));
        }
    }

    fn submit_stalled(&mut self) {
        if let Some(Stalled { entry, done, .. }) = self.stalled.take() {
            self.submit(entry, done);
            self.hand_over();
        }
    }

    fn submit(&mut self, entry: Entry, done: AppendDone) {
        let Some(place) = &self.place else { return };
        let (log, hub) = (&self.shared.parts.log, &place.stamp.client.hub);
        if let Err((entry, done)) = log.submit(hub, place.partition, entry, done) {
            self.shared.metrics.log_stalled();
            self.stalled = Some(Stalled { entry, done, space: log.space(hub, place.partition) });
        }
    }

    fn count_append(&mut self, now: Moment, count: u64, result: &Result<Appended, AppendError>) {
        let metrics = &self.shared.metrics;
        match result {
            Ok(Appended::Stored { offset }) => {
                metrics.messages_stored(count);
                // The first of them: none of those before may lie at or above it.
                let first = (*offset + 1).saturating_sub(count);
                if self.last_offset.replace(*offset).is_some_and(|last| last >= first) {
                    metrics.violated(Guarantee::U3);
                    warn!(offset, "messages of one session were stored out of order");
                }
            }
            Ok(Appended::Done) => {}
            Err(AppendError::Fenced) => metrics.messages_fenced(count),
            Err(error) => {
                metrics.messages_not_stored(count);
                if matches!(error, AppendError::Full(_) | AppendError::Poisoned(_)) {
                    *self.shared.log_trouble.lock() = Some(now.at + self.shared.settings.log_trouble_pause);
                }
            }
        }
    }

    fn save_subscriptions(&mut self, subscriptions: Vec<Subscription>) {
        let Some(place) = &self.place else { return };
        let client = place.stamp.client.clone();
        let command = Command::SetSubscriptions { client, subscriptions: Some(subscriptions) };
        let shared = Arc::clone(&self.shared);
        self.job =
            Some(Box::pin(async move { JobDone::Event(Event::SubscriptionsSaved(save(&shared, command).await)) }));
    }

    /// The end: the place is free at once, and the last bytes go out meanwhile.
    async fn finish(mut self: Box<Self>, cause: CloseCause) {
        self.job = None;
        self.counted = None;
        // Nobody told a client that said goodbye that what it sent before met a full queue.
        let mut unsent = Vec::new();
        if matches!(cause, CloseCause::Disconnected) {
            unsent.extend(self.stalled.take().map(|Stalled { entry, done, .. }| (entry, done)));
            unsent.extend(self.outbox.take().map(|bundle| (bundle.entry, nobody_waits())));
        }
        self.stalled = None;
        self.shared.metrics.closed(&cause);
        if cause.is_expected() {
            debug!(cause = cause.label(), "connection closed: {cause}");
        } else {
            info!(cause = cause.label(), "connection closed: {cause}");
        }
        let place = self.place.take();
        let stamp = place.as_ref().map(|place| Arc::clone(&place.stamp));
        let give_back = async {
            if let Some(place) = place {
                place.give_back(cause.publishes_will(), unsent).await;
            }
        };
        let is_broken = matches!(cause, CloseCause::Io(_) | CloseCause::PeerClosed | CloseCause::WriteStalled);
        // Of one that was taken over it counts whether somebody is still there.
        let linger = matches!(
            cause,
            CloseCause::ConnectRefused { .. } | CloseCause::Malformed(_) | CloseCause::TakenOver { .. }
        );
        let last_words = async {
            match is_broken {
                true => false,
                false => tokio::time::timeout(FINISH_PATIENCE, self.wire.finish(linger)).await.unwrap_or(false),
            }
        };
        let ((), answered) = tokio::join!(give_back, last_words);
        if let Some(stamp) = stamp {
            clones::ended(&self.shared, &stamp, &cause, answered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F: Future>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        // There are tens of thousands of them. Who makes one larger should know it.
        assert!(size_of::<Connection>() <= 1024, "{}", size_of::<Connection>());
        let run = size_of_future(Connection::run);
        assert!(run <= 640, "{run}");
    }
}
