"""A TPM takes the part of a device, for real: swtpm behind tpm2-tools reads its keys, gets the challenge over HTTPS, activates,
imports, signs, registers, and connects to its hub over MQTT with the key that only it could open."""

import base64
import http.client
import json
import ssl
import time
import urllib.parse

import pytest

from devices import Refused, telemetry_topic
from test_tpm_blob import Parts, new_tpm, tpm  # noqa: F401: fixtures

# A software TPM makes RSA keys slowly.
pytestmark = pytest.mark.deadline(300)


class TpmDevice:
    """A device whose key never leaves its TPM."""

    def __init__(self, server, tpm, ek_kind):
        self.server, self.tpm = server, tpm
        self.ek = tpm.make_ek(ek_kind)
        self.srk = tpm.make_srk("rsa")

    def call(self, registration_id, token=None):
        """PUT .../register; gives status and body."""
        scope = self.server.id_scope
        path = f"/{scope}/registrations/{registration_id}/register?api-version=2019-03-31"
        keys = {"endorsementKey": b64(self.ek), "storageRootKey": b64(self.srk)}
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if token:
            headers["Authorization"] = token
        context = ssl.create_default_context(cafile=str(self.server.ca))
        connection = http.client.HTTPSConnection(*self.server.https.rsplit(":", 1), context=context, timeout=20)
        body = json.dumps({"registrationId": registration_id, "tpm": keys})
        connection.request("PUT", path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)

    def take(self, blob):
        """ActivateCredential, Import and Load."""
        parts = Parts(base64.b64decode(blob))
        self.tpm.activate(parts)
        self.tpm.import_key(parts)

    def token(self, resource, policy=None):
        """A SAS token, signed inside the TPM."""
        resource = urllib.parse.quote(resource, safe="")
        expiry = int(time.time()) + 3600
        signature = urllib.parse.quote(b64(self.tpm.sign(f"{resource}\n{expiry}".encode())), safe="")
        named = f"&skn={policy}" if policy else ""
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}{named}"

    def register(self, registration_id):
        """The whole of it; gives the registration state."""
        status, challenge = self.call(registration_id)
        assert status == 401 and challenge["keyName"] == "registration", challenge
        assert "status" not in challenge and challenge["unencryptedAuthenticationKey"] is None
        self.take(challenge["authenticationKey"])
        token = self.token(f"{self.server.id_scope}/registrations/{registration_id}", "registration")
        status, answer = self.call(registration_id, token)
        assert status == 200, answer
        return answer["registrationState"]


def b64(data):
    """Base64 as text."""
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("ek_kind", ["rsa", "ecc"])
@pytest.mark.parametrize("second_blob", [True, False])
def test_a_tpm_registers_and_streams(server, devices, tpm, ek_kind, second_blob):  # noqa: F811
    device = TpmDevice(server, tpm, ek_kind)
    server.object("enroll", "add", "--registration-id", "tpm-1", "--tpm-ek", b64(device.ek))
    state = device.register("tpm-1")
    assert (state["status"], state["deviceId"]) == ("assigned", "tpm-1")
    if second_blob:
        # C and Node import the key of the assigned answer over the first one; C# goes on with the first.
        device.take(state["tpm"]["authenticationKey"])
    host = state["assignedHub"]
    client = devices._raw("tpm-1", f"{host}/tpm-1/?api-version=2019-10-01", device.token(f"{host}/devices/tpm-1"), {})
    client.connect()
    client.publish(telemetry_topic("tpm-1"), b"from a TPM")
    client.wait_acknowledged(1)
    [record] = server.tail()
    assert record["device"] == "tpm-1" and base64.b64decode(record["body"]) == b"from a TPM"
    # Registering again keeps the identity.
    again = device.register("tpm-1")
    assert again["deviceId"] == "tpm-1"


def test_another_tpm_is_refused(server, tpm, new_tpm):  # noqa: F811
    device = TpmDevice(server, tpm, "rsa")
    server.object("enroll", "add", "--registration-id", "tpm-1", "--tpm-ek", b64(device.ek))
    stranger = TpmDevice(server, new_tpm(), "rsa")
    status, body = stranger.call("tpm-1")
    assert status == 400 and body["errorCode"] == 400004, body
    # With the right public key, and no TPM that holds it.
    stranger.ek = device.ek
    status, challenge = stranger.call("tpm-1")
    assert status == 401
    with pytest.raises(Exception):
        stranger.take(challenge["authenticationKey"])
    status, _ = stranger.call("nobody-1")
    assert status in (401, 404)


def test_a_token_that_the_tpm_did_not_sign_is_refused(server, devices, tpm):  # noqa: F811
    device = TpmDevice(server, tpm, "rsa")
    server.object("enroll", "add", "--registration-id", "tpm-1", "--tpm-ek", b64(device.ek))
    forged = devices.raw_dps_token("tpm-1", b64(bytes(32)))
    status, body = device.call("tpm-1", forged)
    assert (status, body["errorCode"]) == (401, 401002)
    with pytest.raises(Refused):
        devices.raw_dps("tpm-1", forged).connect()


def test_the_same_endorsement_key_in_two_enrollments_is_refused(server, tpm):  # noqa: F811
    device = TpmDevice(server, tpm, "rsa")
    server.object("enroll", "add", "--registration-id", "tpm-1", "--tpm-ek", b64(device.ek))
    assert "tpm-1" in server.fails("enroll", "add", "--registration-id", "tpm-2", "--tpm-ek", b64(device.ek))
