//! What is known of hubs at each moment: written by the probe and by transfers, read by allocation, operators and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use unicity_identity::{HubName, RemoteLink, Timestamp};
use unicity_provisioning::allocation::{Latency, LatencySource, LiveFacts, Surroundings};
use unicity_provisioning::transfer::Transfer;

use super::breaker::{Breaker, BreakerSettings, BreakerState};
use super::health::{HubHealth, HubState, Watch};
use super::lane::{Lane, lane_of};

/// What is known of hubs elsewhere. Bounded by the number of linked hubs.
#[derive(Debug)]
pub struct LiveHubs {
    begun: Instant,
    breakers: BreakerSettings,
    hubs: Mutex<BTreeMap<HubName, Entry>>,
    /// Hubs that answer again, until somebody asks.
    risen: Mutex<BTreeSet<HubName>>,
    rose: Notify,
}

#[derive(Debug)]
struct Entry {
    watch: Watch,
    since: Timestamp,
    cause: Option<String>,
    breaker: Breaker,
    /// It asked to be left alone until then, in milliseconds since the start.
    not_before_ms: u64,
    round_trip_us: Option<u32>,
    reported_devices: Option<u64>,
    link: Option<RemoteLink>,
}

impl Entry {
    fn new(since: Timestamp, breaker: BreakerSettings) -> Self {
        Self {
            watch: Watch::default(),
            since,
            cause: None,
            breaker: Breaker::new(breaker),
            not_before_ms: 0,
            round_trip_us: None,
            reported_devices: None,
            link: None,
        }
    }
}

/// What a call showed of its hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Good,
    /// It does not, or will not have us: why.
    Bad(String),
    /// It has too much to do, and may have said for how long.
    Busy(Option<Duration>),
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probed {
    /// How long it took, in microseconds.
    pub round_trip_us: u32,
    /// Devices that the hub counts.
    pub devices: Option<u64>,
}

impl Default for LiveHubs {
    fn default() -> Self {
        Self::new(BreakerSettings::default())
    }
}

impl LiveHubs {
    /// Nothing is known yet; breakers will be so patient.
    #[must_use]
    pub fn new(breakers: BreakerSettings) -> Self {
        Self { begun: Instant::now(), breakers, hubs: Mutex::default(), risen: Mutex::default(), rose: Notify::new() }
    }

    fn hubs(&self) -> MutexGuard<'_, BTreeMap<HubName, Entry>> {
        // Each change is whole before the next begins, whatever panics elsewhere.
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What is known of a hub; `None`: it was neither probed nor called.
    #[must_use]
    pub fn health(&self, hub: &HubName) -> Option<HubHealth> {
        self.hubs().get(hub).map(show)
    }

    /// All that is known.
    #[must_use]
    pub fn all(&self) -> BTreeMap<HubName, HubHealth> {
        self.hubs().iter().map(|(hub, entry)| (hub.clone(), show(entry))).collect()
    }

    /// The hubs that are linked now, and how: those that are linked no longer are forgotten, and of one that is linked anew nothing
    /// counts that was seen over the link before. The answer names these.
    pub(super) fn linked(&self, links: &BTreeMap<HubName, RemoteLink>, now: Timestamp) -> Vec<HubName> {
        let mut hubs = self.hubs();
        hubs.retain(|hub, _| links.contains_key(hub));
        let mut anew = Vec::new();
        for (hub, link) in links {
            let entry = hubs.entry(hub.clone()).or_insert_with(|| Entry::new(now, self.breakers));
            if entry.link.as_ref() != Some(link) {
                if entry.link.is_some() {
                    anew.push(hub.clone());
                    *entry = Entry::new(now, self.breakers);
                }
                entry.link = Some(link.clone());
            }
        }
        anew
    }

    /// Until hubs answer again that did not: which.
    pub(super) async fn risen(&self) -> BTreeSet<HubName> {
        loop {
            let risen = std::mem::take(&mut *self.risen.lock().unwrap_or_else(PoisonError::into_inner));
            if !risen.is_empty() {
                return risen;
            }
            self.rose.notified().await;
        }
    }

    /// Asks for leave to call a hub.
    pub(super) fn admit(&self, hub: &HubName, now: Timestamp) -> Result<(), Duration> {
        let now_ms = self.now_ms();
        let mut hubs = self.hubs();
        let entry = hubs.entry(hub.clone()).or_insert_with(|| Entry::new(now, self.breakers));
        if now_ms < entry.not_before_ms {
            return Err(Duration::from_millis(entry.not_before_ms - now_ms));
        }
        entry.breaker.admit(now_ms).map_err(Duration::from_millis)
    }

    /// A call came to no verdict.
    pub(super) fn released(&self, hub: &HubName) {
        if let Some(entry) = self.hubs().get_mut(hub) {
            entry.breaker.released();
        }
    }

    /// A call showed something.
    pub(super) fn judged(&self, hub: &HubName, verdict: Verdict) {
        let now_ms = self.now_ms();
        let mut hubs = self.hubs();
        let Some(entry) = hubs.get_mut(hub) else { return };
        match verdict {
            Verdict::Good => {
                entry.breaker.succeeded();
                entry.cause = None;
            }
            Verdict::Bad(cause) => {
                entry.breaker.failed(now_ms);
                entry.cause = Some(cause);
            }
            Verdict::Busy(after) => {
                entry.breaker.released();
                // Without a time each transfer backs off by itself.
                let after = after.unwrap_or_default().min(super::WAIT_MAX);
                entry.not_before_ms = now_ms.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            }
        }
    }

    /// A probe ended.
    pub(super) fn probed(&self, hub: &HubName, result: Result<Probed, String>, now: Timestamp) {
        let mut hubs = self.hubs();
        let Some(entry) = hubs.get_mut(hub) else { return };
        let was_down = entry.watch.state == HubState::Down;
        let changed = entry.watch.saw(result.is_ok());
        if changed {
            entry.since = now;
        }
        match result {
            Ok(Probed { round_trip_us, devices }) => {
                let smoothed = entry.round_trip_us.map_or(round_trip_us, |before| before / 4 * 3 + round_trip_us / 4);
                entry.round_trip_us = Some(smoothed);
                entry.reported_devices = devices.or(entry.reported_devices);
                if changed && was_down {
                    // What waited for it need not wait for as long as it seemed to be gone.
                    entry.breaker.succeeded();
                    self.risen.lock().unwrap_or_else(PoisonError::into_inner).insert(hub.clone());
                    self.rose.notify_one();
                }
                if entry.breaker.state() == BreakerState::Closed {
                    entry.cause = None;
                }
                if changed {
                    tracing::info!(%hub, "the hub answers");
                }
            }
            Err(cause) => {
                if changed {
                    tracing::warn!(%hub, cause, "the hub does not answer, and gets no new devices until it does");
                }
                entry.cause = Some(cause);
            }
        }
    }
}

fn show(entry: &Entry) -> HubHealth {
    HubHealth {
        state: entry.watch.state,
        since: entry.since,
        cause: entry.cause.clone(),
        breaker: entry.breaker.state(),
        round_trip_us: entry.round_trip_us,
        reported_devices: entry.reported_devices,
    }
}

impl Surroundings for LiveHubs {
    /// Round trips are those from this service: of devices near it they are true, of others they are what is known.
    fn live(&self, _peer: Option<IpAddr>) -> LiveFacts {
        let mut facts = LiveFacts::default();
        for (hub, entry) in self.hubs().iter() {
            if entry.watch.state == HubState::Down {
                let cause = entry.cause.clone().unwrap_or_else(|| "it does not answer".to_owned());
                facts.down.insert(hub.clone(), cause);
            }
            if let Some(round_trip_us) = entry.round_trip_us {
                facts.latency.insert(hub.clone(), Latency { round_trip_us, source: LatencySource::Measured });
            }
            if let Some(devices) = entry.reported_devices {
                facts.reported_load.insert(hub.clone(), devices);
            }
        }
        facts
    }

    /// Soon where steps are taken; when the hub may be called again where it may not now.
    fn retry_after_seconds(&self, transfer: &Transfer) -> Option<u32> {
        let Lane::Hub(hub) = lane_of(transfer)? else { return None };
        let now_ms = self.now_ms();
        let hubs = self.hubs();
        let entry = hubs.get(&hub)?;
        let wait_ms = entry.not_before_ms.max(entry.breaker.open_until_ms()).saturating_sub(now_ms);
        if wait_ms > 0 {
            return Some(u32::try_from(wait_ms.div_ceil(1000)).unwrap_or(u32::MAX).saturating_add(1));
        }
        match entry.watch.state {
            HubState::Down => Some(10),
            HubState::Active | HubState::Unknown => Some(1),
        }
    }
}
