"""From what Azure's tools export to this service, and the way back."""

import json


def write(path, *objects, array=False):
    text = json.dumps(list(objects)) if array else "".join(json.dumps(one) + "\n" for one in objects)
    path.write_text(text)
    return path


def rows(path):
    assert path.stat().st_mode & 0o777 == 0o600
    return [json.loads(line) for line in path.read_text().splitlines()]


def put(server, row):
    """Enrols a row by the service API's own body, as an import does."""
    keys = row["attestation"]["symmetricKey"]
    server.command(
        "enroll", "add", "--registration-id", row["registrationId"], "--device-id", row["deviceId"],
        "--symmetric-key", keys["primaryKey"], "--secondary-key", keys["secondaryKey"],
    )


def test_what_a_provisioning_service_exports_comes_back(server, tmp_path):
    """Catches an export that cannot be read again, and keys or groups that are lost on the way."""
    made = server.enroll("dev-1", "--device-id", "Dev-One", "--batch", "spring")
    server.enroll_group("line-7")
    exported = tmp_path / "dps.json"
    assert server.object("migrate", "export", "--as", "dps", "--out", exported)["records"] == 2
    out, groups = tmp_path / "rows.ndjson", tmp_path / "groups.ndjson"
    done = server.object("migrate", "dps", exported, "--out", out, "--groups-out", groups)
    assert (done["rows"], done["groups"], done["refused"]) == (1, 1, 0)
    [row] = rows(out)
    assert row["attestation"] == made["attestation"] and row["deviceId"] == "Dev-One"
    server.command("enroll", "delete", "--group-id", "line-7")
    server.command("migrate", "groups", groups)
    assert server.object("enroll", "show", "--group-id", "line-7")["provisioningStatus"] == "enabled"


def test_what_cannot_be_kept_is_told_before_anything_is_written(server, tmp_path):
    """Catches devices that would be enrolled with keys that they do not have."""
    key = "AAECAwQFBgcICQoLDA0ODw=="
    symmetric = {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}
    export = write(
        tmp_path / "export.json",
        {"registrationId": "a", "attestation": {"type": "symmetricKey", "symmetricKey": None}},
        {"registrationId": "b", "attestation": symmetric, "allocationPolicy": "custom", "iotHubs": ["old.example"]},
        array=True,
    )
    out = tmp_path / "rows.ndjson"
    told = server.fails("migrate", "dps", export, "--out", out)
    assert "--show-keys" in told and not out.exists()
    partly = server.run("migrate", "dps", export, "--out", out, "--partial", "--batch", "moved")
    assert "old.example" in partly.stderr and "webhook" in partly.stderr
    [row] = rows(out)
    assert (row["registrationId"], row["batch"]) == ("b", "moved")


def test_a_hub_s_devices_move_with_their_ids_and_keys(server, tmp_path):
    """Catches a device that has to be touched because its hub moved."""
    keys = {"primaryKey": "c2VjcmV0LW9uZS1hbmQtbW9yZQ==", "secondaryKey": "c2VjcmV0LXR3by1hbmQtbW9yZQ=="}
    blob = write(
        tmp_path / "devices.txt",
        {
            "id": "Pump-7", "eTag": "MQ==", "status": "enabled", "authentication": {"symmetricKey": keys},
            "twinETag": "AAAAAAAAAAE=", "tags": {"site": "b"}, "properties": {"desired": {"rate": 5, "$version": 3}},
        },
    )
    out = tmp_path / "rows.ndjson"
    assert server.object("migrate", "hub", blob, "--out", out)["rows"] == 1
    [row] = rows(out)
    assert row["initialTwin"] == {"tags": {"site": "b"}, "properties": {"desired": {"rate": 5}}}
    put(server, row)
    stored = server.object("enroll", "show", "pump-7", "--keys")
    assert stored["deviceId"] == "Pump-7" and stored["attestation"]["symmetricKey"] == keys
    exported = tmp_path / "hub.txt"
    assert server.object("migrate", "export", "--as", "hub", "--out", exported)["records"] == 0
