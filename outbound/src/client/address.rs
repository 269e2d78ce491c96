//! Which addresses may be called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an endpoint's name may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The public internet only.
    Public,
    /// Private and loopback networks too: the operator said so.
    Private,
}

/// What keeps an address from being called; `None`: nothing. Link-local ones are never called, whatever an operator says: clouds
/// keep their machines' credentials there.
#[must_use]
pub fn refused(address: IpAddr, reach: Reach) -> Option<&'static str> {
    let address = match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let (never, private) = match address {
        IpAddr::V4(v4) => of_v4(v4),
        IpAddr::V6(v6) => of_v6(v6),
    };
    never.or(private.filter(|_| reach == Reach::Public))
}

fn of_v4(address: Ipv4Addr) -> (Option<&'static str>, Option<&'static str>) {
    let [a, b, c, _] = address.octets();
    let never = match (a, b) {
        (0, _) => Some("unspecified"),
        (169, 254) => Some("link-local"),
        (224..=239, _) => Some("multicast"),
        (240.., _) => Some("reserved"),
        _ => None,
    };
    let private = match (a, b, c) {
        (127, _, _) => Some("loopback"),
        (10, _, _) | (172, 16..=31, _) | (192, 168, _) => Some("private"),
        // RFC 6598, and the special block of RFC 6890.
        (100, 64..=127, _) | (192, 0, 0) => Some("shared"),
        // RFC 2544.
        (198, 18..=19, _) => Some("for benchmarks"),
        _ => None,
    };
    (never, private)
}

fn of_v6(address: Ipv6Addr) -> (Option<&'static str>, Option<&'static str>) {
    let first = address.segments()[0];
    let never = if address.is_unspecified() {
        Some("unspecified")
    } else if address.is_multicast() {
        Some("multicast")
    } else if first & 0xffc0 == 0xfe80 {
        Some("link-local")
    } else {
        None
    };
    let private = if address.is_loopback() {
        Some("loopback")
    } else if first & 0xfe00 == 0xfc00 {
        Some("private")
    } else {
        None
    };
    (never, private)
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible (RFC 4291), behind NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let of = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_address() {
        let cases = [
            ("93.184.216.34", None, None),
            ("2606:2800:220:1::1", None, None),
            ("127.0.0.1", Some("loopback"), None),
            ("127.8.9.10", Some("loopback"), None),
            ("::1", Some("loopback"), None),
            ("::ffff:127.0.0.1", Some("loopback"), None),
            ("10.1.2.3", Some("private"), None),
            ("172.16.0.1", Some("private"), None),
            ("172.32.0.1", None, None),
            ("192.168.1.1", Some("private"), None),
            ("100.64.0.1", Some("shared"), None),
            ("fd00::1", Some("private"), None),
            ("169.254.169.254", Some("link-local"), Some("link-local")),
            ("::ffff:169.254.169.254", Some("link-local"), Some("link-local")),
            ("64:ff9b::a9fe:a9fe", Some("link-local"), Some("link-local")),
            ("2002:a9fe:a9fe::1", Some("link-local"), Some("link-local")),
            ("2002:7f00:1::", Some("loopback"), None),
            ("fe80::1", Some("link-local"), Some("link-local")),
            ("0.0.0.0", Some("unspecified"), Some("unspecified")),
            ("::", Some("unspecified"), Some("unspecified")),
            ("224.0.0.1", Some("multicast"), Some("multicast")),
            ("ff02::1", Some("multicast"), Some("multicast")),
            ("255.255.255.255", Some("reserved"), Some("reserved")),
        ];
        for (text, public, private) in cases {
            let address = text.parse().unwrap();
            assert_eq!(
                (refused(address, Reach::Public), refused(address, Reach::Private)),
                (public, private),
                "{text}"
            );
        }
    }
}
