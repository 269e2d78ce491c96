//! `floor`: the handshakes that are left when all else is taken away.

use std::collections::{BTreeMap, HashMap};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;
use unicity_device_sim::{DeviceIssuer, Endpoint, SimError};
use unicity_loadtest::client::{DeviceTls, TlsVersions};
use unicity_loadtest::drive::Stop;
use unicity_loadtest::workload::{Broker, Floor, Mix, Pool, Site, SiteKind};

use super::authority::Authority;
use super::load::{LoadArgs, drive};
use super::output::OutputArgs;
use super::process::Place;
use super::target::{Prepared, environment};
use super::{Refused, bare, process, server};

/// Devices with certificates of their own: enough that no two of the same are at work at once in most runs; they come again.
const POOL: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Args)]
pub(crate) struct FloorArgs {
    /// The bare server to its core, this program to another one
    #[arg(long)]
    pin: bool,
    /// The core of the bare server
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: usize,
    /// Versions of TLS
    #[arg(long, value_enum, value_name = "VERSION", default_value = "any")]
    tls: TlsVersions,
    /// Devices resume their own TLS sessions
    #[arg(long)]
    resume: bool,
    /// Threads of this program [default: all cores but one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl FloorArgs {
    /// Where the generator and the bare server run.
    pub(crate) fn place(&self) -> Place {
        let threads = self.threads.map_or_else(|| process::cores().saturating_sub(1).max(1), usize::from);
        Place { pin: self.pin, server_core: self.server_core, threads }
    }

    async fn prepare(&self) -> Result<Prepared, Refused> {
        let folder = server::folder()?;
        let authority = Authority::write(folder.path())?;
        let (server, endpoint) = start(folder, self.pin.then_some(self.server_core)).await?;
        let failed = |error: SimError| Refused::failed(error.to_string());
        let tls = DeviceTls::new(authority.certificate.as_bytes(), self.tls, self.resume).map_err(failed)?;
        let issuer = DeviceIssuer::from_pem(&authority.certificate, &authority.key).map_err(failed)?;
        let environment = environment();
        let count = self.load.known_devices().unwrap_or(POOL).clamp(1, POOL);
        let pool =
            Pool::make("lt-", count, Mix::X509, None, Some(&issuer), None, Some(&tls), &environment).map_err(failed)?;
        let kind = SiteKind::Broker(Broker { user_name: None, password: None, topic: String::new() });
        let site = Site::new(kind, &endpoint, HashMap::new(), endpoint.port, Some(tls), environment).await;
        let server_pid = Some(server.pid());
        Ok(Prepared { site: Arc::new(site.map_err(failed)?), pool: Arc::new(pool), server_pid, server: Some(server) })
    }
}

/// Starts the bare server: this program in another role.
async fn start(folder: tempfile::TempDir, core: Option<usize>) -> Result<(server::Server, Endpoint), Refused> {
    let failed = |why: &str| Refused::failed(format!("the bare server does not start: {why}"));
    let own = std::env::current_exe().map_err(|error| failed(&error.to_string()))?;
    let mut child = process::on_core(&own, core)
        .arg("bare-server")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A person's Ctrl-C is for us: we end it when we are done.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error.to_string()))?;
    let lines = child.stdout.take().map(BufReader::new).ok_or_else(|| failed("no output"))?;
    let mut lines = lines.lines();
    let line = timeout(PATIENCE, lines.next_line()).await;
    let line = line.ok().and_then(Result::ok).flatten().ok_or_else(|| failed("it says nothing"))?;
    let address = line.strip_prefix(bare::READY).and_then(|address| address.parse().ok());
    let endpoint = address.ok_or_else(|| failed("it says something else"))?;
    Ok((server::Server::of(child, folder)?, endpoint))
}

pub(crate) async fn floor(
    args: FloorArgs,
    settings: BTreeMap<String, String>,
    stop: &Stop,
) -> Result<ExitCode, Refused> {
    let prepared = args.prepare().await?;
    let operation = Arc::new(Floor { site: Arc::clone(&prepared.site), pool: Arc::clone(&prepared.pool) });
    drive("floor", &operation, &args.load, &args.output, prepared, settings, stop).await
}
