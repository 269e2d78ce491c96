//! The rows of an import, as far as they are kept in memory: about 150 bytes each with two keys, 20 fewer once they were compared. Which of them are duplicates of others is
//! told in their order: a row that is refused takes nothing from the ones behind it.

use std::collections::{BTreeMap, HashMap};

use unicity_audit::{BatchRoot, Hash};
use unicity_identity::KeyFingerprint;
use unicity_provisioning::import::{EncodedRow, RowRefusal};
use unicity_provisioning::{Settings, UnicityMode};

/// Rows in the order of the file.
#[derive(Default)]
pub(super) struct Rows {
    ids: Vec<u8>,
    places: Vec<Place>,
    /// Of all rows.
    root: BatchRoot,
    /// Key and row.
    pub(super) keys: Vec<([u8; 32], u32)>,
    devices: Vec<([u8; 16], u32)>,
    names_devices: bool,
}

struct Place {
    row: u32,
    line: u32,
    id_end: u64,
    value_at: u64,
    value_len: u32,
    any_hub: bool,
}

/// Refused rows, by their place in [`Rows`].
pub(super) type RefusedRows = HashMap<u32, RowRefusal>;

impl Rows {
    pub(super) fn push(&mut self, row: u32, line: u32, encoded: &EncodedRow, value_at: u64) {
        let at = self.places.len() as u32;
        self.ids.extend_from_slice(encoded.id.as_str().as_bytes());
        self.places.push(Place {
            row,
            line,
            id_end: self.ids.len() as u64,
            value_at,
            value_len: encoded.value.len() as u32,
            any_hub: encoded.any_hub,
        });
        self.root.push_leaf(Hash(encoded.leaf));
        self.keys.extend(encoded.keys.iter().map(|key| (key.0, at)));
        self.devices.push((encoded.device, at));
        self.names_devices |= encoded.names_device;
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn id(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let start = if at == 0 { 0 } else { self.places[at - 1].id_end };
        &self.ids[start as usize..self.places[at].id_end as usize]
    }

    /// Number and line in the file.
    pub(super) fn place(&self, at: u32) -> (u32, u32) {
        let place = &self.places[at as usize];
        (place.row, place.line)
    }

    /// Where the value lies in the spool, and its length.
    pub(super) fn value(&self, at: u32) -> (u64, u32) {
        let place = &self.places[at as usize];
        (place.value_at, place.value_len)
    }

    /// The root of all rows, refused ones included.
    pub(super) fn root(&self) -> &BatchRoot {
        &self.root
    }

    /// Sorts the keys, and gives the rows in the order of their ids.
    pub(super) fn sort(&mut self) -> Vec<u32> {
        self.keys.sort_unstable();
        let mut order: Vec<u32> = (0..self.places.len() as u32).collect();
        order.sort_by(|one, other| self.id(*one).cmp(self.id(*other)));
        order
    }

    /// Rows that have an id, a key or a device id of an accepted row before them. `order` is what [`Rows::sort`] gave.
    pub(super) fn duplicates(&mut self, order: &[u32], settings: &Settings) -> RefusedRows {
        // Of each row that shares something: what it shares, as a number.
        let mut shared: BTreeMap<u32, Vec<(u32, Shared)>> = BTreeMap::new();
        let mut groups = 0;
        let mut group = |kind: Shared, rows: &mut dyn Iterator<Item = u32>| {
            for row in rows {
                shared.entry(row).or_default().push((groups, kind));
            }
            groups += 1;
        };
        for same in order.chunk_by(|one, other| self.id(*one) == self.id(*other)).filter(|same| same.len() > 1) {
            group(Shared::Id, &mut same.iter().copied());
        }
        if settings.mode == UnicityMode::Strict {
            for same in self.keys.chunk_by(|one, other| one.0 == other.0).filter(|same| same.len() > 1) {
                if !settings.allow_shared.contains(&KeyFingerprint(same[0].0)) {
                    group(Shared::Key, &mut same.iter().map(|(_, row)| *row));
                }
            }
            if self.names_devices {
                self.devices.sort_unstable();
                for same in self.devices.chunk_by(|one, other| one.0 == other.0).filter(|same| same.len() > 1) {
                    // Each hub has its own device ids: where rows name hubs, the registration decides.
                    if same.iter().any(|(_, row)| self.places[*row as usize].any_hub) {
                        group(Shared::Device, &mut same.iter().map(|(_, row)| *row));
                    }
                }
            }
        }
        self.devices = Vec::new();
        let mut holders: Vec<Option<u32>> = vec![None; groups as usize];
        let mut refused = RefusedRows::new();
        for (row, claims) in shared {
            let taken = claims.iter().find_map(|(group, kind)| Some((holders[*group as usize]?, *kind)));
            match taken {
                Some((holder, kind)) => drop(refused.insert(row, kind.refusal(self.place(holder).0))),
                None => claims.iter().for_each(|(group, _)| holders[*group as usize] = Some(row)),
            }
        }
        refused
    }
}

#[derive(Clone, Copy)]
enum Shared {
    Id,
    Key,
    Device,
}

impl Shared {
    fn refusal(self, row: u32) -> RowRefusal {
        let (code, what) = match self {
            Self::Id => ("DuplicateId", "id"),
            Self::Key => ("DuplicateKey", "key"),
            Self::Device => ("DuplicateDeviceId", "device id"),
        };
        RowRefusal { code: code.into(), verdict: format!("duplicate {what} of row {row}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::fleet;

    fn rows(given: &[(&str, &[u8], Option<&str>)]) -> Rows {
        let mut rows = Rows::default();
        for (at, (id, keys, device)) in given.iter().enumerate() {
            let mut digest = [0; 16];
            let name = device.unwrap_or(id).as_bytes();
            digest[..name.len()].copy_from_slice(name);
            let encoded = EncodedRow {
                id: id.parse().unwrap(),
                keys: keys.iter().map(|key| KeyFingerprint([*key; 32])).collect(),
                device: digest,
                names_device: device.is_some(),
                any_hub: true,
                leaf: [0; 32],
                value: vec![],
            };
            rows.push(at as u32 + 1, at as u32 + 1, &encoded, 0);
        }
        rows
    }

    fn verdicts(given: &[(&str, &[u8], Option<&str>)]) -> Vec<(u32, String)> {
        let mut rows = rows(given);
        let order = rows.sort();
        let refused = rows.duplicates(&order, &fleet::settings());
        let mut refused: Vec<_> = refused.into_iter().map(|(at, why)| (at + 1, why.verdict)).collect();
        refused.sort();
        refused
    }

    #[test]
    fn a_row_is_a_duplicate_of_an_accepted_one_before_it() {
        assert_eq!(verdicts(&[("b", &[1, 2], None), ("a", &[3], None)]), []);
        assert_eq!(verdicts(&[("b", &[1], None), ("b", &[2], None)]), [(2, "duplicate id of row 1".into())]);
        assert_eq!(verdicts(&[("b", &[1, 9], None), ("a", &[9], None)]), [(2, "duplicate key of row 1".into())]);
        assert_eq!(
            verdicts(&[("b", &[1], None), ("a", &[2], Some("b"))]),
            [(2, "duplicate device id of row 1".into())]
        );
    }

    #[test]
    fn what_a_refused_row_would_have_had_is_free() {
        // Row 2 is refused for its key; row 3 has the id of row 2 and comes in.
        let given: &[(&str, &[u8], Option<&str>)] = &[("a", &[1], None), ("b", &[1, 2], None), ("b", &[2, 3], None)];
        assert_eq!(verdicts(given), [(2, "duplicate key of row 1".into())]);
    }
}
