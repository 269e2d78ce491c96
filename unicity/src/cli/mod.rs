//! The command line: parsing here, one file a subject for what each command does.
//!
//! Data goes to stdout, talk and errors to stderr. Exit codes: 0 done, 1 refused or failed, 2 usage.

mod access;
mod attestation;
mod audit;
mod authority;
mod backup;
mod cert;
mod confirm;
mod context;
mod crl;
mod deny;
mod dev_cert;
mod device;
mod doctor;
mod enroll;
mod export;
mod factory;
mod failures;
pub(crate) mod files;
mod hub;
mod import;
mod init;
mod keys;
mod migrate;
pub(crate) mod output;
mod plan;
mod rebalance;
mod refusal;
mod registration;
mod revoke;
mod shell;
mod suspects;
pub(crate) mod tail;
mod transfer;
pub(crate) mod verify_message;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::client::Target;
use crate::curl::quoted;
use crate::error::{CommandError, Outcome};
use crate::{demo, server};

/// A self-hosted device provisioning service and IoT hub, wire-compatible with Azure DPS and Azure IoT Hub.
#[derive(Debug, Parser)]
#[command(name = "unicity", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// The server's data directory.
    #[arg(long, global = true, value_name = "DIR", env = "UNICITY_DATA", default_value = "unicity-data")]
    pub(crate) data: PathBuf,
    /// A server elsewhere: HostName=..;SharedAccessKeyName=..;SharedAccessKey=.. (instead of --data).
    #[arg(long, global = true, value_name = "CS", env = "UNICITY_CONNECTION_STRING", hide_env_values = true)]
    pub(crate) connection_string: Option<String>,
    /// The root certificate of that server; pki/ca.pem of the data directory if not given.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) server_ca: Option<PathBuf>,
    /// A server that `unicity ctx add` keeps, by its name.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) ctx: Option<String>,
    /// One JSON object a line, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Show the calls behind the command as curl lines, without secrets. Reads that the next call needs are made; the first call
    /// that would change something is shown, not made, and ends it.
    #[arg(long, global = true)]
    pub(crate) curl: bool,
    /// How `unicity sas` is told of the server, for `--curl`.
    #[arg(skip)]
    pub(crate) sas: Option<String>,
}

impl Global {
    pub(crate) fn target(&self) -> Target {
        Target {
            data: self.data.clone(),
            connection_string: self.connection_string.clone(),
            ca: self.server_ca.clone(),
            curl: self.curl.then(|| self.sas.clone().unwrap_or_default()),
        }
    }
}

/// By which way the options that name a server came.
#[derive(Debug, Clone, Copy)]
struct Given {
    data: Option<ValueSource>,
    connection_string: Option<ValueSource>,
}

impl Given {
    fn of(matches: &ArgMatches) -> Self {
        Self { data: matches.value_source("data"), connection_string: matches.value_source("connection_string") }
    }
}

impl Global {
    /// Settles which server is meant: options before the environment, that before the context in use, that before the folder here.
    fn resolve(&mut self, command: &Command, given: Given) -> Outcome {
        let on_line = Some(ValueSource::CommandLine);
        if given.data == on_line && given.connection_string == Some(ValueSource::EnvVariable) {
            self.connection_string = None;
        }
        let is_local = matches!(command, Command::Init(_) | Command::Serve(_) | Command::Demo(_) | Command::Restore(_));
        let is_named = self.connection_string.is_some() || given.data != Some(ValueSource::DefaultValue);
        let found = match &self.ctx {
            Some(_) if is_local || given.data == on_line || given.connection_string == on_line => {
                return Err(CommandError::usage("--ctx names a server, and so does --data or --connection-string")
                    .hint("give one of them; init, serve, demo and restore take --data"));
            }
            Some(name) => context::find(Some(name))?,
            None if is_local || is_named || matches!(command, Command::Ctx(_)) => None,
            None => context::find(None)?,
        };
        if let Some((name, context)) = found {
            self.sas = Some(format!("--ctx {name}"));
            self.connection_string = context.connection_string;
            if let Some(data) = context.data {
                self.data = data;
            }
            self.server_ca = self.server_ca.take().or(context.ca);
        } else if self.connection_string.is_some() {
            self.sas = Some(r#"--connection-string "$UNICITY_CONNECTION_STRING""#.into());
        } else {
            self.sas = Some(format!("--data {}", quoted(&self.data.display().to_string())));
        }
        Ok(())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a data directory: CA, server certificate, service keys.
    Init(init::InitArgs),
    /// Run the server.
    Serve(server::ServeArgs),
    /// Show the main job in one process: devices boot, are provisioned and stream.
    Demo(demo::DemoArgs),
    /// Enrollments: devices and groups of devices that may register.
    #[command(subcommand)]
    Enroll(Box<enroll::EnrollCommand>),
    /// Certificate authorities that issue devices' certificates.
    #[command(subcommand)]
    Ca(authority::CaCommand),
    /// Revocation lists of authorities.
    #[command(subcommand)]
    Crl(crl::CrlCommand),
    /// Refuse a key or a certificate from now on, whatever the way in.
    Deny(deny::RuleArgs),
    /// Lift what `deny` said.
    Allow(deny::RuleArgs),
    /// List what is denied.
    Denied,
    /// End a device, key, certificate, authority, group or batch everywhere at once.
    Revoke(revoke::RevokeArgs),
    /// Look into certificates, and at what a device's certificate needs.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Make a device's certificate under a test factory of its own: root, intermediates, device.
    DevCert(dev_cert::DevCertArgs),
    /// Credentials for a batch of devices, made offline, with a signed manifest.
    #[command(subcommand)]
    Factory(factory::FactoryCommand),
    /// Enrollments and devices from elsewhere, and the way back.
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Registrations: which device was assigned where.
    #[command(subcommand)]
    Registration(registration::RegistrationCommand),
    /// Device identities of a hub.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// The hubs that devices are handed to, here and elsewhere.
    #[command(subcommand)]
    Hub(hub::HubCommand),
    /// What other hubs, weights or another policy would move, before anything is changed.
    Plan(plan::PlanArgs),
    /// Move devices to where the policies in force put them now.
    #[command(subcommand)]
    Rebalance(rebalance::RebalanceCommand),
    /// Devices on their way to or from hubs elsewhere.
    #[command(subcommand)]
    Transfer(transfer::TransferCommand),
    /// Identities whose key two devices seem to hold, with the evidence.
    Suspects(suspects::SuspectsArgs),
    /// Read telemetry with its stamps.
    Tail(tail::TailArgs),
    /// Tell the whole story of an identity, or explain a refusal by its tracking id.
    Why(why::WhyArgs),
    /// The audit log: every decision about identity, to be checked by anyone.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Prove which key sent a stored message, and that it is stored as it was.
    VerifyMessage(verify_message::VerifyMessageArgs),
    /// Shared access policies: who may call the service APIs, and with which keys.
    #[command(subcommand)]
    Key(access::KeyCommand),
    /// Derive a device's key from its group's.
    DeviceKey(keys::DeviceKeyArgs),
    /// Servers by name, for --ctx.
    #[command(subcommand)]
    Ctx(context::ContextCommand),
    /// Print a completion script.
    Completions(shell::CompletionsArgs),
    /// Write man pages.
    Man(shell::ManArgs),
    /// Make a SAS token.
    Sas(keys::SasArgs),
    /// Look for what is wrong with a server and its data directory.
    Doctor(doctor::DoctorArgs),
    /// Copy a running server's registry.
    Backup(backup::BackupArgs),
    /// Make a data directory from a backup.
    Restore(backup::RestoreArgs),
}

/// Parses the command line, runs it, reports.
pub(crate) fn run() -> ExitCode {
    let matches = Cli::command().try_get_matches();
    let parsed = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, Given::of(&matches))));
    let (mut cli, given) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let done = cli.global.resolve(&cli.command, given).and_then(|()| {
        if cli.global.curl {
            output::show_only_calls(cli.global.json);
        }
        dispatch(cli)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit)
        }
    }
}

fn dispatch(cli: Cli) -> Outcome {
    let global = cli.global;
    match cli.command {
        Command::Init(args) => init::run(&global, &args),
        Command::Serve(args) => runtime(true)?.block_on(server::run(&global, &args)),
        Command::Demo(args) => runtime(true)?.block_on(demo::run(&global, &args)),
        Command::Enroll(command) => runtime(false)?.block_on(enroll::run(&global, *command)),
        Command::Ca(command) => runtime(false)?.block_on(authority::run(&global, command)),
        Command::Crl(command) => runtime(false)?.block_on(crl::run(&global, command)),
        Command::Deny(args) => runtime(false)?.block_on(deny::deny(&global, &args)),
        Command::Allow(args) => runtime(false)?.block_on(deny::allow(&global, &args)),
        Command::Denied => runtime(false)?.block_on(deny::list(&global)),
        Command::Revoke(args) => runtime(false)?.block_on(revoke::run(&global, &args)),
        Command::Cert(command) => runtime(false)?.block_on(cert::run(&global, &command)),
        Command::DevCert(args) => dev_cert::run(&global, &args),
        Command::Factory(command) => factory::run(&global, &command),
        Command::Migrate(command) => runtime(false)?.block_on(migrate::run(&global, &command)),
        Command::Registration(command) => runtime(false)?.block_on(registration::run(&global, command)),
        Command::Device(command) => runtime(false)?.block_on(device::run(&global, command)),
        Command::Hub(command) => runtime(false)?.block_on(hub::run(&global, command)),
        Command::Plan(args) => runtime(false)?.block_on(plan::run(&global, &args)),
        Command::Rebalance(command) => runtime(false)?.block_on(rebalance::run(&global, &command)),
        Command::Transfer(command) => runtime(false)?.block_on(transfer::run(&global, &command)),
        Command::Suspects(args) => runtime(false)?.block_on(suspects::run(&global, &args)),
        Command::Tail(args) => runtime(false)?.block_on(tail::run(&global, &args)),
        Command::Why(args) => runtime(false)?.block_on(why::run(&global, &args)),
        Command::Audit(command) => runtime(false)?.block_on(audit::run(&global, command)),
        Command::VerifyMessage(args) => runtime(false)?.block_on(verify_message::run(&global, &args)),
        Command::Key(command) => runtime(false)?.block_on(access::run(&global, command)),
        Command::Ctx(command) => context::run(&global, &command),
        Command::Completions(args) => shell::completions(Cli::command(), &args),
        Command::Man(args) => shell::man(Cli::command(), &args),
        Command::DeviceKey(args) => keys::device_key(&global, &args),
        Command::Sas(args) => keys::sas(&global, &args),
        Command::Doctor(args) => runtime(false)?.block_on(doctor::run(&global, &args)),
        Command::Backup(args) => runtime(false)?.block_on(backup::backup(&global, &args)),
        Command::Restore(args) => backup::restore(&global, &args),
    }
}

/// The one line by which `serve` says that it accepts.
pub(crate) fn ready_line(text: &str) -> Outcome {
    output::line(text)
}

fn runtime(server: bool) -> Outcome<tokio::runtime::Runtime> {
    let mut builder = if server {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build().map_err(|error| CommandError::new(format!("cannot start the async runtime: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Which server a line means, when the environment names none: the source of each value counts, wherever it stands.
    #[test]
    fn a_named_server_needs_no_context() {
        for (line, is_named) in [
            (&["unicity", "enroll", "list"][..], false),
            (&["unicity", "enroll", "list", "--data", "unicity-data"], true),
            (&["unicity", "--data", "d", "enroll", "list"], true),
        ] {
            let matches = Cli::command().try_get_matches_from(line).unwrap();
            assert_eq!(Given::of(&matches).data == Some(ValueSource::CommandLine), is_named, "{line:?}");
        }
    }

    #[test]
    fn two_servers_are_one_too_many() {
        for line in [
            &["unicity", "enroll", "list", "--ctx", "lab", "--data", "d"][..],
            &["unicity", "serve", "--ctx", "lab"],
            &["unicity", "enroll", "list", "--connection-string", "HostName=h", "--ctx", "lab"],
        ] {
            let matches = Cli::command().try_get_matches_from(line).unwrap();
            let mut cli = Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.global.resolve(&cli.command, Given::of(&matches)).unwrap_err().exit, 2, "{line:?}");
        }
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in [
            ["unicity", "--json", "--data", "d", "tail", "--follow"],
            ["unicity", "tail", "--follow", "--json", "--data", "d"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.global.json);
            assert_eq!(cli.global.data, PathBuf::from("d"));
        }
    }
}
