//! Service policies: named pairs of keys with rights (`service-rest.md` 2.3 and 11).

use std::fmt;

use unicity_identity::{HubName, SharedAccessKey};

/// What a policy may do. The first six are those of a provisioning service, the others those of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Change the service itself: backups.
    ServiceConfig,
    /// Read enrollments.
    EnrollmentRead,
    /// Write enrollments.
    EnrollmentWrite,
    /// Act as a device. No call of this API needs it (design rule 17).
    DeviceConnect,
    /// Read registrations.
    RegistrationStatusRead,
    /// Delete registrations.
    RegistrationStatusWrite,
    /// Read device identities, keys included.
    RegistryRead,
    /// Write device identities.
    RegistryWrite,
    /// Read telemetry.
    ServiceConnect,
}

impl Right {
    /// The name in Azure's tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceConfig => "ServiceConfig",
            Self::EnrollmentRead => "EnrollmentRead",
            Self::EnrollmentWrite => "EnrollmentWrite",
            Self::DeviceConnect => "DeviceConnect",
            Self::RegistrationStatusRead => "RegistrationStatusRead",
            Self::RegistrationStatusWrite => "RegistrationStatusWrite",
            Self::RegistryRead => "RegistryRead",
            Self::RegistryWrite => "RegistryWrite",
            Self::ServiceConnect => "ServiceConnect",
        }
    }
}

/// A set of rights.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u16);

impl Rights {
    /// These rights and no other.
    #[must_use]
    pub fn of(rights: &[Right]) -> Self {
        Self(rights.iter().fold(0, |bits, right| bits | 1 << *right as u16))
    }

    /// All rights of a provisioning service.
    #[must_use]
    pub fn dps_all() -> Self {
        use Right::{
            DeviceConnect, EnrollmentRead, EnrollmentWrite, RegistrationStatusRead, RegistrationStatusWrite,
            ServiceConfig,
        };
        Self::of(&[
            ServiceConfig,
            EnrollmentRead,
            EnrollmentWrite,
            DeviceConnect,
            RegistrationStatusRead,
            RegistrationStatusWrite,
        ])
    }

    /// Whether `right` is among them.
    #[must_use]
    pub fn contains(self, right: Right) -> bool {
        self.0 & (1 << right as u16) != 0
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({:#011b})", self.0)
    }
}

/// What a policy belongs to: its keys are good there and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// The provisioning service.
    Dps,
    /// One hub.
    Hub(HubName),
}

/// The policies that every hub is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubPolicy {
    /// `iothubowner`: everything.
    IotHubOwner,
    /// `service`: telemetry, twins, methods.
    Service,
    /// `device`: act as a device.
    Device,
    /// `registryRead`.
    RegistryRead,
    /// `registryReadWrite`.
    RegistryReadWrite,
}

impl HubPolicy {
    /// All of them, in the order of `service-rest.md` 11.
    pub const ALL: [Self; 5] =
        [Self::IotHubOwner, Self::Service, Self::Device, Self::RegistryRead, Self::RegistryReadWrite];

    /// The name in a connection string.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IotHubOwner => "iothubowner",
            Self::Service => "service",
            Self::Device => "device",
            Self::RegistryRead => "registryRead",
            Self::RegistryReadWrite => "registryReadWrite",
        }
    }

    /// What it may do.
    #[must_use]
    pub fn rights(self) -> Rights {
        use Right::{DeviceConnect, RegistryRead, RegistryWrite, ServiceConnect};
        match self {
            Self::IotHubOwner => Rights::of(&[RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect]),
            Self::Service => Rights::of(&[ServiceConnect]),
            Self::Device => Rights::of(&[DeviceConnect]),
            Self::RegistryRead => Rights::of(&[RegistryRead]),
            Self::RegistryReadWrite => Rights::of(&[RegistryRead, RegistryWrite]),
        }
    }
}

/// The name of the policy that a provisioning service is made with.
const DPS_OWNER: &str = "provisioningserviceowner";

/// One policy.
#[derive(Debug, Clone)]
pub struct ServicePolicy {
    /// Its name: `SharedAccessKeyName` of a connection string, `skn` of a token. Compared with case.
    pub name: String,
    /// Where it is good.
    pub audience: Audience,
    /// First key.
    pub primary: SharedAccessKey,
    /// Second key, for rotation.
    pub secondary: SharedAccessKey,
    /// What it may do.
    pub rights: Rights,
}

impl ServicePolicy {
    /// The built-in policy of the provisioning service, `provisioningserviceowner`, with all rights.
    #[must_use]
    pub fn dps_owner(primary: SharedAccessKey, secondary: SharedAccessKey) -> Self {
        Self { name: DPS_OWNER.into(), audience: Audience::Dps, primary, secondary, rights: Rights::dps_all() }
    }

    /// A built-in policy of a hub.
    #[must_use]
    pub fn of_hub(hub: HubName, policy: HubPolicy, primary: SharedAccessKey, secondary: SharedAccessKey) -> Self {
        Self { name: policy.name().into(), audience: Audience::Hub(hub), primary, secondary, rights: policy.rights() }
    }
}

/// Two policies have one name at one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy {name:?} is there twice for {audience:?}")]
pub struct PolicyConflict {
    /// The name.
    pub name: String,
    /// The place.
    pub audience: Audience,
}

/// All policies of this server.
#[derive(Debug, Clone, Default)]
pub struct ServicePolicies(Vec<ServicePolicy>);

impl ServicePolicies {
    /// Takes the policies of a configuration.
    ///
    /// # Errors
    /// [`PolicyConflict`] if two of one audience share a name.
    pub fn new(policies: Vec<ServicePolicy>) -> Result<Self, PolicyConflict> {
        for (index, policy) in policies.iter().enumerate() {
            if policies[..index].iter().any(|other| other.name == policy.name && other.audience == policy.audience) {
                return Err(PolicyConflict { name: policy.name.clone(), audience: policy.audience.clone() });
            }
        }
        Ok(Self(policies))
    }

    /// All policies of this name, of any audience, each with its place among all.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (usize, &ServicePolicy)> {
        self.0.iter().enumerate().filter(move |(_, policy)| policy.name == name)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_distinct() {
        let all = Rights::dps_all();
        assert!(all.contains(Right::RegistrationStatusWrite) && !all.contains(Right::RegistryRead));
        assert!(!HubPolicy::Service.rights().contains(Right::RegistryRead));
        assert!(!HubPolicy::RegistryRead.rights().contains(Right::RegistryWrite));
        assert!(HubPolicy::IotHubOwner.rights().contains(Right::ServiceConnect));
    }

    #[test]
    fn a_name_is_there_once_per_place() {
        let key = || SharedAccessKey::from_bytes(vec![1; 32]).unwrap();
        let hub = |name: &str| ServicePolicy::of_hub(name.parse().unwrap(), HubPolicy::Service, key(), key());
        assert!(ServicePolicies::new(vec![hub("a"), hub("b")]).is_ok());
        assert_eq!(ServicePolicies::new(vec![hub("a"), hub("a")]).unwrap_err().name, "service");
    }
}
