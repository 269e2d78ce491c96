"""One provisioning node and three hub nodes, real processes on 127.0.0.2 to 127.0.0.5: what a fleet goes through while a hub is killed
and another one is drained.

UNICITY_E2E_DEVICES says how many devices are simulated; beside them there are five with the real SDK.
"""

import collections
import json
import os

import pytest

import fleets
import nodes as cluster
from server import primary_key
from test_telemetry import body_of

pytestmark = pytest.mark.deadline(900)
DEVICES = int(os.environ.get("UNICITY_E2E_DEVICES", "2000"))
SDK_DEVICES = 5
# The fleet says so much a second in all.
MESSAGES_A_SECOND = 300
MOVES_A_SECOND = 100
SETTLE_SECONDS = 300


@pytest.fixture
def nodes(binary, tmp_path):
    """Four nodes that run, with nothing linked yet."""
    with cluster.reserved(), cluster.Nodes(binary, tmp_path / "nodes") as nodes:
        yield nodes.start()


def stored(nodes):
    """By device, the numbers that any hub has stored, and at which hubs."""
    numbers, places = collections.defaultdict(set), collections.defaultdict(set)
    for name, hub in nodes.hubs.items():
        for record in hub.objects("tail", "--from", "earliest"):
            said = json.loads(body_of(record))
            assert said["device"] == record["device"], record
            numbers[record["device"]].add(said["sequence"])
            places[record["device"]].add(name)
    return numbers, places


@pytest.mark.usefixtures("links")
def test_a_fleet_lives_through_a_crash_and_a_drain(nodes, program, tmp_path):
    nodes.link()
    key = primary_key(nodes.provisioning.enroll_group("plant"))
    interval_ms = max(200, DEVICES * 1000 // MESSAGES_A_SECOND)
    sdk = [fleets.member(nodes, key, f"sdk-{number}") for number in range(SDK_DEVICES)]
    with fleets.Fleet(program, tmp_path, nodes, key, DEVICES, interval_ms) as fleet:
        for device in sdk:
            device.start()
        fleet.until_connected("boot", SETTLE_SECONDS)
        for device in sdk:
            device.until("first message", lambda device: device.acknowledged)
        # Each hub has a fair third: five deviations of a fair draw.
        for hub in nodes.hubs.values():
            third = DEVICES / 3
            assert abs(len(fleet.at(hub.address)) - third) < 5 * (third * 2 / 3) ** 0.5 + 1

        # A hub dies in the middle, without a word, and comes back.
        crashed = nodes.hubs["hub-2"]
        lost = fleet.at(crashed.address)
        crashed.kill()
        fleet.until("the crash", lambda: not (lost & fleet.open))
        crashed.start()
        fleet.until_connected("after the crash", SETTLE_SECONDS)
        for device in sdk:
            said = len(device.acknowledged)
            device.until("a hub again", lambda device, said=said: len(device.acknowledged) > said + 1)
        fleet.until_said(DEVICES, SETTLE_SECONDS)

        # Another one is drained, and its devices are moved without being asked.
        drained = nodes.hubs["hub-3"]
        nodes.provisioning.command("hub", "drain", "hub-3")
        nodes.provisioning.command(
            "rebalance", "start", "--rate", MOVES_A_SECOND, "--follow", "--yes", seconds=SETTLE_SECONDS
        )
        fleet.until("the move", lambda: not fleet.at(drained.address), SETTLE_SECONDS)
        fleet.until_connected("after the move", SETTLE_SECONDS)
        for device in sdk:
            device.until("another hub", lambda device: device.hub and device.hub != drained.address)
        fleet.until_said(DEVICES, SETTLE_SECONDS)

        # Every device is connected, at the one hub that it is assigned to, and has an enabled identity nowhere else.
        identities = nodes.identities()
        hosts = {name: hub.address for name, hub in nodes.hubs.items()}
        assert len(identities) == DEVICES + SDK_DEVICES
        for registration in nodes.provisioning.objects("registration", "list"):
            places = identities[registration["deviceId"]]
            enabled = [hosts[name] for name, device in places.items() if device["status"] == "enabled"]
            connected = [hosts[name] for name, device in places.items() if device["connectionState"] == "Connected"]
            assert enabled == connected == [registration["assignedHub"]], (registration, places)
            assert list(places) != ["hub-3"]

        for device in sdk:
            device.stop()
        summary = fleet.stop()

    assert summary["acknowledged"] == summary["sent"] and summary["failed"] == 0, summary
    numbers, places = stored(nodes)
    simulated = {device: seen for device, seen in numbers.items() if device.startswith("sim-")}
    assert sum(map(len, simulated.values())) == summary["acknowledged"]
    for device, seen in simulated.items():
        assert max(seen) - min(seen) + 1 == len(seen), f"{device} misses an acknowledged message"
    for device in sdk:
        assert set(device.acknowledged) <= numbers[device.registration_id], device.registration_id
    # Both what was said before the drain and after it is there.
    assert any(len(hubs) > 1 for hubs in places.values())
