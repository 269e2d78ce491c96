//! The command line of `loadtest`.

mod authority;
mod bare;
mod compare;
mod finish;
mod floor;
mod html;
mod load;
mod mosquitto;
mod output;
mod process;
mod server;
mod sessions;
mod settings;
mod target;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use unicity_loadtest::drive::Stop;

/// Measures provisioning services, IoT hubs and plain MQTT brokers: what each step of a device takes, and where the limit is.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// First boot: TCP to `assigned`, each device a fresh identity.
    Register(load::RegisterArgs),
    /// First boot to the first acknowledged message at the hub.
    ZeroTouch(load::ZeroTouchArgs),
    /// Connect, CONNACK, disconnect, again and again.
    Connect(load::ConnectArgs),
    /// Senders that stay connected; an operation is a message.
    Telemetry(sessions::TelemetryArgs),
    /// Everybody reconnects at once.
    Storm(sessions::StormArgs),
    /// Idle sessions, or such that send now and then (--send-every).
    Hold(sessions::HoldArgs),
    /// What TLS alone costs: handshakes with a bare server that verifies the device and answers one byte.
    Floor(floor::FloorArgs),
    Compare(compare::Compare),
    Html(html::Html),
    /// The bare server of `floor`.
    #[command(hide = true)]
    BareServer(bare::BareServer),
}

/// A run that did not come to an end of its own: wrong usage, or nothing could be measured.
#[derive(Debug)]
pub(crate) struct Refused {
    exit: u8,
    text: String,
}

impl Refused {
    /// The options make no sense together.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: 2, text: text.into() }
    }

    /// It could not be done.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { exit: 1, text: text.into() }
    }
}

/// Parses the command line, runs it, reports.
pub(crate) fn run() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let settings = matches.subcommand().map(|(_, given)| settings::of(given)).unwrap_or_default();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(2);
        }
    };
    match &cli.command {
        Command::Compare(compare) => return compare.run(),
        Command::Html(html) => return html.run(),
        Command::BareServer(bare) => return bare.run(),
        _ => process::raise_file_limit(),
    }
    let (target, name) = match &cli.command {
        Command::Register(args) => (Some(&args.target), "register"),
        Command::ZeroTouch(args) => (Some(&args.target), "zero-touch"),
        Command::Connect(args) => (Some(&args.target), "connect"),
        Command::Telemetry(args) => (Some(&args.target), "telemetry"),
        Command::Storm(args) => (Some(&args.target), "storm"),
        Command::Hold(args) => (Some(&args.target), "hold"),
        Command::Floor(_) => (None, "floor"),
        Command::Compare(_) | Command::Html(_) | Command::BareServer(_) => unreachable!("these are done"),
    };
    let place = match (&cli.command, target) {
        (Command::Floor(args), _) => args.place(),
        (_, Some(target)) => target.place(),
        (_, None) => unreachable!("all others have a target"),
    };
    let begun = target.map_or(Ok(()), target::TargetArgs::check).and_then(|()| {
        if place.pin {
            process::pin_self(place.server_core)?;
        }
        process::runtime(place.threads)
    });
    let done = begun.and_then(|runtime| {
        runtime.block_on(async {
            let stop = Stop::default();
            process::stop_on_signals(stop.clone());
            match cli.command {
                Command::Register(args) => load::register(args, settings, &stop).await,
                Command::ZeroTouch(args) => load::zero_touch(args, settings, &stop).await,
                Command::Connect(args) => load::connect(args, settings, &stop).await,
                Command::Telemetry(args) => sessions::telemetry(args, settings, &stop).await,
                Command::Storm(args) => sessions::storm(args, settings, &stop).await,
                Command::Hold(args) => sessions::hold(args, settings, &stop).await,
                Command::Floor(args) => floor::floor(args, settings, &stop).await,
                Command::Compare(_) | Command::Html(_) | Command::BareServer(_) => unreachable!("these are done"),
            }
        })
    });
    done.unwrap_or_else(|refused| {
        eprintln!("loadtest: {}", refused.text);
        if refused.exit == 2 {
            eprintln!("\nFor more information, try 'loadtest {name} --help'.");
        }
        ExitCode::from(refused.exit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "register",
            "register --endpoint h --spawn-server",
            "register --spawn-server --rate 5 --concurrency 7",
            "register --spawn-server --find-max --rate 5 --concurrency 7",
            "register --spawn-server --rate 0",
            "register --spawn-server --objective p99",
            "register --spawn-server --plain-broker",
            "register --endpoint h --plain-broker --no-tls",
            "connect --endpoint h --plain-broker --no-tls --resume",
            "connect --endpoint h --plain-broker --no-tls --ca x",
            "telemetry --spawn-server --qos 2",
            "telemetry --spawn-server --window 0",
            "telemetry --spawn-server --rate 5 --rate-per-sender 5",
            "hold --spawn-server --send-every 20",
            "register --spawn-server --attestation tpm",
            "register --spawn-server --server-pid 7",
            "register --spawn-server --warmup 5x",
            "register --spawn-mosquitto",
            "hold --spawn-server --spawn-mosquitto",
            "hold --endpoint h --spawn-mosquitto",
            "hold --spawn-mosquitto --no-tls",
            "hold --spawn-server --mosquitto-bin x",
            "floor --endpoint h",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("loadtest").chain(line.split(' ')));
            let refused = match &parsed {
                Err(_) => true,
                Ok(Cli { command: Command::Register(args) }) => {
                    args.target.check().and_then(|()| args.target.check_service("register")).is_err()
                }
                Ok(_) => false,
            };
            assert!(refused, "{line}");
        }
    }
}
