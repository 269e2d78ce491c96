//! `[[allocation.network]]`, `[[allocation.latency]]` and `[allocation] geo_file`: how far hubs are from devices.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use unicity_identity::Coordinates;
use unicity_provisioning::allocation::{GeoLookup, LatencyMap, Network, Origin};

use super::Checker;
use crate::error::{CommandError, Outcome};

/// Networks and round trips at most.
const ROWS_MAX: usize = 10_000;
/// A longer round trip is a slip of the pen, in milliseconds.
const MILLISECONDS_MAX: f64 = 60_000.0;

/// `[[allocation.network]]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNetwork {
    prefix: Spanned<String>,
    region: Option<String>,
    coordinates: Option<Spanned<[f64; 2]>>,
}

/// `[[allocation.latency]]` as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLatency {
    from: Spanned<String>,
    to: String,
    milliseconds: Spanned<f64>,
}

/// The same, checked; the database is not read yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct LatencyConfig {
    map: LatencyMap,
    geo_file: Option<PathBuf>,
}

impl Checker<'_> {
    pub(super) fn latency(
        &mut self,
        networks: Vec<RawNetwork>,
        latencies: Vec<RawLatency>,
        geo_file: Option<Spanned<PathBuf>>,
    ) -> LatencyConfig {
        let mut map = LatencyMap::default();
        if let Some(first) = networks.get(ROWS_MAX) {
            self.fault(&first.prefix, format!("prefix: more than {ROWS_MAX} networks; a geo_file holds any number"));
        }
        for raw in networks.into_iter().take(ROWS_MAX) {
            let coordinates = raw.coordinates.as_ref().and_then(|given| {
                let [latitude, longitude] = *given.get_ref();
                let found = Coordinates::new(latitude, longitude);
                if found.is_none() {
                    let text = "coordinates: must be [latitude -90 to 90, longitude -180 to 180], in degrees";
                    self.fault(given, text);
                }
                found
            });
            if raw.region.is_none() && raw.coordinates.is_none() {
                self.fault(&raw.prefix, "prefix: say where the network is, by region, coordinates or both");
            }
            let Some(network) = self.parsed::<Network>("prefix", &raw.prefix) else { continue };
            if map.put_network(network, Origin { region: raw.region, coordinates }).is_some() {
                self.fault(&raw.prefix, format!("prefix: {network} stands above already"));
            }
        }
        if let Some(first) = latencies.get(ROWS_MAX) {
            self.fault(&first.from, format!("from: more than {ROWS_MAX} round trips"));
        }
        for raw in latencies.into_iter().take(ROWS_MAX) {
            let milliseconds = *raw.milliseconds.get_ref();
            if !(0.0..=MILLISECONDS_MAX).contains(&milliseconds) {
                self.fault(
                    &raw.milliseconds,
                    format!("milliseconds = {milliseconds}: must be 0 to {MILLISECONDS_MAX}"),
                );
                continue;
            }
            let micros = (milliseconds * 1000.0).round() as u32;
            if map.put_round_trip(raw.from.get_ref(), &raw.to, micros).is_some() {
                let text = format!("from: {:?} to {:?} stands above already", raw.from.get_ref(), raw.to);
                self.fault(&raw.from, text);
            }
        }
        if let Some(path) = geo_file.as_ref().filter(|path| !path.get_ref().is_absolute()) {
            let text = format!(
                "geo_file: {:?} is no absolute path, and where a service runs is not where you do",
                path.get_ref()
            );
            self.fault(path, text);
        }
        LatencyConfig { map, geo_file: geo_file.map(Spanned::into_inner) }
    }
}

impl LatencyConfig {
    /// Reads the database that it names.
    pub(crate) fn load(&self) -> Outcome<LatencyMap> {
        let mut map = self.map.clone();
        if let Some(path) = &self.geo_file {
            map.set_geo(Arc::new(Database::open(path)?));
        }
        Ok(map)
    }
}

/// A database in MaxMind's format (GeoLite2-City and whatever has `location` or `country` at the same place).
struct Database(maxminddb::Reader<Vec<u8>>);

#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    country: Country,
    #[serde(default)]
    location: Location,
    /// Of databases made for the purpose.
    region: Option<String>,
}

#[derive(Default, Deserialize)]
struct Country {
    iso_code: Option<String>,
}

#[derive(Default, Deserialize)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl Database {
    fn open(path: &Path) -> Outcome<Self> {
        maxminddb::Reader::open_readfile(path).map(Self).map_err(|error| {
            CommandError::new(format!("[allocation] geo_file: cannot use {}: {error}", path.display()))
                .hint("it must be a database in MaxMind's format (.mmdb), such as GeoLite2-City, that the service's user can read")
        })
    }
}

impl GeoLookup for Database {
    fn find(&self, address: IpAddr) -> Option<Origin> {
        // A damaged record is one that is not there: the policy has its fallbacks.
        let record: Record = self.0.lookup(address).ok()?.decode().ok()??;
        let coordinates = match (record.location.latitude, record.location.longitude) {
            (Some(latitude), Some(longitude)) => Coordinates::new(latitude, longitude),
            _ => None,
        };
        let region = record.region.or(record.country.iso_code);
        (region.is_some() || coordinates.is_some()).then_some(Origin { region, coordinates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of one record for all of IPv4: a tree of one node whose branches both lead to it.
    fn database() -> Vec<u8> {
        let text = |text: &str| [&[0x40 | text.len() as u8], text.as_bytes()].concat();
        let double = |value: f64| [&[0x68][..], &value.to_be_bytes()].concat();
        let map = |entries: &[Vec<u8>]| [&[0xe0 | (entries.len() / 2) as u8], entries.concat().as_slice()].concat();
        let country = map(&[text("iso_code"), text("DE")]);
        let location = map(&[text("latitude"), double(48.1), text("longitude"), double(11.6)]);
        let record = map(&[text("country"), country, text("location"), location]);
        // The pointer is past the node and the 16 bytes between tree and data.
        let node = [0u8, 0, 17, 0, 0, 17];
        let metadata = map(&[
            text("node_count"),
            vec![0xc1, 1],
            text("record_size"),
            vec![0xa1, 24],
            text("ip_version"),
            vec![0xa1, 4],
            text("database_type"),
            text("Test"),
            text("languages"),
            vec![0x00, 0x04],
            text("binary_format_major_version"),
            vec![0xa1, 2],
            text("binary_format_minor_version"),
            vec![0xa0],
            text("build_epoch"),
            vec![0x01, 0x02, 1],
            text("description"),
            map(&[]),
        ]);
        [&node[..], &[0; 16], &record, b"\xab\xcd\xefMaxMind.com", &metadata].concat()
    }

    #[test]
    fn a_database_tells_country_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("geo.mmdb");
        std::fs::write(&path, database()).unwrap();
        let config = LatencyConfig { map: LatencyMap::default(), geo_file: Some(path.clone()) };
        let origin = config.load().unwrap().origin("192.0.2.7".parse().unwrap()).unwrap();
        assert_eq!(origin, Origin { region: Some("DE".into()), coordinates: Coordinates::new(48.1, 11.6) });
        std::fs::write(&path, b"no database").unwrap();
        let error = config.load().unwrap_err().to_string();
        assert!(error.contains("geo_file") && error.contains("geo.mmdb"), "{error}");
    }
}
