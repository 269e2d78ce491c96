//! Individual enrollments as an import reads them: what goes in again comes out again, byte for byte.

use serde_json::Value;
use unicity_identity::IndividualEnrollment;

use super::{FileFormat, columns};
use crate::api::{Api, Shared};
use crate::dps;
use crate::failure::Failure;

/// Enrollments of one page.
const PAGE: usize = 500;
/// What the server makes itself, or what follows from the rest.
const LEFT_OUT: [&str; 4] = ["etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "registrationState"];

/// The next part of an export, and the id after which to go on; `None`: that was all.
pub(crate) type Part = (Vec<u8>, Option<unicity_identity::RegistrationId>);

/// The header of an export.
pub(crate) fn head(format: FileFormat) -> Vec<u8> {
    match format {
        FileFormat::Csv => record(columns::header()),
        FileFormat::Ndjson => Vec::new(),
    }
}

/// A part of an export, with or without symmetric keys.
pub(crate) fn part(
    shared: &Shared,
    format: FileFormat,
    batch: Option<&str>,
    keys: bool,
    after: Option<&unicity_identity::RegistrationId>,
) -> Result<Part, Failure> {
    let page = shared.provisioning.registry().list_individuals(after, PAGE)?;
    let mut out = Vec::new();
    for enrollment in &page.items {
        if batch.is_some_and(|batch| enrollment.batch.as_ref().is_none_or(|label| label.as_str() != batch)) {
            continue;
        }
        let body = body(shared, enrollment, keys)?;
        match format {
            FileFormat::Ndjson => {
                out.extend_from_slice(body.to_string().as_bytes());
                out.push(b'\n');
            }
            FileFormat::Csv => out.extend(record(columns::fields(&body))),
        }
    }
    let next = page.items.last().filter(|_| page.more).map(|last| last.registration_id.clone());
    Ok((out, next))
}

fn body(shared: &Shared, enrollment: &IndividualEnrollment, keys: bool) -> Result<Value, Failure> {
    let mut body = dps::show_individual(enrollment, None, shared.provisioning.hubs()?.as_ref());
    if keys {
        body["attestation"] = dps::show_with_keys(shared, &enrollment.terms.attestation)?;
    }
    let Some(members) = body.as_object_mut() else { return Ok(body) };
    LEFT_OUT.iter().for_each(|name| drop(members.remove(*name)));
    members.entry("batch").or_insert(Value::Null);
    for name in ["primary", "secondary"] {
        let slot = members.get_mut("attestation").and_then(|it| it.pointer_mut("/x509/clientCertificates"));
        if let Some(Value::Object(slot)) = slot.and_then(|slots| slots.get_mut(name)) {
            slot.remove("info");
        }
    }
    Ok(body)
}

fn record<T: AsRef<[u8]>>(fields: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    // A vector takes everything.
    let _ = writer.write_record(fields);
    writer.into_inner().unwrap_or_default()
}

/// A whole export at once; for measurements and tests.
///
/// # Errors
/// What could not be read.
pub fn exported(api: &Api, format: FileFormat, keys: bool) -> Result<Vec<u8>, String> {
    let mut out = head(format);
    let mut after = None;
    loop {
        let (part, next) =
            part(&api.0, format, None, keys, after.as_ref()).map_err(|failure| failure.cause().to_string())?;
        out.extend(part);
        match next {
            Some(next) => after = Some(next),
            None => return Ok(out),
        }
    }
}
