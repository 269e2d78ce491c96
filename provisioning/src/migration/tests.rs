use serde_json::json;

use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODw==";

fn symmetric() -> Value {
    json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}, "tpm": null, "x509": null})
}

fn dps(record: Value) -> Result<Converted, NotConverted> {
    let hubs = HubMap::new([("Old.example".to_owned(), "new.example".to_owned())]);
    dps::convert(record, &hubs, Some(&"move".parse().unwrap()))
}

fn whats(converted: &Converted) -> Vec<&str> {
    converted.notes.iter().map(|note| note.what.as_str()).collect()
}

#[test]
fn exports_come_in_many_wrappings() {
    for text in [
        r#"[{"a":1},{"a":2}]"#,
        "[{\"a\":1}]\n[{\"a\":2}]",
        "\u{feff}{\"a\":1}\n{\"a\":2}\n",
        r#"{"value":[{"a":1},{"a":2}]}"#,
        r#"[[{"a":1}],[{"a":2}]]"#,
    ] {
        assert_eq!(records(text.as_bytes()).unwrap(), [json!({"a": 1}), json!({"a": 2})], "{text}");
    }
    assert!(records(b"[{]").unwrap_err().to_string().contains("line 1"));
    assert_eq!(records(b"").unwrap(), [] as [Value; 0]);
}

#[test]
fn an_enrollment_keeps_what_counts() {
    let converted = dps(json!({
        "registrationId": "Dev-1", "deviceId": "Dev 1".replace(' ', "_"), "attestation": symmetric(), "etag": "x",
        "createdDateTimeUtc": "2020-01-01T00:00:00Z", "lastUpdatedDateTimeUtc": null, "provisioningStatus": "disabled",
        "registrationState": {"status": "assigned"}, "iotHubHostName": "", "iotHubs": ["old.example"],
        "allocationPolicy": "static", "optionalDeviceInformation": {"line": 3}, "capabilities": {"iotEdge": true},
        "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": true},
        "initialTwin": {"tags": {"a": 1, "metadata": {}}, "properties": {"desired": {"b": 2, "version": 1}}},
    }))
    .unwrap();
    assert_eq!(converted.notes, []);
    let wanted = json!({
        "registrationId": "dev-1", "deviceId": "Dev_1", "batch": "move",
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
        "provisioningStatus": "disabled", "iotHubs": ["new.example"], "allocationPolicy": "static",
        "optionalDeviceInformation": {"line": 3}, "capabilities": {"iotEdge": true},
        "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": true},
        "initialTwin": {"tags": {"a": 1}, "properties": {"desired": {"b": 2}}},
    });
    assert_eq!(converted.row, Row::Individual(wanted));
}

#[test]
fn what_is_not_kept_is_told() {
    let converted = dps(json!({
        "registrationId": "a", "attestation": symmetric(), "allocationPolicy": "custom", "iotHubs": ["else.example"],
        "customAllocationDefinition": {"webhookUrl": "https://x", "apiVersion": "1"}, "credentialPolicyName": "p",
    }))
    .unwrap();
    let notes = whats(&converted).join("\n");
    for part in ["else.example", "webhook", "credentialPolicyName"] {
        assert!(notes.contains(part), "{notes}");
    }
    let Row::Individual(row) = converted.row else { panic!("no individual") };
    assert!(row.get("iotHubs").is_none());
    assert_eq!(
        (&row["allocationPolicy"], &row["customAllocationDefinition"]["apiVersion"]),
        (&json!("custom"), &json!("1"))
    );
    let geo =
        dps(json!({"registrationId": "a", "attestation": symmetric(), "allocationPolicy": "geoLatency"})).unwrap();
    assert!(whats(&geo).is_empty());
    let Row::Individual(row) = geo.row else { panic!("no individual") };
    assert_eq!(row["allocationPolicy"], "geoLatency");
}

#[test]
fn what_would_be_another_device_is_refused() {
    let refused = |record| dps(record).unwrap_err().to_string();
    for (found, part) in [
        (refused(json!({"registrationId": "a", "attestation": {"type": "symmetricKey"}})), "--show-keys"),
        (
            refused(
                json!({"registrationId": "a", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": ""}}}),
            ),
            "--show-keys",
        ),
        (refused(json!({"registrationId": "a b", "attestation": symmetric()})), "registration id"),
        (refused(json!({"attestation": symmetric()})), "neither"),
        (refused(json!({"registrationId": "a"})), "no attestation"),
        (refused(json!({"registrationId": "a", "attestation": {"type": "none"}})), "none"),
        (
            refused(
                json!({"registrationId": "a", "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": null, "info": {}}}}}}),
            ),
            "thumbprint",
        ),
        (
            refused(
                json!({"registrationId": "a", "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": "x"}}}}}),
            ),
            "primary certificate",
        ),
        (
            refused(json!({"enrollmentGroupId": "g", "attestation": {"type": "tpm", "tpm": {"endorsementKey": "x"}}})),
            "tpm",
        ),
        (refused(json!(7)), "no JSON object"),
    ] {
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn groups_and_certificates_are_taken() {
    let pem = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap().cert.pem();
    let slot = json!({"primary": {"certificate": pem, "info": {"version": 3}}, "secondary": null});
    let individual =
        dps(json!({"registrationId": "a", "attestation": {"type": "x509", "x509": {"clientCertificates": slot}}}))
            .unwrap();
    let Row::Individual(row) = individual.row else { panic!("no individual") };
    assert_eq!(row["attestation"]["x509"]["clientCertificates"], json!({"primary": {"certificate": pem.trim()}}));
    let group = dps(json!({"enrollmentGroupId": "g", "attestation": {"type": "x509", "x509": {"caReferences": {"primary": "ca", "secondary": null}}}})).unwrap();
    let Row::Group(row) = group.row else { panic!("no group") };
    assert_eq!(row["attestation"]["x509"]["caReferences"], json!({"primary": "ca"}));
    assert!(row.get("batch").is_none());
}

#[test]
fn a_hub_s_device_is_enrolled_under_its_id_and_keys() {
    let converted = hub::convert(
        json!({
            "id": "Dev-1", "eTag": "MQ==", "status": "Disabled", "statusReason": "lost", "importMode": null,
            "authentication": {"symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}, "x509Thumbprint": {"primaryThumbprint": null}},
            "twinETag": "x", "tags": {"site": 1},
            "properties": {"desired": {"a": 1, "$metadata": {}, "$version": 2}, "reported": {"b": 1}},
        }),
        None,
    )
    .unwrap();
    assert_eq!(whats(&converted).len(), 2);
    let wanted = json!({
        "registrationId": "dev-1", "deviceId": "Dev-1", "provisioningStatus": "disabled",
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
        "initialTwin": {"tags": {"site": 1}, "properties": {"desired": {"a": 1}}},
    });
    assert_eq!(converted.row, Row::Individual(wanted));
    let refused = |record| hub::convert(record, None).unwrap_err().to_string();
    assert!(refused(json!({"id": "a", "moduleId": "m"})).contains("module"));
    assert!(
        refused(json!({"id": "a", "authentication": {"x509Thumbprint": {"primaryThumbprint": "AB"}}}))
            .contains("thumbprint")
    );
    assert!(refused(json!({"id": "a"})).contains("excludeKeysInExport"));
    assert!(refused(json!({"id": "a+b", "authentication": {}})).contains("--device-id"));
}

#[test]
fn a_device_goes_out_and_comes_back() {
    let device = json!({
        "deviceId": "dev-1", "etag": "x", "status": "enabled", "statusReason": null, "capabilities": {"iotEdge": false},
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
    });
    let twin =
        json!({"tags": {"a": 1}, "properties": {"desired": {"b": 2, "$version": 3}, "reported": {"$version": 1}}});
    let exported = hub::export(&device, Some(&twin));
    assert_eq!(exported["properties"], json!({"desired": {"b": 2}}));
    let Row::Individual(back) = hub::convert(exported, None).unwrap().row else { panic!("no individual") };
    assert_eq!(back["initialTwin"], json!({"tags": {"a": 1}, "properties": {"desired": {"b": 2}}}));
    assert_eq!(back["attestation"]["symmetricKey"]["primaryKey"], KEY);
}
