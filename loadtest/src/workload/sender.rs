//! One device that sends, or only stays: window, pace, acknowledgements, pings.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use unicity_device_sim::{SessionEnd, SimError};

use super::Site;
use crate::Stage;
use crate::client::Session;
use crate::client::codec::{self, Template};
use crate::drive::{Arrivals, Offered, Random, Shared};

/// How often a device sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Never.
    Idle,
    /// As often as its window lets it.
    Unbounded,
    /// On a schedule: times count from when a message was meant to leave.
    Rate {
        /// Messages a second.
        per_second: f64,
        /// How they lie in time; uniform ones begin at a random point of their gap.
        arrivals: Arrivals,
    },
}

/// MQTT's quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// What all senders of a run did, warm-up and connecting included.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) sent: AtomicU64,
    pub(super) acknowledged: AtomicU64,
}

/// When a sender ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Until {
    /// At this moment.
    pub(super) end: Option<Instant>,
    /// After so many messages.
    pub(super) messages: Option<u64>,
}

/// One device on its session.
pub(super) struct Sender<'a> {
    pub(super) session: Session,
    shared: &'a Shared,
    total: &'a Sent,
    number: u64,
    quality: Quality,
    patience: Duration,
    keep_alive: Duration,
    /// When a ping is due; none without keep-alive.
    ping_at: Option<Instant>,
    ping_unanswered: bool,
    /// Packet ids that are not in flight.
    free: Vec<u16>,
    /// When the publish of each packet id was sent and when it was meant to be; none if it is not in flight.
    flight: Vec<Option<(Instant, Instant)>>,
    /// Times of one batch, given to the recorder together.
    batch: Vec<(Duration, Duration)>,
    sent: u64,
    acknowledged: u64,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        session: Session,
        shared: &'a Shared,
        total: &'a Sent,
        number: u64,
        quality: Quality,
        window: u16,
        site: &Site,
    ) -> Self {
        let (patience, keep_alive) = (site.patience.step, site.keep_alive);
        Self {
            session,
            shared,
            total,
            number,
            quality,
            patience,
            keep_alive,
            ping_at: (!keep_alive.is_zero()).then(|| Instant::now() + keep_alive),
            ping_unanswered: false,
            free: (1..=window).rev().collect(),
            flight: vec![None; usize::from(window)],
            batch: Vec::new(),
            sent: 0,
            acknowledged: 0,
        }
    }

    fn in_flight(&self) -> usize {
        self.flight.len() - self.free.len()
    }

    /// Publishes without a PUBACK.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.sent - self.acknowledged
    }

    /// Stays connected until `until`; pings.
    pub(super) async fn stay(&mut self, until: impl Future<Output = ()>) -> Result<(), SimError> {
        let mut until = pin!(until);
        loop {
            self.session.flush().await?;
            self.session.rest();
            let ping_at = self.ping_at;
            tokio::select! {
                biased;
                () = &mut until => return Ok(()),
                read = self.session.acknowledgements(|_| Ok(())) => {
                    read?;
                    self.ping_unanswered = false;
                }
                () = due(ping_at) => self.ping()?,
            }
        }
    }

    fn ping(&mut self) -> Result<(), SimError> {
        if self.ping_unanswered {
            return Err(SimError::Ended(SessionEnd::NoPingAnswer));
        }
        self.ping_unanswered = true;
        self.session.write.extend_from_slice(&codec::PINGREQ);
        self.ping_at = Some(Instant::now() + self.keep_alive);
        Ok(())
    }

    fn put(&mut self, template: &Template, now: Instant, intended: Instant) {
        let mut id = 0;
        if self.quality == Quality::AtLeastOnce {
            let Some(free) = self.free.pop() else { return };
            id = free;
            self.flight[usize::from(id) - 1] = Some((now, intended));
        }
        template.append(&mut self.session.write, id);
        self.sent += 1;
    }

    /// Sends at a pace from `start` on until it is time to end, then waits for the last PUBACK. The first publish of the
    /// session is [`Stage::FirstPuback`], the others [`Stage::Puback`]; on a schedule [`Stage::Total`] is the time since each
    /// was meant to leave.
    pub(super) async fn send(
        &mut self,
        template: &Template,
        pace: Pace,
        start: Instant,
        until: Until,
        seed: u64,
    ) -> Result<(), SimError> {
        let before = (self.sent, self.acknowledged);
        let result = self.pump(template, pace, start, until, seed).await;
        self.total.sent.fetch_add(self.sent - before.0, Ordering::Relaxed);
        self.total.acknowledged.fetch_add(self.acknowledged - before.1, Ordering::Relaxed);
        result
    }

    async fn pump(
        &mut self,
        template: &Template,
        pace: Pace,
        start: Instant,
        until: Until,
        seed: u64,
    ) -> Result<(), SimError> {
        if pace == Pace::Unbounded {
            self.session.expect_much();
        }
        let mut schedule = schedule(pace, start, seed, self.number);
        let mut due_at = schedule.as_mut().and_then(Iterator::next);
        let (stop, on_schedule) = (self.shared.stop.clone(), schedule.is_some());
        let mut wished = pin!(stop.wished());
        let mut timer = pin!(sleep_until(start));
        let mut heard = Instant::now();
        let mut ending = false;
        let most = until.messages.unwrap_or(u64::MAX);
        loop {
            let now = Instant::now();
            ending = ending || self.sent >= most || until.end.is_some_and(|end| now >= end);
            while !ending && self.sent < most && (self.quality == Quality::AtMostOnce || !self.free.is_empty()) {
                match pace {
                    Pace::Idle => break,
                    Pace::Unbounded if self.session.write.len() >= BATCH => break,
                    Pace::Unbounded => self.put(template, now, now),
                    Pace::Rate { .. } => match due_at.filter(|at| *at <= now) {
                        Some(at) => {
                            self.put(template, now, at);
                            due_at = schedule.as_mut().and_then(Iterator::next);
                        }
                        None => break,
                    },
                }
            }
            if !self.session.write.is_empty() {
                self.session.flush().await?;
                self.ping_at = self.ping_at.map(|_| now + self.keep_alive);
                if self.quality == Quality::AtMostOnce {
                    let count = self.sent - self.acknowledged;
                    self.acknowledged = self.sent;
                    self.shared.live.acknowledge(count);
                    if pace == Pace::Unbounded && !ending {
                        ending = stop.is_wished();
                        // Else a socket that takes all would keep the others from their turn.
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
            }
            if ending && self.in_flight() == 0 {
                return Ok(());
            }
            let late_at = (self.in_flight() > 0).then(|| heard + self.patience);
            let may_send = !ending && (self.quality == Quality::AtMostOnce || !self.free.is_empty());
            let wake = [until.end.filter(|_| !ending), due_at.filter(|_| may_send), self.ping_at, late_at];
            let wake = wake.into_iter().flatten().min();
            // An earlier wake-up than needed does no harm, and setting the timer costs more.
            if let Some(wake) = wake
                && (wake < timer.deadline() || timer.is_elapsed())
            {
                timer.as_mut().reset(wake);
            }
            let mut acknowledged_at = None;
            let (flight, free, batch) = (&mut self.flight, &mut self.free, &mut self.batch);
            tokio::select! {
                biased;
                read = self.session.acknowledgements(|id| {
                    let now = *acknowledged_at.get_or_insert_with(Instant::now);
                    let slot = usize::from(id).checked_sub(1).and_then(|slot| flight.get_mut(slot));
                    let Some((sent, intended)) = slot.and_then(Option::take) else {
                        return Err(SimError::Protocol(format!("PUBACK of {id}, which is not in flight")));
                    };
                    free.push(id);
                    batch.push((now.saturating_duration_since(sent), now.saturating_duration_since(intended)));
                    Ok(())
                }) => {
                    read?;
                    heard = acknowledged_at.unwrap_or(now);
                    self.ping_unanswered = false;
                    self.note(on_schedule);
                }
                () = timer.as_mut(), if wake.is_some() => {
                    let now = Instant::now();
                    if late_at.is_some_and(|at| now >= at) {
                        return Err(SimError::Timeout { awaited: "PUBACK", after: self.patience });
                    }
                    if self.ping_at.is_some_and(|at| at <= now) {
                        self.ping()?;
                    }
                }
                () = &mut wished, if !ending => ending = true,
            }
            // Time without anything in flight is no silence of the server.
            if self.in_flight() == 0 {
                heard = Instant::now();
                if !matches!(pace, Pace::Unbounded) {
                    self.session.rest();
                }
            }
        }
    }

    fn note(&mut self, on_schedule: bool) {
        if self.batch.is_empty() {
            return;
        }
        let is_first = self.acknowledged == 0;
        self.acknowledged += self.batch.len() as u64;
        self.shared.live.acknowledge(self.batch.len() as u64);
        let batch = &mut self.batch;
        self.shared.record(self.number, |recorder| {
            for (place, (since_sent, since_intended)) in batch.drain(..).enumerate() {
                let stage = if is_first && place == 0 { Stage::FirstPuback } else { Stage::Puback };
                recorder.record(stage, since_sent);
                if on_schedule {
                    recorder.record(Stage::Total, since_intended);
                    recorder.record(Stage::TotalUncorrected, since_sent);
                }
            }
        });
    }
}

/// Bytes that are written together, in an unbounded pace.
const BATCH: usize = 64 * 1024;

fn schedule(pace: Pace, start: Instant, seed: u64, number: u64) -> Option<impl Iterator<Item = Instant>> {
    let Pace::Rate { per_second, arrivals } = pace else { return None };
    let mut random = Random::of(seed, number);
    let back = match arrivals {
        Arrivals::Poisson => Duration::ZERO,
        // The gap before the first is a random part of one.
        Arrivals::Uniform => Duration::try_from_secs_f64(random.fraction() / per_second).unwrap_or_default(),
    };
    let offered = Offered::new(arrivals, per_second, random.bits());
    Some(offered.map(move |offset| start + offset.saturating_sub(back).min(Duration::from_secs(1 << 30))))
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
