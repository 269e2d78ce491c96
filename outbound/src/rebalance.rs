//! What carries rebalances out: it walks the registrations in the order of their ids and has each that belongs elsewhere moved, at
//! the rate that was asked for. How far it came is recorded as it goes, so a restart goes on there; what a crash left unrecorded
//! is looked at again and found where it belongs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use unicity_identity::{Environment, HubName, Refusal, RegistrationId};
use unicity_provisioning::decide::{Prospect, foresee};
use unicity_provisioning::plan::{Assumption, Forecast, MoveDigest, count_reason, forecast};
use unicity_provisioning::rebalance::{Rebalance, RebalanceOrder, RebalanceState, Rebalancing};
use unicity_provisioning::registry::MoveCommand;
use unicity_provisioning::transfer::TransferCause;
use unicity_provisioning::{Actor, Command, Fault, Outcome, Pending, Provisioning, RegistryError, Request};

/// Registrations read at once.
const PAGE: usize = 1000;
/// Moves handed to the writer at once, so that they share a sync.
const MOVES_AT_ONCE: usize = 256;
/// Transfers to and from hubs elsewhere that may be under way for a rebalance.
const TRANSFERS_MAX: usize = 64;
/// Progress is recorded after so many moves, or after [`RECORD_EVERY`].
const RECORD_MOVES: u64 = 2000;
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// How often transfers under way are looked at, and a registry that takes no writes is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Carries rebalances out, one at a time. A handle: clones share everything.
#[derive(Clone)]
pub struct Rebalancer(Arc<Work>);

struct Work {
    provisioning: Provisioning,
    environment: Environment,
    /// Whoever writes a rebalance's record reads it first; one at a time, so that an order to stop is never written over.
    turn: Mutex<()>,
    changed: Notify,
}

/// What came of looking at one registration.
struct Looked {
    id: RegistrationId,
    from: HubName,
    prospect: Prospect,
}

/// The registrations to deal with next.
struct Stretch {
    looked: Vec<Looked>,
    /// Up to which id was looked, those left out because of their hub included.
    end: Option<RegistrationId>,
    more: bool,
}

/// Why a walk ended before its end.
enum Ended {
    Stopped,
    Failed(String),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.to_string())
    }
}

impl From<RegistryError> for Ended {
    fn from(error: RegistryError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs what reads much off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Fault(format!("the work broke off: {error}"))))
}

impl Rebalancer {
    /// Puts it together; [`Self::run`] does the work.
    #[must_use]
    pub fn new(provisioning: Provisioning, environment: Environment) -> Self {
        Self(Arc::new(Work { provisioning, environment, turn: Mutex::default(), changed: Notify::new() }))
    }

    /// Carries out what is ordered, beginning with what an earlier run left, until `stop` fires. What is on its way then is awaited
    /// and recorded.
    pub async fn run(self, stop: CancellationToken) {
        self.0.run(&stop).await;
    }
}

impl Work {
    async fn run(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let changed = self.changed.notified();
            let retry = match self.running() {
                Ok(Some(rebalance)) => match self.carry_out(rebalance, stop).await {
                    Ok(()) | Err(Ended::Stopped) => continue,
                    Err(Ended::Failed(why)) => {
                        tracing::warn!(why, "the rebalance pauses, and is tried again");
                        true
                    }
                },
                Ok(None) => false,
                Err(fault) => {
                    tracing::warn!(%fault, "rebalances cannot be read");
                    true
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = changed => {}
                () = tokio::time::sleep(RETRY_AFTER), if retry => {}
            }
        }
    }

    fn running(&self) -> Result<Option<Rebalance>, Fault> {
        let all = self.provisioning.registry().rebalances()?;
        Ok(all.into_iter().find(|rebalance| rebalance.state == RebalanceState::Running))
    }

    async fn carry_out(&self, mut rebalance: Rebalance, stop: &CancellationToken) -> Result<(), Ended> {
        let mut under_way = self.transfers_of(rebalance.number).await?;
        let mut digest = MoveDigest(rebalance.digest);
        let mut recorded = (Instant::now(), rebalance.moved);
        let mut next_at = Instant::now();
        let at_once = usize::try_from(rebalance.rate / 10).unwrap_or(MOVES_AT_ONCE).clamp(1, MOVES_AT_ONCE);
        let result = loop {
            if stop.is_cancelled() {
                break Err(Ended::Stopped);
            }
            let stretch = self.look(&rebalance, at_once).await?;
            let moves = stretch.looked.iter().filter(|it| matches!(it.prospect, Prospect::Goes(_))).count();
            if moves > 0 {
                tokio::select! {
                    () = stop.cancelled() => break Err(Ended::Stopped),
                    () = tokio::time::sleep_until(next_at) => {}
                }
                let share = f64::from(u32::try_from(moves).unwrap_or(u32::MAX)) / f64::from(rebalance.rate.max(1));
                next_at = next_at.max(Instant::now()) + Duration::from_secs_f64(share);
            }
            let before = (rebalance.seen, rebalance.skipped, rebalance.reasons.clone());
            if let Err(ended) = self.move_all(&mut rebalance, &mut digest, stretch.looked, &mut under_way).await {
                // The stretch is looked at again, and what was moved is found where it belongs.
                (rebalance.seen, rebalance.skipped, rebalance.reasons) = before;
                break Err(ended);
            }
            rebalance.cursor = stretch.end.or(rebalance.cursor.take());
            let is_due = rebalance.moved - recorded.1 >= RECORD_MOVES || recorded.0.elapsed() >= RECORD_EVERY;
            if !self.record(&mut rebalance, digest, is_due).await? {
                return Err(Ended::Stopped);
            }
            if is_due {
                recorded = (Instant::now(), rebalance.moved);
            }
            let room = if stretch.more { TRANSFERS_MAX } else { 1 };
            if let Err(ended) = self.wait_for_room(&mut rebalance, digest, &mut under_way, room, stop).await {
                break Err(ended);
            }
            if !stretch.more {
                break Ok(());
            }
        };
        let is_done = result.is_ok();
        let _turn = self.turn.lock().await;
        let stored = self.stored(rebalance.number)?;
        rebalance.state = match stored.state {
            RebalanceState::Running if is_done => RebalanceState::Done,
            state => state,
        };
        self.put(rebalance, digest, Actor::Server).await?;
        result
    }

    /// The next registrations, up to so many that are to be moved.
    async fn look(&self, rebalance: &Rebalance, moves_max: usize) -> Result<Stretch, Fault> {
        let (provisioning, from, cursor) =
            (self.provisioning.clone(), rebalance.from.clone(), rebalance.cursor.clone());
        blocking(move || {
            let (registry, live) = (provisioning.registry(), provisioning.circumstances(None).live);
            // Where a hub can be full, one move decides what becomes of the next.
            let is_limited = provisioning.hubs()?.iter().any(|hub| hub.terms.capacity.is_some());
            let moves_max = if is_limited { 1 } else { moves_max };
            let page = registry.list_registrations(cursor.as_ref(), PAGE)?;
            let mut stretch = Stretch { looked: Vec::with_capacity(page.items.len()), end: None, more: page.more };
            let mut moves = 0;
            for registration in page.items {
                if moves == moves_max {
                    stretch.more = true;
                    break;
                }
                stretch.end = Some(registration.registration_id.clone());
                if from.as_ref().is_some_and(|from| *from != registration.hub) {
                    continue;
                }
                // A refusal of one is no reason to leave the others where they are; the forecast sees the same.
                let prospect = foresee(registry.as_ref(), provisioning.settings(), &registration, &live)?.prospect;
                moves += usize::from(matches!(prospect, Prospect::Goes(_)));
                let (id, from) = (registration.registration_id, registration.hub);
                stretch.looked.push(Looked { id, from, prospect });
            }
            Ok(stretch)
        })
        .await
    }

    /// Deals with registrations in their order; moves among them are under way together.
    async fn move_all(
        &self,
        rebalance: &mut Rebalance,
        digest: &mut MoveDigest,
        looked: Vec<Looked>,
        under_way: &mut BTreeSet<RegistrationId>,
    ) -> Result<(), Ended> {
        let circumstances = self.provisioning.circumstances(None);
        let going = looked.iter().filter(|it| matches!(it.prospect, Prospect::Goes(_))).map(|it| {
            let command = Command::Move(Box::new(MoveCommand {
                registration_id: it.id.clone(),
                from: it.from.clone(),
                rebalance: rebalance.number,
                circumstances: circumstances.clone(),
            }));
            self.provisioning.registry().submit(self.request(command, Actor::Server))
        });
        let mut outcomes = futures_util::future::join_all(going).await.into_iter();
        for Looked { id, from, prospect } in looked {
            rebalance.seen += 1;
            let mut skip = |why: &str| {
                rebalance.skipped += 1;
                count_reason(&mut rebalance.reasons, why);
            };
            match prospect {
                Prospect::Belongs => continue,
                Prospect::Cannot(why) => {
                    skip(&why);
                    continue;
                }
                Prospect::Goes(_) => {}
            }
            match outcomes.next() {
                Some(Ok(Outcome::Moved { registration, displaced })) => {
                    self.provisioning.moved(displaced.as_ref());
                    digest.add(&id, &from, &registration.hub);
                    rebalance.moved += 1;
                }
                Some(Ok(Outcome::Transferring { transfer, displaced })) => {
                    self.provisioning.took_up(&transfer, displaced.as_ref());
                    if let Some(target) = &transfer.target {
                        digest.add(&id, &from, &target.hub);
                    }
                    rebalance.moved += 1;
                    under_way.insert(id);
                }
                Some(Ok(Outcome::NotMoved(why))) => skip(&why),
                Some(Err(RegistryError::Refused(refusal))) => skip(refusal.code().name),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(_)) | None => return Err(Ended::Failed("the registry answered something else".to_owned())),
            }
        }
        Ok(())
    }

    /// Waits until fewer than `room` transfers of the rebalance are under way, or an operator stops it.
    async fn wait_for_room(
        &self,
        rebalance: &mut Rebalance,
        digest: MoveDigest,
        under_way: &mut BTreeSet<RegistrationId>,
        room: usize,
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        while !under_way.is_empty() {
            let (registry, asked) = (self.provisioning.registry().clone(), std::mem::take(under_way));
            let (left, failed) = blocking(move || {
                let (mut left, mut failed) = (BTreeSet::new(), 0);
                for id in asked {
                    match registry.transfer(&id)? {
                        Some(transfer) if transfer.is_failed() => failed += 1,
                        Some(transfer) if transfer.is_awaited() => drop(left.insert(id)),
                        _ => {}
                    }
                }
                Ok((left, failed))
            })
            .await?;
            *under_way = left;
            for _ in 0..failed {
                count_reason(&mut rebalance.reasons, "its transfer failed; `unicity transfer list` says why");
            }
            if under_way.len() < room {
                return Ok(());
            }
            if !self.record(rebalance, digest, failed > 0).await? {
                return Err(Ended::Stopped);
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Ended::Stopped),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        Ok(())
    }

    /// The transfers that a rebalance began and that are not done.
    async fn transfers_of(&self, number: u32) -> Result<BTreeSet<RegistrationId>, Fault> {
        let registry = self.provisioning.registry().clone();
        blocking(move || {
            let (mut found, mut after) = (BTreeSet::new(), None);
            loop {
                let page = registry.list_transfers(after.as_ref(), PAGE)?;
                after = page.items.last().map(|last| last.registration_id.clone());
                let own = page.items.into_iter().filter(|it| it.cause == TransferCause::Rebalance(number));
                found.extend(own.filter(|it| it.is_awaited()).map(|it| it.registration_id));
                if !page.more {
                    return Ok(found);
                }
            }
        })
        .await
    }

    /// Records progress if it is due or the rebalance is not to go on; whether it is to go on.
    async fn record(&self, rebalance: &mut Rebalance, digest: MoveDigest, is_due: bool) -> Result<bool, Ended> {
        let _turn = self.turn.lock().await;
        rebalance.state = self.stored(rebalance.number)?.state;
        let goes_on = rebalance.state == RebalanceState::Running;
        if is_due || !goes_on {
            self.put(rebalance.clone(), digest, Actor::Server).await?;
        }
        Ok(goes_on)
    }

    fn stored(&self, number: u32) -> Result<Rebalance, Fault> {
        let all = self.provisioning.registry().rebalances()?;
        let found = all.into_iter().find(|rebalance| rebalance.number == number);
        found.ok_or_else(|| Fault(format!("there is no rebalance {number}")))
    }

    async fn put(&self, rebalance: Rebalance, digest: MoveDigest, actor: Actor) -> Result<Rebalance, RegistryError> {
        let command = Command::PutRebalance(Box::new(Rebalance {
            digest: digest.0,
            updated: self.environment.now(),
            ..rebalance
        }));
        match self.provisioning.registry().submit(self.request(command, actor)).await? {
            Outcome::Rebalance(stored) => Ok(*stored),
            _ => Err(Fault("the registry answered something else".to_owned()).into()),
        }
    }

    fn request(&self, command: Command, actor: Actor) -> Request {
        Request { command, actor, now: self.environment.now(), entropy: self.environment.entropy() }
    }

    async fn begin(&self, order: RebalanceOrder, actor: Actor) -> Result<Rebalance, Refusal> {
        let unavailable = |fault: Fault| Refusal::Unavailable { why: fault.to_string() };
        let _turn = self.turn.lock().await;
        let registry = self.provisioning.registry().clone();
        let all = registry.rebalances().map_err(unavailable)?;
        if let Some(other) = all.iter().find(|other| other.state != RebalanceState::Done) {
            let why = format!("rebalance {} is not done; stop it or let it go on, by its number", other.number);
            return Err(Refusal::Invalid { what: "rebalance".to_owned(), why });
        }
        if let Some(wanted) = order.plan_digest {
            let planned = self.plan(order.from.clone()).await.map_err(unavailable)?;
            if wanted != planned.digest.0 {
                let moves = planned.moves;
                let why = format!("{moves} moves would be made now, with another digest than the plan's; plan anew");
                return Err(Refusal::Invalid { what: "planDigest".to_owned(), why });
            }
        }
        // Counted from what hubs hold: near enough for a progress bar, and at hand.
        let hubs = self.provisioning.hubs().map_err(unavailable)?;
        let concerned = hubs.iter().filter(|hub| order.from.as_ref().is_none_or(|from| *from == hub.name));
        let loads = concerned.map(|hub| registry.hub_load(&hub.name));
        let expected = loads.sum::<Result<u64, Fault>>().map_err(unavailable)?;
        let now = self.environment.now();
        let rebalance = Rebalance {
            number: all.last().map_or(1, |last| last.number + 1),
            state: RebalanceState::Running,
            rate: order.rate.max(1),
            from: order.from,
            cursor: None,
            seen: 0,
            expected,
            moved: 0,
            skipped: 0,
            by: actor.clone(),
            begun: now,
            updated: now,
            digest: [0; 32],
            reasons: Vec::new(),
        };
        let stored = self.put(rebalance, MoveDigest::default(), actor).await.map_err(RegistryError::into_refusal)?;
        self.changed.notify_one();
        Ok(stored)
    }

    /// What a rebalance would do now.
    async fn plan(&self, from: Option<HubName>) -> Result<Forecast, Fault> {
        let provisioning = self.provisioning.clone();
        blocking(move || {
            let registry = provisioning.registry();
            let assumption = Assumption { hubs: provisioning.hubs()?, policy: registry.default_policy()?, from };
            let live = provisioning.circumstances(None).live;
            forecast(registry.as_ref(), provisioning.settings(), &assumption, &live, &mut |_| true)
        })
        .await
    }

    async fn switch(&self, number: u32, running: bool, actor: Actor) -> Result<Rebalance, Refusal> {
        let _turn = self.turn.lock().await;
        let invalid = |why: &str| Refusal::Invalid { what: format!("rebalance {number}"), why: why.to_owned() };
        let all = self.provisioning.registry().rebalances();
        let all = all.map_err(|fault| Refusal::Unavailable { why: fault.to_string() })?;
        let found = all.into_iter().find(|rebalance| rebalance.number == number);
        let found = found.ok_or_else(|| invalid("there is none of this number"))?;
        let wanted = if running { RebalanceState::Running } else { RebalanceState::Stopped };
        match found.state {
            RebalanceState::Done => return Err(invalid("it is done")),
            state if state == wanted => return Ok(found),
            _ => {}
        }
        let digest = MoveDigest(found.digest);
        let changed = Rebalance { state: wanted, ..found };
        let stored = self.put(changed, digest, actor).await.map_err(RegistryError::into_refusal)?;
        self.changed.notify_one();
        Ok(stored)
    }
}

impl Rebalancing for Rebalancer {
    fn start(&self, order: RebalanceOrder, actor: Actor) -> Pending<Result<Rebalance, Refusal>> {
        let work = self.0.clone();
        Box::pin(async move { work.begin(order, actor).await })
    }

    fn set_running(&self, number: u32, running: bool, actor: Actor) -> Pending<Result<Rebalance, Refusal>> {
        let work = self.0.clone();
        Box::pin(async move { work.switch(number, running, actor).await })
    }
}
