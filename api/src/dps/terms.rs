//! What individual enrollments and groups have in common, as a request's body gives it (`service-rest.md` 3.1 to 3.3).
//!
//! Taken: `attestation`, `capabilities.iotEdge`, `provisioningStatus`, `reprovisionPolicy`, `allocationPolicy`,
//! `customAllocationDefinition`, `iotHubs`, `iotHubHostName`, `initialTwin`, and our extensions `stickyBy` and `payload`: free JSON for
//! the device's `assigned` answer.
//! Known and let pass, since clients send back what they were given: `registrationState`, `createdDateTimeUtc`,
//! `lastUpdatedDateTimeUtc`, `etag` (the header `If-Match` counts), `credentialPolicyName`.

use serde::Deserialize;
use serde_json::Value;
use unicity_identity::enrollment::{AllocationPolicy, EnrollmentTerms, ReprovisionPolicy};
use unicity_identity::json::JsonText;
use unicity_identity::{ClientIdentity, Entropy, GenerationId, HubHost, ProvisioningStatus, Refusal, Timestamp, Twin};
use unicity_provisioning::registry::TermsDraft;

use super::allocation::{self, AllocationBody};
use super::attestation::{self, AttestationBody, Given, Scope};
use super::members;
use crate::api::Shared;
use crate::failure::Failure;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TermsBody {
    attestation: Option<AttestationBody>,
    capabilities: Option<CapabilitiesBody>,
    provisioning_status: Option<String>,
    reprovision_policy: Option<ReprovisionBody>,
    iot_hubs: Option<Vec<String>>,
    iot_hub_host_name: Option<String>,
    initial_twin: Option<Value>,
    payload: Option<Value>,
    clone_policy: Option<String>,
}

/// `capabilities` of enrollments and devices.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CapabilitiesBody {
    pub(crate) iot_edge: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReprovisionBody {
    update_hub_assignment: Option<bool>,
    migrate_device_data: Option<bool>,
}

/// A word of a closed set, compared without case (`service-rest.md` 3.1).
pub(crate) fn word<T: Clone>(name: &str, text: &str, words: &[(&str, T)]) -> Result<T, Failure> {
    words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim())).map(|(_, value)| value.clone()).ok_or_else(
        || {
            let shown: String = text.chars().take(40).collect();
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            Failure::invalid(name, format!("it is {shown:?}; allowed are {}", words.join(", ")))
        },
    )
}

/// Free JSON within a limit. `null` is none.
pub(crate) fn free_json(name: &'static str, value: Option<Value>, max: usize) -> Result<Option<JsonText>, Failure> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let text = JsonText::from_value(&value);
    if text.as_str().len() > max {
        return Err(Refusal::TooLarge { what: name, length: text.as_str().len(), max }.into());
    }
    Ok(Some(text))
}

/// Reads the terms of a body. `stored` is what an update replaces: an attestation that the body leaves out comes from it.
///
/// # Errors
/// 400 with the member and what is wrong with it; 413 for free JSON above its limit.
pub(super) fn draft(
    shared: &Shared,
    body: &Value,
    scope: Scope,
    stored: Option<&EnrollmentTerms>,
    is_update: bool,
    entropy: &mut Entropy,
) -> Result<TermsDraft, Failure> {
    let allocation_body: AllocationBody = members(body)?;
    let body: TermsBody = members(body)?;
    let stored_policy = stored.and_then(|stored| stored.clone_policy);
    let stored_allocation = stored.and_then(|stored| stored.allocation.as_ref());
    let stored = stored.map(|stored| &stored.attestation);
    let Given { attestation, given } = attestation::read(shared, body.attestation, scope, stored, is_update, entropy)?;
    let webhook_hosts = &shared.provisioning.settings().allocation.webhook_hosts;
    let allocation = allocation::read(webhook_hosts, allocation_body, stored_allocation)?;
    let (hubs, allocation) = hubs(body.iot_hubs, body.iot_hub_host_name, allocation)?;
    let status = match body.provisioning_status.as_deref().filter(|text| !text.is_empty()) {
        None => ProvisioningStatus::Enabled,
        Some(text) => word(
            "provisioningStatus",
            text,
            &[("enabled", ProvisioningStatus::Enabled), ("disabled", ProvisioningStatus::Disabled)],
        )?,
    };
    if body.initial_twin.as_ref().is_some_and(|twin| !twin.is_object() && !twin.is_null()) {
        return Err(Failure::invalid("initialTwin", "it is not a JSON object".into()));
    }
    let initial_twin = free_json("initialTwin", body.initial_twin, shared.settings.free_json_bytes_max)?;
    if let Some(twin) = &initial_twin {
        check_initial_twin(twin)?;
    }
    let payload_max = shared.provisioning.settings().payload_bytes_max;
    Ok(TermsDraft {
        terms: EnrollmentTerms {
            attestation,
            status,
            allocation,
            hubs,
            reprovision: body.reprovision_policy.map(|policy| ReprovisionPolicy {
                update_hub_assignment: policy.update_hub_assignment.unwrap_or(true),
                migrate_device_data: policy.migrate_device_data.unwrap_or(true),
            }),
            iot_edge: body.capabilities.and_then(|capabilities| capabilities.iot_edge).unwrap_or(false),
            initial_twin,
            payload: free_json("payload", body.payload, payload_max)?,
            clone_policy: match body.clone_policy {
                // A service SDK drops members that it does not know: what is left out stays as it was.
                None => stored_policy,
                Some(text) if text.is_empty() => None,
                Some(text) => Some(text.parse().map_err(|why| Failure::invalid("clonePolicy", why))?),
            },
        },
        keys_given: given,
    })
}

/// A twin that breaks the rules would only be missed at the device's first boot, far away from whoever wrote the enrollment.
fn check_initial_twin(initial: &JsonText) -> Result<(), Failure> {
    let device = Twin::new(
        ClientIdentity { hub: super::parse_id("any")?, device_id: super::parse_id("any")?, module_id: None },
        GenerationId(0),
        Timestamp::default(),
    );
    match device.with_initial(initial, Timestamp::default()) {
        Err(Refusal::Invalid { what, why }) => Err(Failure::invalid(format!("initialTwin.{what}"), why)),
        other => Ok(other.map(drop)?),
    }
}

/// The hubs to choose among. `iotHubHostName` is the form of 2018: one hub, statically; `iotHubs` counts before it.
fn hubs(
    listed: Option<Vec<String>>,
    legacy: Option<String>,
    allocation: Option<AllocationPolicy>,
) -> Result<(Vec<HubHost>, Option<AllocationPolicy>), Failure> {
    let parse =
        |name: &str, text: &str| text.parse::<HubHost>().map_err(|error| Failure::invalid(name, error.to_string()));
    let listed = listed.unwrap_or_default();
    if listed.len() > 50 {
        return Err(Failure::invalid("iotHubs", format!("{} hubs are named, at most 50 are allowed", listed.len())));
    }
    match legacy.filter(|text| !text.is_empty()) {
        Some(host) if listed.is_empty() => {
            Ok((vec![parse("iotHubHostName", &host)?], Some(allocation.unwrap_or(AllocationPolicy::Static))))
        }
        _ => {
            let hubs = listed.iter().map(|host| parse("iotHubs", host)).collect::<Result<_, _>>()?;
            Ok((hubs, allocation))
        }
    }
}
