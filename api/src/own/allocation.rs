//! The service's allocation policy: that of enrollments that name none.

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use unicity_identity::enrollment::{AllocationPolicy, StickyBy};
use unicity_provisioning::Command;

use crate::api::{Proven, Shared};
use crate::body::{ApiBody, json as json_answer, no_content};
use crate::dps::{members, parse_json};
use crate::failure::Failure;

/// A policy as a body names it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyBody {
    allocation_policy: Option<String>,
    sticky_by: Option<String>,
}

impl PolicyBody {
    /// The policy, if one is named.
    pub(super) fn policy(&self) -> Result<Option<AllocationPolicy>, Failure> {
        let refused = |why: &str| Failure::invalid("allocationPolicy", why.into());
        let Some(name) = &self.allocation_policy else {
            return match &self.sticky_by {
                Some(_) => Err(refused("it is missing, and stickyBy goes with \"sticky\"")),
                None => Ok(None),
            };
        };
        if name == "sticky" {
            let by = self.sticky_by.as_deref().unwrap_or_default();
            let by = by.parse::<StickyBy>().map_err(|why| Failure::invalid("stickyBy", why))?;
            return Ok(Some(AllocationPolicy::Sticky(by)));
        }
        if self.sticky_by.is_some() {
            return Err(refused("stickyBy goes with \"sticky\" only"));
        }
        match name.as_str() {
            "hashed" => Ok(Some(AllocationPolicy::Hashed)),
            "static" => Ok(Some(AllocationPolicy::Static)),
            "geoLatency" => Ok(Some(AllocationPolicy::GeoLatency)),
            "leastLoaded" => Ok(Some(AllocationPolicy::LeastLoaded)),
            "custom" => Err(refused("a function can be asked for an enrollment only, as at Azure; name it there")),
            _ => Err(refused("it is hashed, static, geoLatency, leastLoaded or sticky")),
        }
    }
}

/// Adds the members of [`PolicyBody`].
pub(super) fn show(policy: &AllocationPolicy, shown: &mut Value) {
    shown["allocationPolicy"] = json!(policy.as_str());
    if let AllocationPolicy::Sticky(by) = policy {
        shown["stickyBy"] = json!(by.to_string());
    }
}

/// The policy in force, and whether an operator set it.
pub(super) fn get(shared: &Shared) -> Result<Response<ApiBody>, Failure> {
    let stored = shared.provisioning.registry().default_policy()?;
    let mut shown = json!({"setBy": if stored.is_some() { "operator" } else { "configuration" }});
    show(stored.as_ref().unwrap_or(&shared.provisioning.settings().allocation.policy), &mut shown);
    Ok(json_answer(StatusCode::OK, &shown))
}

pub(super) async fn put(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let body: PolicyBody = members(&parse_json(&proven.body)?)?;
    let policy = body.policy()?;
    let policy = policy.ok_or_else(|| Failure::invalid("allocationPolicy", "it is missing".into()))?;
    let _turn = shared.hub_turn.lock().await;
    if shared.provisioning.registry().default_policy()?.as_ref() != Some(&policy) {
        let command = Command::SetDefaultPolicy(Some(policy));
        shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    }
    get(shared)
}

/// That of the configuration counts again.
pub(super) async fn delete(shared: &Shared, proven: &Proven) -> Result<Response<ApiBody>, Failure> {
    let _turn = shared.hub_turn.lock().await;
    if shared.provisioning.registry().default_policy()?.is_some() {
        let command = Command::SetDefaultPolicy(None);
        shared.submit(command, &proven.principal, &mut shared.environment.entropy()).await?;
    }
    Ok(no_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_named_and_shown_alike() {
        for (body, good) in [
            (json!({"allocationPolicy": "hashed"}), true),
            (json!({"allocationPolicy": "leastLoaded"}), true),
            (json!({"allocationPolicy": "sticky", "stickyBy": "batch"}), true),
            (json!({"allocationPolicy": "sticky", "stickyBy": "tag:site.building"}), true),
            (json!({"allocationPolicy": "sticky"}), false),
            (json!({"allocationPolicy": "sticky", "stickyBy": "tag:"}), false),
            (json!({"allocationPolicy": "sticky", "stickyBy": "tag:a..b"}), false),
            (json!({"allocationPolicy": "hashed", "stickyBy": "batch"}), false),
            (json!({"stickyBy": "batch"}), false),
            (json!({"allocationPolicy": "custom"}), false),
            (json!({"allocationPolicy": "Hashed"}), false),
        ] {
            let parsed = PolicyBody::deserialize(&body).unwrap().policy();
            assert_eq!(parsed.is_ok(), good, "{body}");
            if let Ok(Some(policy)) = parsed {
                let mut shown = json!({});
                show(&policy, &mut shown);
                assert_eq!(shown, body);
            }
        }
    }
}
