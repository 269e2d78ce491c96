//! Weighted rendezvous hashing: adding or removing a hub moves only its share.
//!
//! For each candidate, `u` in (0, 1) comes from the first 64 bits of SHA-256 over a label, the hub's name and the registration
//! id; the hub with the largest `weight / -log2(u)` wins. The logarithm is computed in integers, bit by bit, so that every
//! machine gives the same answer: a different one would move fleets (design rule 15).

use ring::digest;
use unicity_identity::{HubName, LinkedHub};

/// 64 bits of a hash that depend on hub and key only; the key is the registration id, or what devices share that are to stay together.
fn point(hub: &HubName, key: &str) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"unicity allocation 1\0");
    context.update(hub.as_str().as_bytes());
    context.update(b"\0");
    context.update(key.as_bytes());
    let hash = context.finish();
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_ref()[..8]);
    u64::from_be_bytes(first)
}

/// -log2(`point` / 2^64) with 48 fraction bits, at least 1 (of 2^-48), for any point.
fn negative_log2(point: u64) -> u64 {
    const FRACTION_BITS: u32 = 48;
    let point = point.max(1);
    let leading = point.leading_zeros();
    // The mantissa in [1, 2), as a fixed-point number with 63 fraction bits.
    let mut mantissa = u128::from(point << leading);
    let mut log2_of_mantissa = 0u64;
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 63;
        log2_of_mantissa <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            log2_of_mantissa |= 1;
        }
    }
    ((u64::from(leading) + 1) << FRACTION_BITS).saturating_sub(log2_of_mantissa).max(1)
}

/// What a hub bids for a key: the highest bid takes it. Ordered exactly, without rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bid {
    weight: u32,
    negative_log2: u64,
}

impl Bid {
    /// The bid of a hub of this weight, 1 or more.
    #[must_use]
    pub fn of(hub: &HubName, weight: u32, key: &str) -> Self {
        Self { weight, negative_log2: negative_log2(point(hub, key)) }
    }

    /// Thousandths of `weight / -log2(u)`, for people; bids that differ may show the same.
    #[must_use]
    pub fn to_millis(self) -> u64 {
        let scaled = (u128::from(self.weight) * 1000) << 48;
        u64::try_from(scaled / u128::from(self.negative_log2)).unwrap_or(u64::MAX)
    }
}

impl Ord for Bid {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // weight_a / log_a against weight_b / log_b, multiplied out.
        (u128::from(self.weight) * u128::from(other.negative_log2))
            .cmp(&(u128::from(other.weight) * u128::from(self.negative_log2)))
    }
}

impl PartialOrd for Bid {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The candidate with the highest bid, or `None` if there is no candidate of weight above 0. Equal bids, which needs two
/// equal hashes, go to the smaller name; the order of the candidates does not matter.
#[must_use]
pub fn choose<'a>(candidates: impl IntoIterator<Item = &'a LinkedHub>, key: &str) -> Option<&'a LinkedHub> {
    candidates
        .into_iter()
        .filter(|hub| hub.terms.weight > 0)
        .map(|hub| (hub, Bid::of(&hub.name, hub.terms.weight, key)))
        .max_by(|(a, bid_a), (b, bid_b)| bid_a.cmp(bid_b).then_with(|| b.name.cmp(&a.name)))
        .map(|(hub, _)| hub)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hub(name: &str, weight: u32) -> LinkedHub {
        let mut hub = LinkedHub::local(name.parse().unwrap(), format!("{name}.local").parse().unwrap());
        hub.terms.weight = weight;
        hub
    }

    #[test]
    fn the_logarithm_is_exact_at_powers_of_two_and_monotonic() {
        assert_eq!(negative_log2(1 << 63), 1 << 48);
        assert_eq!(negative_log2(1 << 62), 2 << 48);
        assert_eq!(negative_log2(1), 64 << 48);
        assert_eq!(negative_log2(0), 64 << 48);
        assert_eq!(negative_log2(u64::MAX), 1);
        // -log2(0.75) = 0.41503749927884...
        let three_quarters = negative_log2(3 << 62) as f64 / (1u64 << 48) as f64;
        assert!((three_quarters - 0.415_037_499_278_84).abs() < 1e-12, "{three_quarters}");
    }

    /// Fixed for ever: a change here moves devices in the field.
    #[test]
    fn test_vectors() {
        let hubs = [hub("alpha", 1), hub("beta", 2), hub("gamma", 7)];
        let chosen: Vec<&str> =
            VECTORS.iter().map(|(device, _)| choose(&hubs, device).unwrap().name.as_str()).collect();
        let expected: Vec<&str> = VECTORS.iter().map(|(_, hub)| *hub).collect();
        assert_eq!(chosen, expected);
        assert_eq!(point(&hubs[0].name, "dev-0001"), 0xbe22_7090_b0c8_2bfc, "point of alpha and dev-0001");
    }

    const VECTORS: &[(&str, &str)] = &[
        ("dev-0001", "gamma"),
        ("dev-0002", "beta"),
        ("dev-0003", "gamma"),
        ("weather-station-17", "beta"),
        ("a", "beta"),
        ("0123456789", "gamma"),
        ("sn:4711.x", "gamma"),
        ("factory-floor-press-3", "gamma"),
    ];

    #[test]
    fn shares_follow_weights() {
        let hubs = [hub("alpha", 1), hub("beta", 2), hub("gamma", 7)];
        let mut counts = std::collections::BTreeMap::new();
        for n in 0..20_000 {
            *counts.entry(choose(&hubs, &format!("d{n}")).unwrap().name.to_string()).or_insert(0u32) += 1;
        }
        // Six standard deviations of a binomial share of 20,000.
        for (name, share) in [("alpha", 0.1), ("beta", 0.2), ("gamma", 0.7)] {
            let deviation = (f64::from(counts[name]) - 20_000.0 * share).abs();
            assert!(deviation < 6.0 * (20_000.0 * share * (1.0 - share)).sqrt(), "{name}: {}", counts[name]);
        }
    }

    proptest! {
        #[test]
        fn only_the_share_of_a_new_hub_moves(weights in proptest::collection::vec(1u32..1000, 1..6), n in 0u32..1_000_000) {
            let hubs: Vec<_> = weights.iter().enumerate().map(|(i, w)| hub(&format!("h{i}"), *w)).collect();
            let device = format!("device-{n}");
            let before = choose(&hubs[..hubs.len() - 1], &device).map(|h| h.name.clone());
            let after = choose(&hubs, &device).unwrap().name.clone();
            let newest = hubs.last().unwrap().name.clone();
            prop_assert!(after == newest || Some(after) == before);
        }

        #[test]
        fn the_order_of_candidates_does_not_matter(n in 0u32..1_000_000) {
            let (a, b, c) = (hub("a", 3), hub("b", 5), hub("c", 11));
            let device = format!("device-{n}");
            let one = choose([&a, &b, &c], &device).unwrap().name.clone();
            let other = choose([&c, &a, &b], &device).unwrap().name.clone();
            prop_assert_eq!(one, other);
        }
    }
}
