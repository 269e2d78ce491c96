//! Keys and tokens by hand: `device-key` and `sas`. Neither needs a server.

use clap::Args;
use serde_json::{Value, json};
use unicity_identity::{SasToken, SharedAccessKey, derive_device_key};

use super::{Global, output};
use crate::client::{Audience, ConnectionString, own_connection};
use crate::clock;
use crate::datadir::DataDir;
use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Args)]
pub(crate) struct DeviceKeyArgs {
    /// The group's key, base64.
    #[arg(long, value_name = "B64")]
    group_key: String,
    /// The device's registration id.
    #[arg(long, value_name = "ID")]
    registration_id: String,
}

/// Prints the key that a group's member derives from its registration id.
pub(crate) fn device_key(global: &Global, args: &DeviceKeyArgs) -> Outcome {
    let group_key = SharedAccessKey::from_base64(&args.group_key).context("--group-key")?;
    let id: unicity_identity::RegistrationId = args.registration_id.parse().context("--registration-id")?;
    let key = derive_device_key(&group_key, id.as_str());
    if global.json {
        output::json(&json!({"registrationId": id, "deviceKey": *key.expose_base64()}))
    } else {
        output::line(&key.expose_base64())
    }
}

#[derive(Debug, Args)]
pub(crate) struct SasArgs {
    /// The key to sign with, base64; without it, the key of --connection-string signs, or the service's of --data.
    #[arg(long, value_name = "B64", requires = "resource")]
    key: Option<String>,
    /// What the token is for: `{idScope}/registrations/{id}`, `{host}/devices/{id}`, or a service's host.
    #[arg(long, value_name = "R")]
    resource: Option<String>,
    /// How long the token lives.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    ttl: u64,
    /// The policy's name (`skn`).
    #[arg(long, value_name = "NAME")]
    skn: Option<String>,
    /// A token for this hub's service API, of --data.
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    hub: Option<String>,
}

/// Prints a SAS token.
pub(crate) fn sas(global: &Global, args: &SasArgs) -> Outcome {
    let (key, resource, policy) = match (&args.key, &global.connection_string) {
        (Some(key), _) => {
            let key = SharedAccessKey::from_base64(key).context("--key")?;
            let resource = args.resource.clone().ok_or_else(|| CommandError::usage("--key needs --resource"))?;
            (key, resource, args.skn.clone())
        }
        (None, Some(text)) => {
            let connection = ConnectionString::parse(text)?;
            let resource = args.resource.clone().unwrap_or_else(|| connection.resource());
            (connection.key, resource, args.skn.clone().or(connection.policy))
        }
        (None, None) => {
            let path = DataDir::new(&global.data).connection_strings();
            let Ok(text) = std::fs::read(&path) else {
                return Err(CommandError::usage("nothing to sign with")
                    .hint("give --key with --resource, --connection-string, or the server's --data"));
            };
            let strings: Value = serde_json::from_slice(&text).context(format!("{} is damaged", path.display()))?;
            let audience = args.hub.clone().map_or(Audience::Dps, |name| Audience::Hub(Some(name)));
            let (connection, _) = own_connection(&strings, &audience, &path)?;
            let resource = args.resource.clone().unwrap_or_else(|| connection.resource());
            (connection.key, resource, args.skn.clone().or(connection.policy))
        }
    };
    let expiry = clock::now().unix_seconds().saturating_add(args.ttl);
    let token = SasToken::create(&key, &resource, expiry, policy.as_deref());
    if global.json {
        output::json(&json!({"token": token, "resource": resource, "expiry": expiry}))
    } else {
        output::line(&token)
    }
}
