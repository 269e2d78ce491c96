"""One identity, one session: a newer one fences the older, and the log shows it."""

import contextlib
import threading

import pytest
from azure.iot.device import exceptions

from devices import Refused, telemetry_topic
from test_telemetry import bodies, enrolled


def assert_fenced(records):
    """Once a message of a newer epoch is stored, none of an older one comes after it; no message is lost inside one."""
    for partition in {record["partition"] for record in records}:
        mine = [record for record in records if record["partition"] == partition]
        offsets = [record["offset"] for record in mine]
        assert offsets == sorted(set(offsets))
        epochs = [record["epoch"] for record in mine]
        assert epochs == sorted(epochs), "epochs interleave"
    for epoch in {record["epoch"] for record in records}:
        sequences = [record["sequence"] for record in records if record["epoch"] == epoch]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_the_older_of_two_clients_is_cut_off(server, devices):
    key = enrolled(server, devices)
    cut = threading.Event()
    # Without retry: else both would take over from each other for ever.
    older = devices.hub("sensor-1", key, connection_retry=False, auto_connect=False)
    older.connect()
    older.on_connection_state_change = lambda: older.connected or cut.set()
    newer = devices.hub("sensor-1", key, connection_retry=False, auto_connect=False)
    for number in range(5):
        older.send_message(f"older {number}")
    newer.connect()
    assert cut.wait(20), "the older client was not disconnected"
    for number in range(5):
        newer.send_message(f"newer {number}")

    records = server.tail()
    assert bodies(records) == [f"older {n}" for n in range(5)] + [f"newer {n}" for n in range(5)]
    assert len({record["epoch"] for record in records}) == 2
    assert_fenced(records)


def test_both_clients_of_one_identity_reconnect_and_the_server_stays_calm(server, devices):
    # What two devices with one copied key do in the field: each reconnects as soon as it is cut off.
    key = enrolled(server, devices)
    connects = {"a": 0, "b": 0}
    enough = threading.Event()

    def client(name):
        made = devices.hub("sensor-1", key, connection_retry_interval=1)

        def changed():
            connects[name] += made.connected
            if min(connects.values()) >= 3:
                enough.set()

        made.on_connection_state_change = changed
        # Taken over at once, it says so, and goes on to reconnect.
        with contextlib.suppress(exceptions.NoConnectionError, exceptions.ConnectionDroppedError):
            made.connect()
        return made

    one, other = client("a"), client("b")
    assert enough.wait(40), connects
    for made in (one, other):
        # Between two connections the SDK says so instead of stopping to try: what follows tries as often as it takes.
        with contextlib.suppress(exceptions.NoConnectionError):
            made.disconnect()
    third = devices.hub("sensor-1", key)
    for _ in range(50):
        with contextlib.suppress(exceptions.NoConnectionError, exceptions.ConnectionDroppedError):
            third.send_message("still served")
            break
    assert set(bodies(server.tail())) == {"still served"}


# So many that a client is still sending when the next one takes over.
MESSAGES = 2_000


@pytest.mark.deadline(120)
def test_epochs_never_interleave_while_many_clients_take_over_under_load(server, devices):
    key = enrolled(server, devices)
    clients = [devices.raw_hub("sensor-1", key, clean_session=True) for _ in range(20)]
    threads = []

    def send(number, client):
        count = 0
        # Until it is cut off, or long enough for the one that nobody cuts off.
        while not client.is_closed and count < MESSAGES:
            if not client.publish(telemetry_topic("sensor-1"), f"{number}:{count}"):
                break
            count += 1

    for number, client in enumerate(clients):
        client.connect()
        thread = threading.Thread(target=send, args=(number, client), daemon=True)
        thread.start()
        threads.append(thread)
        client.wait_acknowledged(50)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for client in clients[:-1]:
        client.wait_closed()
    clients[-1].wait_acknowledged(MESSAGES, seconds=60)

    records = server.tail()
    assert_fenced(records)
    by_epoch = {}
    for record, body in zip(records, bodies(records), strict=True):
        by_epoch.setdefault(record["epoch"], set()).add(body.split(":")[0])
    assert [by_epoch[epoch] for epoch in sorted(by_epoch)] == [{str(number)} for number in range(20)]
    stored = bodies(records)
    assert len(stored) == len(set(stored)), "nobody sent anything twice"
    for client in clients:
        assert set(client.acknowledged()) <= set(stored)


def test_an_older_client_cannot_come_back_with_nothing_but_its_name(server, devices):
    key = enrolled(server, devices)
    client = devices.raw_hub("sensor-1", key)
    client.connect()
    with pytest.raises(Refused):
        devices.raw_hub("sensor-1", "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXk=").connect()
    # A refused CONNECT takes nothing over.
    client.publish(telemetry_topic("sensor-1"), "mine still")
    client.wait_acknowledged(1)
    assert bodies(server.tail()) == ["mine still"]
