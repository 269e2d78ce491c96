"""Devices that live through moves: a fleet of device-sim, and SDK devices that register again when their hub refuses them."""

import json
import queue
import signal
import subprocess
import threading
import time

from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient

import sas
from server import Lines

EVENT_SECONDS = 120
END_SECONDS = 60

FLEET = """
[fleet]
handshakes = 64

[[group]]
name = "plant"
count = %d
id = "sim-{n:05}"
attestation.group_key = {}
boot.rate = 200
reconnect = { base = "200ms", factor = 2, cap = "5s", jitter = "full", refusals = 2, rounds = 10000 }

[group.telemetry]
interval = "%dms"
jitter = 0.5
body = '{"device":"${device_id}","sequence":${sequence}}'
"""


class Fleet:
    """A fleet of device-sim without an end; use it in a `with`. Devices number what they say, without a gap."""

    def __init__(self, program, folder, nodes, group_key, count, interval_ms):
        self.count = count
        path = folder / "fleet.toml"
        path.write_text(FLEET % (count, interval_ms))
        self._log = open(folder / "fleet.log", "wb")
        self._process = subprocess.Popen(
            [
                *(str(program), "run", str(path), "--events", "-", "--endpoint", nodes.address, "--ca", str(nodes.ca)),
                *("--id-scope", nodes.id_scope, "--group-key", group_key),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._lines = Lines(self._process.stdout)
        self.hub_of = {}
        self.open = set()
        self.acknowledged = 0
        self.failed = []
        self.summary = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(END_SECONDS)
        self._log.close()

    def _next(self, seconds):
        line = self._lines.next(seconds)
        if line is None:
            return False
        event = json.loads(line)
        device = event.get("device")
        match event["event"]:
            case "connected":
                self.hub_of[device] = event["hub"]
                self.open.add(device)
            case "disconnected":
                self.open.discard(device)
            case "failed":
                self.failed.append(event)
            case "acknowledged":
                self.acknowledged = event["total"]
            case "summary":
                self.summary = event
        return True

    def until(self, what, reached, seconds=EVENT_SECONDS):
        """Reads events until it is so."""
        end = time.monotonic() + seconds
        while not reached():
            assert not self.failed, f"{what}: a device gave up: {self.failed[0]}"
            left = end - time.monotonic()
            try:
                going = left > 0 and self._next(left)
            except TimeoutError:
                going = False
            assert going, f"{what}: {len(self.open)} of {self.count} connected, {self.acknowledged} acknowledged"

    def until_connected(self, what, seconds=EVENT_SECONDS):
        """Waits until each device has a session."""
        self.until(what, lambda: len(self.open) == self.count, seconds)

    def until_said(self, messages, seconds=EVENT_SECONDS):
        """Waits for so many more acknowledged messages."""
        wanted = self.acknowledged + messages
        self.until("telemetry", lambda: self.acknowledged >= wanted, seconds)

    def at(self, address):
        """Devices whose session is or was last at this hub."""
        return {device for device, hub in self.hub_of.items() if hub == address}

    def stop(self):
        """Switches all devices off in order; gives the summary."""
        self._process.send_signal(signal.SIGINT)
        while self.summary is None:
            assert self._next(END_SECONDS), "the fleet ended without a summary"
        self._process.wait(END_SECONDS)
        return self.summary


def bounded(call, *args, seconds=10):
    """What a call gives, or TimeoutError: the SDK waits for ever for what was in flight when a connection broke that it may not renew."""
    results = queue.Queue()

    def run():
        try:
            results.put((call(*args), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"{call.__qualname__} did not return") from None
    if error is not None:
        raise error
    return result


class SdkDevice:
    """An unmodified SDK device, which does what its documentation asks of an application: it registers again when its hub has no place
    for it any more, and sends again what was not acknowledged."""

    def __init__(self, nodes, registration_id, key):
        self._nodes, self.registration_id, self._key = nodes, registration_id, key
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.acknowledged = []
        self.hub = None
        self.rounds = 0
        self.errors = []
        self._thread = threading.Thread(target=self._live, daemon=True)

    def start(self):
        """Switches it on."""
        self._thread.start()
        return self

    def _live(self):
        while not self._stop.is_set():
            try:
                self._life()
            except Exception as error:  # whatever the SDK raises, a device begins anew
                self.errors.append(repr(error))
                self._stop.wait(0.5)

    def _register(self, roots):
        """Hub and device id."""
        registering = ProvisioningDeviceClient.create_from_symmetric_key(
            provisioning_host=self._nodes.address,
            registration_id=self.registration_id,
            id_scope=self._nodes.id_scope,
            symmetric_key=self._key,
            server_verification_cert=roots,
        )
        result = bounded(registering.register, seconds=60)
        assert result.status == "assigned", result.status
        return result.registration_state.assigned_hub, result.registration_state.device_id

    def _life(self):
        roots = self._nodes.ca.read_text()
        hub, device_id = self._register(roots)
        client = IoTHubDeviceClient.create_from_symmetric_key(
            symmetric_key=self._key,
            hostname=hub,
            device_id=device_id,
            server_verification_cert=roots,
            connection_retry=False,
        )
        try:
            bounded(client.connect)
            with self._changed:
                self.hub, self.rounds = hub, self.rounds + 1
            while not self._stop.is_set():
                number = len(self.acknowledged)
                bounded(client.send_message, Message(json.dumps({"device": device_id, "sequence": number})))
                with self._changed:
                    self.acknowledged.append(number)
                    self._changed.notify_all()
                self._stop.wait(0.3)
        finally:
            with self._changed:
                self.hub = None
            # It may wait for ever as well.
            threading.Thread(target=client.shutdown, daemon=True).start()

    def until(self, what, reached, seconds=EVENT_SECONDS):
        """Waits until it is so of this device."""
        with self._changed:
            end = time.monotonic() + seconds
            while not reached(self):
                left = end - time.monotonic()
                assert left > 0, f"{self.registration_id}: {what}: at {self.hub}, {len(self.acknowledged)} acknowledged; {self.errors[-3:]}"
                self._changed.wait(min(left, 0.5))

    def stop(self):
        """Switches it off."""
        self._stop.set()
        self._thread.join(END_SECONDS)
        assert not self._thread.is_alive(), self.registration_id


class HandAssigned(SdkDevice):
    """One that a test hands to its hub: `assigned` gives the host, or None while it has none."""

    def __init__(self, nodes, device_id, key, assigned):
        super().__init__(nodes, device_id, key)
        self._assigned = assigned

    def _register(self, roots):
        hub = self._assigned()
        assert hub, "assigning"
        return hub, self.registration_id


def member(nodes, group_key, registration_id):
    """An SDK device of an enrollment group."""
    return SdkDevice(nodes, registration_id, sas.device_key(group_key, registration_id))
