"""One provisioning node and hub nodes, each a process with its own data directory and loopback address."""

import collections
import contextlib
import fcntl
import http.client
import json
import os
import ssl
import tempfile
from pathlib import Path

import loopback
import sas
from server import Server

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config" / "three-hubs"
RIGHTS = "RegistryRead,RegistryWrite,ServiceConnect"
POLICY = "provisioning"
HUBS = ("hub-1", "hub-2", "hub-3")
ADDRESSES = {"provisioning": "127.0.0.2", "hub-1": "127.0.0.3", "hub-2": "127.0.0.4", "hub-3": "127.0.0.5"}
HTTPS_PORT = 8443


class Node(Server):
    """A server that runs with one of the files of config/three-hubs, at the addresses that stand in it."""

    def __init__(self, binary, folder, name):
        super().__init__(binary, folder / name, ADDRESSES[name], folder / f"{name}.log")
        self.name = name

    def serve_command(self, *extra, mqtt=None, https=None):
        """As an operator types it."""
        config = CONFIG / f"{self.name}.toml"
        return [str(self.binary), "serve", "--data", str(self.data), "--config", str(config), *extra]

    def connection_string(self):
        """Makes the policy of the hub's `assigned_by`, if it is not there yet; gives its connection string, port included."""
        place = ("--hub", self.name)
        if any(policy["name"] == POLICY for policy in self.objects("key", "list", *place)):
            return self.command("key", "show", POLICY, *place, "--string", "--with-port").strip()
        return self.command("key", "add", POLICY, *place, "--rights", RIGHTS, "--with-port").strip()

    def call(self, method, path, connection_string, body=None, **headers):
        """A call of the service API under a policy; gives status and body."""
        parts = dict(part.split("=", 1) for part in connection_string.split(";"))
        host = parts["HostName"].split(":")[0]
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection(self.address, HTTPS_PORT, context=context, timeout=30)
        token = sas.token(host, parts["SharedAccessKey"], policy=parts["SharedAccessKeyName"])
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Authorization": token}
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None

    def devices(self):
        """All device identities of the hub, by device id."""
        return {device["deviceId"]: device for device in self.objects("device", "list")}


class Nodes:
    """All four. `with` ends whatever still runs."""

    def __init__(self, binary, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.provisioning = Node(binary, folder, "provisioning")
        self.hubs = {name: Node(binary, folder, name) for name in HUBS}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.all():
            node.end()

    def all(self):
        """Every node, the provisioning node first."""
        return [self.provisioning, *self.hubs.values()]

    def start(self):
        """`unicity init` and `unicity serve` for each, and a file of all their roots."""
        for node in self.all():
            node.init()
            node.start()
        self.roots.write_text("".join(node.ca.read_text() for node in self.all()))
        return self

    @property
    def roots(self):
        """What devices trust."""
        return self.folder / "roots.pem"

    @property
    def address(self):
        """What devices know; with `id_scope` and `ca` this is enough for `Devices`."""
        return self.provisioning.address

    @property
    def id_scope(self):
        """The provisioning node's."""
        return self.provisioning.id_scope

    @property
    def ca(self):
        """What devices trust."""
        return self.roots

    def link(self):
        """Links each hub, as docs/many-nodes.md does."""
        for name, hub in self.hubs.items():
            self.provisioning.command("hub", "link", name, hub.connection_string(), "--ca", hub.ca)

    def identities(self):
        """By device id, the hubs that have an identity of it, with its status and connection state."""
        found = collections.defaultdict(dict)
        for name, hub in self.hubs.items():
            for device_id, device in hub.devices().items():
                found[device_id][name] = device
        return found

    def log_tails(self, characters=6_000):
        """The end of each node's log."""
        return "\n".join(f"== {node.name}\n{node.log_tail(characters)}" for node in self.all())


@contextlib.contextmanager
def reserved():
    """Keeps other runs of these tests off the addresses of config/three-hubs."""
    with open(os.path.join(tempfile.gettempdir(), "unicity-e2e-three-hubs.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for address in ADDRESSES.values():
            for port in (loopback.MQTT_PORT, HTTPS_PORT):
                assert loopback.is_free(address, port), f"{address}:{port} is taken"
        yield
