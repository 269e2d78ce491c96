//! The stages that are timed apart.

use serde::{Deserialize, Serialize};

/// A step of a device's way, or a whole operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// SYN to an open socket at the provisioning endpoint, or at the only one.
    Tcp,
    /// First byte of the handshake to its end.
    Tls,
    /// CONNECT to CONNACK.
    Connect,
    /// SUBSCRIBE to SUBACK.
    Subscribe,
    /// The first register PUBLISH to its first answer, whatever it says.
    Register,
    /// The first register PUBLISH to `assigned`, polls included.
    Assigned,
    /// TCP to the hub.
    HubTcp,
    /// The handshake with the hub.
    HubTls,
    /// CONNECT to CONNACK at the hub.
    HubConnect,
    /// The first PUBLISH of a session to its PUBACK.
    FirstPuback,
    /// Any other PUBLISH to its PUBACK.
    Puback,
    /// The whole operation of the workload, from when it was meant to start (open loop) or did start (closed loop).
    Total,
    /// The whole operation, from when it did start: what a tool without correction for coordinated omission would report.
    TotalUncorrected,
}

impl Stage {
    /// All, in the order of a device's way.
    pub const ALL: [Self; 13] = [
        Self::Tcp,
        Self::Tls,
        Self::Connect,
        Self::Subscribe,
        Self::Register,
        Self::Assigned,
        Self::HubTcp,
        Self::HubTls,
        Self::HubConnect,
        Self::FirstPuback,
        Self::Puback,
        Self::Total,
        Self::TotalUncorrected,
    ];

    /// A stable name, the one in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Register => "register",
            Self::Assigned => "assigned",
            Self::HubTcp => "hub-tcp",
            Self::HubTls => "hub-tls",
            Self::HubConnect => "hub-connect",
            Self::FirstPuback => "first-puback",
            Self::Puback => "puback",
            Self::Total => "total",
            Self::TotalUncorrected => "total-uncorrected",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_has_one_name_and_one_place() {
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, place);
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
        }
    }
}
