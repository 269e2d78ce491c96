//! The hubs that this service hands devices to, and by which host names each is known.

use crate::{HubHost, HubName};

/// A hub among which devices are allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedHub {
    /// Its name in configuration, data directory and records.
    pub name: HubName,
    /// The host that devices are told (`assignedHub`), verbatim.
    pub host: HubHost,
    /// Further names under which it is reached.
    pub aliases: Vec<HubHost>,
    /// Its share of devices against the others', 1 to 1000.
    pub weight: u32,
    /// Whether new devices come here.
    pub apply_allocation: bool,
}

/// All linked hubs, looked up by name or host.
#[derive(Debug, Clone, Default)]
pub struct HubDirectory {
    hubs: Vec<LinkedHub>,
}

/// Two hubs claim one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is claimed by two hubs")]
pub struct HubConflict {
    /// Name or host.
    pub what: &'static str,
    /// The name.
    pub value: String,
}

impl HubDirectory {
    /// Takes the hubs of a configuration.
    ///
    /// # Errors
    /// [`HubConflict`] if a name or a host belongs to two of them.
    pub fn new(hubs: Vec<LinkedHub>) -> Result<Self, HubConflict> {
        let mut names = std::collections::BTreeSet::new();
        let mut hosts = std::collections::BTreeMap::new();
        for hub in &hubs {
            if !names.insert(&hub.name) {
                return Err(HubConflict { what: "name", value: hub.name.to_string() });
            }
            for host in std::iter::once(&hub.host).chain(&hub.aliases) {
                if hosts.insert(host, &hub.name).is_some_and(|other| *other != hub.name) {
                    return Err(HubConflict { what: "host", value: host.to_string() });
                }
            }
        }
        Ok(Self { hubs })
    }

    /// All hubs, in the order of the configuration.
    pub fn iter(&self) -> std::slice::Iter<'_, LinkedHub> {
        self.hubs.iter()
    }

    /// The hub of this name.
    #[must_use]
    pub fn by_name(&self, name: &HubName) -> Option<&LinkedHub> {
        self.hubs.iter().find(|hub| hub.name == *name)
    }

    /// The hub that answers to this host, compared without case.
    #[must_use]
    pub fn by_host(&self, host: &str) -> Option<&LinkedHub> {
        self.hubs.iter().find(|hub| {
            hub.host.as_str().eq_ignore_ascii_case(host)
                || hub.aliases.iter().any(|alias| alias.as_str().eq_ignore_ascii_case(host))
        })
    }
}
