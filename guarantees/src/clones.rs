//! U5: devices that share a credential, and lives in which one is alone. Real are the table of sessions, liveness, the suspicion and its
//! score, the policies, the registry's decisions; the steps of a CONNECT and of what follows a finding are those of
//! `broker/src/driver/{open,clones}.rs`, each of which can fall between any two others.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use unicity_hub::suspicion::{Ending, Finding, SessionSeen, Traits};
use unicity_hub::{
    CloseReason, EpochSource, Inserted, Liveness, SessionControl, SessionEpoch, SessionFacts, Sessions, Suspicion,
};
use unicity_identity::error::KeyOwner;
use unicity_identity::{ClientIdentity, ClonePolicy, Entropy, KeyFingerprint, Standing, StandingState, Timestamp};
use unicity_provisioning::registry::StandingVerdict;
use unicity_provisioning::{Actor, Command, Outcome, Request, Settings, clones};

use crate::breaks::{Break, Guarantee, Violation, violated};
use crate::registry::{QUEUE_MAX as REGISTRY_QUEUE_MAX, Registry, Ticket};
use crate::rng::Rng;
use crate::world::{Ring, World};

const STEPS: usize = 260;
/// The longest silence of a live client whose keep-alive is `KEEP_ALIVE_SECONDS`.
const PATIENCE_MS: u64 = 30_000;
const KEEP_ALIVE_SECONDS: u16 = 20;

struct Mailbox {
    is_close_asked: AtomicBool,
    liveness: Liveness,
    clock: Arc<AtomicU64>,
}

impl SessionControl for Mailbox {
    fn close(&self, _reason: CloseReason) {
        self.is_close_asked.store(true, Ordering::Relaxed);
    }

    fn is_alive(&self) -> bool {
        self.liveness.is_alive(Duration::from_millis(self.clock.load(Ordering::Relaxed)))
    }

    fn facts(&self) -> Option<&SessionFacts> {
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Look,
    Insert,
    SecondLook,
    Live,
    Gone,
}

/// One connection, and what its client knows.
struct Session {
    holder: usize,
    phase: Phase,
    mailbox: Arc<Mailbox>,
    epoch: Option<SessionEpoch>,
    heard_ms: u64,
    /// Nobody is at the other end; the server does not know.
    is_dead: bool,
    /// The answer to whether the older one stays, where it is asked for too early.
    asked: Option<bool>,
}

impl Session {
    fn is_close_asked(&self) -> bool {
        self.mailbox.is_close_asked.load(Ordering::Relaxed)
    }
}

/// A device with the credential.
struct Holder {
    peer: IpAddr,
    traits: Arc<Traits>,
    was_updated: bool,
}

/// What follows a finding, or is asked by an operator.
enum Act {
    Read(Finding),
    Submit(Box<Command>),
    Await(Ticket),
}

/// What happened, to know that schedules are not empty.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) accepted: usize,
    pub(crate) takeovers: usize,
    pub(crate) stayed: usize,
    pub(crate) quarantined: usize,
    pub(crate) held: usize,
    pub(crate) released: usize,
    pub(crate) findings: usize,
}

impl Seen {
    pub(crate) fn add(&mut self, one: Self) {
        self.accepted += one.accepted;
        self.takeovers += one.takeovers;
        self.stayed += one.stayed;
        self.quarantined += one.quarantined;
        self.held += one.held;
        self.released += one.released;
        self.findings += one.findings;
    }

    /// Whether all of it happens, in so many schedules as a run has.
    pub(crate) fn is_lively(&self) -> bool {
        [self.accepted, self.takeovers, self.stayed, self.quarantined, self.held, self.released, self.findings]
            .into_iter()
            .all(|count| count >= 50)
    }
}

pub(crate) struct CloneWorld {
    rng: Rng,
    broken: Break,
    clock: Arc<AtomicU64>,
    settings: Settings,
    policy: ClonePolicy,
    owner: KeyOwner,
    client: ClientIdentity,
    register: Command,
    registry: Registry,
    sessions: Sessions,
    suspicion: Suspicion,
    epochs: EpochSource,
    holders: Vec<Holder>,
    connections: Vec<Session>,
    acts: Vec<Act>,
    seen: Seen,
}

fn traits(name: &str) -> Arc<Traits> {
    let client_type = Some(name.into());
    Arc::new(Traits { tls: None, keep_alive_seconds: KEEP_ALIVE_SECONDS, clean_session: false, client_type })
}

impl CloneWorld {
    pub(crate) fn new(ring: &Ring, seed: u64, broken: Break) -> Self {
        let mut rng = Rng::new(seed);
        let policy = [ClonePolicy::Newest, ClonePolicy::Oldest, ClonePolicy::Quarantine][rng.below(3)];
        let (registry, settings, register, client) = World::with_one_registered(ring, seed, policy);
        let holders = if rng.once_in(3) { 1 } else { 2 + rng.below(2) };
        let holder = |n: usize| Holder {
            peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, u8::try_from(n % 2).unwrap_or(0))),
            traits: traits("device"),
            was_updated: false,
        };
        let Command::Register(command) = &register else { unreachable!("it registers") };
        let owner = clones::owner_of(&command.attested.registration_id);
        Self {
            rng,
            broken,
            clock: Arc::new(AtomicU64::new(1_700_000_000_000)),
            settings,
            policy,
            owner,
            client,
            register,
            registry,
            sessions: Sessions::new(1),
            suspicion: Suspicion::default(),
            epochs: EpochSource::new(1),
            holders: (0..holders).map(holder).collect(),
            connections: Vec::new(),
            acts: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed))
    }

    fn wait(&self, milliseconds: u64) {
        self.clock.fetch_add(milliseconds, Ordering::Relaxed);
    }

    fn standing(&self) -> Option<&Standing> {
        self.registry.synced.standings.get(&self.owner)
    }

    fn is_quarantined(&self) -> bool {
        self.standing().is_some_and(|standing| standing.state == StandingState::Quarantined)
    }

    /// A whole schedule, then what has to be true of its end.
    pub(crate) fn run(&mut self) -> Result<Seen, Violation> {
        for _ in 0..STEPS {
            self.step()?;
            self.nobody_is_live_in_quarantine()?;
        }
        match self.holders.len() {
            1 if self.suspicion.findings() > 0 || self.standing().is_some() => {
                return violated(Guarantee::U5, "a device that was alone is suspected");
            }
            1 => {}
            _ => self.a_fight_is_recorded()?,
        }
        self.a_release_restores_service()?;
        Ok(self.seen)
    }

    fn step(&mut self) -> Result<(), Violation> {
        let open: Vec<_> =
            (0..self.connections.len()).filter(|index| self.connections[*index].phase != Phase::Gone).collect();
        let index = self.rng.pick(&open);
        let is_alone = self.holders.len() == 1;
        match self.rng.below(100) {
            0..12 => {
                let holder = self.rng.below(self.holders.len());
                // One device has one connection, as far as it knows.
                let has_one = self
                    .connections
                    .iter()
                    .any(|it| it.holder == holder && it.phase != Phase::Gone && !it.is_dead && !it.is_close_asked());
                if !has_one {
                    self.connect(holder);
                }
            }
            12..52 => index.map_or(Ok(()), |index| self.go_on(index))?,
            52..62 => {
                if let Some(index) = index {
                    let now = self.now().0;
                    let connection = &mut self.connections[index];
                    if !connection.is_dead && connection.phase == Phase::Live {
                        connection.heard_ms = now;
                        connection.mailbox.liveness.heard(Duration::from_millis(now));
                    }
                }
            }
            62..66 => {
                if let Some(index) = index {
                    self.connections[index].is_dead = true;
                    let holder = &mut self.holders[self.connections[index].holder];
                    // It comes back by another network, or once with new software.
                    match self.rng.below(3) {
                        0 => holder.peer = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
                        1 if !holder.was_updated => (holder.traits, holder.was_updated) = (traits("newer"), true),
                        _ => {}
                    }
                }
            }
            66..68 => {
                if let Some(index) = index.filter(|index| self.connections[*index].phase == Phase::Live) {
                    let how = if self.connections[index].is_dead { Ending::Lost } else { Ending::Disconnected };
                    self.end(index, how, false);
                }
            }
            68..76 => {
                let acts = self.acts.len();
                if acts > 0 {
                    let act = self.rng.below(acts);
                    self.act(act);
                }
            }
            76..82 => self.decide()?,
            82..88 => self.registry.sync(Break::Nothing)?,
            88..90 => {
                let request = self.request(self.register.clone());
                self.registry.submit(request);
            }
            90 if !is_alone => self.operate(),
            wait @ 91..99 => {
                let at_most = if wait == 98 { 600_000 } else { 3000 };
                let milliseconds = 1 + self.rng.next() % at_most;
                self.wait(milliseconds);
            }
            _ => {}
        }
        Ok(())
    }

    fn request(&mut self, command: Command) -> Request {
        let entropy = Entropy::from_seed(self.rng.seed());
        Request { command, actor: Actor::Server, now: self.now(), entropy }
    }

    /// The writer decides, and gives nothing to who is in quarantine.
    fn decide(&mut self) -> Result<(), Violation> {
        let standing = self.registry.decided.standings.get(&self.owner).map(|standing| standing.state);
        let before = self.registry.decided.registrations.clone();
        self.registry.decide_next(&self.settings, self.broken, &mut self.rng)?;
        match standing {
            Some(StandingState::Quarantined) if self.registry.decided.registrations != before => {
                violated(Guarantee::U5, "an identity in quarantine was given an assignment")
            }
            _ => Ok(()),
        }
    }

    fn operate(&mut self) {
        let verdict = match self.rng.once_in(2) {
            true => StandingVerdict::Release { by: "operator".into() },
            false => StandingVerdict::Quarantine { reason: "a test".into() },
        };
        self.acts.push(Act::Submit(Box::new(Command::SetStanding { owner: self.owner.clone(), verdict })));
    }

    fn connect(&mut self, holder: usize) -> usize {
        let now = self.now().0;
        let liveness = Liveness::new(Duration::from_millis(now));
        liveness.set_keep_alive(KEEP_ALIVE_SECONDS);
        let mailbox = Mailbox { is_close_asked: AtomicBool::new(false), liveness, clock: Arc::clone(&self.clock) };
        self.connections.push(Session {
            holder,
            phase: Phase::Look,
            mailbox: Arc::new(mailbox),
            epoch: None,
            heard_ms: now,
            is_dead: false,
            asked: None,
        });
        self.connections.len() - 1
    }

    fn look(&self) -> bool {
        self.broken == Break::QuarantineNotAsked || clones::check(&self.registry.synced, &self.owner).is_ok()
    }

    /// The next step of a connection.
    fn go_on(&mut self, index: usize) -> Result<(), Violation> {
        let is_close_asked = self.connections[index].is_close_asked();
        self.connections[index].phase = match self.connections[index].phase {
            Phase::Look => match self.look() {
                true => Phase::Insert,
                false => {
                    self.seen.held += 1;
                    Phase::Gone
                }
            },
            Phase::Insert => return self.insert(index),
            Phase::SecondLook if is_close_asked => self.leave(index),
            Phase::SecondLook => match self.broken == Break::QuarantineLookedAtOnce || self.look() {
                true if self.is_newest(index) => {
                    self.seen.accepted += 1;
                    Phase::Live
                }
                _ => self.leave(index),
            },
            Phase::Live if is_close_asked => {
                let answers = !self.connections[index].is_dead || self.broken == Break::DeadEndsCount;
                self.end(index, Ending::Closed, answers);
                Phase::Gone
            }
            phase => phase,
        };
        Ok(())
    }

    fn is_newest(&self, index: usize) -> bool {
        self.connections[index].epoch.is_some() && self.sessions.live(&self.client) == self.connections[index].epoch
    }

    fn leave(&mut self, index: usize) -> Phase {
        if let Some(epoch) = self.connections[index].epoch {
            self.sessions.remove(&self.client, epoch);
        }
        Phase::Gone
    }

    fn end(&mut self, index: usize, how: Ending, answered: bool) {
        let now = self.now();
        self.connections[index].phase = self.leave(index);
        if let Some(epoch) = self.connections[index].epoch {
            let finding = self.suspicion.ended(&self.client, epoch, now, how, answered);
            self.follow(finding);
        }
    }

    fn insert(&mut self, index: usize) -> Result<(), Violation> {
        let policy = clones::policy_of(&self.registry.synced, &self.settings, &self.owner);
        if !matches!(policy, Ok(policy) if policy == self.policy) {
            return violated(Guarantee::U5, format!("the policy is {policy:?}, not {:?}", self.policy));
        }
        let (now, policy) = (self.now(), self.policy);
        if self.broken == Break::LivenessAskedBefore && self.connections[index].asked.is_none() {
            let mut stays = false;
            let live = self.sessions.live(&self.client);
            if let Some(older) = self.connections.iter().find(|it| it.epoch.is_some() && it.epoch == live) {
                stays = policy == ClonePolicy::Oldest && older.mailbox.is_alive();
            }
            self.connections[index].asked = Some(stays);
            return Ok(());
        }
        let asked = self.connections[index].asked;
        let broken = self.broken;
        let control: Arc<dyn SessionControl> = Arc::<Mailbox>::clone(&self.connections[index].mailbox);
        let (epoch, inserted) = self.sessions.insert_next(&self.client, &self.epochs, control, |older| {
            asked.unwrap_or_else(|| match policy {
                ClonePolicy::Oldest => broken != Break::OlderDisplaced && older.is_alive(),
                ClonePolicy::Newest | ClonePolicy::Quarantine => false,
            })
        });
        let took_over = match inserted {
            Inserted::Superseded { .. } | Inserted::OlderStays { .. } => {
                self.seen.stayed += 1;
                self.connections[index].phase = Phase::Gone;
                return Ok(());
            }
            Inserted::First => None,
            Inserted::TookOver(old) => Some((old.epoch, old.control.is_alive())),
        };
        if let Some((older, _)) = took_over {
            self.seen.takeovers += 1;
            let was_heard = self
                .connections
                .iter()
                .any(|it| it.epoch == Some(older) && it.phase != Phase::Gone && now.0 - it.heard_ms <= PATIENCE_MS);
            if policy == ClonePolicy::Oldest && was_heard {
                return violated(Guarantee::U5, format!("{older} was heard, and is displaced by {epoch}"));
            }
        }
        let holder = &self.holders[self.connections[index].holder];
        let session = SessionSeen {
            epoch,
            at: now,
            key: KeyFingerprint([1; 32]),
            peer: holder.peer,
            traits: Arc::clone(&holder.traits),
            resumed: false,
            took_over: None,
            end: None,
        };
        self.connections[index].epoch = Some(epoch);
        self.connections[index].phase = Phase::SecondLook;
        if self.broken != Break::TakeoversNotObserved {
            let finding = self.suspicion.opened(&self.client, session, took_over);
            self.follow(finding);
        }
        self.sessions.fenced(&self.client, epoch);
        Ok(())
    }

    fn follow(&mut self, finding: Option<Finding>) {
        self.seen.findings += usize::from(finding.is_some());
        self.acts.extend(finding.map(Act::Read));
    }

    /// The next step of `act` in `clones.rs`, or of an operator's command.
    fn act(&mut self, index: usize) {
        let next = match self.acts.swap_remove(index) {
            Act::Read(finding) => self.judge(finding).map(|command| Act::Submit(Box::new(command))),
            Act::Submit(command) => {
                let mut request = self.request((*command).clone());
                let is_suspicion =
                    matches!(&*command, Command::SetStanding { verdict: StandingVerdict::Suspect { .. }, .. });
                if self.broken == Break::CoolDownForgotten && is_suspicion {
                    request.now = Timestamp(request.now.0 + clones::COOL_DOWN_MS);
                }
                Some(self.registry.submit(request).map_or(Act::Submit(command), Act::Await))
            }
            Act::Await(ticket) => match self.registry.take_answer(ticket) {
                None => Some(Act::Await(ticket)),
                Some(Ok(Outcome::Standing(standing))) => {
                    match standing.state {
                        StandingState::Quarantined if self.broken != Break::QuarantineDoesNotCut => {
                            self.seen.quarantined += 1;
                            self.sessions.close(&self.client, CloseReason::IdentityChanged("quarantine"));
                        }
                        StandingState::Released => self.seen.released += 1,
                        _ => {}
                    }
                    None
                }
                Some(_) => None,
            },
        };
        self.acts.extend(next);
    }

    fn judge(&mut self, mut finding: Finding) -> Option<Command> {
        if let Some(standing) = self.standing().cloned() {
            if standing.state == StandingState::Released {
                finding = self.suspicion.ignore_until(&self.client, standing.since, self.now())?;
            }
            let known = standing.evidence.iter().map(|evidence| evidence.at).max();
            finding.evidence.retain(|evidence| known.is_none_or(|known| evidence.at > known));
        }
        let Finding { score, evidence } = finding;
        let quarantine = self.policy == ClonePolicy::Quarantine;
        let verdict = StandingVerdict::Suspect { score, evidence, quarantine };
        Some(Command::SetStanding { owner: self.owner.clone(), verdict })
    }

    fn nobody_is_live_in_quarantine(&self) -> Result<(), Violation> {
        // Between the sync and the cut there is a moment; it ends with the step of the one who asked.
        let is_about_to_cut = self.acts.iter().any(|act| match act {
            Act::Await(ticket) => matches!(
                self.registry.answer(*ticket),
                Some(Ok(Outcome::Standing(standing))) if standing.state == StandingState::Quarantined
            ),
            _ => false,
        });
        let mut live = self.connections.iter().filter(|it| it.phase == Phase::Live && !it.is_close_asked());
        match live.next() {
            Some(session) if self.is_quarantined() && !is_about_to_cut => {
                violated(Guarantee::U5, format!("{:?} lives in quarantine", session.epoch))
            }
            _ => Ok(()),
        }
    }

    /// The writer decides on all that is queued, and the disk has it.
    fn drain(&mut self) -> Result<(), Violation> {
        for _ in 0..REGISTRY_QUEUE_MAX {
            self.decide()?;
        }
        self.registry.sync(Break::Nothing)
    }

    /// Everything that is under way comes to its end.
    fn settle(&mut self) -> Result<(), Violation> {
        loop {
            while !self.acts.is_empty() {
                self.act(0);
                self.drain()?;
            }
            let closing = (0..self.connections.len()).find(|index| {
                self.connections[*index].phase != Phase::Gone && self.connections[*index].is_close_asked()
            });
            match closing {
                Some(index) if self.connections[index].phase == Phase::Look => {
                    self.connections[index].phase = Phase::Gone;
                }
                Some(index) => self.go_on(index)?,
                None => return Ok(()),
            }
        }
    }

    /// Goes through a CONNECT at once. Whether it was accepted.
    fn connect_at_once(&mut self, holder: usize) -> Result<bool, Violation> {
        let index = self.connect(holder);
        for _ in 0..4 {
            if self.connections[index].phase != Phase::Live {
                self.go_on(index)?;
            }
        }
        Ok(self.connections[index].phase == Phase::Live)
    }

    /// Two that are both there take over from each other, so many times in so many seconds.
    fn fight(&mut self, takeovers: usize) -> Result<(), Violation> {
        for round in 0..takeovers {
            self.wait(1000);
            self.connect_at_once(round % 2)?;
            self.settle()?;
        }
        Ok(())
    }

    fn a_fight_is_recorded(&mut self) -> Result<(), Violation> {
        self.settle()?;
        let was_known = self.standing().is_some();
        self.fight(10)?;
        match self.standing().map(|standing| standing.state) {
            // Who comes second is refused: nothing is seen of it.
            None if self.policy == ClonePolicy::Oldest => Ok(()),
            None => violated(Guarantee::U5, "two that take over from each other are not suspected"),
            Some(state) if self.policy == ClonePolicy::Quarantine && !was_known => match state {
                StandingState::Quarantined => Ok(()),
                _ => violated(Guarantee::U5, format!("they are {state}, and not held back")),
            },
            Some(_) => Ok(()),
        }
    }

    fn a_release_restores_service(&mut self) -> Result<(), Violation> {
        self.settle()?;
        if self.standing().is_some() {
            let verdict = StandingVerdict::Release { by: "operator".into() };
            self.acts.push(Act::Submit(Box::new(Command::SetStanding { owner: self.owner.clone(), verdict })));
            self.settle()?;
        }
        // Under `oldest` one that is gone is waited for.
        self.wait(2 * PATIENCE_MS);
        if !self.connect_at_once(0)? {
            return violated(Guarantee::U5, "a released identity is not served");
        }
        self.settle()?;
        self.drain()?;
        let request = self.request(self.register.clone());
        let ticket = self.registry.submit(request);
        self.drain()?;
        let answer = ticket.and_then(|ticket| self.registry.take_answer(ticket));
        if !matches!(answer, Some(Ok(Outcome::Registered { .. }))) {
            return violated(Guarantee::U5, format!("a released identity is given no assignment: {answer:?}"));
        }
        // The same thief again at once does not undo the release.
        self.fight(12 * usize::from(self.holders.len() > 1))?;
        match self.standing().is_some() && self.is_quarantined() {
            true => violated(Guarantee::U5, "a release lasts no longer than until the next takeovers"),
            false => Ok(()),
        }
    }
}
