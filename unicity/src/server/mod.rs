//! The server: everything is put together here, started in order, and stopped in the reverse one.

mod audit;
mod crl_files;
mod durable;
pub(crate) mod names;
mod nodes;
mod policies;
pub(crate) mod restore;
mod sealer;
mod start;
mod transfers;
mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Global;
use crate::config::{self, Address, Config};
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};
use crate::logging;

pub(crate) use policies::write_first_connection_strings;
pub(crate) use start::{Running, start};

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration; unicity.toml in the data directory if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen for MQTT over TLS [default: port 8883 on all addresses].
    #[arg(long, value_name = "ADDR")]
    mqtt: Option<String>,
    /// Where to listen for HTTPS [default: port 443, else 8443, on all addresses].
    #[arg(long, value_name = "ADDR")]
    https: Option<String>,
    /// Where to listen for health and metrics, without TLS [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// A name or address under which the server is reached; repeatable.
    #[arg(long = "hostname", value_name = "NAME")]
    hostnames: Vec<String>,
    /// The host that devices are told as their hub.
    #[arg(long, value_name = "HOST")]
    hub_host: Option<String>,
}

/// What to start, from command line and configuration.
pub(crate) struct Plan {
    pub(crate) data: DataDir,
    pub(crate) config: Config,
    pub(crate) mqtt: Address,
    /// `None`: 443, or 8443 where that cannot be had.
    pub(crate) https: Option<Address>,
    pub(crate) admin: Address,
    pub(crate) hostnames: Vec<String>,
    pub(crate) hub_host: Option<String>,
}

impl Plan {
    fn new(global: &Global, args: &ServeArgs) -> Outcome<Self> {
        let data = DataDir::new(&global.data);
        let config = match &args.config {
            Some(path) => config::load(path)?,
            None if data.config().exists() => config::load(&data.config())?,
            None => config::defaults(),
        };
        let pick = |option: &str, given: &Option<String>, configured: &Option<Address>| match given {
            Some(text) => Address::parse(text, &format!("--{option} {text}"))
                .map(Some)
                .map_err(|why| CommandError::usage(format!("--{option}: {why}"))),
            None => Ok(configured.clone()),
        };
        let default = |text: &str, what: &str| {
            Address::parse(text, what).map_err(|why| CommandError::new(format!("default address: {why}")))
        };
        Ok(Self {
            mqtt: match pick("mqtt", &args.mqtt, &config.mqtt)? {
                Some(address) => address,
                None => default(":8883", "the default of --mqtt")?,
            },
            https: pick("https", &args.https, &config.https)?,
            admin: match pick("admin", &args.admin, &config.admin)? {
                Some(address) => address,
                None => default("127.0.0.1:9464", "the default of --admin")?,
            },
            hostnames: args.hostnames.clone(),
            hub_host: args.hub_host.clone(),
            data,
            config,
        })
    }
}

/// Runs the server until SIGTERM or SIGINT. SIGHUP has the files of revocation lists read again.
pub(crate) async fn run(global: &Global, args: &ServeArgs) -> Outcome {
    let plan = Plan::new(global, args)?;
    logging::start(plan.config.log.format, &plan.config.log.filter)?;
    let drain = Duration::from_secs(plan.config.drain_seconds);
    // Before anything is bound: a signal during the start must end it in order, too.
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let running = start(plan).await?;
    let run = running.addresses();
    crate::cli::ready_line(&format!("unicity ready mqtt={} https={} admin={}", run.mqtt, run.https, run.admin))?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break tracing::info!("stopping: SIGTERM"),
            _ = interrupt.recv() => break tracing::info!("stopping: SIGINT"),
            _ = hangup.recv() => {
                tracing::info!("reading revocation lists again: SIGHUP");
                running.reload_revocation_lists();
            }
        }
    }
    running.stop(drain).await
}
