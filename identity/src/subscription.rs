//! Who a hub session belongs to, and what it keeps over disconnects and restarts.

use serde::{Deserialize, Serialize};

use crate::{DeviceId, HubName, ModuleId};

/// One client of a hub: a device, or one module of it. At most one live session each (U3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientIdentity {
    /// The hub.
    pub hub: HubName,
    /// The device.
    pub device_id: DeviceId,
    /// The module, if it is one.
    pub module_id: Option<ModuleId>,
}

impl std::fmt::Display for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.hub, self.device_id)?;
        match &self.module_id {
            Some(module) => write!(f, "/{module}"),
            None => Ok(()),
        }
    }
}

/// Delivery guarantee of a message or subscription; 2 is not offered (`device-mqtt.md` 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QoS {
    /// At most once.
    AtMostOnce,
    /// At least once.
    AtLeastOnce,
}

/// A subscription of a clean-session-0 client. It survives disconnects and restarts of the server, since Python's SDK never
/// subscribes again (`device-mqtt.md` part A).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The topic filter as sent.
    pub filter: String,
    /// What was granted.
    pub qos: QoS,
}
