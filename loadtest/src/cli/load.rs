//! `register`, `zero-touch`, `connect`: one operation again and again, in a closed or an open loop, or in search of the highest
//! rate.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use unicity_loadtest::Stage;
use unicity_loadtest::drive::{Arrivals, Bounds, Objective, Operation, Search, Stop, Warmup};
use unicity_loadtest::workload::{
    Connect, LoopPlan, Measurement, Pacing, Register, Role, ZeroTouch, run_operations, settle,
};

use super::finish::{RunData, finish, observer};
use super::output::OutputArgs;
use super::target::{Prepared, TargetArgs, now, time};
use super::{Refused, process};

/// Operations when neither a number nor a time is given.
const SECONDS_DEFAULT: u64 = 10;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    /// So many devices in all, each once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    devices: Option<u64>,
    /// So long, warm-up included [default: 10, unless --devices is given]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Closed loop: so many at work, each begins the next when one is done
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    concurrency: u32,
    /// Open loop: so many begin each second, whatever becomes of those before
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "concurrency")]
    rate: Option<f64>,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    search: SearchArgs,
    /// What is left out at the beginning: a time (5s) or a number of operations (200)
    #[arg(long, value_name = "S|N", default_value = "0")]
    warmup: Warmup,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct OpenArgs {
    /// How the beginnings of an open loop lie in time
    #[arg(long, value_enum, value_name = "KIND", default_value = "poisson")]
    pub(crate) arrivals: Arrivals,
    /// The most at work in an open loop
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) in_flight: u32,
    /// Another one gives other schedules and waits
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Search")]
pub(crate) struct SearchArgs {
    /// Search the highest rate that meets the objective, beginning at --rate
    #[arg(long)]
    pub(crate) find_max: bool,
    /// What must be met: FIGURE<=TIME, FIGURE one of p50, p90, p99, p999, max, mean
    #[arg(long, value_name = "OBJECTIVE", default_value = "p99<=50ms")]
    objective: Objective,
    /// How long each rate is tried, after its warm-up
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    step_seconds: u64,
    /// The warm-up of each
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    step_warmup: Duration,
    /// The most rates that are tried
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    steps: u32,
}

/// A number of events a second, above 0.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0 && *rate <= 10_000_000.0);
    parsed.ok_or_else(|| format!("{text:?} is no rate above 0"))
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ZeroTouchArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Bytes of the message
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=262_144))]
    payload: u32,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// As what devices connect
    #[arg(long, value_enum, value_name = "ROLE", default_value = "hub")]
    role: Role,
    /// Devices that connect again and again
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pool: u32,
    #[command(flatten)]
    output: OutputArgs,
}

type Settings = BTreeMap<String, String>;

pub(crate) async fn register(args: RegisterArgs, settings: Settings, stop: &Stop) -> Result<ExitCode, Refused> {
    args.target.check_service("register")?;
    let prepared = args.target.prepare(args.load.known_devices()).await?;
    let operation = Arc::new(Register { site: Arc::clone(&prepared.site), pool: Arc::clone(&prepared.pool) });
    drive("register", &operation, &args.load, &args.output, prepared, settings, stop).await
}

pub(crate) async fn zero_touch(args: ZeroTouchArgs, settings: Settings, stop: &Stop) -> Result<ExitCode, Refused> {
    args.target.check_service("zero-touch")?;
    let prepared = args.target.prepare(args.load.known_devices()).await?;
    let operation = Arc::new(ZeroTouch {
        site: Arc::clone(&prepared.site),
        pool: Arc::clone(&prepared.pool),
        payload: vec![b'x'; args.payload as usize],
    });
    drive("zero-touch", &operation, &args.load, &args.output, prepared, settings, stop).await
}

pub(crate) async fn connect(args: ConnectArgs, settings: Settings, stop: &Stop) -> Result<ExitCode, Refused> {
    if args.role == Role::Provisioning && args.target.is_broker() {
        return Err(Refused::usage("--role provisioning: a plain broker has no such role"));
    }
    let count = args.load.known_devices().unwrap_or(args.pool as usize).min(args.pool as usize);
    let prepared = args.target.prepare(Some(count)).await?;
    if args.role == Role::Hub {
        let settled = settle(&prepared.site, &prepared.pool, count, args.load.concurrency as usize, stop).await;
        if let Err(why) = settled {
            prepared.end().await;
            return Err(Refused::failed(why));
        }
    }
    let operation = Connect::new(Arc::clone(&prepared.site), Arc::clone(&prepared.pool), args.role);
    let operation = Arc::new(operation);
    drive("connect", &operation, &args.load, &args.output, prepared, settings, stop).await
}

impl Prepared {
    /// Ends the server that was started.
    pub(crate) async fn end(self) {
        if let Some(server) = self.server {
            server.end().await;
        }
    }
}

impl LoadArgs {
    pub(crate) fn known_devices(&self) -> Option<usize> {
        self.devices.and_then(|devices| usize::try_from(devices).ok())
    }

    fn plan(&self) -> LoopPlan {
        let seconds = self.seconds.or_else(|| self.devices.is_none().then_some(SECONDS_DEFAULT));
        let pacing = match self.rate {
            None => Pacing::Closed { concurrency: self.concurrency as usize },
            Some(rate) => Pacing::Open { rate, arrivals: self.open.arrivals, in_flight_max: self.in_flight() },
        };
        LoopPlan {
            pacing,
            bounds: Bounds { count: self.devices, time: seconds.map(Duration::from_secs) },
            warmup: self.warmup,
            seed: self.open.seed,
            first: 0,
        }
    }

    /// Never more than there are files for.
    fn in_flight(&self) -> usize {
        (self.open.in_flight as usize).min(usize::try_from(process::sessions_max()).unwrap_or(usize::MAX).max(1))
    }
}

pub(crate) async fn drive<O: Operation>(
    workload: &'static str,
    operation: &Arc<O>,
    load: &LoadArgs,
    output: &OutputArgs,
    prepared: Prepared,
    settings: Settings,
    stop: &Stop,
) -> Result<ExitCode, Refused> {
    let began = now();
    let plan = load.plan();
    let (measurement, offered) = if load.search.find_max {
        let mut first = 0;
        let found = find_max(&load.search, load.rate.unwrap_or(100.0), stop, async |rate, time, warmup| {
            let pacing = Pacing::Open { rate, arrivals: load.open.arrivals, in_flight_max: load.in_flight() };
            let bounds = Bounds { count: None, time: Some(time) };
            let plan = LoopPlan { pacing, bounds, warmup: Warmup::For(warmup), first, seed: load.open.seed };
            // Of a server that is gone, no rate is met.
            let Ok(look) = observer(workload, output, prepared.server_pid) else { return Measurement::default() };
            let measurement = run_operations(operation, &plan, stop, look).await.0;
            first += measurement.all.started;
            measurement
        });
        found.await
    } else {
        let look = observer(workload, output, prepared.server_pid)?;
        (run_operations(operation, &plan, stop, look).await.0, load.rate)
    };
    let mut measurement = measurement;
    if prepared.pool.has_wrapped() && !matches!(workload, "connect" | "floor") {
        let count = prepared.pool.len();
        measurement.warnings.push(format!(
            "the {count} devices with certificates were not enough and came again: not every registration was a first one; \
             give more with --devices"
        ));
    }
    let run = RunData {
        workload,
        is_open: offered.is_some() || load.search.find_max,
        offered_per_second: offered,
        settings,
        began,
        expected: load.devices.filter(|_| !load.search.find_max),
        measurement,
    };
    let code = finish(run, output, stop);
    prepared.end().await;
    code
}

/// Tries rates until the highest that meets the objective is known; gives the best one's measurement and its rate.
pub(crate) async fn find_max(
    args: &SearchArgs,
    first: f64,
    stop: &Stop,
    mut probe: impl AsyncFnMut(f64, Duration, Duration) -> Measurement,
) -> (Measurement, Option<f64>) {
    let mut search = Search::new(first, 0.05, args.steps as usize);
    let mut kept: Vec<(f64, Measurement)> = Vec::new();
    let mut steps = BTreeMap::new();
    while let Some(rate) = search.next() {
        let time = Duration::from_secs(args.step_seconds) + args.step_warmup;
        let measurement = probe(rate, time, args.step_warmup).await;
        if stop.is_wished() {
            break;
        }
        let times = measurement.recorder.times(Stage::Total);
        let found = times.map(|times| args.objective.found(times));
        let failed = measurement.counts.failed;
        // A rate that is not reached is not met, however quick the few were.
        let reached = measurement.per_second() >= rate * 0.95;
        let met = args.objective.is_met(times) && failed == 0 && reached;
        let why = match (met, failed, reached) {
            (true, ..) => "met".to_owned(),
            (false, 1.., _) => format!("missed: {failed} failed"),
            (false, 0, false) => format!("missed: only {:.0}/s were done", measurement.per_second()),
            (false, 0, true) => "missed".to_owned(),
        };
        let figure =
            found.map_or_else(|| "none done".to_owned(), |found| format!("{:.1} ms", found.as_secs_f64() * 1e3));
        eprintln!("step {:>2}: {rate:>10.0}/s  {}: {figure}  {why}", search.steps().len() + 1, args.objective);
        steps.insert(format!("step-{:02}-rate", search.steps().len() + 1), rate);
        steps.insert(format!("step-{:02}-met", search.steps().len() + 1), f64::from(u8::from(met)));
        search.tell(rate, met);
        if met {
            kept.push((rate, measurement));
        }
    }
    // A rate above one that missed is not the answer, even if it met.
    let rate = search.best();
    let best = kept.into_iter().find(|(tried, _)| Some(*tried) == rate);
    let mut measurement = best.map(|(_, measurement)| measurement).unwrap_or_default();
    measurement.figures.extend(steps);
    measurement.figures.insert("max-rate".to_owned(), rate.unwrap_or(0.0));
    if rate.is_none() {
        measurement.warnings.push(format!("no rate met {}", args.objective));
    }
    (measurement, rate)
}
