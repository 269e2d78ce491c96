"""Many real clients, some of which are thieves, while the server is killed again and again: what the clients know and what the
server stored are one history.

`UNICITY_HISTORY_SECONDS` makes it longer than its 20 seconds.
"""

import contextlib
import os
import random
import threading

import pytest

import history
from devices import Refused, telemetry_topic
from openssl import Factory
from server import primary_key, secondary_key

SECONDS = float(os.environ.get("UNICITY_HISTORY_SECONDS", "20"))
# The server is killed at the end of each life but the last.
LIVES = 4
DEVICES = 5
BURST = 30
BURSTS_MAX = 40
# Only ends a hang, or a wait that a takeover made vain.
PATIENCE_SECONDS = 2


class Client(threading.Thread):
    """Connects, sends, and does it again, under the identity and with the credential that it was given."""

    def __init__(self, name, notes, stop, device, key, connect, behave):
        super().__init__(daemon=True, name=name)
        self.notes, self.stop = notes, stop
        self.device, self.key, self.make, self.behave = device, key, connect, behave
        self.attempts = self.refused = 0
        self.random = random.Random(name)
        self.failure = None

    def run(self):
        try:
            while not self.stop.is_set() and self.behave.tries(self):
                self.once()
        except Exception as failure:  # noqa: BLE001 - shown by the test
            self.failure = failure

    def once(self):
        """One CONNECT and what follows."""
        self.attempts += 1
        session = self.notes.session(self.name, self.device, self.key)
        client = self.make()
        try:
            client.connect()
        except Refused:
            self.refused += 1
        except (OSError, TimeoutError, ValueError):
            # The server is down, or went down while it answered.
            self.stop.wait(0.1)
        else:
            self.notes.accepted(session)
            self.behave.lives(self, session, client)
        finally:
            with contextlib.suppress(OSError, ValueError):
                client.close()
            # Without it, those who share an identity would only take over from each other, and hardly send anything.
            self.stop.wait(self.random.uniform(0, 1))
            session.acknowledged = {history.number_of(body) for body in client.acknowledged()}

    def send(self, session, client, topic_device=None):
        """Sends the session's next message. Gives False if the connection is gone."""
        topic_device = topic_device or self.device
        text = self.notes.sending(session, topic_device)
        with contextlib.suppress(OSError, ValueError):
            return client.publish(telemetry_topic(topic_device), text)
        return False


class Talks:
    """Sends bursts until it is cut off, or for a while; an owner and a thief do the same."""

    def tries(self, _client):
        return True

    def lives(self, client, session, mqtt):
        # Never more than two bursts ahead of the acknowledgements, so that there is always something in flight to be cut off.
        for burst in range(client.random.randint(1, BURSTS_MAX)):
            for _ in range(BURST):
                if not client.send(session, mqtt):
                    return
            with contextlib.suppress(ConnectionError, TimeoutError):
                mqtt.wait_acknowledged((burst - 1) * BURST, PATIENCE_SECONDS)
            if mqtt.is_closed or client.stop.is_set():
                return
        with contextlib.suppress(ConnectionError, TimeoutError):
            mqtt.wait_acknowledged(len(session.sent), PATIENCE_SECONDS)


class Strays(Talks):
    """As the others, but its last message goes to another device's topic."""

    def __init__(self, topic_device):
        self.topic_device = topic_device

    def lives(self, client, session, mqtt):
        for _ in range(BURST):
            if not client.send(session, mqtt):
                return
        client.send(session, mqtt, self.topic_device)
        with contextlib.suppress(TimeoutError):
            mqtt.wait_closed(PATIENCE_SECONDS)


class Guesses(Talks):
    """Tries a key that is another device's, a few times: a stranger's failures are limited."""

    def tries(self, client):
        return client.attempts < 4

    def lives(self, client, session, mqtt):
        client.send(session, mqtt)
        with contextlib.suppress(ConnectionError, TimeoutError):
            mqtt.wait_acknowledged(1, PATIENCE_SECONDS)


def fingerprint_seen(server, devices, mqtt, device):
    """The fingerprint that a key is stamped with, when nobody else is there: what the later stamps are compared with."""
    mqtt.connect()
    mqtt.publish(telemetry_topic(device), "quiet")
    mqtt.wait_acknowledged(1)
    mqtt.close()
    return [record for record in server.tail() if record["device"] == device][-1]["key_fingerprint"]


@pytest.mark.deadline(int(SECONDS) + 220)
def test_clients_and_log_tell_one_history(server, devices, tool, tmp_path):
    notes, stop, keys, clients = history.Notes(), threading.Event(), {}, []
    makes = {}

    def given(key, device, make, fingerprint=None):
        makes[key] = (device, make)
        keys[key] = (device, fingerprint or fingerprint_seen(server, devices, make(), device))

    for number in range(1, DEVICES + 1):
        device = f"dev-{number}"
        enrolled = server.enroll(device)
        devices.register(device, primary_key(enrolled))
        for slot, key in (("primary", primary_key(enrolled)), ("secondary", secondary_key(enrolled))):
            given(f"{device}/{slot}", device, lambda device=device, key=key: devices.raw_hub(device, key))
    factory = Factory(tool, tmp_path / "factory")
    certificate = factory.certificate("dev-x", "/CN=dev-x")
    key = factory.directory / "dev-x.key"
    server.object("enroll", "add", "--registration-id", "dev-x", "--x509", str(certificate))
    devices.register_x509("dev-x", certificate, key)
    # Another certificate over the copied key: what a thief has made for itself.
    again = factory.certificate("dev-x-again", "/CN=dev-x", key=key)
    for name, one in (("own", certificate), ("again", again)):
        make = lambda one=one: devices.raw_hub_x509("dev-x", one, key)  # noqa: E731
        given(f"dev-x/{name}", "dev-x", make, factory.fingerprint("dev-x"))
    assert len({fingerprint for _, fingerprint in keys.values()}) == 2 * DEVICES + 1
    first = {record["partition"]: record["offset"] for record in server.tail()}

    def client(name, key, behave, device=None, make=None):
        given_to, makes_client = makes[key]
        made = Client(name, notes, stop, device or given_to, key, make or makes_client, behave)
        clients.append(made)

    for number in range(1, DEVICES + 1):
        client(f"owner-{number}", f"dev-{number}/primary", Talks())
        if number % 2:
            client(f"copy-{number}", f"dev-{number}/primary", Talks())
            client(f"other-slot-{number}", f"dev-{number}/secondary", Talks())
    client("owner-x", "dev-x/own", Talks())
    client("again-x", "dev-x/again", Talks())
    client("stray-2", "dev-2/secondary", Strays("dev-4"))
    liar = primary_key(server.enroll("dev-liar"))
    devices.register("dev-liar", liar)
    given("dev-liar/primary", "dev-liar", lambda: devices.raw_hub("dev-liar", liar))
    client("guess-1", "dev-liar/primary", Guesses(), device="dev-1", make=lambda: devices.raw_hub("dev-1", liar))

    for one in clients:
        one.start()
    for life in range(LIVES):
        before = notes.acknowledged
        stop.wait(SECONDS / LIVES)
        if life < LIVES - 1:
            server.kill()
            server.start()
        assert life == 0 or notes.acknowledged >= before
    stop.set()
    for one in clients:
        one.join(60)
        assert not one.is_alive(), one.name
        assert one.failure is None, (one.name, repr(one.failure))

    records = [record for record in server.tail() if record["offset"] > first.get(record["partition"], -1)]
    records = [record for record in records if record["device"] != "dev-liar"]
    found = history.check(records, notes.sessions, keys)
    assert found == [], f"{len(found)} violations: {found[:10]}"

    # A history in which nothing happened would be right, too.
    accepted = [session for session in notes.sessions.values() if session.accepted is not None]
    taken = sum(1 for session in accepted if len(session.acknowledged) < len(session.sent))
    assert len(records) > 500 and notes.acknowledged > 500, (len(records), notes.acknowledged)
    assert taken > 5, "hardly anybody was cut off"
    assert len({record["epoch"].split("-")[0] for record in records}) == LIVES, "messages of every life of the server"
    guess = next(one for one in clients if one.name == "guess-1")
    assert guess.refused > 0 and not [s for s in accepted if s.name.startswith("guess-1#")]
    assert {"again-x", "owner-x", "copy-1", "owner-1"} <= {s.name.split("#")[0] for s in accepted}
    print(f"{len(notes.sessions)} CONNECTs, {len(accepted)} accepted, {notes.acknowledged} of {len(records)} acknowledged")
