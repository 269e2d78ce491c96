//! One device's life by plan: boot, registration, sessions one after the other, and what it does about failures.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};

use super::voice::Voice;
use super::{Group, Member, Shared, until};
use crate::client::MqttClient;
use crate::dice::Dice;
use crate::events::Event;
use crate::flaky::{Disturbance, Habits, Stretch};
use crate::life::DeviceOutcome;
use crate::progress::OpenSession;
use crate::stages::Stage;
use crate::{Assignment, Credential, Dialer, HubSession, Message, SimError};

/// How long a DISCONNECT may take.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// Why a session is over.
pub(super) enum Leave {
    /// All was said.
    Done,
    /// The fleet stops.
    Stopped,
    /// The duty cycle.
    Away(Duration),
    /// The token ends soon.
    Renew,
    /// By plan.
    Disturbed(Stretch),
    /// Not by the device.
    Lost(SimError),
}

/// A device at any point of its life.
pub(super) struct Life<C> {
    pub(super) shared: Arc<Shared>,
    pub(super) member: Member,
    pub(super) voice: Voice,
    /// Sent and not acknowledged, oldest first; sent again in the next session.
    pub(super) pending: VecDeque<Message>,
    /// What will disturb it, and how many messages before the next.
    pub(super) stretches: VecDeque<Stretch>,
    pub(super) until_disturbed: u32,
    pub(super) ends_at: Option<Instant>,
    pub(super) acknowledged: u64,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) dialer: Arc<Dialer>,
    dice: Dice,
    pub(super) assignment: Option<Assignment>,
    /// Since when it has no session although it wants one.
    lost_at: Option<Instant>,
    was_connected: bool,
    renewing: bool,
    /// A session that nobody reads from, not yet closed.
    vanished: Option<HubSession<C>>,
}

impl<C: MqttClient> Life<C> {
    pub(super) fn new(shared: Arc<Shared>, member: Member) -> Self {
        let group = shared.group(&member);
        let (plan, id) = (&group.plan, &member.device.registration_id);
        let boots_at = shared.began + plan.boot.at(member.index, member.of);
        let stretches: VecDeque<Stretch> = plan.flaky.as_ref().map_or_else(VecDeque::new, |flaky| {
            let habits = Habits {
                disturbances: flaky.disturbances.clone(),
                count: flaky.count,
                messages_max: flaky.messages_max,
                pause_max: flaky.pause_max,
                seed: shared.seed,
                ..Habits::default()
            };
            habits.plan(id).into()
        });
        let assignment = member.assigned.clone().map(|(hub_host, device_id)| Assignment {
            hub_host,
            device_id,
            operation_id: None,
            payload: None,
            times: crate::ProvisionTimes::default(),
        });
        Self {
            voice: Voice::new(&shared, &member, &plan.telemetry, boots_at),
            pending: VecDeque::new(),
            until_disturbed: stretches.front().map_or(0, |stretch| stretch.messages),
            stretches,
            ends_at: plan.telemetry.duration.map(|duration| boots_at + duration),
            acknowledged: 0,
            stop: shared.stop.clone(),
            dialer: Arc::clone(&group.dialers[member.index % group.dialers.len()]),
            dice: Dice::new(shared.seed, &format!("{id}/network")),
            assignment,
            lost_at: None,
            was_connected: false,
            renewing: false,
            vanished: None,
            member,
            shared,
        }
    }

    pub(super) fn group(&self) -> &Group {
        self.shared.group(&self.member)
    }

    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        self.shared.events.of(&self.member.device.registration_id, &self.group().name, event);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    fn is_over(&self) -> bool {
        self.is_stopped() || self.ends_at.is_some_and(|end| Instant::now() >= end)
    }

    /// Waits until then; returns whether life goes on.
    async fn wait_until(&mut self, then: Instant) -> bool {
        let ends_at = self.ends_at;
        tokio::select! {
            Ok(_) = self.stop.wait_for(|stopped| *stopped) => {}
            () = tokio::time::sleep_until(then) => {}
            () = until(ends_at) => {}
        }
        !self.is_over()
    }

    /// From boot to the end.
    pub(super) async fn live(mut self) -> DeviceOutcome {
        let boots_at = self.shared.began + self.group().plan.boot.at(self.member.index, self.member.of);
        let mut error = None;
        if self.wait_until(boots_at).await {
            let progress = Arc::clone(&self.shared.progress);
            progress.add(|progress| &progress.started);
            if self.assignment.is_some() {
                progress.add(|progress| &progress.remembered);
            }
            match self.steps().await {
                Ok(()) => progress.add(|progress| &progress.finished),
                Err(why) => {
                    let text = progress.device_failed(&why);
                    self.tell(|| Event::Failed { error: text.clone() });
                    error = Some(text);
                }
            }
        }
        DeviceOutcome {
            registration_id: self.member.device.registration_id,
            assignment: self.assignment,
            acknowledged: self.acknowledged,
            error,
        }
    }

    async fn steps(&mut self) -> Result<(), SimError> {
        let (mut failures, mut refusals, mut rounds) = (0, 0, 0);
        let plan = self.group().plan.reconnect.clone();
        while !self.is_over() {
            if self.assignment.is_none() {
                match self.register().await {
                    None => return Ok(()),
                    Some(Ok(assignment)) => self.registered(assignment),
                    Some(Err(error)) => {
                        self.refused("provisioning", &error);
                        if !error.may_heal() {
                            rounds += 1;
                            if !self.may_be_moving(&error) || rounds >= plan.rounds {
                                return Err(error);
                            }
                        }
                        failures += 1;
                        self.back_off(failures, &error).await;
                        continue;
                    }
                }
            }
            let mut session = match self.connect().await {
                None => return Ok(()),
                Some(Ok(session)) => session,
                Some(Err(error)) => {
                    failures += 1;
                    self.outage();
                    self.refused("hub", &error);
                    if let (false, SimError::Refused(_)) = (error.may_heal(), &error) {
                        refusals += 1;
                        if refusals >= plan.refusals {
                            rounds += 1;
                            if rounds >= plan.rounds {
                                return Err(error);
                            }
                            self.forget(refusals);
                            refusals = 0;
                        }
                    } else if !error.may_heal() {
                        return Err(error);
                    }
                    self.back_off(failures, &error).await;
                    continue;
                }
            };
            (failures, refusals, rounds) = (0, 0, 0);
            let open = OpenSession::new(&self.shared.progress);
            let leave = self.attend(&mut session).await;
            drop(open);
            if self.leave(session, leave, &mut failures).await {
                break;
            }
        }
        Ok(())
    }

    /// Whether a registration may go better later although the answer was final: a device that has been at a hub is on its way to another
    /// one, and whichever it is may be down just now.
    fn may_be_moving(&self, error: &SimError) -> bool {
        self.was_connected && matches!(error, SimError::Failed(_) | SimError::GaveUp { .. })
    }

    /// Waits until a connection may be opened; `None` if the fleet stops meanwhile.
    pub(super) async fn turn(&mut self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            Ok(_) = self.stop.wait_for(|stopped| *stopped) => None,
            permit = Arc::clone(&self.shared.handshakes).acquire_owned() => permit.ok(),
        }
    }

    /// `None` if the fleet stops meanwhile.
    async fn connect(&mut self) -> Option<Result<HubSession<C>, SimError>> {
        let _permit = self.turn().await?;
        let assignment = self.assignment.clone()?;
        let seconds = self.group().plan.token.ttl.as_secs();
        let (shared, dialer, credential) =
            (Arc::clone(&self.shared), Arc::clone(&self.dialer), self.member.device.key.clone());
        let connection = Box::pin(async move {
            HubSession::<C>::connect_lasting(&dialer, &assignment, &credential, seconds, &shared.env).await
        });
        let connected = tokio::select! {
            Ok(_) = self.stop.wait_for(|stopped| *stopped) => None,
            connected = connection => Some(connected),
        }?;
        let Ok(session) = connected else { return Some(connected) };
        self.connected(&session);
        Some(Ok(session))
    }

    fn connected(&mut self, session: &HubSession<C>) {
        let (shared, took) = (Arc::clone(&self.shared), session.connect_time());
        shared.record(&self.member, Stage::HubConnect, took);
        if !std::mem::replace(&mut self.was_connected, true) {
            shared.progress.add(|progress| &progress.connected);
        }
        let outage = self.lost_at.take().map(|lost_at| lost_at.elapsed());
        if let Some(outage) = outage {
            shared.progress.add(|progress| &progress.reconnects);
            shared.record(&self.member, Stage::Outage, outage);
        }
        self.tell(|| Event::Connected {
            hub: self.assignment.as_ref().map(|assignment| assignment.hub_host.clone()).unwrap_or_default(),
            took_us: micros(took),
            outage_ms: outage.map(|outage| micros(outage) / 1000),
        });
        if std::mem::take(&mut self.renewing) {
            shared.progress.add(|progress| &progress.renewals);
            self.tell(|| Event::Renewed);
        }
        // The network lets go of the old session only now.
        self.vanished = None;
    }

    /// An outage begins, unless one lasts.
    fn outage(&mut self) {
        if self.lost_at.is_none() {
            self.lost_at = Some(Instant::now());
            self.shared.progress.add(|progress| &progress.outages);
        }
    }

    fn refused(&self, by: &'static str, error: &SimError) {
        if matches!(error, SimError::Refused(_) | SimError::Rejected { .. } | SimError::Failed(_) | SimError::Disabled)
        {
            self.shared.progress.add(|progress| &progress.refused);
            self.tell(|| Event::Refused { by, kind: error.kind(), error: error.to_string() });
        }
    }

    async fn back_off(&mut self, failures: u32, error: &SimError) {
        let chance = self.chance();
        let wait = self.group().plan.reconnect.backoff.wait(failures, chance);
        self.shared.progress.add(|progress| &progress.retries);
        self.tell(|| Event::Reconnecting { in_ms: micros(wait) / 1000, failures, error: error.to_string() });
        self.wait_until(Instant::now() + wait).await;
    }

    /// Ends a session as its reason wants; returns whether life is over.
    async fn leave(&mut self, session: HubSession<C>, leave: Leave, failures: &mut u32) -> bool {
        let reason = match &leave {
            Leave::Done => "done",
            Leave::Stopped => "stopped",
            Leave::Away(_) => "away",
            Leave::Renew => "renew",
            Leave::Disturbed(stretch) => stretch.disturbance.name(),
            Leave::Lost(_) => "lost",
        };
        self.tell(|| Event::Disconnected {
            reason,
            error: if let Leave::Lost(error) = &leave { Some(error.to_string()) } else { None },
            unacknowledged: self.pending.len(),
        });
        match leave {
            Leave::Done | Leave::Stopped => {
                let _ = timeout(DISCONNECT_PATIENCE, session.disconnect()).await;
                true
            }
            Leave::Away(away) => {
                let _ = timeout(DISCONNECT_PATIENCE, session.disconnect()).await;
                !self.wait_until(Instant::now() + away).await
            }
            Leave::Renew => {
                let _ = timeout(DISCONNECT_PATIENCE, session.disconnect()).await;
                self.renewing = true;
                false
            }
            Leave::Disturbed(stretch) => self.disturbed(session, stretch).await,
            Leave::Lost(error) => {
                drop(session);
                self.outage();
                *failures += 1;
                self.back_off(*failures, &error).await;
                self.is_over()
            }
        }
    }

    async fn disturbed(&mut self, session: HubSession<C>, stretch: Stretch) -> bool {
        match stretch.disturbance {
            Disturbance::Drop | Disturbance::Move | Disturbance::Reboot => drop(session),
            Disturbance::Vanish => self.vanished = Some(session),
            Disturbance::Sleep | Disturbance::Renew => {
                let _ = timeout(DISCONNECT_PATIENCE, session.disconnect()).await;
            }
        }
        self.renewing = stretch.disturbance == Disturbance::Renew;
        if let Some(source) = stretch.source {
            self.dialer = Arc::new((*self.dialer).clone().with_source(source));
        }
        if stretch.disturbance == Disturbance::Reboot {
            self.assignment = None;
        }
        !self.wait_until(Instant::now() + stretch.pause).await
    }

    /// Counts one acknowledged message.
    pub(super) fn count(&mut self, took: Duration) {
        self.pending.pop_front();
        self.acknowledged += 1;
        self.shared.progress.acknowledged.fetch_add(1, Relaxed);
        self.shared.record(&self.member, Stage::Acknowledged, took);
        self.until_disturbed = self.until_disturbed.saturating_sub(1);
    }

    /// From the begin of a session to its renewal; `None` for who has no token.
    pub(super) fn renews_after(&self) -> Option<Duration> {
        let token = self.group().plan.token;
        match self.member.device.key {
            Credential::Key(_) | Credential::Tpm(_) => Some(token.ttl.saturating_sub(token.renew_before)),
            Credential::Certificate(_) | Credential::Token(_) => None,
        }
    }

    /// A number from 0 up to, and without, 1, by the seed.
    pub(super) fn chance(&mut self) -> f64 {
        self.dice.unit()
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
