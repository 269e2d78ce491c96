//! `telemetry`, `storm`, `hold`: many open sessions.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use unicity_loadtest::drive::{Stop, Warmup};
use unicity_loadtest::workload::{Measurement, Pace, Quality, SessionsPlan, StormPlan, settle, stream};

use super::finish::{RunData, finish, observer};
use super::load::{OpenArgs, SearchArgs, find_max, rate};
use super::output::OutputArgs;
use super::target::{Prepared, TargetArgs, now, time};
use super::{Refused, process};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct TelemetryArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Senders, each on a session of its own
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: u32,
    /// How long they send, warm-up included [default: 10, unless --messages is given]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// How many messages each sends
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=262_144))]
    payload: u32,
    /// The most messages of a sender without an acknowledgement
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=65_535))]
    window: u16,
    /// Quality of service
    #[arg(long, value_name = "QOS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// Open loop: so many messages a second of all senders together
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "rate_per_sender")]
    rate: Option<f64>,
    /// Open loop: so many messages a second of each sender
    #[arg(long, value_name = "R", value_parser = rate)]
    rate_per_sender: Option<f64>,
    /// How many connect at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    search: SearchArgs,
    /// What is left out at the beginning of the sending: a time (5s) or a number of messages
    #[arg(long, value_name = "S|N", default_value = "0")]
    warmup: Warmup,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Sessions
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: u32,
    /// How long they are held once all are there
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Each sends a message as often; idle if not given
    #[arg(long, value_name = "TIME", value_parser = time)]
    send_every: Option<Duration>,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=262_144))]
    payload: u32,
    /// How many connect at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    /// Another one gives other schedules
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct StormArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Devices that are connected, lose their sessions in the same moment, and want to be back
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: u32,
    /// How many connect at once before the storm; in it all do
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    /// Tries before a device gives up
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tries: u32,
    /// Bound of the wait after a first failed try; it doubles with each, and each wait is a random part of it
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = time)]
    backoff: Duration,
    /// The longest such bound
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    backoff_max: Duration,
    /// When whoever is not back gives up
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Another one gives other waits
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    output: OutputArgs,
}

type Settings = BTreeMap<String, String>;

/// Makes devices that know their hub.
async fn prepare(target: &TargetArgs, devices: u32, concurrency: u32, stop: &Stop) -> Result<Prepared, Refused> {
    if u64::from(devices) > process::sessions_max() {
        return Err(Refused::failed(format!(
            "{devices} sessions need as many open files, and this process may have {}: raise `ulimit -n`",
            process::sessions_max()
        )));
    }
    let prepared = target.prepare(Some(devices as usize)).await?;
    match settle(&prepared.site, &prepared.pool, devices as usize, concurrency as usize, stop).await {
        Ok(()) => Ok(prepared),
        Err(why) => {
            prepared.end().await;
            Err(Refused::failed(why))
        }
    }
}

impl TelemetryArgs {
    fn pace(&self) -> Pace {
        let devices = f64::from(self.devices);
        match self.rate_per_sender.or_else(|| self.rate.map(|rate| rate / devices)) {
            Some(per_second) => Pace::Rate { per_second, arrivals: self.open.arrivals },
            None => Pace::Unbounded,
        }
    }
}

pub(crate) async fn telemetry(args: TelemetryArgs, settings: Settings, stop: &Stop) -> Result<ExitCode, Refused> {
    if args.search.find_max && args.qos == 0 {
        return Err(Refused::usage("--find-max needs --qos 1: without acknowledgements there is no latency"));
    }
    let prepared = prepare(&args.target, args.devices, args.concurrency, stop).await?;
    let seconds = args.seconds.or_else(|| args.messages.is_none().then_some(10));
    let plan = SessionsPlan {
        sessions: args.devices as usize,
        concurrency: args.concurrency as usize,
        pace: args.pace(),
        quality: if args.qos == 0 { Quality::AtMostOnce } else { Quality::AtLeastOnce },
        window: args.window,
        payload: vec![b'x'; args.payload as usize],
        messages: args.messages,
        time: seconds.map(Duration::from_secs),
        warmup: args.warmup,
        seed: args.open.seed,
        server_pid: prepared.server_pid,
    };
    let began = now();
    let devices = f64::from(args.devices);
    let (measurement, offered) = if args.search.find_max {
        let first = args.rate.or(args.rate_per_sender.map(|rate| rate * devices)).unwrap_or(1000.0);
        let found = find_max(&args.search, first, stop, async |rate, time, warmup| {
            let pace = Pace::Rate { per_second: rate / devices, arrivals: args.open.arrivals };
            let warmup = Warmup::For(warmup);
            let plan = SessionsPlan { pace, time: Some(time), warmup, messages: None, ..plan.clone() };
            let Ok(look) = observer("telemetry", &args.output, prepared.server_pid) else {
                return Measurement::default();
            };
            stream(&prepared.site, &prepared.pool, plan, stop, look).await.0
        });
        found.await
    } else {
        let offered = args.rate.or(args.rate_per_sender.map(|rate| rate * devices));
        let look = observer("telemetry", &args.output, prepared.server_pid)?;
        (stream(&prepared.site, &prepared.pool, plan, stop, look).await.0, offered)
    };
    let expected =
        args.messages.filter(|_| args.seconds.is_none() && args.warmup == Warmup::None && !args.search.find_max);
    let run = RunData {
        workload: "telemetry",
        is_open: offered.is_some(),
        offered_per_second: offered,
        settings,
        began,
        expected: expected.map(|messages| messages * u64::from(args.devices)),
        measurement,
    };
    let code = finish(run, &args.output, stop);
    prepared.end().await;
    code
}

pub(crate) async fn hold(args: HoldArgs, settings: Settings, stop: &Stop) -> Result<ExitCode, Refused> {
    let prepared = prepare(&args.target, args.devices, args.concurrency, stop).await?;
    let per_second = args.send_every.map(|every| 1.0 / every.as_secs_f64().max(0.001));
    let pace = match per_second {
        Some(per_second) => Pace::Rate { per_second, arrivals: unicity_loadtest::drive::Arrivals::Uniform },
        None => Pace::Idle,
    };
    let plan = SessionsPlan {
        sessions: args.devices as usize,
        concurrency: args.concurrency as usize,
        pace,
        quality: Quality::AtLeastOnce,
        window: 16,
        payload: vec![b'x'; args.payload as usize],
        messages: None,
        time: Some(Duration::from_secs(args.seconds)),
        warmup: Warmup::None,
        seed: args.seed,
        server_pid: prepared.server_pid,
    };
    let began = now();
    let look = observer("hold", &args.output, prepared.server_pid)?;
    let measurement = stream(&prepared.site, &prepared.pool, plan, stop, look).await.0;
    let run = RunData {
        workload: "hold",
        is_open: per_second.is_some(),
        offered_per_second: per_second.map(|rate| rate * f64::from(args.devices)),
        settings,
        began,
        expected: per_second.is_none().then_some(u64::from(args.devices)),
        measurement,
    };
    let code = finish(run, &args.output, stop);
    prepared.end().await;
    code
}

pub(crate) async fn storm(args: StormArgs, settings: Settings, stop: &Stop) -> Result<ExitCode, Refused> {
    let prepared = prepare(&args.target, args.devices, args.concurrency, stop).await?;
    let plan = StormPlan {
        devices: args.devices as usize,
        concurrency: args.concurrency as usize,
        tries_max: args.tries,
        backoff: args.backoff,
        backoff_max: args.backoff_max,
        time_max: Duration::from_secs(args.seconds),
        seed: args.seed,
    };
    let began = now();
    let look = observer("storm", &args.output, prepared.server_pid)?;
    let measurement = unicity_loadtest::workload::storm(&prepared.site, &prepared.pool, plan, stop, look).await.0;
    let run = RunData {
        workload: "storm",
        is_open: false,
        offered_per_second: None,
        settings,
        began,
        expected: Some(u64::from(args.devices)),
        measurement,
    };
    let code = finish(run, &args.output, stop);
    prepared.end().await;
    code
}
