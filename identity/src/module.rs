//! A module identity: a second client of a device, with keys of its own (`service-rest.md` 12.1).

use serde::{Deserialize, Serialize};

use crate::device::DeviceAuthentication;
use crate::{ClientIdentity, DeviceId, ETag, GenerationId, HubName, ModuleId, Timestamp};

/// Modules of one device.
pub const MODULES_MAX: usize = 50;

/// One module of a device. It goes when the device does; whether it may connect is the device's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleIdentity {
    /// The hub it lives at.
    pub hub: HubName,
    /// The device it belongs to.
    pub device_id: DeviceId,
    /// Its name there.
    pub module_id: ModuleId,
    /// Its life: new whenever it is made anew.
    pub generation: GenerationId,
    /// Version of this record.
    pub etag: ETag,
    /// How it proves itself.
    pub authentication: DeviceAuthentication,
    /// Who looks after it, in the operator's words.
    pub managed_by: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

impl ModuleIdentity {
    /// As a client of the hub.
    #[must_use]
    pub fn client(&self) -> ClientIdentity {
        ClientIdentity {
            hub: self.hub.clone(),
            device_id: self.device_id.clone(),
            module_id: Some(self.module_id.clone()),
        }
    }
}
