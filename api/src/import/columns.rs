//! The columns of a CSV file, and how a record becomes the body of an individual enrollment and back.
//!
//! Names count without case, spaces, `_` and `-`. JSON columns hold JSON text; an empty field is as good as none, but for `batch`:
//! a file that has this column says of each row whether it belongs to a batch.

use serde_json::{Map, Value, json};

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    RegistrationId,
    DeviceId,
    Status,
    PrimaryKey,
    SecondaryKey,
    Certificate,
    SecondaryCertificate,
    EndorsementKey,
    StorageRootKey,
    Batch,
    IotHubs,
    Allocation,
    UpdateHub,
    MigrateData,
    IotEdge,
    InitialTwin,
    Payload,
    Information,
    ClonePolicy,
    StickyBy,
    WebhookUrl,
    WebhookVersion,
}

/// Each with the name that an export writes, and others that are read.
const COLUMNS: [(Column, &str, &[&str]); 22] = [
    (Column::RegistrationId, "registrationId", &["regid", "id", "serial", "serialnumber", "deviceregistrationid"]),
    (Column::DeviceId, "deviceId", &["device", "iothubdeviceid", "hubdeviceid"]),
    (Column::Status, "provisioningStatus", &["status"]),
    (
        Column::PrimaryKey,
        "primaryKey",
        &["symmetrickey", "symmetrickeyprimary", "primarysymmetrickey", "key", "sharedaccesskey"],
    ),
    (Column::SecondaryKey, "secondaryKey", &["symmetrickeysecondary", "secondarysymmetrickey"]),
    (
        Column::Certificate,
        "certificate",
        &["primarycertificate", "clientcertificate", "x509", "x509certificate", "certificatepem", "pem"],
    ),
    (Column::SecondaryCertificate, "secondaryCertificate", &["clientcertificatesecondary"]),
    (Column::EndorsementKey, "endorsementKey", &["ek", "tpmendorsementkey", "ekpub"]),
    (Column::StorageRootKey, "storageRootKey", &["srk", "tpmstoragerootkey"]),
    (Column::Batch, "batch", &["batchlabel", "label", "lot"]),
    (Column::IotHubs, "iotHubs", &["iothub", "hub", "hubs", "iothubhostname"]),
    (Column::Allocation, "allocationPolicy", &["allocation"]),
    (Column::UpdateHub, "updateHubAssignment", &[]),
    (Column::MigrateData, "migrateDeviceData", &[]),
    (Column::IotEdge, "iotEdge", &["edge", "edgeenabled", "isedgedevice"]),
    (Column::InitialTwin, "initialTwin", &["twin"]),
    (Column::Payload, "payload", &["custompayload"]),
    (Column::Information, "optionalDeviceInformation", &["additionaldeviceinformation", "deviceinformation"]),
    (Column::ClonePolicy, "clonePolicy", &[]),
    (Column::StickyBy, "stickyBy", &[]),
    (Column::WebhookUrl, "webhookUrl", &["webhook"]),
    (Column::WebhookVersion, "webhookApiVersion", &[]),
];

fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '_' | '-' | '.')).flat_map(char::to_lowercase).collect()
}

/// Reads a header.
///
/// # Errors
/// The place of the column, from 1 on, and what is wrong with it.
pub(crate) fn read_header<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Column>, (usize, String)> {
    let mut found: Vec<Column> = Vec::new();
    for (at, name) in names.enumerate() {
        let wanted = plain(name);
        let column = COLUMNS.iter().find(|(_, own, others)| plain(own) == wanted || others.contains(&wanted.as_str()));
        let Some((column, own, _)) = column else {
            let shown: String = name.chars().take(40).collect();
            let why = if wanted.contains("thumbprint") {
                "a thumbprint alone enrolls nothing, as it says nothing of the key: give the certificate".to_owned()
            } else {
                let names: Vec<_> = COLUMNS.iter().map(|(_, own, _)| *own).collect();
                format!("there is no column {shown:?}; there are {}", names.join(", "))
            };
            return Err((at + 1, why));
        };
        if found.contains(column) {
            return Err((at + 1, format!("the column {own} is there twice")));
        }
        found.push(*column);
    }
    match found.contains(&Column::RegistrationId) {
        true => Ok(found),
        false => Err((1, "the header has no column registrationId".into())),
    }
}

/// The names that an export writes.
pub(crate) fn header() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|(_, name, _)| *name)
}

/// A record as the body of an individual enrollment.
///
/// # Errors
/// What is wrong, with the column's name.
pub(crate) fn body<'a>(columns: &[Column], fields: impl Iterator<Item = &'a str>) -> Result<Value, String> {
    let mut body = Map::new();
    let (mut symmetric, mut certificates, mut tpm) = (Map::new(), Map::new(), Map::new());
    let (mut reprovision, mut webhook) = (Map::new(), Map::new());
    let text = |field: &str| Value::String(field.to_owned());
    for (column, field) in columns.iter().zip(fields) {
        let name = COLUMNS[*column as usize].1;
        if field.is_empty() && *column != Column::Batch {
            continue;
        }
        let parsed = || serde_json::from_str(field).map_err(|error| format!("{name} is no JSON: {error}"));
        let flag = || match field.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(Value::Bool(true)),
            "false" | "0" | "no" => Ok(Value::Bool(false)),
            _ => Err(format!("{name} is neither true nor false")),
        };
        match column {
            Column::RegistrationId | Column::DeviceId | Column::ClonePolicy | Column::StickyBy => {
                body.insert(name.into(), text(field));
            }
            Column::Status => {
                let status = match field.to_ascii_lowercase().as_str() {
                    "true" | "1" => "enabled",
                    "false" | "0" => "disabled",
                    _ => field,
                };
                body.insert(name.into(), text(status));
            }
            Column::Batch => {
                body.insert(name.into(), if field.is_empty() { Value::Null } else { text(field) });
            }
            Column::PrimaryKey => drop(symmetric.insert("primaryKey".into(), text(field))),
            Column::SecondaryKey => drop(symmetric.insert("secondaryKey".into(), text(field))),
            Column::Certificate => drop(certificates.insert("primary".into(), json!({"certificate": field}))),
            Column::SecondaryCertificate => {
                drop(certificates.insert("secondary".into(), json!({"certificate": field})));
            }
            Column::EndorsementKey | Column::StorageRootKey => drop(tpm.insert(name.into(), text(field))),
            Column::IotHubs => {
                let hubs = field.split([';', ' ', '|']).filter(|host| !host.is_empty()).map(text);
                body.insert(name.into(), Value::Array(hubs.collect()));
            }
            Column::WebhookUrl => drop(webhook.insert("webhookUrl".into(), text(field))),
            Column::WebhookVersion => drop(webhook.insert("apiVersion".into(), text(field))),
            Column::Allocation => drop(body.insert(name.into(), text(field))),
            Column::UpdateHub | Column::MigrateData => drop(reprovision.insert(name.into(), flag()?)),
            Column::IotEdge => drop(body.insert("capabilities".into(), json!({"iotEdge": flag()?}))),
            Column::InitialTwin | Column::Payload | Column::Information => {
                body.insert(name.into(), parsed()?);
            }
        }
    }
    if !reprovision.is_empty() {
        body.insert("reprovisionPolicy".into(), Value::Object(reprovision));
    }
    if !webhook.is_empty() {
        body.insert("customAllocationDefinition".into(), Value::Object(webhook));
    }
    let attestation = match (symmetric.is_empty(), certificates.is_empty(), tpm.is_empty()) {
        (_, true, true) => json!({"type": "symmetricKey", "symmetricKey": symmetric}),
        (true, false, true) => json!({"type": "x509", "x509": {"clientCertificates": certificates}}),
        (true, true, false) => json!({"type": "tpm", "tpm": tpm}),
        _ => return Err("keys, certificates and a TPM exclude one another".into()),
    };
    body.insert("attestation".into(), attestation);
    Ok(Value::Object(body))
}

/// The fields of a body, in the order of [`header`]. `body` is what an export of lines has.
pub(crate) fn fields(body: &Value) -> Vec<String> {
    let text = |path: &str| match body.pointer(path) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(";"),
        Some(other) => other.to_string(),
    };
    let json = |path: &str| body.pointer(path).map(Value::to_string).unwrap_or_default();
    COLUMNS
        .iter()
        .map(|(column, name, _)| match column {
            Column::PrimaryKey => text("/attestation/symmetricKey/primaryKey"),
            Column::SecondaryKey => text("/attestation/symmetricKey/secondaryKey"),
            Column::Certificate => text("/attestation/x509/clientCertificates/primary/certificate"),
            Column::SecondaryCertificate => text("/attestation/x509/clientCertificates/secondary/certificate"),
            Column::EndorsementKey | Column::StorageRootKey => text(&format!("/attestation/tpm/{name}")),
            Column::UpdateHub | Column::MigrateData => text(&format!("/reprovisionPolicy/{name}")),
            Column::IotEdge => text("/capabilities/iotEdge"),
            Column::WebhookUrl => text("/customAllocationDefinition/webhookUrl"),
            Column::WebhookVersion => text("/customAllocationDefinition/apiVersion"),
            Column::InitialTwin | Column::Payload | Column::Information => json(&format!("/{name}")),
            _ => text(&format!("/{name}")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        assert!(COLUMNS.iter().enumerate().all(|(at, (column, ..))| *column as usize == at));
    }

    #[test]
    fn names_count_without_case_and_separators() {
        let read = |names: &[&str]| read_header(names.iter().copied());
        assert_eq!(
            read(&["Registration_ID", "SYMMETRIC-KEY", "ek"]),
            Ok(vec![Column::RegistrationId, Column::PrimaryKey, Column::EndorsementKey])
        );
        assert_eq!(read(&["registrationId", "colour"]).unwrap_err().0, 2);
        assert!(read(&["registrationId", "thumbprint"]).unwrap_err().1.contains("certificate"));
        assert_eq!(read(&["registrationId", "id"]).unwrap_err().1, "the column registrationId is there twice");
        assert!(read(&["deviceId"]).is_err());
    }

    #[test]
    fn a_body_comes_back_from_its_fields() {
        let given = json!({
            "registrationId": "a", "deviceId": "b", "batch": null, "provisioningStatus": "enabled",
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "QQ==", "secondaryKey": "Qg=="}},
            "iotHubs": ["h", "g"], "initialTwin": {"tags": {"a": "x,\"y\""}}, "payload": "text",
            "capabilities": {"iotEdge": true}, "stickyBy": "tag:site",
            "customAllocationDefinition": {"webhookUrl": "https://f.example/x", "apiVersion": "2021-10-01"},
            "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": false},
        });
        let columns: Vec<Column> = COLUMNS.iter().map(|(column, ..)| *column).collect();
        let fields = fields(&given);
        assert_eq!(body(&columns, fields.iter().map(String::as_str)).unwrap(), given);
    }
}
