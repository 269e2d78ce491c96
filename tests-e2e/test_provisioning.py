"""A device that knows one endpoint, an id scope, its registration id and a key finds its hub."""

import pytest
from azure.iot.device import exceptions

import sas
from devices import Refused
from server import primary_key, secondary_key

# A closed socket without an answer: the SDK would try again for ever, so it is no refusal.
SILENCE = (exceptions.ConnectionFailedError, exceptions.ConnectionDroppedError)


def assert_refused(client):
    """The server says no, in CONNACK or in the answer; a timeout or a closed socket is no answer."""
    with pytest.raises(exceptions.ClientError) as refused:
        client.register()
    assert not isinstance(refused.value, SILENCE), refused.value


@pytest.mark.parametrize("key", [primary_key, secondary_key], ids=["primary", "secondary"])
def test_individual_enrollment(server, devices, key):
    enrollment = server.enroll("sensor-1")
    state = devices.register("sensor-1", key(enrollment))
    assert (state.device_id, state.assigned_hub, state.sub_status) == ("sensor-1", server.address, "initialAssignment")

    shown = server.object("registration", "show", "sensor-1")
    assert (shown["registrationId"], shown["status"]) == ("sensor-1", "assigned")
    assert (shown["deviceId"], shown["assignedHub"]) == ("sensor-1", server.address)
    assert [one["registrationId"] for one in server.objects("registration", "list")] == ["sensor-1"]

    device = server.object("device", "show", "sensor-1")
    assert (device["deviceId"], device["status"]) == ("sensor-1", "enabled")
    assert device["generationId"]


def test_the_device_id_may_differ_from_the_registration_id(server, devices):
    key = primary_key(server.enroll("sensor-1", "--device-id", "Pump-7"))
    state = devices.register("sensor-1", key)
    assert state.device_id == "Pump-7"
    devices.hub("Pump-7", key, host=state.assigned_hub).send_message("as the other name")
    assert [record["device"] for record in server.tail()] == ["Pump-7"]


def test_group_enrollment_with_derived_keys(server, devices):
    group_key = primary_key(server.enroll_group("line-4"))
    keys = {}
    for number in range(3):
        registration_id = f"line-4-{number}"
        key = server.command("device-key", "--group-key", group_key, "--registration-id", registration_id).strip()
        assert key == sas.device_key(group_key, registration_id)
        state = devices.register(registration_id, key)
        assert (state.device_id, state.assigned_hub) == (registration_id, server.address)
        keys[registration_id] = key

    assert {one["registrationId"] for one in server.objects("registration", "list")} == set(keys)
    assert len({one["generationId"] for one in server.objects("device", "list")}) == 3

    # The hub knows the derived key, and a key of the group is no key of another device.
    devices.hub("line-4-0", keys["line-4-0"]).send_message("with the derived key")
    with pytest.raises(exceptions.CredentialError):
        devices.hub("line-4-0", keys["line-4-1"], connection_retry=False).connect()


def test_the_secondary_group_key_works_too(server, devices):
    group_key = secondary_key(server.enroll_group("line-4"))
    assert devices.register("line-4-x", sas.device_key(group_key, "line-4-x")).device_id == "line-4-x"


def test_a_custom_payload_is_accepted(server, devices):
    client = devices.provisioning("sensor-1", primary_key(server.enroll("sensor-1")))
    client.provisioning_payload = {"modelId": "dtmi:example:sensor;1", "site": {"line": 4, "name": "Süd"}}
    assert client.register().status == "assigned"


def test_registering_again_gives_the_same_assignment(server, devices):
    key = primary_key(server.enroll("sensor-1"))
    first = devices.register("sensor-1", key)
    generation = server.object("device", "show", "sensor-1")["generationId"]
    again = devices.register("sensor-1", key)
    assert (again.device_id, again.assigned_hub) == (first.device_id, first.assigned_hub)
    assert again.created_date_time == first.created_date_time
    assert server.object("device", "show", "sensor-1")["generationId"] == generation


def test_an_assignment_survives_a_crash(server, devices):
    key = primary_key(server.enroll("sensor-1"))
    first = devices.register("sensor-1", key)
    generation = server.object("device", "show", "sensor-1")["generationId"]
    server.kill()
    server.start()
    assert server.object("device", "show", "sensor-1")["generationId"] == generation
    assert devices.register("sensor-1", key).created_date_time == first.created_date_time


def test_a_wrong_key_is_a_credential_error(server, devices):
    server.enroll("sensor-1")
    other = primary_key(server.enroll("sensor-2"))
    with pytest.raises(exceptions.CredentialError):
        devices.provisioning("sensor-1", other).register()
    assert server.objects("registration", "list") == []


def test_an_unknown_registration_id_is_refused(server, devices):
    key = primary_key(server.enroll("sensor-1"))
    assert_refused(devices.provisioning("sensor-9", key))


def test_a_wrong_id_scope_is_refused(server, devices):
    key = primary_key(server.enroll("sensor-1"))
    wrong = "0ne" + "".join("1" if digit == "0" else "0" for digit in server.id_scope[3:])
    assert_refused(devices.provisioning("sensor-1", key, id_scope=wrong))
    assert server.objects("registration", "list") == []


def test_a_disabled_enrollment_is_refused(server, devices):
    key = primary_key(server.enroll("sensor-1"))
    server.command("enroll", "disable", "--registration-id", "sensor-1")
    assert_refused(devices.provisioning("sensor-1", key))
    assert server.objects("registration", "list") == []


def test_an_expired_token_is_connack_5(server, devices):
    key = primary_key(server.enroll("sensor-1"))
    expired = devices.raw_dps_token("sensor-1", key, lifetime=-3600)
    with pytest.raises(Refused) as refused:
        devices.raw_dps("sensor-1", expired).connect()
    assert refused.value.code == 5


def test_the_provisioning_role_never_has_a_session(server, devices):
    # C# fails on session present 1; Python connects with clean session 0.
    key = primary_key(server.enroll("sensor-1"))
    for _ in range(2):
        client = devices.raw_dps("sensor-1", devices.raw_dps_token("sensor-1", key), clean_session=False)
        assert client.connect() is False
        assert client.subscribe("$dps/registrations/res/#") == 1
        client.close()


def test_an_empty_body_registers_and_the_rid_comes_back(server, devices):
    # What C# sends.
    key = primary_key(server.enroll("sensor-1"))
    client = devices.raw_dps("sensor-1", devices.raw_dps_token("sensor-1", key))
    client.connect()
    client.subscribe("$dps/registrations/res/#")
    client.publish("$dps/registrations/PUT/iotdps-register/?$rid=00ff-7", b"")
    topic, body = client.wait_message()
    assert topic.startswith("$dps/registrations/res/200/?$rid=00ff-7")
    assert b'"assigned"' in body and body.isascii()


def test_tokens_of_the_command_line(server, devices):
    key = primary_key(server.enroll("sensor-1"))
    resource = f"{server.id_scope}/registrations/sensor-1"
    token = server.command("sas", "--key", key, "--resource", resource, "--ttl", "120", "--skn", "registration").strip()
    assert sas.is_signed_by(token, key)
    assert sas.fields(token)["skn"] == "registration"
    assert devices.raw_dps("sensor-1", token).connect() is False
