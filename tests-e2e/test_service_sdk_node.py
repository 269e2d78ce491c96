"""Back ends in Node: the unmodified service SDKs, over TLS with the generated CA, on the port that they cannot be told to change."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from server import primary_key

SCRIPTS = Path(__file__).parent / "node"


@pytest.fixture
def node(backend, tool):
    """Runs a script here against the server; gives the object that it prints."""
    modules = os.environ.get("NODE_PATH") or SCRIPTS.parent.parent / "target" / "node" / "node_modules"
    assert Path(modules).is_dir(), f"{modules} is missing; `cargo xtask test` makes it"

    def run(script, connection_string, **variables):
        done = subprocess.run(
            [tool("node", "nodejs"), str(SCRIPTS / script)],
            env={
                "PATH": os.environ["PATH"],
                "NODE_PATH": str(modules),
                "NODE_EXTRA_CA_CERTS": str(backend.ca),
                "UNICITY_CONNECTION_STRING": connection_string,
                **variables,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def refused(name, status=None):
    """How `attempt` of the scripts tells that a call was refused."""

    class Refused:
        def __eq__(self, seen):
            return seen["refused"] and seen["name"] == name and (status is None or seen["status"] == status)

        def __repr__(self):
            return f"refused as {name} {status or ''}"

    return Refused()


@pytest.mark.deadline(120)
def test_the_hubs_registry_twins_and_queries(backend, node):
    seen = node("hub.js", backend.hub_connection_string)
    assert seen["created"]["status"] == "enabled"
    assert len(seen["created"]["authentication"]["symmetricKey"]["primaryKey"]) == 88
    assert seen["again"] == refused("DeviceAlreadyExistsError")
    assert seen["missing"] == refused("DeviceNotFoundError")
    assert (seen["disabled"]["status"], seen["disabled"]["statusReason"]) == ("disabled", "test")
    assert seen["listed"] == ["node-1"]

    assert seen["added"] == {"isSuccessful": True, "errors": [], "warnings": []}
    # As against Azure: the SDK makes an error of the status 400, under which the real service tells of failed rows.
    assert seen["addedAgain"] == refused("ArgumentError")
    assert seen["updated"]["isSuccessful"] and seen["removed"]["isSuccessful"]

    assert seen["tags"] == {"site": "Basel"}
    assert seen["stale"] == refused("InvalidEtagError")
    assert (seen["desired"]["rate"], seen["desired"]["$version"]) == (10, 2)

    assert seen["modules"] == ["camera"]
    assert (seen["managedBy"], seen["moduleTags"]) == ("node", {"lens": 2})

    # The row beside the one that failed was done.
    assert seen["pages"] == [["bulk-1"], ["bulk-2"], ["bulk-4"]]
    assert seen["raw"] == [{"site": "Basel", "n": 1}, {"site": "Bern", "n": 1}]
    assert seen["wrong"] == refused("ArgumentError") and "column 28" in seen["wrong"]["message"]
    assert seen["statistics"] == {"totalDeviceCount": 4, "enabledDeviceCount": 2, "disabledDeviceCount": 2}
    assert seen["job"]["refused"] and "blob" in seen["job"]["message"]
    assert seen["removedModule"]["refused"]
    assert seen["deleted"] == refused("DeviceNotFoundError")


@pytest.mark.deadline(120)
def test_the_provisioning_services_enrollments_and_registrations(backend, devices, node):
    device = devices.register("booted", primary_key(backend.enroll("booted")))
    seen = node("dps.js", backend.dps_connection_string, UNICITY_REGISTERED="booted")
    created = seen["created"]
    assert (created["registrationId"], created["deviceId"]) == ("node-1", "Node-1")
    assert created["initialTwin"] == {"tags": {"line": 4}, "properties": {"desired": {"rate": 10}}}
    assert created["etag"].startswith('"'), "the SDK sends it raw in If-Match"
    assert seen["again"]["refused"] and "409201" in seen["again"]["message"]
    assert seen["updated"] == "disabled"
    assert seen["stale"]["refused"] and "412001" in seen["stale"]["message"]
    assert "primaryKey" not in (seen["got"]["attestation"].get("symmetricKey") or {})
    assert len(seen["keys"]["symmetricKey"]["primaryKey"]) == 88
    assert seen["missing"]["refused"] and "404201" in seen["missing"]["message"]

    assert (seen["group"], seen["groups"], seen["members"]) == ("line-4", ["line-4"], [])
    assert len(seen["groupKeys"]["symmetricKey"]["primaryKey"]) == 88
    assert not seen["bulk"]["isSuccessful"]
    assert [error["registrationId"] for error in seen["bulk"]["errors"]] == ["node-1"]
    assert seen["pages"] == [["booted"], ["node-1"], ["node-2"], ["node-3"]]
    assert seen["bulkDelete"] == {"isSuccessful": True, "errors": []}

    assert seen["noState"]["refused"] and seen["deletedState"]["refused"]
    assert (seen["state"]["status"], seen["state"]["deviceId"]) == ("assigned", device.device_id)
    assert seen["staleDelete"]["refused"]
    assert seen["left"] == ["booted"]
