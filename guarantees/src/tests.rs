//! Thousands of schedules in which everything holds, and a few in which a rule is left out and the property says so.

use crate::breaks::{Break, Guarantee};
use crate::clones::{self, CloneWorld};
use crate::world::{Ring, Seen, World};

/// Schedules of a normal run; the environment can ask for more.
const SCHEDULES: u64 = 2000;
/// As many of U5's world.
const CLONE_SCHEDULES: u64 = 600;
/// Within how many schedules each break has to be found. Most take a handful, a rare race some hundreds.
const BREAK_SCHEDULES: u64 = 3000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text:?}: {error}")))
}

fn add(total: &mut Seen, one: Seen) {
    total.accepted += one.accepted;
    total.takeovers += one.takeovers;
    total.refused += one.refused;
    total.acknowledged += one.acknowledged;
    total.fenced += one.fenced;
    total.registered += one.registered;
    total.cuts += one.cuts;
    total.revoked += one.revoked;
    total.crashes += one.crashes;
}

fn run_from(ring: &Ring, seeds: std::ops::Range<u64>) -> Seen {
    let mut total = Seen::default();
    for seed in seeds {
        let mut world = World::new(ring, seed, Break::Nothing);
        match world.run() {
            Ok(seen) => add(&mut total, seen),
            Err(violation) => panic!(
                "{:?} does not hold: {}\nUNICITY_SEED={seed} repeats it; last steps: {}",
                violation.guarantee,
                violation.what,
                world.last_steps()
            ),
        }
    }
    total
}

#[test]
fn the_guarantees_hold_in_every_schedule() {
    let ring = Ring::new();
    if let Some(seed) = number("UNICITY_SEED") {
        println!("{:?}", run_from(&ring, seed..seed + 1));
        return;
    }
    let schedules = number("UNICITY_SCHEDULES").unwrap_or(SCHEDULES);
    // Two threads: one would be idle time on any machine.
    let half = schedules / 2;
    let (ring, other) = (&ring, ring.clone());
    let total = std::thread::scope(|scope| {
        let second = scope.spawn(move || run_from(&other, half..schedules));
        let mut total = run_from(ring, 0..half);
        add(&mut total, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        total
    });
    println!("{schedules} schedules: {total:?}");
    // Schedules in which nothing happens would hold anything.
    let at_least = |count: usize, per_schedule: f64, what: &str| {
        #[expect(clippy::cast_precision_loss, reason = "a rough bound")]
        let found = count as f64 / schedules.max(1) as f64;
        assert!(found >= per_schedule, "only {found:.2} {what} a schedule");
    };
    at_least(total.accepted, 1.0, "sessions");
    at_least(total.takeovers, 0.5, "takeovers");
    at_least(total.acknowledged, 2.0, "acknowledged messages");
    at_least(total.fenced, 0.05, "fenced messages");
    at_least(total.registered, 1.0, "registrations");
    at_least(total.cuts, 0.1, "cuts");
    at_least(total.revoked, 0.1, "revocations");
    at_least(total.refused, 1.0, "refusals");
    at_least(total.crashes, 1.0, "crashes");
}

/// The schedule from `first` on in which a break shows as the violation that it is.
fn found_by(ring: &Ring, broken: Break, guarantee: Guarantee, first: u64) -> Option<u64> {
    (first..first + BREAK_SCHEDULES).find(|seed| {
        let mut world = World::new(ring, *seed, broken);
        world.run().is_err_and(|violation| violation.guarantee == guarantee)
    })
}

#[test]
fn every_rule_left_out_is_found() {
    let ring = Ring::new();
    let mut missed = Vec::new();
    // To look at one: by its name.
    let only = std::env::var("UNICITY_BREAK").ok();
    let wanted = |broken: &Break| only.as_ref().is_none_or(|name| format!("{broken:?}") == *name);
    for (broken, guarantee, first) in Break::ALL.into_iter().filter(|(broken, ..)| wanted(broken)) {
        match found_by(&ring, broken, guarantee, first) {
            Some(seed) => println!("{broken:?} violates {guarantee:?}: found by schedule {seed}, from {first} on"),
            None => missed.push((broken, guarantee)),
        }
    }
    assert!(missed.is_empty(), "no property says that these rules are left out: {missed:?}");
}

#[test]
fn clones_are_handled_as_the_policy_says() {
    let ring = Ring::new();
    let seeds = match number("UNICITY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("UNICITY_SCHEDULES").unwrap_or(CLONE_SCHEDULES),
    };
    let is_whole_run = seeds.end - seeds.start >= 100;
    let mut total = clones::Seen::default();
    for seed in seeds {
        let mut world = CloneWorld::new(&ring, seed, Break::Nothing);
        let seen = world.run().unwrap_or_else(|violation| {
            panic!("{:?} does not hold: {}\nUNICITY_SEED={seed} repeats it", violation.guarantee, violation.what)
        });
        total.add(seen);
    }
    println!("{total:?}");
    assert!(!is_whole_run || total.is_lively(), "schedules in which little happens hold anything: {total:?}");
}

#[test]
fn every_rule_about_clones_left_out_is_found() {
    let ring = Ring::new();
    let mut missed = Vec::new();
    for (broken, words) in Break::OF_CLONES {
        let found = (0..BREAK_SCHEDULES).find(|seed| {
            let mut world = CloneWorld::new(&ring, *seed, broken);
            world.run().is_err_and(|violation| violation.what.contains(words))
        });
        match found {
            Some(seed) => println!("{broken:?} violates {:?}: found by schedule {seed}", Guarantee::U5),
            None => missed.push(broken),
        }
    }
    assert!(missed.is_empty(), "no property says that these rules are left out: {missed:?}");
}
