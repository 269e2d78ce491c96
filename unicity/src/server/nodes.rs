//! A node among several: whether it registers devices, and whose its hubs' device identities are.

use std::collections::BTreeMap;

use unicity_api::{Audience, Right, ServicePolicies};
use unicity_identity::{AccessPolicyName, HubName};
use unicity_provisioning::Provisioning;

use crate::config::Config;

/// What the linked provisioning service calls for each device: its identity, and its twin.
const ASSIGNER: [Right; 3] = [Right::RegistryRead, Right::RegistryWrite, Right::ServiceConnect];

/// The service as the configuration wants it.
pub(super) fn provisioning(config: &Config, service: Provisioning) -> Provisioning {
    if config.provisioning { service } else { service.without_registrations() }
}

/// The policy that each hub leaves its device identities to.
pub(super) fn assigned_by(config: &Config) -> BTreeMap<HubName, AccessPolicyName> {
    config.hubs.iter().filter_map(|hub| Some((hub.name.clone(), hub.assigned_by.clone()?))).collect()
}

/// What the operator should know of it.
pub(super) struct Notes {
    news: Vec<String>,
    warnings: Vec<String>,
}

/// Looks at the configuration and at the policies that there are.
pub(super) fn notes(config: &Config, policies: &ServicePolicies) -> Notes {
    let mut notes = Notes { news: Vec::new(), warnings: Vec::new() };
    if !config.provisioning {
        notes.news.push(
            "this node serves hubs only: devices that would register here are told to come back, and enrollments are refused \
             (`[server] provisioning = false`)"
                .to_owned(),
        );
    }
    for (hub, policy) in assigned_by(config) {
        notes.news.push(format!("hub {hub} takes device identities from policy {policy} only (`assigned_by`)"));
        let audience = Audience::Hub(hub.clone());
        let remedy = || {
            let rights: Vec<&str> = ASSIGNER.iter().map(|right| right.as_str()).collect();
            format!("`unicity key add {policy} --hub {hub} --rights {}`", rights.join(","))
        };
        match policies.rights(&audience, policy.as_str()) {
            None => notes.warnings.push(format!(
                "hub {hub} has no policy {policy}, so that nobody can hand devices to it; {} makes it",
                remedy()
            )),
            Some(rights) => {
                if let Some(missing) = ASSIGNER.iter().find(|right| !rights.contains(**right)) {
                    notes.warnings.push(format!(
                        "policy {policy} of hub {hub} lacks {}, which handing devices to it needs; {} --replace gives it",
                        missing.as_str(),
                        remedy()
                    ));
                }
            }
        }
    }
    notes
}

impl Notes {
    /// Writes them to the log.
    pub(super) fn tell(&self) {
        for text in &self.news {
            tracing::info!("{text}");
        }
        for text in &self.warnings {
            tracing::warn!("{text}");
        }
    }
}
