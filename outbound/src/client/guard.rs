//! Which addresses are never called, and which only with an operator's word. A name that an operator trusts may one day lead to the
//! machine's own services, or to the address where a cloud hands out credentials: the address is what counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::allowed::Reach;

/// Why an address must not be called; `None`: it may be.
#[must_use]
pub fn refused_address(address: IpAddr, reach: Reach) -> Option<&'static str> {
    let kind = match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    };
    match (kind, reach) {
        (Kind::Never(why), _) => Some(why),
        (Kind::Private, Reach::Public) => {
            Some("it is of this machine or a private network, and no setting allows those")
        }
        (Kind::Private, Reach::Private) | (Kind::Public, _) => None,
    }
}

enum Kind {
    Never(&'static str),
    Private,
    Public,
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let [a, b, c, d] = address.octets();
    match (a, b, c, d) {
        (0, ..) => Kind::Never("it is unspecified"),
        (169, 254, ..) => Kind::Never("it is link-local"),
        (224..=239, ..) => Kind::Never("it is a multicast address"),
        (240..=255, ..) => Kind::Never("it is reserved"),
        // Where clouds answer their own machines outside of the link-local range.
        (168, 63, 129, 16) | (100, 100, 100, 200) | (192, 0, 0, 192) => Kind::Never("it is a cloud's metadata service"),
        (10 | 127, ..)
        | (172, 16..=31, ..)
        | (192, 168, ..)
        | (100, 64..=127, ..)
        | (192, 0, 0, _)
        | (198, 18..=19, ..) => Kind::Private,
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    let segments = address.segments();
    let low = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Never("it is unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private,
        // IPv4 in other clothes: mapped, compatible, translated (RFC 6052), 6to4. What counts is the address inside.
        [0, 0, 0, 0, 0, 0xffff | 0, g, h] | [0x64, 0xff9b, 0, 0, 0, 0, g, h] => kind_v4(low(g, h)),
        [0x2002, b, c, ..] => kind_v4(low(b, c)),
        [0x2001, 0, ..] => Kind::Never("it is a Teredo tunnel"),
        [0x64, 0xff9b, 1, ..] => Kind::Private,
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Kind::Never("it is a cloud's metadata service"),
        [a, ..] if a & 0xffc0 == 0xfe80 => Kind::Never("it is link-local"),
        [a, ..] if a & 0xff00 == 0xff00 => Kind::Never("it is a multicast address"),
        [a, ..] if a & 0xfe00 == 0xfc00 || a & 0xffc0 == 0xfec0 => Kind::Private,
        _ => Kind::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (addresses, public, private) in [
            (
                "0.0.0.0 0.1.2.3 169.254.169.254 169.254.0.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16 \
                 100.100.100.200 192.0.0.192 :: fe80::1 febf::1 ff02::1 fd00:ec2::254 ::ffff:169.254.169.254 ::ffff:0.0.0.0 \
                 ::169.254.169.254 64:ff9b::169.254.169.254 2002:a9fe:a9fe::1 2001:0:1::1",
                false,
                false,
            ),
            (
                "127.0.0.1 127.9.9.9 10.1.2.3 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 198.18.0.1 ::1 fc00::1 fd12::1 \
                 fec0::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::10.0.0.1 2002:7f00:1::",
                false,
                true,
            ),
            (
                "1.1.1.1 172.32.0.1 100.128.0.1 198.20.0.1 192.0.1.1 2606:4700::1111 ::ffff:1.1.1.1 2002:101:101::",
                true,
                true,
            ),
        ] {
            for text in addresses.split_whitespace() {
                let address: IpAddr = text.parse().expect(text);
                assert_eq!(refused_address(address, Reach::Public).is_none(), public, "{text}");
                assert_eq!(refused_address(address, Reach::Private).is_none(), private, "{text}, allowed");
            }
        }
    }
}
