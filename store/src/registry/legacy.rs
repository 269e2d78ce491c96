//! Values of earlier formats, brought to today's when they are read; they are written anew as their records change.

use serde::Deserialize;
use unicity_identity::enrollment::{AllocationPolicy, EnrollmentTerms, ReprovisionPolicy};
use unicity_identity::json::JsonText;
use unicity_identity::{
    Attestation, BatchLabel, DeviceId, ETag, EnrollmentGroup, EnrollmentGroupId, HubHost, IndividualEnrollment,
    ProvisioningStatus, RegistrationId, Timestamp,
};

use unicity_provisioning::Actor;
use unicity_provisioning::import::{ImportCounts, ImportRecord, ImportState};

use super::tables::Table;

/// Format 1 had no clone policy.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Terms1 {
    attestation: Attestation,
    status: ProvisioningStatus,
    allocation: Option<AllocationPolicy>,
    hubs: Vec<HubHost>,
    reprovision: Option<ReprovisionPolicy>,
    iot_edge: bool,
    initial_twin: Option<JsonText>,
    payload: Option<JsonText>,
}

impl From<Terms1> for EnrollmentTerms {
    fn from(old: Terms1) -> Self {
        Self {
            attestation: old.attestation,
            status: old.status,
            allocation: old.allocation,
            hubs: old.hubs,
            reprovision: old.reprovision,
            iot_edge: old.iot_edge,
            initial_twin: old.initial_twin,
            payload: old.payload,
            clone_policy: None,
        }
    }
}

/// Format 1 had no batch.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Individual1 {
    registration_id: RegistrationId,
    device_id: Option<DeviceId>,
    optional_device_information: Option<JsonText>,
    terms: Terms1,
    etag: ETag,
    created: Timestamp,
    updated: Timestamp,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Group1 {
    group_id: EnrollmentGroupId,
    terms: Terms1,
    etag: ETag,
    created: Timestamp,
    updated: Timestamp,
}

/// Format 1 had no manifest.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Import1 {
    number: u32,
    key: String,
    batch: BatchLabel,
    partial: bool,
    by: Actor,
    begun: Timestamp,
    ended: Option<Timestamp>,
    state: ImportState,
    counts: ImportCounts,
    swept: bool,
}

/// A value of format 1 as today's; `None` if the table's values have not changed since, or it does not decode.
pub(super) fn upgrade(table: Table, bytes: &[u8]) -> Option<Vec<u8>> {
    let upgraded = match table {
        Table::Individuals => {
            let old: Individual1 = postcard::from_bytes(bytes).ok()?;
            postcard::to_stdvec(&IndividualEnrollment {
                registration_id: old.registration_id,
                device_id: old.device_id,
                optional_device_information: old.optional_device_information,
                batch: None,
                terms: old.terms.into(),
                etag: old.etag,
                created: old.created,
                updated: old.updated,
            })
        }
        Table::Groups => {
            let old: Group1 = postcard::from_bytes(bytes).ok()?;
            postcard::to_stdvec(&EnrollmentGroup {
                group_id: old.group_id,
                terms: old.terms.into(),
                etag: old.etag,
                created: old.created,
                updated: old.updated,
            })
        }
        Table::Imports => {
            let old: Import1 = postcard::from_bytes(bytes).ok()?;
            postcard::to_stdvec(&ImportRecord {
                number: old.number,
                key: old.key,
                batch: old.batch,
                partial: old.partial,
                by: old.by,
                begun: old.begun,
                ended: old.ended,
                state: old.state,
                counts: old.counts,
                swept: old.swept,
                manifest: None,
            })
        }
        _ => return None,
    };
    upgraded.ok()
}

#[cfg(test)]
mod tests {
    use unicity_identity::ETag;

    use super::*;
    use crate::registry::tables::decode;

    #[test]
    fn an_import_of_format_1_is_still_read() {
        let old = Import1 {
            number: 7,
            key: "k".into(),
            batch: "lot".parse().unwrap(),
            partial: true,
            by: Actor::Server,
            begun: Timestamp(1),
            ended: Some(Timestamp(2)),
            state: ImportState::Complete,
            counts: ImportCounts { rows: 3, ..ImportCounts::default() },
            swept: true,
        };
        let bytes = [&[1], postcard::to_stdvec(&old).unwrap().as_slice()].concat();
        let import: ImportRecord = decode(Table::Imports, &bytes).unwrap();
        assert_eq!((import.number, import.counts.rows, import.swept, import.manifest), (7, 3, true, None));
    }

    #[test]
    fn a_group_of_format_1_is_still_read() {
        let old = Group1 {
            group_id: "line-7".parse().unwrap(),
            terms: Terms1 {
                attestation: Attestation::Tpm {
                    endorsement_key: vec![1, 2],
                    key: unicity_identity::KeyFingerprint([7; 32]),
                    storage_root_key: None,
                },
                status: ProvisioningStatus::Disabled,
                allocation: Some(AllocationPolicy::Static),
                hubs: vec!["hub.example".parse().unwrap()],
                reprovision: None,
                iot_edge: true,
                initial_twin: None,
                payload: None,
            },
            etag: ETag([9; 16]),
            created: Timestamp(1),
            updated: Timestamp(2),
        };
        let bytes = [&[1], postcard::to_stdvec(&old).unwrap().as_slice()].concat();
        let group: EnrollmentGroup = decode(Table::Groups, &bytes).unwrap();
        assert_eq!((group.group_id, group.etag, group.updated), (old.group_id, ETag([9; 16]), Timestamp(2)));
        assert_eq!(group.terms.status, ProvisioningStatus::Disabled);
        assert_eq!(group.terms.clone_policy, None);
        assert!(decode::<EnrollmentGroup>(Table::Groups, &[3, 0]).is_err());
    }
}
