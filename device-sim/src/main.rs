//! `device-sim`: a fleet of simulated devices from the command line.

mod cli;
mod experiment;
mod fleet_cli;
mod show;

use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::signal::unix::{SignalKind, signal};
use unicity_device_sim::Fleet;
use unicity_identity::{Environment, Timestamp};

use crate::cli::Arguments;
use crate::fleet_cli::FleetCli;

fn main() -> ExitCode {
    let first = std::env::args().nth(1);
    let fleet = FleetCli::is_meant(first.as_deref()).then(FleetCli::parse);
    let arguments = if fleet.is_none() { Some(Arguments::parse()) } else { None };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure(&format!("no runtime: {error}")),
    };
    runtime.block_on(async move {
        match (fleet, arguments) {
            (Some(fleet), _) => fleet.run(environment(), told_to_stop()).await,
            (None, Some(arguments)) => run(arguments).await,
            (None, None) => ExitCode::FAILURE,
        }
    })
}

async fn run(arguments: Arguments) -> ExitCode {
    let environment = environment();
    if arguments.print_endorsement_key {
        return print_endorsement_key(&arguments);
    }
    let plan = match arguments.plan(&environment) {
        Ok(plan) => plan,
        Err(message) => return failure(&message),
    };
    if arguments.experiment.is_wanted() {
        let done = experiment::run(&arguments.experiment, arguments.json, plan, environment, told_to_stop()).await;
        return if done { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let fleet = Fleet::new(plan.dialer, plan.endpoint, plan.settings, environment);
    let stopper = fleet.stopper();
    tokio::spawn(async move {
        told_to_stop().await;
        stopper.stop();
    });
    let progress = fleet.progress();
    let shown = (std::io::stderr().is_terminal() && !arguments.json)
        .then(|| tokio::spawn(async move { show::devices(&progress).await }));
    let result = fleet.run(plan.devices).await;
    if let Some(shown) = shown {
        shown.abort();
        eprintln!();
    }

    let printed = if arguments.json {
        serde_json::to_string(&result.summary).unwrap_or_else(|error| error.to_string())
    } else {
        result.summary.to_string().trim_end().to_owned()
    };
    // A closed pipe is the reader's choice.
    let _ = writeln!(std::io::stdout(), "{printed}");
    if result.summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_endorsement_key(arguments: &Arguments) -> ExitCode {
    use base64::Engine as _;
    match arguments.tpm() {
        Ok(Some(tpm)) => {
            let key = base64::engine::general_purpose::STANDARD.encode(tpm.endorsement_key());
            let _ = writeln!(std::io::stdout(), "{key}");
            ExitCode::SUCCESS
        }
        Ok(None) => failure("--print-endorsement-key needs --tpm"),
        Err(message) => failure(&message),
    }
}

/// Returns at SIGINT or SIGTERM; never if the process cannot be told.
async fn told_to_stop() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        Some(()) = terminate.recv() => {}
        else => std::future::pending().await,
    }
}

fn failure(message: &str) -> ExitCode {
    eprintln!("device-sim: {message}");
    ExitCode::FAILURE
}

fn environment() -> Environment {
    let random = SystemRandom::new();
    Environment::new(now, move || {
        let mut seed = [0; 32];
        random.fill(&mut seed).expect("the system has a random generator");
        seed
    })
}

#[expect(clippy::disallowed_methods, reason = "the binary is where the wall clock enters; all else takes it from here")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
