//! One simulated device: who it is, what it proves itself with, and how it logs in.

use std::time::Duration;

use unicity_identity::{DeviceId, Environment, IdScope, RegistrationId, SharedAccessKey, derive_device_key};

use crate::client::Login;
use crate::{Credential, SimError, topic};

/// How long a token lives, as the Python and Node SDKs have it.
pub const TOKEN_SECONDS: u64 = 3600;

/// A device as it leaves the factory: it knows an id scope, its registration id and its key or certificate,
/// nothing else.
#[derive(Debug, Clone)]
pub struct Device {
    /// The id it registers under.
    pub registration_id: RegistrationId,
    /// Its own key or certificate, which the hub takes too.
    pub key: Credential,
    /// The id scope of the provisioning service.
    pub id_scope: IdScope,
}

impl Device {
    /// A member of an enrollment group: its key is derived from the group's.
    #[must_use]
    pub fn of_group(group_key: &SharedAccessKey, registration_id: RegistrationId, id_scope: IdScope) -> Self {
        let key = derive_device_key(group_key, registration_id.as_str());
        Self { registration_id, key: key.into(), id_scope }
    }

    /// `count` members of a group, named as [`names`](Self::names) says.
    ///
    /// # Errors
    /// If `prefix` makes no valid registration id.
    pub fn group_members(
        group_key: &SharedAccessKey,
        prefix: &str,
        count: usize,
        id_scope: &IdScope,
    ) -> Result<Vec<Self>, unicity_identity::InvalidId> {
        let ids = Self::names(prefix, count)?;
        Ok(ids.into_iter().map(|id| Self::of_group(group_key, id, id_scope.clone())).collect())
    }

    /// `count` registration ids, `{prefix}{number}`; the numbers begin at 1 and have as many digits as the last.
    ///
    /// # Errors
    /// If `prefix` makes no valid registration id.
    pub fn names(prefix: &str, count: usize) -> Result<Vec<RegistrationId>, unicity_identity::InvalidId> {
        let digits = count.to_string().len();
        (1..=count).map(|number| format!("{prefix}{number:0digits$}").parse()).collect()
    }

    /// Who it is to the provisioning service, with a fresh token if it has a key; clean session.
    ///
    /// # Errors
    /// [`SimError::Tpm`] if the TPM does not sign.
    pub async fn provisioning_login(&self, env: &Environment, keep_alive: Duration) -> Result<Login, SimError> {
        let (scope, id) = (self.id_scope.as_str(), self.registration_id.as_str());
        Ok(Login {
            client_id: id.to_owned(),
            user_name: topic::provisioning_user_name(scope, id),
            password: self.key.token(&provisioning_resource(self), expiry(env), None).await?,
            keep_alive,
            clean_session: true,
        })
    }
}

/// Who a device is to the hub it was assigned, with a fresh token if it has a key; clean session.
///
/// # Errors
/// [`SimError::Tpm`] if the TPM does not sign.
pub async fn hub_login(
    hub_host: &str,
    device_id: &DeviceId,
    credential: &Credential,
    token_seconds: u64,
    env: &Environment,
    keep_alive: Duration,
) -> Result<Login, SimError> {
    let expiry = env.now().unix_seconds() + token_seconds;
    Ok(Login {
        client_id: device_id.as_str().to_owned(),
        user_name: topic::hub_user_name(hub_host, device_id.as_str()),
        password: credential.token(&hub_resource(hub_host, device_id), expiry, None).await?,
        keep_alive,
        clean_session: true,
    })
}

/// What a token for the provisioning service is for.
pub(crate) fn provisioning_resource(device: &Device) -> String {
    format!("{}/registrations/{}", device.id_scope, device.registration_id)
}

/// What a token for a hub is for.
pub(crate) fn hub_resource(hub_host: &str, device_id: &DeviceId) -> String {
    format!("{hub_host}/devices/{device_id}")
}

/// When a token ends that is made now, in seconds since the Unix epoch.
pub(crate) fn expiry(env: &Environment) -> u64 {
    env.now().unix_seconds() + TOKEN_SECONDS
}

#[cfg(test)]
mod tests {
    use unicity_identity::{SasToken, Timestamp};

    use super::*;

    fn group_key() -> SharedAccessKey {
        SharedAccessKey::from_bytes((0..32).collect()).unwrap()
    }

    fn key(device: &Device) -> &SharedAccessKey {
        match &device.key {
            Credential::Key(key) => key,
            other => panic!("a member of a group has a key, not {other:?}"),
        }
    }

    #[test]
    fn members_have_sorted_names_and_keys_of_their_own() {
        let members = Device::group_members(&group_key(), "sensor-", 12, &"0ne00000000".parse().unwrap()).unwrap();
        let names: Vec<_> = members.iter().map(|device| device.registration_id.as_str()).collect();
        assert_eq!((names[0], names[11]), ("sensor-01", "sensor-12"));
        assert_ne!(key(&members[0]).expose_bytes(), key(&members[1]).expose_bytes());
        assert!(Device::group_members(&group_key(), "no/slash", 1, &"0ne1".parse().unwrap()).is_err());
    }

    #[tokio::test]
    async fn both_logins_carry_tokens_that_the_service_would_take() {
        let env = Environment::new(|| Timestamp(1_000_000), || [1; 32]);
        let device = Device::of_group(&group_key(), "dev-1".parse().unwrap(), "0ne00000000".parse().unwrap());

        let login = device.provisioning_login(&env, Duration::ZERO).await.unwrap();
        let token = SasToken::parse(login.password.as_deref().unwrap()).unwrap();
        assert!(token.verify(key(&device)) && token.is_for_registration("0ne00000000", "dev-1"));
        assert_eq!(token.expiry_seconds(), 1000 + TOKEN_SECONDS);
        assert_eq!(login.client_id, "dev-1");

        let device_id = "Dev#1".parse().unwrap();
        let login =
            hub_login("hub.example", &device_id, &device.key, TOKEN_SECONDS, &env, Duration::ZERO).await.unwrap();
        let token = SasToken::parse(login.password.as_deref().unwrap()).unwrap();
        assert!(token.verify(key(&device)) && token.is_for_device("hub.example", "Dev#1", None));
        assert_eq!(login.client_id, "Dev#1");
        assert!(!format!("{login:?}").contains(&login.password.unwrap()), "a password was printed");
    }

    #[tokio::test]
    async fn a_certificate_needs_no_password() {
        let env = Environment::new(|| Timestamp(1_000_000), || [1; 32]);
        let own = rcgen::generate_simple_self_signed(["dev-1".to_owned()]).unwrap();
        let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let certificate = crate::DeviceCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let device = Device {
            registration_id: "dev-1".parse().unwrap(),
            key: certificate.into(),
            id_scope: "0ne00000000".parse().unwrap(),
        };
        let login = device.provisioning_login(&env, Duration::ZERO).await.unwrap();
        assert!(
            login.password.is_none() && login.user_name.starts_with("0ne00000000/registrations/dev-1/api-version=")
        );
        let login =
            hub_login("hub.example", &"dev-1".parse().unwrap(), &device.key, TOKEN_SECONDS, &env, Duration::ZERO)
                .await
                .unwrap();
        assert!(login.password.is_none() && login.user_name.starts_with("hub.example/dev-1/?api-version="));
    }
}
