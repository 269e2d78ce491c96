//! Service policies: where their keys come from, and the file that the command line and back ends take them from.

use serde_json::{Map, Value, json};
use unicity_api::{Audience, PolicyKeys, ServicePolicies};
use unicity_identity::{AccessPolicy, HubDirectory, SharedAccessKey};

use super::names::Names;
use crate::datadir::{DataDir, write_private};
use crate::error::{Context as _, Outcome};
use crate::instance::{Instance, ServiceKeys};

/// Keys and names of this server.
pub(crate) struct Keys {
    data: DataDir,
    id_scope: String,
    service: String,
    hubs: HubDirectory,
    keys: ServiceKeys,
}

impl Keys {
    pub(crate) fn new(data: &DataDir, instance: &Instance, names: &Names) -> Self {
        Self {
            data: data.clone(),
            id_scope: instance.id_scope.to_string(),
            service: names.service.clone(),
            hubs: names.hubs.clone(),
            keys: instance.service_keys(),
        }
    }

    /// Writes `connection-strings.json`, which the command line and back ends use: the owner of each place, with its primary key.
    pub(crate) fn write(&self, policies: &ServicePolicies) -> Outcome {
        let string = |audience: Audience| {
            let host = self.host(&audience)?;
            let policy = policies.owner(&audience)?;
            let key = policy.primary.expose_base64();
            Some(format!("HostName={host};SharedAccessKeyName={};SharedAccessKey={}", policy.name, &*key))
        };
        let of_hubs = self.hubs.iter().filter_map(|hub| {
            let text = string(Audience::Hub(hub.name.clone()))?;
            Some((hub.name.to_string(), Value::String(text)))
        });
        let hubs: Map<String, Value> = of_hubs.collect();
        let file = json!({"id_scope": self.id_scope, "dps": string(Audience::Dps), "hubs": hubs});
        let text = serde_json::to_vec_pretty(&file).context("the connection strings")?;
        write_private(&self.data.connection_strings(), &text)
    }
}

/// Writes that file for a server that was just made: all policies are as they are built in.
pub(crate) fn write_first_connection_strings(data: &DataDir, instance: &Instance, names: &Names) -> Outcome {
    let keys = Keys::new(data, instance, names);
    keys.write(&ServicePolicies::of_registry(&[], &names.hubs, &keys))
}

impl PolicyKeys for Keys {
    fn keys(&self, policy: &AccessPolicy) -> (SharedAccessKey, SharedAccessKey) {
        let audience = match &policy.audience {
            Audience::Dps => "dps".to_owned(),
            Audience::Hub(name) => format!("hub/{name}"),
        };
        self.keys.pair(&audience, policy.name.as_str(), policy.generation)
    }

    fn host(&self, audience: &Audience) -> Option<String> {
        match audience {
            Audience::Dps => Some(self.service.clone()),
            Audience::Hub(name) => self.hubs.by_name(name).map(|hub| hub.host.to_string()),
        }
    }

    fn changed(&self, policies: &ServicePolicies) {
        if let Err(error) = self.write(policies) {
            tracing::error!(%error, "connection-strings.json still has the keys of before; the next start writes it anew");
        }
    }
}
