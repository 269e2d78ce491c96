"""Two devices with one key: seen, shut out under that policy, let in again by a release."""

import contextlib
import json
import re
import time
import urllib.request

import pytest
from azure.iot.device import exceptions

from devices import Devices, Refused, telemetry_topic
from server import primary_key
from test_telemetry import bodies

# Only ends a hang.
FOUND_SECONDS = 45


@contextlib.contextmanager
def fight(devices, key):
    """Two SDK clients that share a key, each of which reconnects as soon as it is cut off."""
    # Shut down between two connections, the SDK says that there is none.
    with contextlib.suppress(exceptions.ClientError), Devices(devices.server) as own:
        for _ in range(2):
            client = own.hub("sensor-1", key, connection_retry_interval=1)
            # Taken over at once, it says so, and goes on to reconnect.
            with contextlib.suppress(exceptions.ClientError):
                client.connect()
        yield


def wait_for(server, state):
    """Waits until the identity is in this state; gives what is shown of it."""
    end = time.monotonic() + FOUND_SECONDS
    while time.monotonic() < end:
        found = server.object("suspects", "--registration-id", "sensor-1")
        if found["standing"] and found["standing"]["state"] == state:
            return found
    raise TimeoutError(f"not {state}, but {found}")


def metric(server, name):
    """A figure of the metrics page."""
    with urllib.request.urlopen(f"http://{server.admin}/metrics") as page:
        lines = page.read().decode().splitlines()
    return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)]


def enrolled(server, devices, *extra):
    """A registered device; gives its key."""
    key = primary_key(server.enroll("sensor-1", *extra))
    devices.register("sensor-1", key)
    return key


def test_two_devices_with_one_key_are_recorded_with_evidence(server, devices):
    key = enrolled(server, devices)
    with fight(devices, key):
        found = wait_for(server, "suspected")
    assert found["clonePolicy"] == "newest"
    evidence = found["standing"]["evidence"]
    assert {item["signal"] for item in evidence} == {"overlappingConnections"}
    assert all(re.search(r"\d+-\d+ took over \d+-\d+", item["detail"]) for item in evidence)
    taken_over = [session for session in found["sessions"] if session["end"] == "takenOver"]
    assert len(taken_over) >= 7
    assert all(session["traits"]["tls"]["version"].startswith("TLS") for session in taken_over)
    assert [item["state"] for item in server.objects("suspects")] == ["suspected"]
    assert server.object("device", "show", "sensor-1")["standing"]["state"] == "suspected"
    assert server.object("registration", "show", "sensor-1")["standing"]["score"] >= 100
    assert metric(server, 'unicity_identities_by_standing{state="suspected"}') == [1]
    assert sum(metric(server, "unicity_clone_signals_total")) >= 7
    # It is served all the same, until somebody looks; and then it is dismissed.
    client = devices.raw_hub("sensor-1", key)
    client.connect()
    client.publish(telemetry_topic("sensor-1"), "still served")
    client.wait_acknowledged(1)
    server.command("device", "release", "sensor-1")
    assert server.objects("suspects") == []
    assert [item["state"] for item in server.objects("suspects", "--all")] == ["released"]


@pytest.mark.deadline(120)
def test_quarantine_shuts_both_out_and_a_release_restores_service(server, devices):
    key = enrolled(server, devices, "--clone-policy", "quarantine")
    with fight(devices, key):
        found = wait_for(server, "quarantined")
    assert found["clonePolicy"] == "quarantine"
    assert metric(server, 'unicity_identities_by_standing{state="quarantined"}') == [1]

    def assert_shut_out():
        with pytest.raises(Refused) as refused:
            devices.raw_hub("sensor-1", key).connect()
        # 5 would stop an SDK for good.
        assert refused.value.code == 3
        client = devices.raw_dps("sensor-1", devices.raw_dps_token("sensor-1", key))
        client.connect()
        client.subscribe("$dps/registrations/res/#")
        client.publish("$dps/registrations/PUT/iotdps-register/?$rid=1", b"")
        topic, body = client.wait_message()
        assert topic.startswith("$dps/registrations/res/429/?$rid=1")
        assert b"quarantine" not in body.lower()

    assert_shut_out()
    # It is no matter of memory.
    server.stop()
    server.start()
    assert_shut_out()
    server.command("device", "release", "sensor-1")
    assert server.object("suspects", "--registration-id", "sensor-1")["standing"]["state"] == "released"
    devices.register("sensor-1", key)
    devices.hub("sensor-1", key).send_message("back again")
    assert bodies(server.tail()) == ["back again"]


def test_an_operator_holds_a_device_back_and_lets_it_go(server, devices):
    key = enrolled(server, devices)
    client = devices.raw_hub("sensor-1", key)
    client.connect()
    held = server.object("device", "quarantine", "--registration-id", "sensor-1", "--reason", "stolen van")
    assert (held["state"], held["sessionEnded"]) == ("quarantined", True)
    client.wait_closed()
    with pytest.raises(Refused):
        devices.raw_hub("sensor-1", key).connect()
    assert "stolen van" in server.command("suspects")
    server.command("device", "release", "sensor-1")
    devices.raw_hub("sensor-1", key).connect()
    assert "no such" not in server.fails("device", "release", "sensor-2")


def test_the_oldest_session_stays_where_that_is_the_policy(server, devices):
    key = enrolled(server, devices, "--clone-policy", "oldest")
    first = devices.raw_hub("sensor-1", key)
    first.connect()
    with pytest.raises(Refused) as refused:
        devices.raw_hub("sensor-1", key).connect()
    assert refused.value.code == 3
    first.publish(telemetry_topic("sensor-1"), "mine still")
    first.wait_acknowledged(1)
    first.close()
    # Gone with a goodbye, it stands in nobody's way.
    devices.raw_hub("sensor-1", key).connect()


def test_a_continuity_token_rides_in_the_payload_of_an_unmodified_sdk(initialised, devices):
    (initialised.data / "unicity.toml").write_text("[unicity]\ncontinuity = true\n")
    server = initialised.start()
    key = primary_key(server.enroll("sensor-1", "--clone-policy", "quarantine", "--payload", '{"interval": 5}'))

    def register(payload):
        client = devices.provisioning("sensor-1", key)
        client.provisioning_payload = payload
        result = client.register()
        assert result.status == "assigned", result
        return json.loads(result.registration_state.response_payload)

    first = register({"model": "x"})
    assert first["interval"] == 5
    second = register({"model": "x", "$unicity": first["$unicity"]})
    assert second["$unicity"] != first["$unicity"]
    third = register({"$unicity": second["$unicity"], "model": "x"})
    assert server.object("registration", "show", "sensor-1")["devicePayload"] == {"model": "x"}
    # A copied key alone: it is served, and buys no token.
    assert register({"model": "x"}) == {"interval": 5}
    # A copy of the first boot's disk.
    client = devices.raw_dps("sensor-1", devices.raw_dps_token("sensor-1", key))
    client.connect()
    client.subscribe("$dps/registrations/res/#")
    old = '{"payload": {"$unicity": {"continuity": "%s"}}}' % first["$unicity"]["continuity"]
    client.publish("$dps/registrations/PUT/iotdps-register/?$rid=1", old)
    assert client.wait_message()[0].startswith("$dps/registrations/res/429/")
    found = server.object("suspects", "--registration-id", "sensor-1")
    assert found["standing"]["evidence"][-1]["signal"] == "staleContinuity"
    # The device itself holds the newest token, which the key does not imply.
    register({"$unicity": third["$unicity"]})
    found = server.object("suspects", "--registration-id", "sensor-1")
    assert (found["standing"]["state"], found["standing"]["releasedBy"]) == ("released", "continuity")
