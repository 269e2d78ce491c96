//! The hubs that this service hands devices to: where they are, how much each takes, and by which host names each is known.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{HubHost, HubName, KeySlot, Timestamp};

/// What decides how many and which devices a hub takes. The configuration gives a local hub its first terms, an operator may
/// change those of any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HubTerms {
    /// Its share of devices against the others', 1 to 1000.
    pub weight: u32,
    /// Whether allocation may choose it (`service-rest.md` 5: `applyAllocationPolicy`).
    pub apply_allocation: bool,
    /// It takes no device any more, and gives away those it has whenever they may move.
    pub draining: bool,
    /// Free words, such as `building-7`; shown, and to be asked for in listings.
    pub labels: BTreeSet<String>,
    /// The region that latency tables name it by.
    pub region: Option<String>,
    /// Where it stands; distance is the fallback where no latency is known.
    pub coordinates: Option<Coordinates>,
    /// Most device identities that allocation lets it have; `None`: no limit.
    pub capacity: Option<u64>,
}

impl Default for HubTerms {
    fn default() -> Self {
        Self {
            weight: 1,
            apply_allocation: true,
            draining: false,
            labels: BTreeSet::new(),
            region: None,
            coordinates: None,
            capacity: None,
        }
    }
}

/// A place on Earth, WGS 84, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coordinates {
    /// North is positive, -90 to 90.
    pub latitude: f64,
    /// East is positive, -180 to 180.
    pub longitude: f64,
}

impl Coordinates {
    /// Checks the ranges.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        ((-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude))
            .then_some(Self { latitude, longitude })
    }

    /// The great-circle distance in kilometres (haversine, mean radius 6371 km).
    #[must_use]
    pub fn distance_km(self, other: Self) -> f64 {
        let half = |a: f64, b: f64| ((a - b).to_radians() / 2.0).sin().powi(2);
        let cosines = self.latitude.to_radians().cos() * other.latitude.to_radians().cos();
        let h = half(self.latitude, other.latitude) + cosines * half(self.longitude, other.longitude);
        2.0 * 6371.0 * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// How a hub elsewhere is reached: its service API (`service-rest.md` 11 to 14), with a policy's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteLink {
    /// The TCP port of its service API; 443 unless the connection string named another.
    pub port: u16,
    /// The shared access policy.
    pub policy: String,
    /// That policy's key, sealed.
    pub key: KeySlot,
    /// The authority that its certificate must lead to, DER; `None`: those of the platform.
    pub ca: Option<Vec<u8>>,
}

/// Where a hub lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HubPlace {
    /// In this process: an assignment and its identity are one record.
    #[default]
    Local,
    /// Behind a service API: an assignment is a transfer of several steps.
    Remote(Box<RemoteLink>),
}

/// A hub among which devices are allocated.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkedHub {
    /// Its name in configuration, data directory and records.
    pub name: HubName,
    /// The host that devices are told (`assignedHub`), verbatim.
    pub host: HubHost,
    /// Further names under which it is reached.
    pub aliases: Vec<HubHost>,
    /// Where it lives.
    pub place: HubPlace,
    /// What it takes.
    pub terms: HubTerms,
}

impl LinkedHub {
    /// A hub in this process, with default terms and no aliases.
    #[must_use]
    pub fn local(name: HubName, host: HubHost) -> Self {
        Self { name, host, aliases: Vec::new(), place: HubPlace::Local, terms: HubTerms::default() }
    }

    /// Whether it lives elsewhere.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.place, HubPlace::Remote(_))
    }

    /// Whether this is one of its hosts, compared without case.
    #[must_use]
    pub fn answers_to(&self, host: &str) -> bool {
        self.host.as_str().eq_ignore_ascii_case(host)
            || self.aliases.iter().any(|alias| alias.as_str().eq_ignore_ascii_case(host))
    }
}

/// What an operator has said of a hub, stored: a link to a hub elsewhere, or other terms for a local one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HubRecord {
    /// Which hub.
    pub name: HubName,
    /// The link of a remote hub with the host that devices are told; `None`: the hub is local, and only its terms are here.
    pub link: Option<(HubHost, RemoteLink)>,
    /// Its terms.
    pub terms: HubTerms,
    /// When it was linked or first changed.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
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
        let mut names = BTreeSet::new();
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
        self.hubs.iter().find(|hub| hub.answers_to(host))
    }

    /// These hubs as the records say: remote ones follow the local ones in the order of the records, and a record's terms replace
    /// those of the configuration. A record of a local hub that is configured no longer, or of a remote one whose host a local hub
    /// has, is left out: what runs in this process counts.
    #[must_use]
    pub fn with_records(&self, records: &[HubRecord]) -> Self {
        let mut hubs = self.hubs.clone();
        for record in records {
            let local = hubs.iter().position(|hub| hub.name == record.name);
            match (local, &record.link) {
                (Some(at), None) => hubs[at].terms = record.terms.clone(),
                (None, Some((host, link))) if !hubs.iter().any(|hub| hub.answers_to(host.as_str())) => {
                    hubs.push(LinkedHub {
                        name: record.name.clone(),
                        host: host.clone(),
                        aliases: Vec::new(),
                        place: HubPlace::Remote(Box::new(link.clone())),
                        terms: record.terms.clone(),
                    });
                }
                _ => {}
            }
        }
        Self { hubs }
    }
}
