//! The tables of the index: their names, how a record's key is spelled, and the form of values.
//! `docs/registry-format.md` has the bytes.

use redb::TableDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use unicity_identity::error::KeyOwner;
use unicity_identity::{ClientIdentity, DenyRule, DeviceId, HubName, IndividualEnrollment, ModuleId, RevocationTarget};
use unicity_provisioning::{Change, Fault};

use super::{legacy, record};

/// The format of journal records, of the index as a whole, and of the values of most tables; a newer one is refused.
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
    Authorities = 6,
    RevocationLists = 7,
    Denied = 8,
    Revocations = 9,
    Standings = 10,
    Continuity = 11,
    Twins = 12,
    Modules = 13,
    Imports = 14,
    AccessPolicies = 15,
    Hubs = 16,
    ServiceSettings = 17,
    HubLoads = 18,
    Transfers = 19,
    Rebalances = 20,
}

impl Table {
    pub(super) const COUNT: usize = 21;
    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::Individuals,
        Self::Groups,
        Self::Registrations,
        Self::Devices,
        Self::Keys,
        Self::Subscriptions,
        Self::Authorities,
        Self::RevocationLists,
        Self::Denied,
        Self::Revocations,
        Self::Standings,
        Self::Continuity,
        Self::Twins,
        Self::Modules,
        Self::Imports,
        Self::AccessPolicies,
        Self::Hubs,
        Self::ServiceSettings,
        Self::HubLoads,
        Self::Transfers,
        Self::Rebalances,
    ];
    /// What decides whom the service trusts to vouch for certificates.
    pub(super) const TRUST: [Self; 3] = [Self::Groups, Self::Authorities, Self::RevocationLists];

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The format of its values as they are written today.
    fn format(self) -> u8 {
        match self {
            Self::Individuals | Self::Groups | Self::Imports => 2,
            _ => FORMAT,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Individuals => "individuals",
            Self::Groups => "groups",
            Self::Registrations => "registrations",
            Self::Devices => "devices",
            Self::Keys => "keys",
            Self::Subscriptions => "subscriptions",
            Self::Authorities => "authorities",
            Self::RevocationLists => "revocation_lists",
            Self::Denied => "denied",
            Self::Revocations => "revocations",
            Self::Standings => "standings",
            Self::Continuity => "continuity",
            Self::Twins => "twins",
            Self::Modules => "modules",
            Self::Imports => "imports",
            Self::AccessPolicies => "access_policies",
            Self::Hubs => "hubs",
            Self::ServiceSettings => "service_settings",
            Self::HubLoads => "hub_loads",
            Self::Transfers => "transfers",
            Self::Rebalances => "rebalances",
        }
    }

    pub(super) fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }
}

/// Appends a change as it goes to journal, overlay and index.
pub(super) fn write_change(change: &Change, out: &mut Vec<u8>) {
    match change {
        Change::PutIndividual(record) => {
            record::put(Table::Individuals, &[record.registration_id.as_str().as_bytes()], out, |out| {
                encode_as(Table::Individuals.format(), record, out)
            });
        }
        Change::DeleteIndividual(id) => record::delete(Table::Individuals, &[id.as_str().as_bytes()], out),
        Change::PutGroup(record) => {
            record::put(Table::Groups, &[record.group_id.as_str().as_bytes()], out, |out| {
                encode_as(Table::Groups.format(), record, out)
            });
        }
        Change::DeleteGroup(id) => record::delete(Table::Groups, &[id.as_str().as_bytes()], out),
        Change::PutRegistration(record) => {
            let key = record.registration_id.as_str().as_bytes();
            record::put(Table::Registrations, &[key], out, |out| encode(record, out));
        }
        Change::DeleteRegistration(id) => record::delete(Table::Registrations, &[id.as_str().as_bytes()], out),
        Change::PutDevice(record) => {
            record::put(Table::Devices, &device_parts(&record.hub, &record.device_id), out, |out| encode(record, out));
        }
        Change::DeleteDevice(hub, id) => record::delete(Table::Devices, &device_parts(hub, id), out),
        Change::PutKey(key, owner) => record::put(Table::Keys, &[&key.0], out, |out| encode(owner, out)),
        Change::DeleteKey(key) => record::delete(Table::Keys, &[&key.0], out),
        Change::PutSubscriptions(client, subscriptions) => {
            record::put(Table::Subscriptions, &[&client_key(client)], out, |out| encode(subscriptions, out));
        }
        Change::DeleteSubscriptions(client) => record::delete(Table::Subscriptions, &[&client_key(client)], out),
        Change::PutAuthority(authority) => {
            record::put(Table::Authorities, &[authority.name.as_str().as_bytes()], out, |out| encode(authority, out));
        }
        Change::DeleteAuthority(name) => record::delete(Table::Authorities, &[name.as_str().as_bytes()], out),
        Change::PutRevocationList(list) => {
            record::put(Table::RevocationLists, &[&list.issuer_key.0], out, |out| encode(list, out));
        }
        Change::PutDenyRule(rule) => record::put(Table::Denied, &[&deny_key(rule)], out, |out| encode(rule, out)),
        Change::DeleteDenyRule(rule) => record::delete(Table::Denied, &[&deny_key(rule)], out),
        Change::PutRevocation(revocation) => {
            record::put(Table::Revocations, &[&target_key(&revocation.target)], out, |out| encode(revocation, out));
        }
        Change::DeleteRevocation(target) => record::delete(Table::Revocations, &[&target_key(target)], out),
        Change::PutStanding(standing) => {
            record::put(Table::Standings, &[&owner_key(&standing.owner)], out, |out| encode(standing, out));
        }
        Change::DeleteStanding(owner) => record::delete(Table::Standings, &[&owner_key(owner)], out),
        Change::PutContinuity(id, continuity) => {
            record::put(Table::Continuity, &[id.as_str().as_bytes()], out, |out| encode(continuity, out));
        }
        Change::DeleteContinuity(id) => record::delete(Table::Continuity, &[id.as_str().as_bytes()], out),
        Change::PutTwin(twin) => {
            record::put(Table::Twins, &[&client_key(&twin.client)], out, |out| encode(twin, out));
        }
        Change::DeleteTwin(client) => record::delete(Table::Twins, &[&client_key(client)], out),
        Change::PutModule(record) => {
            let key = module_key(&record.hub, &record.device_id, &record.module_id);
            record::put(Table::Modules, &[&key], out, |out| encode(record, out));
        }
        Change::DeleteModule(hub, device, module) => {
            record::delete(Table::Modules, &[&module_key(hub, device, module)], out);
        }
        Change::PutImport(import) => {
            record::put(Table::Imports, &[&import.number.to_be_bytes()], out, |out| {
                encode_as(Table::Imports.format(), import, out);
            });
        }
        Change::PutAccessPolicy(policy) => {
            let audience = policy.audience.to_string();
            let key = [audience.as_bytes(), b"\0", policy.name.as_str().as_bytes()];
            record::put(Table::AccessPolicies, &key, out, |out| encode(policy, out));
        }
        Change::PutHub(hub) => {
            record::put(Table::Hubs, &[hub.name.as_str().as_bytes()], out, |out| encode(hub, out));
        }
        Change::DeleteHub(name) => record::delete(Table::Hubs, &[name.as_str().as_bytes()], out),
        Change::PutDefaultPolicy(policy) => {
            record::put(Table::ServiceSettings, &[DEFAULT_POLICY], out, |out| encode(policy, out));
        }
        Change::DeleteDefaultPolicy => record::delete(Table::ServiceSettings, &[DEFAULT_POLICY], out),
        Change::PutHubLoad(hub, load) => {
            record::put(Table::HubLoads, &[hub.as_str().as_bytes()], out, |out| encode(load, out));
        }
        Change::PutTransfer(transfer) => {
            let key = transfer.registration_id.as_str().as_bytes();
            record::put(Table::Transfers, &[key], out, |out| encode(transfer, out));
        }
        Change::DeleteTransfer(id) => record::delete(Table::Transfers, &[id.as_str().as_bytes()], out),
        Change::PutRebalance(rebalance) => {
            record::put(Table::Rebalances, &[&rebalance.number.to_be_bytes()], out, |out| encode(rebalance, out));
        }
    }
}

fn device_parts<'a>(hub: &'a HubName, id: &'a DeviceId) -> [&'a [u8]; 3] {
    [hub.as_str().as_bytes(), b"\0", id.as_str().as_bytes()]
}

/// The service's allocation policy, in the table of settings.
pub(super) const DEFAULT_POLICY: &[u8] = b"allocation policy";

/// The keys of all deny rules about serial numbers lie from here on; those about keys before.
pub(super) const DENIED_SERIALS: &[u8] = b"s";

/// `k` and the key's fingerprint, or `s` and a hash of issuer and serial: a name may be longer than a key.
pub(super) fn deny_key(rule: &DenyRule) -> Vec<u8> {
    match rule {
        DenyRule::Key(key) => [b"k".as_slice(), &key.0].concat(),
        DenyRule::Serial { issuer, serial } => {
            let name = [issuer.as_bytes(), b"\0", serial.as_bytes()].concat();
            [b"s".as_slice(), ring::digest::digest(&ring::digest::SHA256, &name).as_ref()].concat()
        }
    }
}

/// A letter for the kind of target, then what it names.
pub(super) fn target_key(target: &RevocationTarget) -> Vec<u8> {
    let (kind, rest): (u8, &[u8]) = match target {
        RevocationTarget::Registration(id) => (b'r', id.as_str().as_bytes()),
        RevocationTarget::Key(key) => (b'k', &key.0),
        RevocationTarget::Certificate(sha256) => (b'c', sha256),
        RevocationTarget::Authority { key, .. } => (b'a', &key.0),
        RevocationTarget::Group(id) => (b'g', id.as_str().as_bytes()),
        RevocationTarget::Batch(label) => (b'b', label.as_str().as_bytes()),
    };
    [&[kind], rest].concat()
}

/// A letter for the kind of owner, then its id.
pub(super) fn owner_key(owner: &KeyOwner) -> Vec<u8> {
    match owner {
        KeyOwner::Registration(id) => [b"r", id.as_str().as_bytes()].concat(),
        KeyOwner::Group(id) => [b"g", id.as_str().as_bytes()].concat(),
        KeyOwner::Device(hub, id) => [b"d".as_slice(), &device_key(hub, id)].concat(),
        KeyOwner::Module(hub, id, module) => [b"m".as_slice(), &module_key(hub, id, module)].concat(),
    }
}

/// `hub \0 device`: neither may hold a zero byte, and the devices of a hub are neighbours.
pub(super) fn device_key(hub: &HubName, id: &DeviceId) -> Vec<u8> {
    device_parts(hub, id).concat()
}

/// The bounds of a hub's devices: from the first key on, and before the second.
pub(super) fn device_bounds(hub: &HubName) -> (Vec<u8>, Vec<u8>) {
    ([hub.as_str().as_bytes(), b"\0"].concat(), [hub.as_str().as_bytes(), b"\x01"].concat())
}

/// `hub \0 device \0 module`: the modules of a device are neighbours, and no other device's lie between.
pub(super) fn module_key(hub: &HubName, device: &DeviceId, module: &ModuleId) -> Vec<u8> {
    [hub.as_str(), device.as_str(), module.as_str()].join("\0").into_bytes()
}

/// The bounds of a device's modules: after the first key, and before the second.
pub(super) fn module_bounds(hub: &HubName, device: &DeviceId) -> (Vec<u8>, Vec<u8>) {
    let key = device_key(hub, device);
    ([&key, b"\0".as_slice()].concat(), [&key, b"\x01".as_slice()].concat())
}

/// `hub \0 device`, and `\0 module` if it is one.
pub(super) fn client_key(client: &ClientIdentity) -> Vec<u8> {
    let mut key = device_key(&client.hub, &client.device_id);
    if let Some(module) = &client.module_id {
        key.push(0);
        key.extend_from_slice(module.as_str().as_bytes());
    }
    key
}

/// An individual enrollment as it goes into its table.
pub(super) fn individual_value(enrollment: &IndividualEnrollment) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    encode_as(Table::Individuals.format(), enrollment, &mut out);
    out
}

/// Appends a value: the format, then the record in postcard's encoding.
pub(super) fn encode<T: Serialize>(record: &T, out: &mut Vec<u8>) {
    encode_as(FORMAT, record, out);
}

fn encode_as<T: Serialize>(format: u8, record: &T, out: &mut Vec<u8>) {
    out.push(format);
    let bytes = std::mem::take(out);
    *out = postcard::to_extend(record, bytes).expect("records have only values that postcard encodes");
}

/// Reads a value.
///
/// # Errors
/// [`Fault`] if a newer program wrote it, or it is none.
pub(super) fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, Fault> {
    let malformed = |error| Fault(format!("a record of {} does not decode: {error}", table.name()));
    let format = table.format();
    match bytes.split_first() {
        Some((&found, rest)) if found == format => postcard::from_bytes(rest).map_err(malformed),
        Some((&older, rest)) if older < format => match legacy::upgrade(table, rest) {
            Some(upgraded) => postcard::from_bytes(&upgraded).map_err(malformed),
            None => Err(Fault(format!("a record of {}, of format {older}, does not decode", table.name()))),
        },
        Some((newer, _)) => Err(Fault(format!(
            "a record of {} has format {newer}, this program reads {format}: run the version that wrote it",
            table.name()
        ))),
        None => Err(Fault(format!("a record of {} is empty", table.name()))),
    }
}
