"""Devices: the unmodified Azure SDK, and paho-mqtt where a test needs to see packets or to have no help."""

import contextlib
import ssl
import threading
import time

import paho.mqtt.client as paho
from azure.iot.device import X509, IoTHubDeviceClient, Message, ProvisioningDeviceClient

import sas
from loopback import MQTT_PORT

# Only ends a hang.
WAIT_SECONDS = 20


class Devices:
    """Makes clients of one server and closes them all at the end."""

    def __init__(self, server):
        self.server = server
        self._close = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        return self._close.__exit__(*raised)

    # The Azure SDK.

    def provisioning(self, registration_id, key, id_scope=None):
        """The SDK's provisioning client."""
        return ProvisioningDeviceClient.create_from_symmetric_key(
            provisioning_host=self.server.address,
            registration_id=registration_id,
            id_scope=id_scope or self.server.id_scope,
            symmetric_key=key,
            server_verification_cert=self.server.ca.read_text(),
        )

    def register(self, registration_id, key):
        """Registers with the SDK; gives its registration state."""
        result = self.provisioning(registration_id, key).register()
        assert result.status == "assigned", result
        return result.registration_state

    def hub(self, device_id, key, host=None, **options):
        """The SDK's hub client, not yet connected. Without `host`, that of the server."""
        client = IoTHubDeviceClient.create_from_symmetric_key(
            symmetric_key=key,
            hostname=host or self.server.address,
            device_id=device_id,
            server_verification_cert=self.server.ca.read_text(),
            **options,
        )
        self._close.callback(client.shutdown)
        return client

    def register_x509(self, registration_id, certificate, key):
        """Registers with the SDK and a client certificate (PEM files); gives its registration state."""
        result = ProvisioningDeviceClient.create_from_x509_certificate(
            provisioning_host=self.server.address,
            registration_id=registration_id,
            id_scope=self.server.id_scope,
            x509=X509(cert_file=str(certificate), key_file=str(key)),
            server_verification_cert=self.server.ca.read_text(),
        ).register()
        assert result.status == "assigned", result
        return result.registration_state

    def hub_x509(self, device_id, certificate, key, host=None):
        """The SDK's hub client with a client certificate, not yet connected."""
        client = IoTHubDeviceClient.create_from_x509_certificate(
            x509=X509(cert_file=str(certificate), key_file=str(key)),
            hostname=host or self.server.address,
            device_id=device_id,
            server_verification_cert=self.server.ca.read_text(),
            connection_retry=False,
        )
        self._close.callback(client.shutdown)
        return client

    # Plain MQTT.

    def raw_dps_x509(self, registration_id, certificate, key, **options):
        """A plain client in the provisioning role with a client certificate."""
        username = f"{self.server.id_scope}/registrations/{registration_id}/api-version=2019-03-31"
        return self._raw(registration_id, username, None, {"certificate": (certificate, key), **options})

    def raw_hub_x509(self, device_id, certificate, key, **options):
        """A plain client in the hub role with a client certificate."""
        username = f"{self.server.address}/{device_id}/?api-version=2020-09-30"
        return self._raw(device_id, username, None, {"certificate": (certificate, key), **options})

    def raw_dps(self, registration_id, password, id_scope=None, **options):
        """A plain client in the provisioning role."""
        scope = id_scope or self.server.id_scope
        username = f"{scope}/registrations/{registration_id}/api-version=2019-03-31&ClientVersion=e2e"
        return self._raw(registration_id, username, password, options)

    def raw_dps_token(self, registration_id, key, lifetime=3600):
        """A token for the provisioning role."""
        return sas.token(f"{self.server.id_scope}/registrations/{registration_id}", key, lifetime)

    def raw_hub(self, device_id, key, lifetime=3600, host=None, **options):
        """A plain client in the hub role."""
        host = host or self.server.address
        username = f"{host}/{device_id}/?api-version=2020-09-30&DeviceClientType=e2e"
        password = sas.token(f"{host}/devices/{device_id}", key, lifetime)
        return self._raw(device_id, username, password, options)

    def _raw(self, client_id, username, password, options):
        client = MqttDevice(self.server, client_id, username, password, **options)
        self._close.callback(client.close)
        return client


class Refused(Exception):
    """The server answered CONNECT with this code."""

    def __init__(self, code):
        super().__init__(f"CONNACK {code}")
        self.code = code


class MqttDevice:
    """One MQTT 3.1.1 connection. It never connects again by itself and never sends anything twice."""

    def __init__(self, server, client_id, username, password, clean_session=False, certificate=None, tls=None):
        self._address = server.address
        client = paho.Client(client_id, clean_session=clean_session, protocol=paho.MQTTv311, reconnect_on_failure=False)
        context = ssl.create_default_context(cafile=str(server.ca))
        if tls is not None:
            context.minimum_version = context.maximum_version = tls
        if certificate is not None:
            context.load_cert_chain(*map(str, certificate))
        client.tls_set_context(context)
        client.username_pw_set(username, password)
        client.max_inflight_messages_set(1000)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        # With this set, however little it does, only paho's loop writes to the socket, and it is ours to run.
        client.on_socket_register_write = lambda *_: None
        self._client = client
        self._thread = threading.Thread(target=self._loop, daemon=True)
        # paho holds locks of its own when it calls us: under this one we never call paho.
        self._changed = threading.Condition()
        self._connack = None
        self._closed = False
        self._granted = {}
        self._acknowledged = []
        self._received = []
        self._sent = {}

    def _loop(self):
        # Not loop_start(): its thread dies without a word when TLS ends in the middle of a write.
        try:
            self._client.loop_forever()
        except OSError:
            pass
        finally:
            self._change(lambda: setattr(self, "_closed", True))

    def _on_connect(self, _client, _userdata, flags, code):
        self._change(lambda: setattr(self, "_connack", (code, bool(flags["session present"]))))

    def _on_subscribe(self, _client, _userdata, mid, granted):
        self._change(lambda: self._granted.update({mid: list(granted)}))

    def _on_publish(self, _client, _userdata, mid):
        self._change(lambda: self._acknowledged.append(mid))

    def _on_message(self, _client, _userdata, message):
        self._change(lambda: self._received.append((message.topic, message.payload)))

    def _change(self, change):
        with self._changed:
            change()
            self._changed.notify_all()

    def _wait(self, what, reached, seconds=WAIT_SECONDS, or_closed=False):
        end = time.monotonic() + seconds
        with self._changed:
            while not reached():
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no {what} after {seconds} s")
                if self._closed and not or_closed:
                    raise ConnectionError(f"closed while waiting for {what}")
                self._changed.wait(left)

    def connect(self):
        """Connects; gives whether the server had a session. Raises Refused."""
        self._client.connect(self._address, MQTT_PORT, keepalive=60)
        self._thread.start()
        self._wait("CONNACK", lambda: self._connack is not None)
        code, present = self._connack
        if code != 0:
            raise Refused(code)
        return present

    def subscribe(self, topic_filter, qos=1):
        """Subscribes; gives the granted QoS, 128 if it was refused."""
        result, mid = self._client.subscribe(topic_filter, qos)
        assert result == paho.MQTT_ERR_SUCCESS, result
        self._wait("SUBACK", lambda: mid in self._granted)
        return self._granted[mid][0]

    def publish(self, topic, body, qos=1):
        """Sends and does not wait. Gives False if the connection is gone."""
        info = self._client.publish(topic, body, qos)
        if self._closed or info.rc != paho.MQTT_ERR_SUCCESS:
            return False
        self._sent[info.mid] = body
        return True

    def acknowledged(self):
        """The bodies that were acknowledged, in that order."""
        with self._changed:
            mids = list(self._acknowledged)
        return [self._sent[mid] for mid in mids if mid in self._sent]

    def wait_acknowledged(self, count, seconds=WAIT_SECONDS):
        """Waits until so many PUBLISHes have been acknowledged."""
        self._wait(f"PUBACK {count}", lambda: len(self._acknowledged) >= count, seconds)

    def wait_message(self, seconds=WAIT_SECONDS):
        """Waits for a message and takes it: its topic and its body."""
        self._wait("message", lambda: self._received, seconds)
        with self._changed:
            return self._received.pop(0)

    def wait_closed(self, seconds=WAIT_SECONDS):
        """Waits until the server has closed the connection."""
        self._wait("end of the connection", lambda: self._closed, seconds, or_closed=True)

    @property
    def is_closed(self):
        """Whether the connection has ended."""
        return self._closed

    def close(self):
        """Sends DISCONNECT if it is still connected, and ends its thread."""
        self._client.disconnect()
        if self._thread.is_alive():
            self._thread.join(WAIT_SECONDS)


def telemetry_topic(device_id, bag=""):
    """The topic of a device's telemetry."""
    return f"devices/{device_id}/messages/events/{bag}"


def message(body, **system):
    """An SDK message with system properties; `custom` is a dictionary of application properties."""
    custom = system.pop("custom", {})
    made = Message(body)
    for name, value in system.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    made.custom_properties.update(custom)
    return made
