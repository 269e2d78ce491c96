//! Enrollments as JSON (`service-rest.md` 3.1 to 3.3). What is not set is left out: .NET fails on an explicit `null` date, and keys are
//! never shown here.

use serde_json::{Map, Value, json};
use unicity_identity::enrollment::EnrollmentTerms;
use unicity_identity::{
    ETag, EnrollmentGroup, EnrollmentRef, HubDirectory, IndividualEnrollment, ProvisioningStatus, Registration,
    Timestamp,
};
use unicity_provisioning::Provisioning;
use unicity_provisioning::answer::registration_state;
use unicity_provisioning::registry::Fault;

use super::{allocation, attestation};

/// An enrollment as GET answers it, without keys and notes of revocation; `None`: there is none.
///
/// # Errors
/// [`Fault`] if state could not be read.
pub fn enrollment(provisioning: &Provisioning, enrollment: &EnrollmentRef) -> Result<Option<Value>, Fault> {
    let registry = provisioning.registry();
    Ok(match enrollment {
        EnrollmentRef::Group(id) => registry.group(id)?.as_ref().map(group),
        EnrollmentRef::Individual(id) => match registry.individual(id)? {
            Some(found) => Some(individual(&found, registry.registration(id)?.as_ref(), &*provisioning.hubs()?)),
            None => None,
        },
    })
}

/// An individual enrollment, with the state of its registration if there is one.
pub(crate) fn individual(
    enrollment: &IndividualEnrollment,
    registration: Option<&Registration>,
    hubs: &HubDirectory,
) -> Value {
    let mut out = Map::new();
    out.insert("registrationId".into(), json!(enrollment.registration_id));
    if let Some(device_id) = &enrollment.device_id {
        out.insert("deviceId".into(), json!(device_id));
    }
    let own = EnrollmentRef::Individual(enrollment.registration_id.clone());
    if let Some(registration) = registration.filter(|registration| registration.enrollment == own) {
        out.insert("registrationState".into(), registration_state(registration, hubs, false));
    }
    if let Some(information) = &enrollment.optional_device_information {
        out.insert("optionalDeviceInformation".into(), information.to_value());
    }
    if let Some(batch) = &enrollment.batch {
        out.insert("batch".into(), json!(batch));
    }
    terms(&mut out, &enrollment.terms, enrollment.etag, enrollment.created, enrollment.updated);
    Value::Object(out)
}

/// A group.
pub(super) fn group(group: &EnrollmentGroup) -> Value {
    let mut out = Map::new();
    out.insert("enrollmentGroupId".into(), json!(group.group_id));
    terms(&mut out, &group.terms, group.etag, group.created, group.updated);
    Value::Object(out)
}

fn terms(out: &mut Map<String, Value>, terms: &EnrollmentTerms, etag: ETag, created: Timestamp, updated: Timestamp) {
    out.insert("attestation".into(), attestation::show(&terms.attestation));
    out.insert("capabilities".into(), json!({"iotEdge": terms.iot_edge}));
    if let Some(twin) = &terms.initial_twin {
        out.insert("initialTwin".into(), twin.to_value());
    }
    // The quotes are part of the value (service-rest.md 2.4), so that a raw echo is a legal If-Match.
    out.insert("etag".into(), json!(format!("\"{etag}\"")));
    let status = match terms.status {
        ProvisioningStatus::Enabled => "enabled",
        ProvisioningStatus::Disabled => "disabled",
    };
    out.insert("provisioningStatus".into(), json!(status));
    if let Some(policy) = terms.reprovision {
        out.insert(
            "reprovisionPolicy".into(),
            json!({
                "updateHubAssignment": policy.update_hub_assignment,
                "migrateDeviceData": policy.migrate_device_data,
            }),
        );
    }
    if let Some(policy) = &terms.allocation {
        allocation::show(out, policy);
    }
    if !terms.hubs.is_empty() {
        out.insert("iotHubs".into(), json!(terms.hubs));
    }
    if let Some(policy) = terms.clone_policy {
        out.insert("clonePolicy".into(), json!(policy));
    }
    if let Some(payload) = &terms.payload {
        out.insert("payload".into(), payload.to_value());
    }
    out.insert("createdDateTimeUtc".into(), json!(created.to_string()));
    out.insert("lastUpdatedDateTimeUtc".into(), json!(updated.to_string()));
}
