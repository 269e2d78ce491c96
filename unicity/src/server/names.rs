//! Under which names the server and its hubs are known (design section 7).

use std::net::IpAddr;

use unicity_identity::{HubDirectory, HubHost, HubName, HubTerms, LinkedHub};

use crate::config::{Config, HubConfig};
use crate::error::{CommandError, Context as _, Outcome};
use crate::instance::Instance;

/// All names, settled.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The names in the server certificate.
    pub(crate) certificate: Vec<String>,
    /// The name of the provisioning service for back ends.
    pub(crate) service: String,
    /// The hubs.
    pub(crate) hubs: HubDirectory,
    /// Partitions of each hub's telemetry log.
    pub(crate) partitions: Vec<(HubName, u32)>,
    /// What the operator should know about these names.
    pub(crate) warnings: Vec<String>,
}

/// The machine's own name, if it is one that a certificate can hold.
fn machine_name() -> Option<String> {
    let name = gethostname::gethostname().into_string().ok()?.to_ascii_lowercase();
    name.parse::<HubHost>().ok()?;
    (!name.is_empty() && name != "localhost").then_some(name)
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Settles all names: those of the command line come before the configuration's, these before the ones remembered by `init`.
/// `listens_widely` tells whether other machines can reach the MQTT port; `None` if that is not known yet.
pub(crate) fn resolve(
    instance: &Instance,
    config: &Config,
    given: &[String],
    hub_host: Option<&str>,
    listens_widely: Option<bool>,
) -> Outcome<Names> {
    let mut warnings = Vec::new();
    let asked: &[String] =
        [given, &config.hostnames, &instance.hostnames].into_iter().find(|names| !names.is_empty()).unwrap_or_default();
    let mut certificate: Vec<String> = asked.iter().map(|name| name.to_ascii_lowercase()).collect();
    if certificate.is_empty() {
        certificate = vec!["127.0.0.1".into(), "localhost".into()];
        certificate.extend(machine_name());
    }
    let hub_host: Option<HubHost> = match hub_host {
        Some(host) => Some(host.parse().context("--hub-host")?),
        None => config.hub_host.clone(),
    };
    let first = match (asked.first(), listens_widely) {
        (Some(name), _) => name.to_ascii_lowercase(),
        (None, Some(true)) => machine_name().unwrap_or_else(|| "127.0.0.1".into()),
        (None, _) => "127.0.0.1".into(),
    };
    let default_hub = HubConfig {
        name: "default".parse().expect("a hub name"),
        host: None,
        aliases: Vec::new(),
        weight: 1,
        partitions: crate::config::PARTITIONS_DEFAULT,
        apply_allocation: true,
        assigned_by: None,
    };
    let configured = if config.hubs.is_empty() { std::slice::from_ref(&default_hub) } else { &config.hubs[..] };
    let single = configured.len() == 1;
    let mut hubs = Vec::new();
    for hub in configured {
        let host = match (&hub.host, &hub_host) {
            (_, Some(host)) if single => host.clone(),
            (Some(host), _) => host.clone(),
            (None, _) => first.parse().context(format!("the host of hub {}", hub.name))?,
        };
        let mut aliases = hub.aliases.clone();
        if single {
            // One hub answers to every name of the server.
            for name in &certificate {
                let name: HubHost = name.parse().context("a host name")?;
                if name != host && !aliases.contains(&name) {
                    aliases.push(name);
                }
            }
        }
        for name in std::iter::once(&host).chain(&hub.aliases) {
            if !certificate.iter().any(|known| known == name.as_str()) {
                certificate.push(name.to_string());
            }
        }
        if listens_widely == Some(true) && is_loopback(host.as_str()) {
            warnings.push(format!(
                "hub {} is announced to devices as {host}, which other machines cannot reach; name it with --hub-host or --hostname",
                hub.name
            ));
        }
        if host.as_str().contains(':') {
            warnings
                .push(format!("hub host {host} is an IPv6 address, which some device SDKs cannot use; prefer a name"));
        } else if !host.as_str().contains('.') {
            warnings.push(format!("hub host {host} has no dot, which breaks the C device SDK"));
        }
        let terms = HubTerms { weight: hub.weight, apply_allocation: hub.apply_allocation, ..HubTerms::default() };
        hubs.push(LinkedHub { aliases, terms, ..LinkedHub::local(hub.name.clone(), host) });
    }
    let partitions = configured.iter().map(|hub| (hub.name.clone(), hub.partitions)).collect();
    let hubs = HubDirectory::new(hubs).map_err(|error| {
        CommandError::new(error.to_string())
            .hint("give each [[hub]] a host name of its own, which is no --hostname of another")
    })?;
    Ok(Names { certificate, service: first, hubs, partitions, warnings })
}
