//! `GET /unicity/failures?limit=N&peer=ADDRESS`: who could not get in, by peer: TLS handshakes that failed, so that nothing was
//! ever said of a device, and the refusals of CONNECT, registration and service calls.
//!
//! `{"items": [...]}`, newest first, of two kinds. Both have
//!
//! | member | meaning |
//! | --- | --- |
//! | `stage` | `handshake`, or `identity` |
//! | `timestampUtc` | when; of a handshake: the newest one |
//! | `peer` | address and port |
//! | `peerNetwork`, `peerNetworkFailures` | what limits hold for (the address, or an IPv6 peer's /64), and how often it failed in this stage, as far back as anything of it is kept |
//! | `cause`, `remedy` | one sentence each |
//!
//! A handshake has `listener` (`mqtt` or `https`), `code` (stable, as the label `cause` of `unicity_listener_refused_total`),
//! `detail` (what TLS or the socket said; may be empty), `count` and `firstTimestampUtc`: a peer that fails the same way again
//! adds to its item. A refusal has the members of `/unicity/refusals`.
//!
//! `peer` is an address, or a network such as `192.0.2.0/24`.

use std::net::IpAddr;
use std::time::SystemTime;

use http::{Response, StatusCode};
use serde_json::{Value, json};
use unicity_identity::Timestamp;
use unicity_listener::HandshakeFailure;

use super::listing::limit;
use super::server;
use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer};
use crate::failure::Failure;

/// An address, or all addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PeerFilter {
    address: IpAddr,
    bits: u8,
}

fn bits_max(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl PeerFilter {
    fn parse(text: &str) -> Result<Self, Failure> {
        let invalid = || {
            let shown: String = text.chars().take(64).collect();
            Failure::invalid("peer", format!("{shown:?} is neither an address nor a network such as 192.0.2.0/24"))
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= bits_max(address)).ok_or_else(invalid)?,
            None => bits_max(address),
        };
        Ok(Self { address, bits })
    }

    fn covers(self, peer: IpAddr) -> bool {
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
            IpAddr::V6(address) => u128::from(address),
        };
        let rest = 128 - u32::from(self.bits);
        // A shift by all 128 bits is none of the language's.
        let head = |address| number(address).checked_shr(rest).unwrap_or(0);
        self.address.is_ipv4() == peer.is_ipv4() && head(self.address) == head(peer)
    }
}

fn moment(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) >> 64 << 64;
            format!("{}/64", std::net::Ipv6Addr::from(prefix))
        }
    }
}

fn show(failure: &HandshakeFailure) -> (Timestamp, Value) {
    let at = moment(failure.last);
    let shown = json!({
        "stage": "handshake",
        "timestampUtc": at.to_string(),
        "firstTimestampUtc": moment(failure.first).to_string(),
        "count": failure.count,
        "peer": failure.peer.to_string(),
        "peerNetwork": network(failure.peer.ip()),
        "peerNetworkFailures": failure.network_count,
        "listener": failure.listener,
        "code": failure.cause.label(),
        "cause": failure.cause.summary(),
        "detail": failure.detail,
        "remedy": failure.cause.remedy(),
    });
    (at, shown)
}

/// The newest failures, newest first.
pub(super) fn latest(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let limit = limit(&proven.target)?;
    let filter = proven.target.query("peer").map(PeerFilter::parse).transpose()?;
    let wanted = |peer: IpAddr| filter.is_none_or(|filter| filter.covers(peer.to_canonical()));
    let mut items: Vec<(Timestamp, Value)> = Vec::new();
    for listener in &shared.handshakes {
        items.extend(listener.latest(limit, wanted).iter().map(show));
    }
    for (record, of_network) in shared.provisioning.refusals().latest_of(limit, wanted) {
        let mut shown = server::show(&record);
        shown["stage"] = json!("identity");
        if let Some(peer) = record.peer {
            shown["peerNetwork"] = json!(network(peer.ip().to_canonical()));
            shown["peerNetworkFailures"] = json!(of_network);
        }
        items.push((record.at, shown));
    }
    items.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let items: Vec<Value> = items.into_iter().take(limit).map(|(_, shown)| shown).collect();
    Ok(json_answer(StatusCode::OK, &json!({"items": items})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_or_a_network() {
        for (filter, peer, covered) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/64", "2001:db8::ffff", true),
            ("2001:db8::/64", "2001:db8:0:1::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
        ] {
            let found = PeerFilter::parse(filter).unwrap().covers(peer.parse().unwrap());
            assert_eq!(found, covered, "{filter} {peer}");
        }
        for text in ["", "here", "192.0.2.1/33", "192.0.2.1/", "2001:db8::/129", "192.0.2.1:80", "/24"] {
            assert!(PeerFilter::parse(text).is_err(), "{text:?}");
        }
    }
}
