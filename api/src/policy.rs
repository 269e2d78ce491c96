//! The policies in force with their keys (`service-rest.md` 2.3 and 11), and how they are put together from the registry's records.

use std::time::Instant;

use parking_lot::Mutex;
use unicity_identity::access::DPS_OWNER;
use unicity_identity::{AccessPolicy, HubDirectory, HubName, SharedAccessKey, policies_in_force};

use crate::rate::{KeyRates, RequestRate};

pub use unicity_identity::{Audience, HubPolicy, Right, Rights};

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

/// Where the keys of policies come from, and who must hear of a change. Without it, policies cannot be changed.
pub trait PolicyKeys: Send + Sync {
    /// The primary and the secondary key of a policy at its generation.
    fn keys(&self, policy: &AccessPolicy) -> (SharedAccessKey, SharedAccessKey);
    /// The host name that a connection string for this place has.
    fn host(&self, audience: &Audience) -> Option<String>;
    /// These policies are in force from now on. May block; a failure is the callee's to report, since the change stands.
    fn changed(&self, policies: &ServicePolicies);
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

    /// The policies of the provisioning service and of all hubs, as the registry's records have changed them.
    #[must_use]
    pub fn of_registry(stored: &[AccessPolicy], hubs: &HubDirectory, keys: &dyn PolicyKeys) -> Self {
        let places = std::iter::once(Audience::Dps).chain(hubs.iter().map(|hub| Audience::Hub(hub.name.clone())));
        let in_force = places.flat_map(|audience| policies_in_force(&audience, stored));
        let with_keys = in_force.map(|policy| {
            let (primary, secondary) = keys.keys(&policy);
            ServicePolicy {
                name: policy.name.to_string(),
                audience: policy.audience,
                primary,
                secondary,
                rights: policy.rights,
            }
        });
        Self(with_keys.collect())
    }

    /// The policy of a place that back ends and the command line are best given: the one that the place was made with while it holds all
    /// rights there, else whichever of those that may keep the place holds the most.
    #[must_use]
    pub fn owner(&self, audience: &Audience) -> Option<&ServicePolicy> {
        let of_place = || self.0.iter().filter(|policy| policy.audience == *audience);
        let all = of_place().find(|policy| policy.rights.covers(audience.rights()));
        all.or_else(|| {
            of_place()
                .filter(|policy| policy.rights.covers(audience.keeper()))
                .max_by_key(|policy| policy.rights.iter().count())
        })
    }

    /// What a policy may do; `None` if the place has none of this name.
    #[must_use]
    pub fn rights(&self, audience: &Audience, name: &str) -> Option<Rights> {
        self.0.iter().find(|policy| policy.audience == *audience && policy.name == name).map(|policy| policy.rights)
    }

    /// All policies of this name, of any audience, each with its place among all.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (usize, &ServicePolicy)> {
        self.0.iter().enumerate().filter(move |(_, policy)| policy.name == name)
    }
}

/// Policies, and how often each of their keys may still call. A change of policies begins all anew: who may change them could as well
/// make another policy to call with.
#[derive(Debug)]
pub(crate) struct LivePolicies {
    pub(crate) policies: ServicePolicies,
    pub(crate) rates: Mutex<KeyRates>,
}

impl LivePolicies {
    pub(crate) fn new(policies: ServicePolicies, rate: RequestRate) -> Self {
        let rates = Mutex::new(KeyRates::new(rate, policies.0.len(), Instant::now()));
        Self { policies, rates }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_there_once_per_place() {
        let key = || SharedAccessKey::from_bytes(vec![1; 32]).unwrap();
        let hub = |name: &str| ServicePolicy::of_hub(name.parse().unwrap(), HubPolicy::Service, key(), key());
        assert!(ServicePolicies::new(vec![hub("a"), hub("b")]).is_ok());
        assert_eq!(ServicePolicies::new(vec![hub("a"), hub("a")]).unwrap_err().name, "service");
    }

    #[test]
    fn the_owner_is_who_has_most() {
        let key = || SharedAccessKey::from_bytes(vec![1; 32]).unwrap();
        let policy = |name: &str, rights: Rights| ServicePolicy {
            name: name.into(),
            audience: Audience::Dps,
            primary: key(),
            secondary: key(),
            rights,
        };
        let some = Rights::of(&[Right::ServiceConfig]);
        let more = Rights::of(&[Right::ServiceConfig, Right::EnrollmentRead]);
        let no_keeper = Rights::of(&[Right::EnrollmentRead, Right::EnrollmentWrite, Right::RegistrationStatusRead]);
        for (rights, owner) in [
            (vec![some, Rights::dps_all()], Some("1")),
            (vec![some, more, no_keeper], Some("1")),
            (vec![no_keeper], None),
        ] {
            let all = rights.iter().enumerate().map(|(n, rights)| policy(&n.to_string(), *rights)).collect();
            let all = ServicePolicies::new(all).unwrap();
            assert_eq!(all.owner(&Audience::Dps).map(|policy| policy.name.as_str()), owner);
        }
    }
}
