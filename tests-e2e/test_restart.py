"""What was acknowledged survives the end of the server, whichever way it ends."""

import threading

import pytest

from devices import message, telemetry_topic
from test_telemetry import bodies, enrolled

# How a server ends: by order, or by a crash.
ENDS = pytest.mark.parametrize("end", ["stop", "kill"])

COMMANDS = "devices/sensor-1/messages/devicebound/#"


@ENDS
def test_acknowledged_messages_are_there_exactly_once(server, devices, end):
    key = enrolled(server, devices)
    acknowledged = []
    for life in range(3):
        client = devices.raw_hub("sensor-1", key)
        client.connect()

        def send(client=client, life=life):
            count = 0
            while client.publish(telemetry_topic("sensor-1"), f"{life}:{count}"):
                count += 1
                if count % 500 == 0:
                    try:
                        client.wait_acknowledged(count - 400)
                    except ConnectionError:
                        return

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        client.wait_acknowledged(300)
        getattr(server, end)()
        client.wait_closed()
        sender.join(20)
        assert not sender.is_alive()
        acknowledged += client.acknowledged()
        server.start()

    stored = bodies(server.tail())
    # Nothing was ever sent twice, so nothing may be there twice.
    assert len(stored) == len(set(stored))
    missing = set(acknowledged) - set(stored)
    assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged messages are lost: {sorted(missing)[:5]}"
    # Epochs rise over restarts too: the boot number comes first.
    epochs = [record["epoch"] for record in server.tail()]
    assert epochs == sorted(epochs) and len(set(epochs)) == 3


@ENDS
def test_a_durable_subscription_survives(server, devices, end):
    key = enrolled(server, devices)
    first = devices.raw_hub("sensor-1", key, clean_session=False)
    assert first.connect() is False
    assert first.subscribe(COMMANDS) == 1
    first.close()

    again = devices.raw_hub("sensor-1", key, clean_session=False)
    assert again.connect() is True, "it does not survive a disconnect"

    # While it is connected: a crash must not lose it either.
    getattr(server, end)()
    again.wait_closed()
    server.start()
    assert devices.raw_hub("sensor-1", key, clean_session=False).connect() is True, f"it does not survive {end}"


def test_a_clean_session_ends_the_durable_one(server, devices):
    key = enrolled(server, devices)
    client = devices.raw_hub("sensor-1", key, clean_session=False)
    client.connect()
    client.subscribe(COMMANDS)
    client.close()
    clean = devices.raw_hub("sensor-1", key, clean_session=True)
    assert clean.connect() is False
    clean.close()
    assert devices.raw_hub("sensor-1", key, clean_session=False).connect() is False


@ENDS
@pytest.mark.deadline(120)
def test_the_sdk_reconnects_by_itself_and_goes_on(server, devices, end):
    client = devices.hub("sensor-1", enrolled(server, devices), connection_retry_interval=1)
    connected, lost = threading.Event(), threading.Event()
    client.on_connection_state_change = lambda: (connected if client.connected else lost).set()
    client.connect()
    client.send_message(message("before", message_id="1"))
    connected.clear()
    getattr(server, end)()
    assert lost.wait(20)
    server.start()
    assert connected.wait(40), "the SDK did not come back"
    client.send_message(message("after", message_id="2"))
    records = server.tail()
    assert bodies(records) == ["before", "after"]
    assert records[0]["epoch"] < records[1]["epoch"]
    assert records[0]["generation"] == records[1]["generation"]
    assert records[0]["key_fingerprint"] == records[1]["key_fingerprint"]
