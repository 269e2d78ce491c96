"""What a device sends is stored once, under exactly its identity, with the full stamp."""

import base64
import json
import re
import uuid
from datetime import datetime

import pytest
from azure.iot.device import exceptions

from devices import Refused, message, telemetry_topic
from server import primary_key

STAMP = {
    *("hub", "device", "generation", "partition", "offset", "sequence", "epoch", "enqueued", "auth_method"),
    *("key_fingerprint", "qos", "properties", "system_properties", "body"),
}
OPTIONAL = {"module", "dup", "will"}


def body_of(record):
    """The body of a tail record."""
    return base64.b64decode(record["body"]).decode()


def bodies(records):
    """The bodies of tail records."""
    return [body_of(record) for record in records]


def enrolled(server, devices, registration_id="sensor-1"):
    """A registered device; gives its key."""
    key = primary_key(server.enroll(registration_id))
    devices.register(registration_id, key)
    return key


def assert_stamped(server, record, device):
    """Every field of the stamp has the form that it is documented to have, and names the device."""
    assert STAMP <= set(record) <= STAMP | OPTIONAL, set(record) ^ STAMP
    assert (record["hub"], record["device"]) == ("default", device)
    assert record["generation"] == server.object("device", "show", device)["generationId"]
    assert re.fullmatch(r"[0-9a-f]{64}", record["key_fingerprint"])
    assert re.fullmatch(r"\d+-\d+", record["epoch"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", record["enqueued"])
    datetime.fromisoformat(record["enqueued"].replace("Z", "+00:00"))
    assert "sas" in json.dumps(record["auth_method"]).lower()
    for number in ("partition", "offset", "sequence"):
        assert isinstance(record[number], int) and record[number] >= 0


def test_a_message_is_stored_with_its_properties_and_the_full_stamp(server, devices):
    key = enrolled(server, devices)
    client = devices.hub("sensor-1", key)
    client.connect()
    message_id, correlation_id = str(uuid.uuid4()), "run 7/ä & b=c"
    client.send_message(
        message(
            '{"temperature": 21.5}',
            message_id=message_id,
            correlation_id=correlation_id,
            content_type="application/json",
            content_encoding="utf-8",
            custom={"alarm": "true", "weiß & grün": "1 + 1 = 2", "leer": ""},
        )
    )
    [record] = server.tail()
    assert_stamped(server, record, "sensor-1")
    assert json.loads(body_of(record)) == {"temperature": 21.5}
    assert record["properties"] == {"alarm": "true", "weiß & grün": "1 + 1 = 2", "leer": ""}
    system = record["system_properties"]
    assert (system["message-id"], system["correlation-id"]) == (message_id, correlation_id)
    assert (system["content-type"], system["content-encoding"]) == ("application/json", "utf-8")
    assert record["qos"] == 1


def test_the_order_of_a_device_is_kept(server, devices):
    client = devices.hub("sensor-1", enrolled(server, devices))
    sent = [f"message {number}" for number in range(50)]
    for text in sent:
        client.send_message(text)
    records = server.tail("--device", "sensor-1")
    assert bodies(records) == sent
    for field in ("offset", "sequence"):
        numbers = [record[field] for record in records]
        assert numbers == list(range(numbers[0], numbers[0] + len(sent))), field
    assert len({record["epoch"] for record in records}) == 1


def test_two_devices_do_not_mix(server, devices):
    keys = {name: enrolled(server, devices, name) for name in ("sensor-1", "sensor-2")}
    for name, key in keys.items():
        devices.hub(name, key).send_message(f"from {name}")
    records = server.tail()
    assert sorted((record["device"], body_of(record)) for record in records) == [
        ("sensor-1", "from sensor-1"),
        ("sensor-2", "from sensor-2"),
    ]
    assert len({record["key_fingerprint"] for record in records}) == 2
    assert bodies(server.tail("--device", "sensor-2")) == ["from sensor-2"]


def test_a_client_cannot_influence_its_stamp(server, devices):
    client = devices.raw_hub("sensor-1", enrolled(server, devices))
    client.connect()
    bag = "%24.cdid=sensor-2&%24.cmid=m&device=sensor-2&epoch=9&key_fingerprint=00&iothub-connection-device-id=sensor-2"
    client.publish(telemetry_topic("sensor-1", bag), "x")
    client.wait_acknowledged(1)
    [record] = server.tail()
    assert_stamped(server, record, "sensor-1")


@pytest.mark.parametrize("topic", [telemetry_topic("sensor-2"), "some/other/topic"])
def test_a_foreign_topic_closes_the_session_and_stores_nothing(server, devices, topic):
    enrolled(server, devices, "sensor-2")
    client = devices.raw_hub("sensor-1", enrolled(server, devices))
    client.connect()
    client.publish(topic, "not mine")
    client.wait_closed()
    assert client.acknowledged() == []
    assert server.tail() == []


def test_a_wrong_key_and_an_unknown_device_are_connack_5(server, devices):
    key = enrolled(server, devices)
    other = enrolled(server, devices, "sensor-2")
    for device, wrong in (("sensor-1", other), ("sensor-9", key)):
        with pytest.raises(Refused) as refused:
            devices.raw_hub(device, wrong).connect()
        assert refused.value.code == 5
    with pytest.raises(exceptions.CredentialError):
        devices.hub("sensor-1", other, connection_retry=False).connect()


def test_an_expired_token_is_connack_5_in_the_hub_role(server, devices):
    key = enrolled(server, devices)
    with pytest.raises(Refused) as refused:
        devices.raw_hub("sensor-1", key, lifetime=-3600).connect()
    assert refused.value.code == 5


@pytest.mark.deadline(120)
def test_a_renewed_token_goes_on_under_a_new_epoch(server, devices):
    # 120 s before its token expires the SDK disconnects and connects with a new one: here after 15 s.
    client = devices.hub("sensor-1", enrolled(server, devices), sastoken_ttl=135)
    client.connect()
    epochs, number = [], 0
    with server.follow() as follow:
        while len(set(epochs)) < 2:
            client.send_message(str(number))
            stored = follow.until(lambda record, text=str(number): body_of(record) == text, 30)
            epochs.append(stored["epoch"])
            number += 1
    for _ in range(5):
        client.send_message(str(number))
        number += 1
    records = server.tail()
    # Each was acknowledged; what was in flight when the token changed may be there twice, as MQTT allows.
    assert list(dict.fromkeys(bodies(records))) == [str(one) for one in range(number)]
    found = [record["epoch"] for record in records]
    assert found == sorted(found) and len(set(found)) == 2
