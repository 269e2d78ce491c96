//! How far hubs are from a device, as an operator has it measured or mapped: networks lie in regions or at coordinates, a table has
//! the round trips between regions, and where it has none, the distance on the globe stands in. Pure; a MaxMind-format database is
//! asked through [`GeoLookup`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use unicity_identity::{Coordinates, HubDirectory, HubName, LinkedHub};

use super::live::{Latency, LatencySource};

/// Microseconds of a round trip over a kilometre of distance: light in fibre does 200 km in a millisecond, there and back, and
/// cables are about half as long again as the straight line.
const MICROS_PER_KM: f64 = 15.0;
/// What even the nearest neighbour takes: the last mile, and the answer.
const MICROS_AT_LEAST: f64 = 1_000.0;

/// Where devices of a network are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    /// The region, as the latency table names it.
    pub region: Option<String>,
    /// The place.
    pub coordinates: Option<Coordinates>,
}

/// Tells where an address is; asked where no network of the operator's own holds it.
pub trait GeoLookup: Send + Sync {
    /// `None`: not known. Must not block.
    fn find(&self, address: IpAddr) -> Option<Origin>;
}

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    is_v6: bool,
    length: u8,
    bits: u128,
}

/// Text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not `address/length`.
    #[error("{0:?} is no network; write 10.7.0.0/16 or fd00:7::/32")]
    Malformed(String),
    /// Bits are set behind the prefix, as by a slip of the pen.
    #[error("{text:?} has bits behind its prefix; the network is {network}")]
    HostBits {
        /// As given.
        text: String,
        /// As it would be without them.
        network: Network,
    },
}

impl Network {
    fn of(address: IpAddr, length: u8) -> Option<Self> {
        let (is_v6, width, bits) = match address {
            IpAddr::V4(v4) => (false, 32, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (true, 128, v6.to_bits()),
        };
        let rest = u32::from(u8::checked_sub(width, length)?);
        let bits = bits.checked_shr(rest).unwrap_or(0).checked_shl(rest).unwrap_or(0);
        Some(Self { is_v6, length, bits })
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(malformed)?;
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let network = length.parse().ok().and_then(|length| Self::of(address, length)).ok_or_else(malformed)?;
        let whole = Self::of(address, if network.is_v6 { 128 } else { 32 });
        if whole.is_some_and(|whole| whole.bits != network.bits) {
            return Err(NetworkError::HostBits { text: text.to_owned(), network });
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_v6, u32::try_from(self.bits)) {
            (false, Ok(bits)) => write!(f, "{}/{}", std::net::Ipv4Addr::from_bits(bits), self.length),
            _ => write!(f, "{}/{}", std::net::Ipv6Addr::from_bits(self.bits), self.length),
        }
    }
}

/// All that is known of distances.
#[derive(Clone, Default)]
pub struct LatencyMap {
    networks: BTreeMap<Network, Origin>,
    /// Round trips in microseconds: from a region to a hub's region or name.
    table: BTreeMap<String, BTreeMap<String, u32>>,
    geo: Option<Arc<dyn GeoLookup>>,
}

impl fmt::Debug for LatencyMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LatencyMap({} networks, {} regions)", self.networks.len(), self.table.len())
    }
}

impl LatencyMap {
    /// Says where a network is. A second word on the same one takes the first's place, which is the answer.
    pub fn put_network(&mut self, network: Network, origin: Origin) -> Option<Origin> {
        self.networks.insert(network, origin)
    }

    /// Says how long a round trip takes, in microseconds, from devices of a region to a hub's region or name. The answer is what was
    /// said before.
    pub fn put_round_trip(&mut self, from: &str, to: &str, micros: u32) -> Option<u32> {
        self.table.entry(from.to_owned()).or_default().insert(to.to_owned(), micros)
    }

    /// Asks this where no network holds an address.
    pub fn set_geo(&mut self, geo: Arc<dyn GeoLookup>) {
        self.geo = Some(geo);
    }

    /// Where an address is: by the longest prefix that holds it.
    #[must_use]
    pub fn origin(&self, address: IpAddr) -> Option<Origin> {
        let address = address.to_canonical();
        let width = if address.is_ipv4() { 32 } else { 128 };
        let own = (0..=width)
            .rev()
            .filter_map(|length| Network::of(address, length))
            .find_map(|network| self.networks.get(&network));
        own.cloned().or_else(|| self.geo.as_ref().and_then(|geo| geo.find(address)))
    }

    /// How far each hub is from an address; hubs of which nothing is known are left out.
    #[must_use]
    pub fn latencies(&self, address: IpAddr, hubs: &HubDirectory) -> BTreeMap<HubName, Latency> {
        let Some(origin) = self.origin(address) else { return BTreeMap::new() };
        hubs.iter().filter_map(|hub| Some((hub.name.clone(), self.latency(&origin, hub)?))).collect()
    }

    fn latency(&self, origin: &Origin, hub: &LinkedHub) -> Option<Latency> {
        let by_table = origin.region.as_ref().and_then(|region| self.table.get(region)).and_then(|row| {
            // What is said of the hub itself is nearer to the truth than what is said of its region.
            row.get(hub.name.as_str()).or_else(|| hub.terms.region.as_ref().and_then(|region| row.get(region)))
        });
        if let Some(round_trip_us) = by_table {
            return Some(Latency { round_trip_us: *round_trip_us, source: LatencySource::Region });
        }
        let km = origin.coordinates?.distance_km(hub.terms.coordinates?);
        // Half the globe is 20,000 km: far below the bound.
        let round_trip_us = (MICROS_AT_LEAST + km * MICROS_PER_KM).round().clamp(0.0, 4e9) as u32;
        Some(Latency { round_trip_us, source: LatencySource::Distance })
    }
}

#[cfg(test)]
mod tests {
    use unicity_identity::LinkedHub;

    use super::*;

    fn hub(name: &str, region: Option<&str>, coordinates: Option<(f64, f64)>) -> LinkedHub {
        let mut hub = LinkedHub::local(name.parse().unwrap(), format!("{name}.example").parse().unwrap());
        hub.terms.region = region.map(str::to_owned);
        hub.terms.coordinates = coordinates.and_then(|(latitude, longitude)| Coordinates::new(latitude, longitude));
        hub
    }

    fn region(name: &str) -> Origin {
        Origin { region: Some(name.to_owned()), coordinates: None }
    }

    #[test]
    fn networks_are_read_strictly() {
        for text in ["10.7.0.0/16", "0.0.0.0/0", "1.2.3.4/32", "fd00:7::/32", "::/0", "2001:db8::1/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for text in ["10.7.0.0", "10.7.0.0/33", "fd00::/129", "x/8", "10.0.0.0/-1", "10.0.0.0/", "/8"] {
            assert!(matches!(text.parse::<Network>(), Err(NetworkError::Malformed(_))), "{text}");
        }
        let slip = "10.7.1.0/16".parse::<Network>().unwrap_err();
        assert!(slip.to_string().contains("10.7.0.0/16"), "{slip}");
    }

    #[test]
    fn the_longest_prefix_counts() {
        let mut map = LatencyMap::default();
        for (network, name) in
            [("0.0.0.0/0", "world"), ("10.0.0.0/8", "site"), ("10.7.0.0/16", "hall"), ("fd00::/8", "six")]
        {
            assert!(map.put_network(network.parse().unwrap(), region(name)).is_none());
        }
        for (address, expected) in [
            ("10.7.255.1", Some("hall")),
            ("10.8.0.1", Some("site")),
            ("8.8.8.8", Some("world")),
            ("::ffff:10.7.0.1", Some("hall")),
            ("fd12::1", Some("six")),
            ("2001:db8::1", None),
        ] {
            let found = map.origin(address.parse().unwrap()).and_then(|origin| origin.region);
            assert_eq!(found.as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn the_table_comes_before_distance_and_the_hub_before_its_region() {
        let mut map = LatencyMap::default();
        let munich = Origin { region: Some("south".into()), coordinates: Coordinates::new(48.1, 11.6) };
        map.put_network("10.0.0.0/8".parse().unwrap(), munich);
        map.put_round_trip("south", "eu", 9_000);
        map.put_round_trip("south", "near", 300);
        let hubs = HubDirectory::new(vec![
            hub("near", Some("eu"), None),
            hub("mapped", Some("eu"), Some((48.1, 11.6))),
            hub("paris", Some("fr"), Some((48.9, 2.4))),
            hub("sydney", None, Some((-33.9, 151.2))),
            hub("nowhere", None, None),
        ])
        .unwrap();
        let found = map.latencies("10.1.1.1".parse().unwrap(), &hubs);
        let of = |name: &str| found.get(&name.parse::<HubName>().unwrap()).copied();
        assert_eq!(of("near"), Some(Latency { round_trip_us: 300, source: LatencySource::Region }));
        assert_eq!(of("mapped"), Some(Latency { round_trip_us: 9_000, source: LatencySource::Region }));
        let (paris, sydney) = (of("paris").unwrap(), of("sydney").unwrap());
        assert_eq!((paris.source, sydney.source), (LatencySource::Distance, LatencySource::Distance));
        // 685 km and 16,300 km, give or take.
        assert!((11_000..12_000).contains(&paris.round_trip_us), "{paris:?}");
        assert!((235_000..260_000).contains(&sydney.round_trip_us), "{sydney:?}");
        assert_eq!(of("nowhere"), None);
        assert!(map.latencies("11.1.1.1".parse().unwrap(), &hubs).is_empty());
    }

    #[test]
    fn a_database_is_asked_for_the_rest() {
        struct Everywhere;
        impl GeoLookup for Everywhere {
            fn find(&self, _: IpAddr) -> Option<Origin> {
                Some(Origin { region: Some("db".into()), coordinates: None })
            }
        }
        let mut map = LatencyMap::default();
        map.put_network("10.0.0.0/8".parse().unwrap(), region("own"));
        map.set_geo(Arc::new(Everywhere));
        assert_eq!(map.origin("10.0.0.1".parse().unwrap()).unwrap().region.as_deref(), Some("own"));
        assert_eq!(map.origin("8.8.8.8".parse().unwrap()).unwrap().region.as_deref(), Some("db"));
    }
}
