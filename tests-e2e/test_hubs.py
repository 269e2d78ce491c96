"""Hubs of one server: what a change would move, the move itself, and why a device is where it is."""

import json

import pytest

from server import primary_key

DEVICES = 30

CONFIG = """
[server]
hostnames = ["{address}", "dps.example.net", "hub-1.example.net", "hub-2.example.net", "hub-3.example.net"]

[[hub]]
name = "hub-1"
host = "hub-1.example.net"

[[hub]]
name = "hub-2"
host = "hub-2.example.net"

[[hub]]
name = "hub-3"
host = "hub-3.example.net"
"""


@pytest.fixture
def server(initialised, tmp_path):
    """A server with three hubs of its own."""
    config = tmp_path / "three.toml"
    config.write_text(CONFIG.format(address=initialised.address))
    return initialised.start("--config", str(config))


def loads(server):
    """How many devices each hub has."""
    return {hub["name"]: hub["devices"] for hub in server.objects("hub", "list")}


def test_a_drained_hub_is_emptied_as_planned(server, devices, tmp_path):
    names = [f"dev-{number:02}" for number in range(DEVICES)]
    keys = {name: primary_key(server.enroll(name)) for name in names}
    for name, key in keys.items():
        devices.register(name, key)
    before = loads(server)
    assert sum(before.values()) == DEVICES and all(before.values()), before
    of_hub_2 = {device["deviceId"] for device in server.objects("device", "list", "--hub", "hub-2")}
    assert len(of_hub_2) == before["hub-2"]

    # The question changes nothing.
    plan, moves = tmp_path / "drain.toml", tmp_path / "moves.ndjson"
    plan.write_text('remove = ["hub-2"]\n')
    forecast = server.object("plan", plan, "--moves", moves)
    assert forecast["moves"] == before["hub-2"] and not forecast["isEstimate"], forecast
    planned = {move["registrationId"]: move["to"] for move in map(json.loads, moves.read_text().splitlines())}
    assert set(planned) == of_hub_2
    assert loads(server) == before
    shown = server.command("plan", plan)
    assert forecast["digest"] in shown and "hub-2" in shown
    assert "about" in server.command("plan", _written(tmp_path, 'policy = "leastLoaded"\nremove = ["hub-2"]\n'))

    assert "draining" in server.command("hub", "drain", "hub-2")
    assert server.object("plan")["digest"] == forecast["digest"]
    moved = sorted(of_hub_2)[0]
    assert f"now it would go to {planned[moved]}" in server.command("why", moved)

    wrong = server.fails("rebalance", "start", "--plan-digest", "00" * 32)
    assert "planDigest" in wrong
    lines = server.objects("rebalance", "start", "--rate", "1000", "--plan-digest", forecast["digest"], "--follow")
    assert lines[-1]["state"] == "done"
    assert (lines[-1]["moved"], lines[-1]["digest"]) == (forecast["moves"], forecast["digest"])
    assert loads(server) == {hub["hub"]: hub["after"] for hub in forecast["hubs"]}
    assert loads(server)["hub-2"] == 0
    for name, hub in planned.items():
        assert server.object("why", name)["registration"]["hub"] == hub
    story = server.command("why", moved)
    assert "moved from hub-2, by rebalance 1" in story and "not asked: hub-2 (draining)" in story, story

    # It is told so when it registers again; the others are where they were.
    assert devices.register(moved, keys[moved]).assigned_hub == f"{planned[moved]}.example.net"
    assert "rebalance 1 done" in server.command("rebalance", "status")
    assert server.objects("transfer", "list") == []

    # What an operator said of hubs is there after a crash.
    server.kill()
    server.start("--config", str(tmp_path / "three.toml"))
    hub = server.object("hub", "show", "hub-2")
    assert (hub["state"], hub["devices"]) == ("draining", 0)
    server.command("hub", "undrain", "hub-2")
    # Now hashing gives it its share back.
    assert server.object("plan")["moves"] == forecast["moves"]


def _written(folder, text):
    path = folder / "other.toml"
    path.write_text(text)
    return path


def test_a_link_is_checked_and_its_key_never_shown(server):
    far = "HostName=far.example.net:8443;SharedAccessKeyName=provisioning;SharedAccessKey=" + "c2VjcmV0IG9mIGEgaHViIGZhciBhd2F5ISEhISE="
    linked = server.object("hub", "link", "far", far, "--weight", "3", "--label", "lab", "--no-allocation")
    assert (linked["place"], linked["port"], linked["weight"], linked["labels"]) == ("remote", 8443, 3, ["lab"])
    assert "c2Vjcm" not in server.command("hub", "list", "--json") + server.command("hub", "show", "far")
    assert server.object("hub", "link", "far", far, "--weight", "3", "--label", "lab", "--no-allocation")["etag"] == linked["etag"]
    assert "--replace" in server.fails("hub", "link", "far", far)
    assert server.object("hub", "update", "far", "--capacity", "5", "--allocation")["capacity"] == 5
    assert server.object("hub", "policy", "sticky", "--sticky-by", "tag:site")["stickyBy"] == "tag:site"
    assert server.object("hub", "policy", "--reset")["allocationPolicy"] == "hashed"
    assert "curl" in server.command("hub", "unlink", "far", "--curl")
    assert server.object("hub", "unlink", "far")["unlinked"]
    assert [hub["name"] for hub in server.objects("hub", "list")] == ["hub-1", "hub-2", "hub-3"]
