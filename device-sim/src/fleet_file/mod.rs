//! The fleet file: TOML with unknown keys refused, every value checked, all faults at once with their lines.
//!
//! `raw` is the file as written, `plan` what it means, `text` its durations and patterns. Nothing here touches a disk:
//! whoever parses says how files and environment variables are read.

mod group;
mod plan;
mod raw;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize as _;
use toml::Spanned;

pub use plan::{
    AttestationPlan, BootPlan, ClientKind, ClonesPlan, DutyPlan, FlakyPlan, FleetPlan, GroupPlan, MethodReply,
    Overrides, ReconnectPlan, TelemetryPlan, TokenPlan,
};
pub use text::{IdPattern, duration};

use raw::Text;

/// The ports that every SDK has fixed.
const MQTT_PORT: u16 = 8883;
const HTTPS_PORT: u16 = 443;
/// Connections opened at once when the file does not say.
const HANDSHAKES_DEFAULT: usize = 64;

/// What a fleet file needs of the world outside it.
pub struct Outside<'a> {
    /// The folder that paths in the file are relative to.
    pub base: &'a Path,
    /// Reads a file of text.
    pub read: &'a dyn Fn(&Path) -> Result<String, String>,
    /// Reads an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// All that is wrong with a fleet file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FleetFileError {
    /// Line, from 1, and what is wrong there, in order.
    pub faults: Vec<(usize, String)>,
}

impl fmt::Display for FleetFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (line, fault)) in self.faults.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}line {line}: {fault}")?;
        }
        Ok(())
    }
}

/// Reads a fleet file.
///
/// # Errors
/// Every fault with its line and its key.
pub fn parse(text: &str, outside: &Outside<'_>) -> Result<FleetPlan, FleetFileError> {
    let raw = raw::Raw::deserialize(toml::Deserializer::new(text)).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        FleetFileError { faults: vec![(line, error.message().trim_end().to_owned())] }
    })?;
    let mut reader = Reader { text, outside, faults: Vec::new() };
    let plan = reader.fleet(raw);
    let mut faults = reader.faults;
    if faults.is_empty() {
        return Ok(plan);
    }
    faults.sort();
    Err(FleetFileError { faults })
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

struct Reader<'a> {
    text: &'a str,
    outside: &'a Outside<'a>,
    faults: Vec<(usize, String)>,
}

impl Reader<'_> {
    fn fault<T>(&mut self, at: &Spanned<T>, key: &str, what: impl fmt::Display) {
        self.faults.push((line_of(self.text, at.span().start), format!("{key}: {what}")));
    }

    /// A value by its `FromStr`.
    fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, value: Option<&Text>) -> Option<T> {
        let value = value?;
        match value.get_ref().parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(value, key, error);
                None
            }
        }
    }

    fn duration(&mut self, key: &str, value: Option<&Text>) -> Option<Duration> {
        let value = value?;
        match duration(value.get_ref()) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.fault(value, key, error);
                None
            }
        }
    }

    /// A number within bounds, or a default.
    fn within<T: PartialOrd + Copy + fmt::Display>(
        &mut self,
        key: &str,
        value: Option<&Spanned<T>>,
        (min, max): (T, T),
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        let number = *value.get_ref();
        if number >= min && number <= max {
            return number;
        }
        self.fault(value, key, format!("{number} is not from {min} to {max}"));
        default
    }

    fn path(&self, path: PathBuf) -> PathBuf {
        self.outside.base.join(path)
    }

    fn fleet(&mut self, raw: raw::Raw) -> FleetPlan {
        let fleet = raw.fleet;
        let resolve = fleet.resolve.iter().filter_map(|entry| match resolved(entry.get_ref()) {
            Ok(resolved) => Some(resolved),
            Err(error) => {
                self.fault(entry, "fleet.resolve", error);
                None
            }
        });
        let resolve = resolve.collect();
        if raw.groups.is_empty() {
            self.faults.push((1, "there is no [[group]]".to_owned()));
        }
        let mut names = HashSet::new();
        for group in &raw.groups {
            let name = &group.get_ref().name;
            if !names.insert(name.get_ref().clone()) {
                self.fault(name, "group.name", format!("two groups are called {:?}", name.get_ref()));
            }
        }
        FleetPlan {
            endpoint: self.parsed("fleet.endpoint", fleet.endpoint.as_ref()),
            id_scope: self.parsed("fleet.id_scope", fleet.id_scope.as_ref()),
            ca: fleet.ca.map(|ca| self.path(ca)),
            hub_port: fleet.hub_port.unwrap_or(MQTT_PORT),
            https_port: fleet.https_port.unwrap_or(HTTPS_PORT),
            resolve,
            seed: fleet.seed.unwrap_or(0),
            handshakes: self.within("fleet.handshakes", fleet.handshakes.as_ref(), (1, 65_536), HANDSHAKES_DEFAULT),
            client: self.parsed("fleet.client", fleet.client.as_ref()).unwrap_or(ClientKind::Rumqttc),
            sources: fleet.sources,
            groups: raw.groups.into_iter().filter_map(|group| self.group(group)).collect(),
        }
    }
}

/// Reads `HOST=ADDRESS:PORT`.
///
/// # Errors
/// With what is wanted, if it is none.
pub fn resolved(text: &str) -> Result<(String, SocketAddr), String> {
    let (host, address) = text.split_once('=').ok_or("HOST=ADDR:PORT is wanted")?;
    let address = address.parse().map_err(|_| format!("{address:?} is not an IP address with a port"))?;
    Ok((host.to_owned(), address))
}
