"""Hub nodes without their provisioning node: what they refuse, to whom, and that nothing else of the hub is missing."""

import pytest

import nodes as cluster
from devices import Devices, Refused, telemetry_topic

pytestmark = pytest.mark.deadline(120)
API = "api-version=2021-04-12"
KEY = "c2l4dHkgZm91ciBieXRlcyBvZiBhIGtleSwgdGhhdCBub2JvZHkgaGFzIHlldC4uLi4="


@pytest.fixture
def hub(binary, tmp_path):
    """hub-1, without the three other nodes."""
    with cluster.reserved():
        node = cluster.Node(binary, tmp_path, "hub-1")
        node.init()
        node.start()
        yield node
        node.end()


def identity(device_id, **members):
    """A device with a key, as the provisioning node makes it."""
    keys = {"primaryKey": KEY, "secondaryKey": KEY}
    return {"deviceId": device_id, "authentication": {"type": "sas", "symmetricKey": keys}, **members}


def test_it_registers_nobody_and_says_so(hub):
    assert "serves hubs only" in hub.log_tail()
    assert "has no policy provisioning" in hub.log_tail()
    said = hub.fails("enroll", "add", "--registration-id", "dev-1", "--generate-key")
    assert "503002" in said and "provisioning = false" in said
    with Devices(hub) as devices:
        client = devices.raw_dps("dev-1", devices.raw_dps_token("dev-1", KEY))
        with pytest.raises(Refused) as refused:
            client.connect()
        # 5 would stop a Python device for good, and 4 one in C: who was sent here by mistake may be sent elsewhere.
        assert refused.value.code == 3


def test_identities_come_from_its_provisioning_service_alone(hub):
    owner, assigner = hub.hub_connection_string, hub.connection_string()
    status, body = hub.call("PUT", f"/devices/dev-1?{API}", owner, identity("dev-1"))
    assert status == 403 and "NotAssigner" in str(body) and "provisioning" in str(body)

    body = identity("dev-1", status="disabled")
    status, made = hub.call("PUT", f"/devices/dev-1?{API}", assigner, body, If_None_Match="*")
    assert status == 200
    assert hub.call("PUT", f"/devices/dev-1?{API}", assigner, body, If_None_Match="*")[0] == 409
    twin = {"version": 7, "tags": {"site": 4}, "properties": {"reported": {"rate": 5, "$version": 3}}}
    status, carried = hub.call("PUT", "/unicity/twins/dev-1", assigner, twin)
    assert status == 200 and carried["properties"]["reported"]["$version"] == 3
    etag = '"' + made["etag"] + '"'
    status, _ = hub.call("PUT", f"/devices/dev-1?{API}", assigner, identity("dev-1", status="enabled"), If_Match=etag)
    assert status == 200

    # A hub as any other for its device and its back ends.
    with Devices(hub) as devices:
        device = devices.raw_hub("dev-1", KEY)
        device.connect()
        device.publish(telemetry_topic("dev-1"), b"hello")
        device.wait_acknowledged(1)
        assert [record["device"] for record in hub.tail()] == ["dev-1"]
        assert hub.call("PATCH", f"/twins/dev-1?{API}", owner, {"tags": {"row": 1}})[0] == 200
        assert hub.devices()["dev-1"]["connectionState"] == "Connected"
        assert hub.call("DELETE", f"/devices/dev-1?{API}", owner, If_Match="*")[0] == 403
        assert hub.call("DELETE", f"/devices/dev-1?{API}", assigner, If_Match="*")[0] == 204
        device.wait_closed()

    leaves = hub.call("GET", "/unicity/audit/leaves?identity=dev-1", hub.dps_connection_string)[1]["items"]
    assert {leaf["leaf"]["event"] for leaf in leaves} >= {"devicePut", "twinEdited", "deviceDeleted"}
    put = next(leaf["leaf"] for leaf in leaves if leaf["leaf"]["event"] == "devicePut")
    assert "provisioning" in str(put["actor"]), put
