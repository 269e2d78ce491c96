//! A well-behaved device with a bad life: its network fails, it sleeps, it renews its token, it moves. Nothing that it does
//! is a theft, so nothing of it may be taken for one.
//!
//! What it does is planned ahead from a seed and its own id; only how long the network takes is not.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::{sleep, timeout};
use unicity_identity::{Environment, RegistrationId};

use crate::dice::Dice;
use crate::life::back_off;
use crate::message::{MessageSource, weather_station};
use crate::{Assignment, Device, Dialer, DirectClient, Endpoint, HubSession, SimError, provision_with};

type Session = HubSession<DirectClient>;

/// Attempts of one connection, when what fails may heal.
const ATTEMPTS_MAX: u32 = 6;

/// What interrupts a device's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// The TCP connection ends without a DISCONNECT; the device is back after a moment.
    Drop,
    /// The network swallows everything: the server still takes the old session for live when the device is back.
    Vanish,
    /// The device disconnects, sleeps, and connects again.
    Sleep,
    /// The device disconnects and connects at once with a new token, as the SDKs do.
    Renew,
    /// The connection ends and the device is back from another address.
    Move,
    /// The device starts again: it registers, then connects.
    Reboot,
}

impl Disturbance {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Drop, Self::Vanish, Self::Sleep, Self::Renew, Self::Move, Self::Reboot];

    /// A stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Vanish => "vanish",
            Self::Sleep => "sleep",
            Self::Renew => "renew",
            Self::Move => "move",
            Self::Reboot => "reboot",
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no disturbance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no disturbance; there are drop, vanish, sleep, renew, move, reboot")]
pub struct UnknownDisturbance(String);

impl FromStr for Disturbance {
    type Err = UnknownDisturbance;

    fn from_str(text: &str) -> Result<Self, UnknownDisturbance> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| UnknownDisturbance(text.to_owned()))
    }
}

/// What a device's life is like.
#[derive(Debug, Clone)]
pub struct Habits {
    /// What may happen; with none the device only sends.
    pub disturbances: Vec<Disturbance>,
    /// How many of them happen.
    pub count: u32,
    /// The most messages between two; at least one is sent.
    pub messages_max: u32,
    /// The longest sleep, and the longest wait before a device is back.
    pub pause_max: Duration,
    /// The addresses that it moves between; the first is where it begins if it ever moves.
    pub sources: Vec<IpAddr>,
    /// The same seed and id, the same life.
    pub seed: u64,
    /// The end of it all, done or not.
    pub limit: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            disturbances: Disturbance::ALL.to_vec(),
            count: 8,
            messages_max: 4,
            pause_max: Duration::from_millis(300),
            sources: (10..18).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).collect(),
            seed: 0,
            limit: Duration::from_secs(60),
        }
    }
}

/// One stretch of a life: messages, then what interrupts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Messages sent first.
    pub messages: u32,
    /// What happens then.
    pub disturbance: Disturbance,
    /// How long the device is away.
    pub pause: Duration,
    /// Where it comes back from, if it moves.
    pub source: Option<IpAddr>,
}

impl Habits {
    /// The life of one device.
    #[must_use]
    pub fn plan(&self, id: &RegistrationId) -> Vec<Stretch> {
        let mut dice = Dice::new(self.seed, id.as_str());
        let mut here = self.sources.first().copied();
        let stretch = |_| {
            let disturbance = dice.pick(&self.disturbances)?;
            let elsewhere: Vec<IpAddr> = self.sources.iter().copied().filter(|source| Some(*source) != here).collect();
            let source = if disturbance == Disturbance::Move { dice.pick(&elsewhere) } else { None };
            here = source.or(here);
            Some(Stretch {
                messages: 1 + dice.below(self.messages_max.max(1)),
                disturbance,
                pause: match disturbance {
                    Disturbance::Renew => Duration::ZERO,
                    _ => self.pause_max.mul_f64(f64::from(dice.below(1000)) / 1000.0),
                },
                source,
            })
        };
        (0..self.count).map_while(stretch).collect()
    }
}

/// How such a life went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlakyReport {
    /// The device.
    pub registration_id: RegistrationId,
    /// What happened to it, in order.
    pub disturbances: Vec<Disturbance>,
    /// Hub sessions that it had.
    pub sessions: u32,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Sessions that ended although neither the device nor its network ended them.
    pub taken: u32,
    /// Attempts that failed, by kind ([`SimError::kind`]).
    pub failures: BTreeMap<&'static str, u64>,
    /// Why it gave up before its plan was done.
    pub gave_up: Option<String>,
    /// How long it lived, in milliseconds.
    pub elapsed_ms: u64,
}

impl FlakyReport {
    /// Whether the server let the device be: nothing taken from it, nothing refused, its plan done.
    #[must_use]
    pub fn is_untroubled(&self) -> bool {
        self.taken == 0 && self.failures.is_empty() && self.gave_up.is_none()
    }
}

/// Lets `device` register and live by `habits`.
pub async fn live_flaky(
    dialer: &Dialer,
    endpoint: &Endpoint,
    device: &Device,
    env: &Environment,
    habits: &Habits,
) -> FlakyReport {
    let began = Instant::now();
    let report = FlakyReport {
        registration_id: device.registration_id.clone(),
        disturbances: Vec::new(),
        sessions: 0,
        acknowledged: 0,
        taken: 0,
        failures: BTreeMap::new(),
        gave_up: None,
        elapsed_ms: 0,
    };
    let moves = habits.disturbances.contains(&Disturbance::Move);
    let dialer = match habits.sources.first() {
        Some(first) if moves => dialer.clone().with_source(*first),
        _ => dialer.clone(),
    };
    let mut life = Life { dialer, endpoint, device, env, message: weather_station(), number: 0, report };
    let lived = timeout(habits.limit, life.live(&habits.plan(&device.registration_id))).await;
    life.report.gave_up = match lived {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("not done after {} s", habits.limit.as_secs_f32())),
    };
    life.report.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    life.report
}

struct Life<'a> {
    dialer: Dialer,
    endpoint: &'a Endpoint,
    device: &'a Device,
    env: &'a Environment,
    message: MessageSource,
    number: u64,
    report: FlakyReport,
}

impl Life<'_> {
    async fn live(&mut self, plan: &[Stretch]) -> Result<(), SimError> {
        let mut assignment = self.register().await?;
        let mut session = self.connect(&assignment).await?;
        for stretch in plan {
            session = self.send(session, stretch.messages, &assignment).await?;
            self.report.disturbances.push(stretch.disturbance);
            let mut gone = None;
            match stretch.disturbance {
                Disturbance::Drop | Disturbance::Move | Disturbance::Reboot => drop(session),
                // Nobody reads from it any more, and it is not closed before the device is back.
                Disturbance::Vanish => gone = Some(session),
                Disturbance::Sleep | Disturbance::Renew => session.disconnect().await,
            }
            sleep(stretch.pause).await;
            if let Some(source) = stretch.source {
                self.dialer = self.dialer.clone().with_source(source);
            }
            if stretch.disturbance == Disturbance::Reboot {
                assignment = self.register().await?;
            }
            session = self.connect(&assignment).await?;
            drop(gone);
        }
        session = self.send(session, 1, &assignment).await?;
        session.disconnect().await;
        Ok(())
    }

    /// Sends `count` messages that are acknowledged. A session that is taken away meanwhile is replaced.
    async fn send(&mut self, mut session: Session, count: u32, assignment: &Assignment) -> Result<Session, SimError> {
        let mut left = count;
        while left > 0 {
            let message = (self.message)(self.device, self.number);
            match session.send(&message).await {
                Ok(_) => {
                    (left, self.number) = (left - 1, self.number + 1);
                    self.report.acknowledged += 1;
                }
                Err(error) => {
                    self.report.taken += 1;
                    if self.report.taken >= ATTEMPTS_MAX {
                        return Err(error);
                    }
                    self.wait(1).await;
                    session = self.connect(assignment).await?;
                }
            }
        }
        Ok(session)
    }

    async fn register(&mut self) -> Result<Assignment, SimError> {
        let mut failures = 0;
        loop {
            match provision_with::<DirectClient>(&self.dialer, self.endpoint, self.device, self.env).await {
                Ok(assignment) => return Ok(assignment),
                Err(error) => self.failed(error, &mut failures).await?,
            }
        }
    }

    async fn connect(&mut self, assignment: &Assignment) -> Result<Session, SimError> {
        let mut failures = 0;
        loop {
            match Session::connect_with(&self.dialer, assignment, &self.device.key, self.env).await {
                Ok(session) => {
                    self.report.sessions += 1;
                    return Ok(session);
                }
                Err(error) => self.failed(error, &mut failures).await?,
            }
        }
    }

    /// Counts a failure; returns when it is time to try again.
    async fn failed(&mut self, error: SimError, failures: &mut u32) -> Result<(), SimError> {
        *self.report.failures.entry(error.kind()).or_default() += 1;
        *failures += 1;
        if !error.may_heal() || *failures >= ATTEMPTS_MAX {
            return Err(error);
        }
        self.wait(*failures).await;
        Ok(())
    }

    async fn wait(&self, failures: u32) {
        sleep(back_off(failures, self.env.entropy().draw()[0])).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn id(text: &str) -> RegistrationId {
        text.parse().unwrap()
    }

    #[test]
    fn a_life_depends_on_seed_and_id_alone() {
        let habits = Habits { count: 40, ..Habits::default() };
        let life = habits.plan(&id("dev-1"));
        assert_eq!(life, habits.plan(&id("dev-1")));
        assert_ne!(life, habits.plan(&id("dev-2")));
        assert_ne!(life, Habits { seed: 1, ..habits.clone() }.plan(&id("dev-1")));
        let seen: BTreeSet<_> = life.iter().map(|stretch| stretch.disturbance).collect();
        assert_eq!(seen.len(), Disturbance::ALL.len());
        assert!(life.iter().all(|stretch| (1..=4).contains(&stretch.messages) && stretch.pause < habits.pause_max));
    }

    #[test]
    fn each_move_is_to_another_address() {
        let habits = Habits { disturbances: vec![Disturbance::Move], count: 50, ..Habits::default() };
        let mut here = habits.sources[0];
        for stretch in habits.plan(&id("dev-1")) {
            let there = stretch.source.unwrap();
            assert_ne!(there, here);
            here = there;
        }
    }

    #[test]
    fn only_what_was_chosen_happens() {
        let plan = |disturbances| Habits { disturbances, ..Habits::default() }.plan(&id("dev-1"));
        assert_eq!(plan(vec![]), []);
        let renewals = plan(vec![Disturbance::Renew]);
        assert_eq!(renewals.len(), 8);
        assert!(renewals.iter().all(|stretch| stretch.disturbance == Disturbance::Renew && stretch.pause.is_zero()));
        for kind in Disturbance::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert!("nap".parse::<Disturbance>().unwrap_err().to_string().contains(kind.name()));
        }
    }
}
