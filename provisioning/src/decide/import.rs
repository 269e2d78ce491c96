//! Factory imports: their beginning and end, and the rules for a row.

use unicity_identity::error::{KeyOwner, Subject};
use unicity_identity::{Facets, IndividualEnrollment, Refusal, Timestamp};

use super::enroll::{check_hubs, check_not_revoked, declared};
use super::keys::device_of;
use crate::import::{ImportCounts, ImportDraft, ImportEnd, ImportRecord, ImportRow, ImportState};
use crate::leaf::LeafEvent;
use crate::registry::{Actor, IndividualDraft, RegistryError, RegistryView};
use crate::service::{Settings, UnicityMode};

fn invalid(what: &str, why: String) -> RegistryError {
    Refusal::Invalid { what: what.to_owned(), why }.into()
}

/// Begins an import. Its key must be no other's that is pending or complete.
pub(super) fn begin(
    view: &dyn RegistryView,
    draft: ImportDraft,
    actor: &Actor,
    now: Timestamp,
) -> Result<ImportRecord, RegistryError> {
    let imports = view.imports()?;
    let holds = |import: &&ImportRecord| matches!(import.state, ImportState::Pending | ImportState::Complete);
    if let Some(other) = imports.iter().filter(holds).find(|import| import.key == draft.key) {
        return Err(invalid("the idempotency key", format!("it is that of import {}", other.number)));
    }
    let number = imports.last().map_or(0, |last| last.number).saturating_add(1);
    let batch = match draft.batch {
        Some(batch) => batch,
        None => format!("import-{number}").parse().map_err(|error| invalid("batch", format!("{error}")))?,
    };
    Ok(ImportRecord {
        number,
        key: draft.key,
        batch,
        partial: draft.partial,
        by: actor.clone(),
        begun: now,
        ended: None,
        state: ImportState::Pending,
        counts: ImportCounts::default(),
        swept: false,
        manifest: draft.manifest,
    })
}

/// Ends one; what the log says of it.
pub(super) fn end(
    view: &dyn RegistryView,
    number: u32,
    end: ImportEnd,
    now: Timestamp,
) -> Result<(ImportRecord, Option<LeafEvent>), RegistryError> {
    let Some(mut record) = view.import(number)? else {
        return Err(Refusal::NotFound(Subject::Import(number)).into());
    };
    let is_pending = record.state == ImportState::Pending;
    let fits = match &end {
        ImportEnd::Swept => matches!(record.state, ImportState::Refused | ImportState::Abandoned),
        ImportEnd::Complete(_) | ImportEnd::Refused(_) | ImportEnd::Abandoned => is_pending,
    };
    if !fits {
        return Err(invalid(&format!("import {number}"), format!("it is {}", record.state.word())));
    }
    let released = |record: &ImportRecord, abandoned| {
        Some(LeafEvent::ImportReleased { import: number, batch: record.batch.clone(), abandoned })
    };
    let event = match end {
        ImportEnd::Complete(counts) => {
            (record.state, record.counts, record.ended) = (ImportState::Complete, counts, Some(now));
            Some(LeafEvent::ImportCompleted {
                import: number,
                batch: record.batch.clone(),
                rows: record.counts.accepted,
                refused: record.counts.refused,
                root: base64(&record.counts.root),
                sha256: record.counts.content.iter().map(|byte| format!("{byte:02x}")).collect(),
                manifest: record.manifest.clone(),
            })
        }
        ImportEnd::Refused(counts) => {
            (record.state, record.counts, record.ended) = (ImportState::Refused, counts, Some(now));
            released(&record, false)
        }
        ImportEnd::Abandoned => {
            (record.state, record.ended) = (ImportState::Abandoned, Some(now));
            released(&record, true)
        }
        ImportEnd::Swept => {
            record.swept = true;
            None
        }
    };
    Ok((record, event))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The enrollment that a row of an import would be, by the rules of a single one, on what the service has by now. The store
/// looks once more at ids and keys when it reserves them.
///
/// Stricter than a single enrollment in one point: an id that a registration or a hub device bears already is refused, so that
/// no claim to a key can change hands while the import is pending.
///
/// # Errors
/// [`RegistryError::Refused`] with the reason, [`RegistryError::Fault`] if state could not be read.
pub fn check_row(
    view: &dyn RegistryView,
    settings: &Settings,
    draft: IndividualDraft,
    etag: unicity_identity::ETag,
    now: Timestamp,
) -> Result<ImportRow, RegistryError> {
    let id = draft.registration_id;
    check_hubs(view.hubs(&settings.hubs)?.as_ref(), &draft.terms.terms)?;
    let terms = draft.terms.terms;
    let enrollment = IndividualEnrollment {
        registration_id: id.clone(),
        device_id: draft.device_id,
        optional_device_information: draft.optional_device_information,
        batch: draft.batch,
        terms,
        etag,
        created: now,
        updated: now,
    };
    if view.individual(&id)?.is_some() {
        return Err(Refusal::Exists(Subject::Enrollment(id)).into());
    }
    if view.registration(&id)?.is_some()
        || device_of(view, view.hubs(&settings.hubs)?.as_ref(), &id, Some(&enrollment))?.is_some()
    {
        return Err(Refusal::Exists(Subject::Registration(id)).into());
    }
    let declared = declared(&enrollment.terms);
    let keys = declared.keys.clone();
    let facets = Facets { registration: Some(id.clone()), batch: enrollment.batch.clone(), ..declared };
    check_not_revoked(view, &enrollment.terms, None, &facets, || Subject::Enrollment(id.clone()))?;
    for key in &keys {
        let holder = view.key_owner(key)?.filter(|holder| *holder != KeyOwner::Registration(id.clone()));
        if let Some(holder) = holder
            && settings.mode == UnicityMode::Strict
            && !settings.allow_shared.contains(key)
        {
            return Err(Refusal::KeyInUse { fingerprint: *key, holder }.into());
        }
    }
    Ok(ImportRow { enrollment, keys })
}
