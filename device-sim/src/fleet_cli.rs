//! `device-sim run` and `device-sim scenarios`: fleets from a file.

use std::collections::HashMap;
use std::io::{IsTerminal, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use unicity_device_sim::engine::{Engine, EngineReport};
use unicity_device_sim::events::EventSink;
use unicity_device_sim::fleet_file::{ClientKind, FleetPlan, Outside, Overrides, duration, parse, resolved};
use unicity_device_sim::state::State;
use unicity_device_sim::{Credentials, Dialer, Endpoint, Scenario, populate};
use unicity_identity::{Environment, IdScope, SharedAccessKey};

use crate::show;

/// Exit code of a run that could not begin: a file, a flag or a credential is wrong.
const CANNOT_BEGIN: u8 = 2;
/// Files that a device needs at most, beside what the process needs.
const FILES_SPARE: u64 = 256;
/// Connections from one address to another that Linux has ports for by default, with some to spare.
const PORTS_PER_SOURCE: usize = 25_000;

/// Runs simulated devices.
#[derive(Debug, Parser)]
#[command(name = "device-sim", version)]
pub(crate) struct FleetCli {
    #[command(subcommand)]
    command: FleetCommand,
}

#[derive(Debug, Subcommand)]
enum FleetCommand {
    /// Run a fleet: a TOML file, or a bundled scenario by its name
    Run(Box<RunArgs>),
    /// List the bundled scenarios, or show one
    Scenarios {
        #[command(subcommand)]
        command: Option<ScenariosCommand>,
    },
}

#[derive(Debug, Subcommand)]
enum ScenariosCommand {
    /// One line each
    List,
    /// Print a scenario's file, to begin one's own with
    Show {
        /// Its name
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Fleet file, or the name of a bundled scenario
    #[arg(value_name = "FLEET.toml|SCENARIO")]
    fleet: String,
    /// The provisioning service; its certificate must have this host
    #[arg(long, value_name = "HOST[:PORT]")]
    endpoint: Option<Endpoint>,
    /// PEM file with the certificates to trust
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The service's id scope
    #[arg(long, value_name = "SCOPE")]
    id_scope: Option<IdScope>,
    /// Port of the hubs
    #[arg(long, value_name = "PORT")]
    hub_port: Option<u16>,
    /// Port at which the provisioning service speaks HTTPS, for TPMs
    #[arg(long, value_name = "PORT")]
    https_port: Option<u16>,
    /// Connect to ADDR for HOST and still verify HOST; may be repeated
    #[arg(long, value_name = "HOST=ADDR", value_parser = resolved)]
    resolve: Vec<(String, SocketAddr)>,
    /// Key of the enrollment group, base64; NAME= gives it to one group of the file only. May be repeated
    #[arg(long, value_name = "[NAME=]BASE64", env = "DEVICE_SIM_GROUP_KEY", hide_env_values = true)]
    group_key: Vec<GroupKey>,
    /// PEM file of the issuer for groups with `x509_issuer = {}`
    #[arg(long, value_name = "FILE", requires = "cert_issuer_key")]
    cert_issuer: Option<PathBuf>,
    /// Private key of that issuer, PKCS#8 PEM
    #[arg(long, value_name = "FILE", requires = "cert_issuer")]
    cert_issuer_key: Option<PathBuf>,
    /// Folder in which devices keep their keys, certificates and assignments: the second run does not register
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Register all the same
    #[arg(long, requires = "state")]
    fresh: bool,
    /// Devices of each group, instead of the file's
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    count: Option<usize>,
    /// Messages of each device
    #[arg(long, value_name = "M")]
    messages: Option<u64>,
    /// From one message to the next
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    interval: Option<Duration>,
    /// How long each device lives
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lifetime: Option<Duration>,
    /// All devices boot at once
    #[arg(long)]
    at_once: bool,
    /// The same seed, the same messages
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Connections that are being opened at once
    #[arg(long, value_name = "C", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    handshakes: Option<usize>,
    /// The devices' MQTT client: rumqttc or direct
    #[arg(long, value_name = "CLIENT")]
    client: Option<ClientKind>,
    /// Addresses of this machine to dial from, by turns; needs --client direct
    #[arg(long, value_name = "ADDR,...", value_delimiter = ',')]
    sources: Vec<IpAddr>,
    /// Write events as JSON lines, the last one the summary; `-` is the standard output
    #[arg(long, value_name = "FILE")]
    events: Option<String>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct GroupKey {
    group: String,
    key: SharedAccessKey,
}

impl FromStr for GroupKey {
    type Err = String;

    /// Base64 ends with up to two `=`, so a name is what stands before one that is followed by more than those.
    fn from_str(text: &str) -> Result<Self, String> {
        let (group, key) = match text.split_once('=') {
            Some((group, key)) if !key.trim_matches('=').is_empty() => (group, key),
            _ => ("", text),
        };
        let key = SharedAccessKey::from_base64(key).map_err(|error| error.to_string())?;
        Ok(Self { group: group.to_owned(), key })
    }
}

impl FleetCli {
    /// Whether a command line is for this and not for flags alone.
    pub(crate) fn is_meant(first: Option<&str>) -> bool {
        matches!(first, Some("run" | "scenarios"))
    }

    pub(crate) async fn run(
        self,
        env: Environment,
        told_to_stop: impl Future<Output = ()> + Send + 'static,
    ) -> ExitCode {
        match self.command {
            FleetCommand::Run(arguments) => match arguments.start(env) {
                Ok((engine, arguments)) => arguments.attend(engine, told_to_stop).await,
                Err(message) => {
                    eprintln!("device-sim: {message}");
                    ExitCode::from(CANNOT_BEGIN)
                }
            },
            FleetCommand::Scenarios { command: Some(ScenariosCommand::Show { name }) } => {
                match Scenario::named(&name) {
                    Some(scenario) => {
                        let _ = write!(std::io::stdout(), "{}", scenario.text);
                        ExitCode::SUCCESS
                    }
                    None => {
                        eprintln!("device-sim: there is no scenario {name:?}; `device-sim scenarios` lists them");
                        ExitCode::from(CANNOT_BEGIN)
                    }
                }
            }
            FleetCommand::Scenarios { .. } => {
                for scenario in Scenario::ALL {
                    let _ = writeln!(std::io::stdout(), "{:<18}{}", scenario.name, scenario.about());
                }
                ExitCode::SUCCESS
            }
        }
    }
}

impl RunArgs {
    fn plan(&self) -> Result<FleetPlan, String> {
        let overrides = Overrides {
            count: self.count,
            messages: self.messages,
            interval: self.interval,
            duration: self.lifetime,
            at_once: self.at_once,
            seed: self.seed,
            handshakes: self.handshakes,
            client: self.client,
        };
        let named = Scenario::named(&self.fleet);
        let plan = match named {
            Some(scenario) => scenario.plan().map_err(|error| error.to_string())?,
            None => {
                let path = Path::new(&self.fleet);
                let text = read(path).map_err(|error| {
                    format!("{error}\nhint: `device-sim scenarios` lists the fleets that need no file")
                })?;
                let outside = Outside {
                    base: path.parent().unwrap_or(Path::new("")),
                    read: &read,
                    variable: &|name| std::env::var(name).ok(),
                };
                parse(&text, &outside).map_err(|error| format!("{}:\n{error}", path.display()))?
            }
        };
        let mut plan = plan.with(&overrides);
        if !self.sources.is_empty() {
            plan.sources.clone_from(&self.sources);
        }
        let moves = |plan: &FleetPlan| {
            let kinds = plan.groups.iter().filter_map(|group| group.flaky.as_ref());
            kinds.flat_map(|flaky| &flaky.disturbances).any(|kind| *kind == unicity_device_sim::Disturbance::Move)
        };
        if plan.client == ClientKind::Rumqttc && (!plan.sources.is_empty() || moves(&plan)) {
            return Err(
                "rumqttc cannot choose the address that it dials from: `sources` and the disturbance `move` need \
                        --client direct"
                    .to_owned(),
            );
        }
        Ok(plan)
    }

    fn start(self: Box<Self>, env: Environment) -> Result<(Engine, Box<Self>), String> {
        let plan = self.plan()?;
        let wanted = |what: &str, flag: &str| format!("{what} is wanted: {flag}, or one in the file's [fleet]");
        let endpoint = self.endpoint.clone().or(plan.endpoint.clone()).ok_or(wanted("an endpoint", "--endpoint"))?;
        let id_scope = self.id_scope.clone().or(plan.id_scope.clone()).ok_or(wanted("an id scope", "--id-scope"))?;
        let ca = self.ca.clone().or(plan.ca.clone()).ok_or(wanted("a CA file", "--ca"))?;
        let mut dialer = Dialer::new(read(&ca)?.as_bytes())
            .map_err(|error| format!("{}: {error}", ca.display()))?
            .with_hub_port(self.hub_port.unwrap_or(plan.hub_port))
            .with_https_port(self.https_port.unwrap_or(plan.https_port));
        for (host, address) in plan.resolve.iter().chain(&self.resolve) {
            dialer = dialer.with_resolved(host, *address).map_err(|error| error.to_string())?;
        }
        let open = |folder: &PathBuf| State::open(folder, id_scope.as_str(), self.fresh);
        let state = self.state.as_ref().map(open).transpose()?;
        let group_keys: HashMap<_, _> =
            self.group_key.iter().map(|given| (given.group.clone(), given.key.clone())).collect();
        let credentials =
            Credentials { group_keys, issuer: self.cert_issuer.clone().zip(self.cert_issuer_key.clone()) };
        let members = populate(&plan, &id_scope, &credentials, state.as_ref(), &env)?;
        if members.len() > PORTS_PER_SOURCE * plan.sources.len().max(1) {
            return Err(format!(
                "{} devices need more than one address to dial from, one for each {PORTS_PER_SOURCE}: --client direct \
                 --sources ADDR,...",
                members.len()
            ));
        }
        may_open(members.len() as u64 + FILES_SPARE)?;
        let events = self.sink()?;
        Ok((Engine::new(plan, members, &dialer, endpoint, state, events, env), self))
    }

    fn sink(&self) -> Result<EventSink, String> {
        let at = |error: std::io::Error| format!("--events: {error}");
        match self.events.as_deref() {
            None => Ok(EventSink::none()),
            Some("-") => EventSink::to(std::io::stdout()).map_err(at),
            Some(path) => {
                let file = std::fs::File::create(path).map_err(|error| format!("--events {path}: {error}"))?;
                EventSink::to(file).map_err(at)
            }
        }
    }

    async fn attend(&self, engine: Engine, told_to_stop: impl Future<Output = ()> + Send + 'static) -> ExitCode {
        let (stopper, progress) = (engine.stopper(), engine.progress());
        tokio::spawn(async move {
            told_to_stop.await;
            stopper.stop();
        });
        let shown = (std::io::stderr().is_terminal() && !self.json && self.events.as_deref() != Some("-"))
            .then(|| tokio::spawn(async move { show::fleet(&progress).await }));
        let report = engine.run().await;
        if let Some(shown) = shown {
            shown.abort();
            eprintln!();
        }
        // With the events on the standard output the summary is the last of them.
        if self.events.as_deref() != Some("-") {
            let text = if self.json {
                serde_json::to_string(&report).unwrap_or_else(|error| error.to_string())
            } else {
                in_words(&report)
            };
            // A closed pipe is the reader's choice.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
        if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn in_words(report: &EngineReport) -> String {
    use std::fmt::Write as _;
    let mut text = report.summary.to_string();
    if !report.attacks.is_empty() {
        let _ = writeln!(text, "\n{:<22}{:>6}  what the server did", "attack", "times");
    }
    for row in &report.attacks {
        let _ = writeln!(text, "{:<22}{:>6}  {}", row.attack, row.count, row.seen);
    }
    if report.cut_off > 0 {
        let _ = writeln!(text, "\n{} devices were cut off by the stop", report.cut_off);
    }
    text.trim_end().to_owned()
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Raises the limit of open files as far as the system lets.
fn may_open(files: u64) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    let highest = limit.maximum.unwrap_or(files).max(files);
    let raised = |to: u64, maximum: Option<u64>| setrlimit(Resource::Nofile, Rlimit { current: Some(to), maximum });
    if limit.maximum.is_none_or(|maximum| maximum >= files) && raised(files, limit.maximum).is_ok() {
        return Ok(());
    }
    // Whoever may, raises the hard limit too.
    raised(files, Some(highest)).map_err(|_| {
        format!("{files} open files are needed and {:?} allowed: `ulimit -n {files}` first", limit.maximum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn parsed(more: &[&str]) -> Result<FleetCli, clap::Error> {
        FleetCli::try_parse_from(["device-sim"].iter().chain(more))
    }

    #[test]
    fn keys_are_for_a_group_or_for_all() {
        for (text, group) in [(KEY.to_owned(), ""), (format!("cars={KEY}"), "cars")] {
            let given: GroupKey = text.parse().unwrap();
            assert_eq!((given.group.as_str(), given.key.expose_base64().as_str()), (group, KEY));
        }
        assert!("cars=!".parse::<GroupKey>().is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for more in [
            &["run"][..],
            &["run", "x", "--fresh"],
            &["run", "x", "--interval", "5"],
            &["run", "x", "--client", "paho"],
            &["run", "x", "--resolve", "h"],
            &["run", "x", "--cert-issuer", "c"],
            &["run", "x", "--count", "0"],
            &["scenarios", "show"],
        ] {
            assert!(parsed(more).is_err(), "{more:?}");
        }
        assert!(FleetCli::is_meant(Some("run")) && !FleetCli::is_meant(Some("--count")) && !FleetCli::is_meant(None));
    }

    #[test]
    fn rumqttc_dials_from_where_it_is() {
        let plan = |more: &[&str]| {
            let cli = parsed(&[&["run", "weather-station"], more].concat()).unwrap();
            let FleetCommand::Run(arguments) = cli.command else { panic!() };
            arguments.plan()
        };
        assert!(plan(&[]).is_ok());
        assert!(plan(&["--sources", "127.0.0.2"]).unwrap_err().contains("--client direct"));
        assert!(plan(&["--sources", "127.0.0.2", "--client", "direct"]).is_ok());
    }
}
