"""Hub nodes under a provisioning service that is this test: what a move does over the wire, in the order that leaves no moment with two
enabled identities, with a crash of a hub after each step and every step done twice."""

import base64
import hashlib
import json

import pytest

import fleets
import nodes as cluster
from test_telemetry import body_of

pytestmark = pytest.mark.deadline(240)
API = "api-version=2021-04-12"
MOVING = "unicity by hand, on its way"


@pytest.fixture
def nodes(binary, tmp_path):
    """The hub nodes; the provisioning node is not needed."""
    with cluster.reserved(), cluster.Nodes(binary, tmp_path / "nodes") as nodes:
        yield nodes.start()


class Service:
    """A provisioning service by hand: one device, which is somewhere, or on its way."""

    def __init__(self, nodes, device_id, key):
        self.nodes, self.device_id, self.key = nodes, device_id, key
        self.strings = {name: hub.connection_string() for name, hub in nodes.hubs.items()}
        self.assigned = None

    def call(self, hub, method, path, body=None, **headers):
        """A call to a hub, done twice: a step that was done already must not do harm."""
        first = self.nodes.hubs[hub].call(method, path, self.strings[hub], body, **headers)
        self.nodes.hubs[hub].call(method, path, self.strings[hub], body, **headers)
        assert first[0] in (200, 204), first
        return first[1]

    def identity(self, status, **members):
        """The body of the identity."""
        keys = {"primaryKey": self.key, "secondaryKey": self.key}
        authentication = {"type": "sas", "symmetricKey": keys}
        return {"deviceId": self.device_id, "status": status, "authentication": authentication, **members}

    def at_most_one(self):
        """The checker: no two hubs have an enabled identity."""
        places = self.nodes.identities()[self.device_id]
        enabled = [name for name, device in places.items() if device["status"] == "enabled"]
        assert len(enabled) <= 1, places
        return enabled

    def crash(self, hub):
        """Ends a hub without a word, and starts it again."""
        self.nodes.hubs[hub].kill()
        self.nodes.hubs[hub].start()

    def begin(self, hub):
        """The first assignment."""
        self.call(hub, "PUT", f"/devices/{self.device_id}?{API}", self.identity("enabled"), If_None_Match="*")
        self.assigned = self.nodes.hubs[hub].address

    def move(self, source, target):
        """In the order of design rule 14."""
        path = f"/devices/{self.device_id}?{API}"
        device = self.call(source, "GET", path)
        etag = f'"{device["etag"]}"'
        self.call(source, "PUT", path, self.identity("disabled", statusReason=MOVING), If_Match=etag)
        self.assigned = None
        self.crash(source)
        assert self.at_most_one() == []
        twin = self.call(source, "GET", f"/twins/{self.device_id}?{API}")
        made = self.call(target, "PUT", path, self.identity("disabled", statusReason=MOVING), If_None_Match="*")
        self.crash(target)
        assert self.at_most_one() == []
        carried = self.call(target, "PUT", f"/unicity/twins/{self.device_id}", twin)
        for part in ("tags", "properties", "version"):
            assert carried[part] == twin[part], part
        self.crash(target)
        self.assigned = self.nodes.hubs[target].address
        self.call(target, "PUT", path, self.identity("enabled"), If_Match=f'"{made["etag"]}"')
        assert self.at_most_one() == [target]
        self.crash(source)
        device = self.call(source, "GET", path)
        self.call(source, "DELETE", path, If_Match=f'"{device["etag"]}"')
        assert self.at_most_one() == [target]


def test_a_device_is_moved_around(nodes):
    key = base64.b64encode(hashlib.sha256(b"dev-1").digest()).decode()
    service = Service(nodes, "dev-1", key)
    service.begin("hub-1")
    owner = nodes.hubs["hub-1"].hub_connection_string
    change = {"tags": {"site": 4}, "properties": {"desired": {"rate": 5}}}
    assert nodes.hubs["hub-1"].call("PATCH", f"/twins/dev-1?{API}", owner, change)[0] == 200
    twin = nodes.hubs["hub-1"].call("GET", f"/twins/dev-1?{API}", owner)[1]
    # What only the device could tell: it has reported by another way than this hub offers yet.
    twin["properties"]["reported"] = {"rate": 5, "$version": 4, "$metadata": {"$lastUpdated": "2026-01-01T00:00:00.000Z"}}
    service.call("hub-1", "PUT", "/unicity/twins/dev-1", twin)

    device = fleets.HandAssigned(nodes, "dev-1", key, lambda: service.assigned).start()
    device.until("first message", lambda device: device.acknowledged)
    for source, target in (("hub-1", "hub-2"), ("hub-2", "hub-3"), ("hub-3", "hub-1")):
        said = len(device.acknowledged)
        service.move(source, target)
        host = nodes.hubs[target].address
        device.until(f"a session at {target}", lambda device: device.hub == host and len(device.acknowledged) > said + 1)
        assert nodes.hubs[target].devices()["dev-1"]["connectionState"] == "Connected"
    device.stop()

    twin = nodes.hubs["hub-1"].call("GET", f"/twins/dev-1?{API}", owner)[1]
    assert twin["properties"]["reported"]["$version"] == 4 and twin["tags"] == {"site": 4}
    stored = {
        json.loads(body_of(record))["sequence"]
        for hub in nodes.hubs.values()
        for record in hub.objects("tail", "--from", "earliest")
    }
    assert set(device.acknowledged) <= stored
