//! Clones and bad lives from the command line: who plays which part, and what is printed of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use unicity_device_sim::{
    AttackKind, AttackReport, Device, DeviceIssuer, Disturbance, FlakyReport, Fleet, Habits, Scene, Step, Summary,
    live_flaky, run_attack,
};
use unicity_identity::{Environment, RegistrationId};

use crate::cli::Plan;

/// What devices do beside registering and sending.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// Copy the credentials of the first N devices, and behave as a thief would while they run
    #[arg(long, value_name = "N")]
    clones: Option<usize>,
    /// What thieves do, one after the other: takeover, ping-pong, register-only, old-token, reissued-certificate,
    /// same-key-other-id, other-topic, overlap; or all
    #[arg(long = "attack", value_name = "KIND,...", default_value = "all", requires = "clones")]
    attacks: Attacks,
    /// How often each side connects in ping-pong
    #[arg(long, value_name = "R", default_value_t = 4, requires = "clones", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// What interrupts the other devices: drop, vanish, sleep, renew, move, reboot; or all
    #[arg(long, value_name = "KIND,...")]
    flaky: Option<Disturbances>,
    /// How often each of them is interrupted
    #[arg(long, value_name = "N", default_value_t = 8, requires = "flaky")]
    interruptions: u32,
    /// The longest that one of them is away, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 300, requires = "flaky")]
    pause_max: u64,
    /// The same seed and names, the same interruptions
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "flaky")]
    seed: u64,
    /// Addresses of this machine that devices move between, and of which a thief in `overlap` uses the first two; without
    /// them 127.0.0.x
    #[arg(long, value_name = "ADDR,...", value_delimiter = ',')]
    sources: Vec<IpAddr>,
    /// The most seconds that such a life takes
    #[arg(long, value_name = "S", default_value_t = 60, requires = "flaky", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    limit: u64,
}

#[derive(Debug, Clone)]
struct Attacks(Vec<AttackKind>);

#[derive(Debug, Clone)]
struct Disturbances(Vec<Disturbance>);

fn chosen<T: FromStr + Clone>(text: &str, all: &[T]) -> Result<Vec<T>, T::Err> {
    if text == "all" { Ok(all.to_vec()) } else { text.split(',').map(str::parse).collect() }
}

impl FromStr for Attacks {
    type Err = <AttackKind as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        chosen(text, &AttackKind::ALL).map(Self)
    }
}

impl FromStr for Disturbances {
    type Err = <Disturbance as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        chosen(text, &Disturbance::ALL).map(Self)
    }
}

impl ExperimentArgs {
    /// Whether there is anything of the kind to do.
    pub(crate) fn is_wanted(&self) -> bool {
        self.clones.is_some() || self.flaky.is_some()
    }

    /// How many thieves there are.
    pub(crate) fn thieves(&self) -> usize {
        self.clones.unwrap_or(0)
    }

    fn habits(&self) -> Option<Habits> {
        let usual = Habits::default();
        Some(Habits {
            sources: if self.sources.is_empty() { usual.sources } else { self.sources.clone() },
            disturbances: self.flaky.as_ref()?.0.clone(),
            count: self.interruptions,
            pause_max: Duration::from_millis(self.pause_max),
            seed: self.seed,
            limit: Duration::from_secs(self.limit),
            messages_max: usual.messages_max,
        })
    }
}

/// What the thieves have at hand.
#[derive(Default)]
pub(crate) struct Accomplices {
    /// A device for each thief: two that shared one would take it from each other.
    pub(crate) devices: Vec<Device>,
    /// An authority that issues for whoever asks.
    pub(crate) issuer: Option<DeviceIssuer>,
}

/// Prints as things happen, and keeps what the end is told from.
struct Findings {
    json: bool,
    attacks: Mutex<Vec<AttackReport>>,
    flaky: Mutex<Vec<FlakyReport>>,
    errors: Mutex<Vec<String>>,
    fleet: Mutex<Option<Summary>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Findings {
    /// One line of JSON: the event's name, then what it is.
    fn event(&self, name: &str, value: Value) {
        if !self.json {
            return;
        }
        let mut line = json!({"event": name});
        if let (Value::Object(line), Value::Object(value)) = (&mut line, value) {
            line.extend(value);
        }
        // A closed pipe is the reader's choice.
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    fn step(&self, kind: AttackKind, owner: &RegistrationId, step: &Step) {
        let mut value = serde_json::to_value(step).unwrap_or_default();
        value["attack"] = kind.name().into();
        value["owner"] = owner.as_str().into();
        self.event("step", value);
    }

    fn attack(&self, report: AttackReport) {
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        // Each was told as it happened.
        value["steps"] = report.steps.len().into();
        self.event("attack", value);
        locked(&self.attacks).push(report);
    }

    fn flaky(&self, report: FlakyReport) {
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        value["untroubled"] = report.is_untroubled().into();
        self.event("flaky", value);
        locked(&self.flaky).push(report);
    }

    fn error(&self, kind: AttackKind, owner: &RegistrationId, why: &str) {
        self.event("error", json!({"attack": kind.name(), "owner": owner.as_str(), "error": why}));
        locked(&self.errors).push(format!("{kind} on {owner}: {why}"));
    }

    /// Outcome and refusal of each attack, with how often.
    fn table(&self) -> BTreeMap<(AttackKind, String), u64> {
        let mut table = BTreeMap::new();
        for report in locked(&self.attacks).iter() {
            *table.entry((report.kind, report.line())).or_default() += 1;
        }
        table
    }

    /// The end: a line of JSON, or tables. Returns whether all went as an experiment should, whatever it found.
    fn finish(&self, stopped: bool) -> bool {
        let (flaky, errors, fleet) = (locked(&self.flaky), locked(&self.errors), locked(&self.fleet));
        let untroubled = flaky.iter().filter(|report| report.is_untroubled()).count();
        let taken: u64 = flaky.iter().map(|report| u64::from(report.taken)).sum();
        let table = self.table();
        if self.json {
            let rows: Vec<Value> = table
                .iter()
                .map(|((kind, line), count)| json!({"attack": kind.name(), "seen": line, "count": count}))
                .collect();
            let flaky = json!({"devices": flaky.len(), "untroubled": untroubled, "taken": taken});
            self.event(
                "summary",
                json!({"attacks": rows, "flaky": flaky, "errors": *errors, "fleet": *fleet, "stopped": stopped}),
            );
        } else {
            let mut text = String::new();
            if !table.is_empty() {
                text += &format!("{:<22}{:>6}  what the server did\n", "attack", "times");
            }
            for ((kind, line), count) in &table {
                text += &format!("{kind:<22}{count:>6}  {line}\n");
            }
            if !flaky.is_empty() {
                text += &format!("flaky devices  {}, untroubled {untroubled}, sessions taken {taken}\n", flaky.len());
            }
            for report in flaky.iter().filter(|report| !report.is_untroubled()) {
                let why = report.gave_up.as_deref().unwrap_or("went on");
                text +=
                    &format!("  {}: taken {}, {:?}, {why}\n", report.registration_id, report.taken, report.failures);
            }
            for error in errors.iter() {
                text += &format!("not played: {error}\n");
            }
            if let Some(fleet) = fleet.as_ref() {
                text += &format!("\n{fleet}");
            }
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
        }
        !stopped
            && errors.is_empty()
            && untroubled == flaky.len()
            && fleet.as_ref().is_none_or(unicity_device_sim::Summary::is_complete)
    }
}

/// Plays thieves and bad lives until all are done, or `stop` is. Returns whether it all could be played and nobody who
/// behaved was troubled.
pub(crate) async fn run(
    arguments: &ExperimentArgs,
    json: bool,
    plan: Plan,
    env: Environment,
    stop: impl Future<Output = ()>,
) -> bool {
    let findings = Arc::new(Findings {
        json,
        attacks: Mutex::default(),
        flaky: Mutex::default(),
        errors: Mutex::default(),
        fleet: Mutex::default(),
    });
    let played = play(arguments, plan, env, Arc::clone(&findings));
    let stopped = tokio::select! {
        () = played => false,
        () = stop => true,
    };
    findings.finish(stopped)
}

async fn play(arguments: &ExperimentArgs, plan: Plan, env: Environment, findings: Arc<Findings>) {
    let mut devices = plan.devices;
    let others = devices.split_off(arguments.clones.unwrap_or(0).min(devices.len()));
    let accomplices = Arc::new(plan.accomplices);
    let places = Arc::new(Semaphore::new(plan.settings.concurrency.max(1)));
    let mut tasks = JoinSet::new();
    for (number, owner) in devices.into_iter().enumerate() {
        let (dialer, endpoint, env) = (plan.dialer.clone(), plan.endpoint.clone(), env.clone());
        let (findings, accomplices, places) = (Arc::clone(&findings), Arc::clone(&accomplices), Arc::clone(&places));
        let (kinds, rounds) = (arguments.attacks.0.clone(), arguments.rounds);
        let sources: Option<[IpAddr; 2]> = arguments.sources.first_chunk().copied();
        tasks.spawn(async move {
            let _place = places.acquire().await;
            let watcher = |kind: AttackKind, owner: &RegistrationId, step: &Step| findings.step(kind, owner, step);
            let usual = Scene::new(&dialer, &endpoint, &env);
            let scene = Scene {
                sources: sources.unwrap_or(usual.sources),
                accomplice: accomplices.devices.get(number),
                issuer: accomplices.issuer.as_ref(),
                rounds,
                watcher: Some(&watcher),
                ..usual
            };
            for kind in kinds {
                match run_attack(kind, &scene, &owner).await {
                    Ok(report) => findings.attack(report),
                    Err(error) => findings.error(kind, &owner.registration_id, &error.to_string()),
                }
            }
        });
    }
    match arguments.habits() {
        Some(habits) => {
            for device in others {
                let (dialer, endpoint, env) = (plan.dialer.clone(), plan.endpoint.clone(), env.clone());
                let (findings, habits, places) = (Arc::clone(&findings), habits.clone(), Arc::clone(&places));
                tasks.spawn(async move {
                    let _place = places.acquire().await;
                    findings.flaky(live_flaky(&dialer, &endpoint, &device, &env, &habits).await);
                });
            }
        }
        None if others.is_empty() => {}
        None => {
            let fleet = Fleet::new(plan.dialer, plan.endpoint, plan.settings, env);
            let findings = Arc::clone(&findings);
            tasks.spawn(async move {
                let summary = fleet.run(others).await.summary;
                *locked(&findings.fleet) = Some(summary);
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = done
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
