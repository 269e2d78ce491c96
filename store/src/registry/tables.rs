//! The tables of the index: their names, how a record's key is spelled, and the form of values.
//! `docs/registry-format.md` has the bytes.

use std::sync::Arc;

use redb::TableDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use unicity_identity::{ClientIdentity, DeviceId, HubName};
use unicity_provisioning::{Change, Fault};

/// The format of values, of journal records and of the index as a whole; a newer one is refused.
pub(super) const FORMAT: u8 = 1;

/// All keys and values are bytes: keys sort as their bytes do, in the overlay as in redb.
pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A table of records. The number stands in journal records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    Individuals = 0,
    Groups = 1,
    Registrations = 2,
    Devices = 3,
    Keys = 4,
    Subscriptions = 5,
}

impl Table {
    pub(super) const COUNT: usize = 6;
    pub(super) const ALL: [Self; Self::COUNT] =
        [Self::Individuals, Self::Groups, Self::Registrations, Self::Devices, Self::Keys, Self::Subscriptions];

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Individuals => "individuals",
            Self::Groups => "groups",
            Self::Registrations => "registrations",
            Self::Devices => "devices",
            Self::Keys => "keys",
            Self::Subscriptions => "subscriptions",
        }
    }

    pub(super) fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }
}

/// What a record becomes; `None`: it is gone.
pub(super) struct Op {
    pub(super) table: Table,
    pub(super) key: Arc<[u8]>,
    pub(super) value: Option<Arc<[u8]>>,
}

/// A change as it goes to journal, overlay and redb.
pub(super) fn to_op(change: &Change, scratch: &mut Vec<u8>) -> Op {
    let (table, key) = match change {
        Change::PutIndividual(record) => (Table::Individuals, record.registration_id.as_str().as_bytes().into()),
        Change::DeleteIndividual(id) => (Table::Individuals, id.as_str().as_bytes().into()),
        Change::PutGroup(record) => (Table::Groups, record.group_id.as_str().as_bytes().into()),
        Change::DeleteGroup(id) => (Table::Groups, id.as_str().as_bytes().into()),
        Change::PutRegistration(record) => (Table::Registrations, record.registration_id.as_str().as_bytes().into()),
        Change::DeleteRegistration(id) => (Table::Registrations, id.as_str().as_bytes().into()),
        Change::PutDevice(record) => (Table::Devices, device_key(&record.hub, &record.device_id)),
        Change::DeleteDevice(hub, id) => (Table::Devices, device_key(hub, id)),
        Change::PutKey(key, _) | Change::DeleteKey(key) => (Table::Keys, key.0.as_slice().into()),
        Change::PutSubscriptions(client, _) | Change::DeleteSubscriptions(client) => {
            (Table::Subscriptions, client_key(client))
        }
    };
    let value = match change {
        Change::PutIndividual(record) => Some(encode(record, scratch)),
        Change::PutGroup(record) => Some(encode(record, scratch)),
        Change::PutRegistration(record) => Some(encode(record, scratch)),
        Change::PutDevice(record) => Some(encode(record, scratch)),
        Change::PutKey(_, owner) => Some(encode(owner, scratch)),
        Change::PutSubscriptions(_, subscriptions) => Some(encode(subscriptions, scratch)),
        Change::DeleteIndividual(_)
        | Change::DeleteGroup(_)
        | Change::DeleteRegistration(_)
        | Change::DeleteDevice(..)
        | Change::DeleteKey(_)
        | Change::DeleteSubscriptions(_) => None,
    };
    Op { table, key, value }
}

/// `hub \0 device`: neither may hold a zero byte, and the devices of a hub are neighbours.
pub(super) fn device_key(hub: &HubName, id: &DeviceId) -> Arc<[u8]> {
    [hub.as_str().as_bytes(), b"\0", id.as_str().as_bytes()].concat().into()
}

/// The bounds of a hub's devices: from the first key on, and before the second.
pub(super) fn device_bounds(hub: &HubName) -> (Vec<u8>, Vec<u8>) {
    ([hub.as_str().as_bytes(), b"\0"].concat(), [hub.as_str().as_bytes(), b"\x01"].concat())
}

/// `hub \0 device`, and `\0 module` if it is one.
pub(super) fn client_key(client: &ClientIdentity) -> Arc<[u8]> {
    let mut key = [client.hub.as_str().as_bytes(), b"\0", client.device_id.as_str().as_bytes()].concat();
    if let Some(module) = &client.module_id {
        key.push(0);
        key.extend_from_slice(module.as_str().as_bytes());
    }
    key.into()
}

/// A value's bytes: the format, then the record in postcard's encoding.
fn encode<T: Serialize>(record: &T, scratch: &mut Vec<u8>) -> Arc<[u8]> {
    let mut bytes = std::mem::take(scratch);
    bytes.clear();
    bytes.push(FORMAT);
    *scratch = postcard::to_extend(record, bytes).expect("records have only values that postcard encodes");
    scratch.as_slice().into()
}

/// Reads a value.
///
/// # Errors
/// [`Fault`] if a newer program wrote it, or it is none.
pub(super) fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, Fault> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => postcard::from_bytes(rest)
            .map_err(|error| Fault(format!("a record of {} does not decode: {error}", table.name()))),
        Some((newer, _)) => Err(Fault(format!(
            "a record of {} has format {newer}, this program reads {FORMAT}: run the version that wrote it",
            table.name()
        ))),
        None => Err(Fault(format!("a record of {} is empty", table.name()))),
    }
}
