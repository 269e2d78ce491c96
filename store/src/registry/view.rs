//! Reading records: what everyone sees (*synced* state), and what the writer decides on (*decided* state, design rule 2).

use serde::de::DeserializeOwned;
use unicity_identity::error::KeyOwner;
use unicity_identity::{
    ClientIdentity, DeviceId, DeviceIdentity, EnrollmentGroup, EnrollmentGroupId, HubName, IndividualEnrollment,
    KeyFingerprint, Registration, RegistrationId, Subscription,
};
use unicity_provisioning::{Fault, RegistryView};

use super::index::Index;
use super::listing;
use super::overlay::{Known, Layer, Overlay};
use super::tables::{Table, client_key, decode, device_key};

/// State to read: the layers before the index, the newest first.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// What the writer decided and has not synced; readers have none of it.
    pub(super) decided: Option<&'a Layer>,
    pub(super) overlay: &'a Overlay,
    pub(super) index: &'a Index,
}

impl View<'_> {
    fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, Fault> {
        // The index last, and its view taken after the overlay was looked at: see `overlay.rs`.
        match self.decided.and_then(|layer| layer.get(table, key)).or_else(|| self.overlay.get(table, key)) {
            Some(Known::Value(value)) => decode(table, &value).map(Some),
            Some(Known::Deleted) => Ok(None),
            None => self.index.read(|snapshot| snapshot.get(table, key, |value| decode(table, value)))?.transpose(),
        }
    }
}

impl RegistryView for View<'_> {
    fn individual(&self, id: &RegistrationId) -> Result<Option<IndividualEnrollment>, Fault> {
        self.get(Table::Individuals, id.as_str().as_bytes())
    }

    fn group(&self, id: &EnrollmentGroupId) -> Result<Option<EnrollmentGroup>, Fault> {
        self.get(Table::Groups, id.as_str().as_bytes())
    }

    fn groups(&self) -> Result<Vec<EnrollmentGroup>, Fault> {
        listing::all(self, Table::Groups)
    }

    fn registration(&self, id: &RegistrationId) -> Result<Option<Registration>, Fault> {
        self.get(Table::Registrations, id.as_str().as_bytes())
    }

    fn device(&self, hub: &HubName, id: &DeviceId) -> Result<Option<DeviceIdentity>, Fault> {
        self.get(Table::Devices, &device_key(hub, id))
    }

    fn key_owner(&self, key: &KeyFingerprint) -> Result<Option<KeyOwner>, Fault> {
        self.get(Table::Keys, &key.0)
    }

    fn subscriptions(&self, client: &ClientIdentity) -> Result<Option<Vec<Subscription>>, Fault> {
        self.get(Table::Subscriptions, &client_key(client))
    }
}
