//! Shared access policies: who may call which service API (`service-rest.md` 2.3 and 11). A policy has a name, rights and two keys at
//! one place; the keys are derived from its generation, so that none is stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AccessPolicyName, ETag, HubName, InvalidId, Timestamp};

/// What a policy may do. The first six are those of a provisioning service, the others those of a hub, which knows
/// [`Right::DeviceConnect`] too. The order is stored: new ones go to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Change the service itself: policies, authorities, revocations, backups.
    ServiceConfig,
    /// Read enrollments.
    EnrollmentRead,
    /// Write enrollments.
    EnrollmentWrite,
    /// Act as a device. No call of the service API needs it (design rule 17).
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
    /// All of them, in the order of their bits.
    pub const ALL: [Self; 9] = [
        Self::ServiceConfig,
        Self::EnrollmentRead,
        Self::EnrollmentWrite,
        Self::DeviceConnect,
        Self::RegistrationStatusRead,
        Self::RegistrationStatusWrite,
        Self::RegistryRead,
        Self::RegistryWrite,
        Self::ServiceConnect,
    ];

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

    /// By its name, whose case does not count.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_str().eq_ignore_ascii_case(name))
    }
}

/// A set of rights.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

    /// All rights of a hub.
    #[must_use]
    pub fn hub_all() -> Self {
        HubPolicy::IotHubOwner.rights()
    }

    /// Whether `right` is among them.
    #[must_use]
    pub fn contains(self, right: Right) -> bool {
        self.0 & (1 << right as u16) != 0
    }

    /// Whether all of `others` are among them.
    #[must_use]
    pub fn covers(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// None at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of [`Right::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.into_iter().filter(move |right| self.contains(*right))
    }

    /// Their names, in that order.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Right::as_str).collect()
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({})", self.names().join("|"))
    }
}

/// What a policy belongs to: its keys are good there and nowhere else. As text it is `dps` or a hub's name; `hub/NAME` is understood
/// too, and is what a hub that is called `dps` is written as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// The provisioning service.
    Dps,
    /// One hub.
    Hub(HubName),
}

impl Audience {
    /// The rights that a policy may have here.
    #[must_use]
    pub fn rights(&self) -> Rights {
        match self {
            Self::Dps => Rights::dps_all(),
            Self::Hub(_) => Rights::hub_all(),
        }
    }

    /// The rights that whoever keeps this place's policies needs: one policy must have them at any time.
    #[must_use]
    pub fn keeper(&self) -> Rights {
        match self {
            Self::Dps => Rights::of(&[Right::ServiceConfig]),
            Self::Hub(_) => Rights::hub_all(),
        }
    }

    /// The policies that it is made with.
    #[must_use]
    pub fn built_in(&self) -> Vec<(AccessPolicyName, Rights)> {
        let name = |text: &str| text.parse().expect("the names of built-in policies are names");
        match self {
            Self::Dps => vec![(name(DPS_OWNER), Rights::dps_all())],
            Self::Hub(_) => HubPolicy::ALL.iter().map(|policy| (name(policy.name()), policy.rights())).collect(),
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dps => f.write_str("dps"),
            Self::Hub(name) if name.as_str() == "dps" => f.write_str("hub/dps"),
            Self::Hub(name) => name.fmt(f),
        }
    }
}

impl FromStr for Audience {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.strip_prefix("hub/") {
            None if text == "dps" => Ok(Self::Dps),
            None => text.parse().map(Self::Hub),
            Some(name) => name.parse().map(Self::Hub),
        }
    }
}

impl Serialize for Audience {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
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
pub const DPS_OWNER: &str = "provisioningserviceowner";

/// A policy as it is stored. A built-in one that was never changed has no record and is of generation 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessPolicy {
    /// Where it is good.
    pub audience: Audience,
    /// Its name, compared with case.
    pub name: AccessPolicyName,
    /// What it may do.
    pub rights: Rights,
    /// Counts its primary keys from 0. The secondary key is the primary one of the generation before.
    pub generation: u64,
    /// Version of this record.
    pub etag: ETag,
    /// When it was made; of a built-in one, when it was first changed.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When it was removed. The record stays, so that a policy of the same name never gets its keys again.
    pub removed: Option<Timestamp>,
}

impl AccessPolicy {
    /// A built-in policy as it is before any change: its version is one that no random draw gives.
    #[must_use]
    pub fn unchanged(audience: Audience, name: AccessPolicyName, rights: Rights) -> Self {
        let at = Timestamp(0);
        Self { audience, name, rights, generation: 0, etag: ETag([0; 16]), created: at, updated: at, removed: None }
    }
}

/// The policies of one place that are in force: its built-in ones as `stored` has changed them, then those that were added, in the order
/// of their names.
#[must_use]
pub fn policies_in_force(audience: &Audience, stored: &[AccessPolicy]) -> Vec<AccessPolicy> {
    let of_place = || stored.iter().filter(|policy| policy.audience == *audience);
    let built_in = audience.built_in();
    let mut found: Vec<AccessPolicy> = built_in
        .iter()
        .map(|(name, rights)| match of_place().find(|policy| policy.name == *name) {
            Some(changed) => changed.clone(),
            None => AccessPolicy::unchanged(audience.clone(), name.clone(), *rights),
        })
        .collect();
    let mut added: Vec<_> =
        of_place().filter(|policy| built_in.iter().all(|(name, _)| *name != policy.name)).cloned().collect();
    added.sort_by(|a, b| a.name.cmp(&b.name));
    found.append(&mut added);
    found.retain(|policy| policy.removed.is_none());
    found
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
        assert!(all.covers(Audience::Dps.keeper()) && !HubPolicy::Service.rights().covers(Rights::hub_all()));
        for right in Right::ALL {
            assert_eq!(Right::from_name(&right.as_str().to_lowercase()), Some(right));
            assert_eq!(Rights::of(&[right]).names(), [right.as_str()]);
        }
    }

    #[test]
    fn a_place_has_one_name() {
        for (text, shown) in
            [("dps", "dps"), ("default", "default"), ("hub/default", "default"), ("hub/dps", "hub/dps")]
        {
            let audience: Audience = text.parse().unwrap();
            assert_eq!(audience.to_string(), shown);
            assert_eq!(shown.parse(), Ok(audience));
        }
        for text in ["", "hub/", "DPS", "a b"] {
            assert!(text.parse::<Audience>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_stored_changes_what_is_built_in() {
        let audience = Audience::Dps;
        let make = |name: &str, removed| AccessPolicy {
            generation: 3,
            removed,
            ..AccessPolicy::unchanged(Audience::Dps, name.parse().unwrap(), Rights::of(&[Right::EnrollmentRead]))
        };
        let names = |stored: &[AccessPolicy]| -> Vec<(String, u64)> {
            policies_in_force(&audience, stored).iter().map(|it| (it.name.to_string(), it.generation)).collect()
        };
        let gone = Some(Timestamp(1));
        assert_eq!(names(&[]), [(DPS_OWNER.into(), 0)]);
        assert_eq!(
            names(&[make("b", None), make("a", None), make("c", gone)]),
            [(DPS_OWNER.into(), 0), ("a".into(), 3), ("b".into(), 3)]
        );
        assert_eq!(names(&[make(DPS_OWNER, gone), make("a", None)]), [("a".into(), 3)]);
        let elsewhere = AccessPolicy { audience: "hub-1".parse().unwrap(), ..make("x", None) };
        assert_eq!(names(&[elsewhere]), [(DPS_OWNER.into(), 0)]);
    }
}
