//! Service policies: who may call which API, by which key.

use serde_json::{Map, Value, json};
use unicity_api::{HubPolicy, ServicePolicies, ServicePolicy};
use unicity_identity::HubName;

use super::names::Names;
use crate::datadir::{DataDir, write_private};
use crate::error::{Context as _, Outcome};
use crate::instance::Instance;

const DPS: &str = "dps";
const DPS_OWNER: &str = "provisioningserviceowner";

/// The audience that a hub's keys are derived for.
fn hub_audience(name: &HubName) -> String {
    format!("hub/{name}")
}

/// All policies, with the keys that are derived for them.
pub(crate) fn all(instance: &Instance, names: &Names) -> Outcome<ServicePolicies> {
    let keys = |audience: &str, policy: &str| {
        (instance.service_key(audience, policy, "primary"), instance.service_key(audience, policy, "secondary"))
    };
    let (primary, secondary) = keys(DPS, DPS_OWNER);
    let mut policies = vec![ServicePolicy::dps_owner(primary, secondary)];
    for hub in names.hubs.iter() {
        for policy in HubPolicy::ALL {
            let (primary, secondary) = keys(&hub_audience(&hub.name), policy.name());
            policies.push(ServicePolicy::of_hub(hub.name.clone(), policy, primary, secondary));
        }
    }
    ServicePolicies::new(policies).context("the service policies")
}

/// Writes `connection-strings.json`, which the command line and back ends use.
pub(crate) fn write_connection_strings(data: &DataDir, instance: &Instance, names: &Names) -> Outcome {
    let string = |host: &str, audience: &str, policy: &str| {
        let key = instance.service_key(audience, policy, "primary");
        format!("HostName={host};SharedAccessKeyName={policy};SharedAccessKey={}", &*key.expose_base64())
    };
    let hubs: Map<String, Value> = names
        .hubs
        .iter()
        .map(|hub| {
            let text = string(hub.host.as_str(), &hub_audience(&hub.name), HubPolicy::IotHubOwner.name());
            (hub.name.to_string(), Value::String(text))
        })
        .collect();
    let file = json!({
        "id_scope": instance.id_scope,
        "dps": string(&names.service, DPS, DPS_OWNER),
        "hubs": hubs,
    });
    let text = serde_json::to_vec_pretty(&file).context("the connection strings")?;
    write_private(&data.connection_strings(), &text)
}
