"""Devices that prove themselves by client certificates made with openssl: individual ones, chains below groups, roll-over,
revocation; and what an operator is told about a refusal."""

import json
import re
import ssl

import pytest

from devices import Refused, message, telemetry_topic
from openssl import ALGORITHMS, Factory


@pytest.fixture
def factory(tool, tmp_path):
    """A factory with a root, an intermediate below it, and nothing else."""
    factory = Factory(tool, tmp_path / "factory")
    factory.authority("root")
    factory.authority("issuing", "root", path_length=0)
    return factory


def refusal(server, name):
    """The newest refusal of this name, as the operator is told it."""
    found = [record for record in server.objects("why") if record["errorName"] == name]
    assert found, [record["errorName"] for record in server.objects("why")]
    return found[0]


def assert_refused(client, code=5):
    """The server answers CONNECT with this code."""
    with pytest.raises(Refused) as refused:
        client.connect()
    assert refused.value.code == code


def send_and_read(server, devices, device_id, certificate, key, host=None):
    """Sends one message with the SDK; gives its record."""
    client = devices.hub_x509(device_id, certificate, key, host)
    client.connect()
    client.send_message(message("hello", content_type="text/plain"))
    return [record for record in server.tail() if record["device"] == device_id][-1]


@pytest.mark.deadline(120)
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_self_signed_certificate_of_an_individual_enrollment(server, devices, tool, tmp_path, algorithm):
    factory = Factory(tool, tmp_path / "factory")
    certificate = factory.certificate("dev-1", "/CN=dev-1", algorithm=algorithm)
    stored = server.object("enroll", "add", "--registration-id", "dev-1", "--x509", str(certificate))
    info = stored["attestation"]["x509"]["clientCertificates"]["primary"]["info"]
    assert info["subjectName"] == "CN=dev-1" and info["version"] == 3
    assert re.fullmatch(r"[0-9A-F]{64}", info["sha256Thumbprint"]) and re.fullmatch(r"[0-9A-F]{40}", info["sha1Thumbprint"])
    state = devices.register_x509("dev-1", certificate, factory.directory / "dev-1.key")
    record = send_and_read(server, devices, state.device_id, certificate, factory.directory / "dev-1.key", state.assigned_hub)
    assert record["auth_method"] == "x509"
    assert record["key_fingerprint"] == factory.fingerprint("dev-1")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_chain_below_an_intermediate_of_a_group(server, devices, factory, version):
    chain, key = factory.device("dev-1", "issuing", ["issuing"])
    server.object("enroll", "add-group", "--group-id", "line-4", "--intermediate", str(factory.pem("issuing")))
    client = devices.raw_dps_x509("dev-1", chain, key, tls=version)
    client.connect()
    client.subscribe("$dps/registrations/res/#")
    client.publish("$dps/registrations/PUT/iotdps-register/?$rid=1", b"")
    topic, body = client.wait_message()
    state = json.loads(body)["registrationState"]
    assert topic == "$dps/registrations/res/200/?$rid=1"
    assert state["status"] == "assigned" and state["x509"] == {"enrollmentGroupId": "line-4"}
    hub = devices.raw_hub_x509("dev-1", chain, key, tls=version)
    hub.connect()
    hub.publish(telemetry_topic("dev-1"), b"x")
    hub.wait_acknowledged(1)
    [record] = server.tail()
    assert (record["auth_method"], record["key_fingerprint"]) == ("x509", factory.fingerprint("dev-1"))


def test_a_group_below_a_root_with_the_sdk_and_the_device_of_another_factory(server, devices, factory, tool, tmp_path):
    server.object("enroll", "add-group", "--group-id", "all", "--ca", str(factory.pem("root")))
    chain, key = factory.device("dev-1", "issuing", ["issuing"])
    state = devices.register_x509("dev-1", chain, key)
    assert send_and_read(server, devices, state.device_id, chain, key)["auth_method"] == "x509"

    leaf_alone = factory.pem("dev-1")
    assert_refused(devices.raw_dps_x509("dev-1", leaf_alone, key))
    told = refusal(server, "UnknownIssuer")
    assert "intermediates" in told["remedy"] and told["evidence"]["chain"]

    other = Factory(tool, tmp_path / "other")
    other.authority("root")
    other.authority("issuing", "root")
    forged = other.device("dev-1", "issuing", ["issuing"])
    assert_refused(devices.raw_dps_x509("dev-1", *forged))
    assert_refused(devices.raw_hub_x509("dev-1", *forged))


def test_a_certificate_without_its_key_fails_in_the_handshake(server, devices, factory):
    server.object("enroll", "add-group", "--group-id", "all", "--ca", str(factory.pem("root")))
    chain, _ = factory.device("dev-1", "issuing", ["issuing"])
    other = factory.key("other")
    # OpenSSL itself refuses the pair, as every honest TLS library does: the listener's own tests sign wrongly.
    with pytest.raises(ssl.SSLError):
        devices.raw_dps_x509("dev-1", chain, other)


def test_the_common_name_is_the_registration_id(server, devices, factory):
    server.object("enroll", "add-group", "--group-id", "all", "--ca", str(factory.pem("root")))
    chain, key = factory.device("dev-1", "issuing", ["issuing"])
    assert_refused(devices.raw_dps_x509("dev-2", chain, key))
    assert "dev-1" in refusal(server, "CommonName")["cause"]
    # Without case, as registration ids are.
    chain, key = factory.device("DEV-3", "issuing", ["issuing"])
    devices.raw_dps_x509("dev-3", chain, key).connect()


def test_proof_of_possession_makes_an_authority_vouch(server, devices, factory):
    added = server.object("ca", "add", "factory", str(factory.pem("root")))
    assert added["properties"]["isVerified"] is False
    server.object("enroll", "add-group", "--group-id", "all", "--ca", "factory")
    chain, key = factory.device("dev-1", "issuing", ["issuing"])
    assert_refused(devices.raw_dps_x509("dev-1", chain, key))
    assert "ca verify factory" in refusal(server, "CaUnverified")["remedy"]

    code = server.object("ca", "code", "factory")["properties"]["verificationCode"]
    wrong = factory.certificate("wrong", "/CN=0000", "root", extensions="basicConstraints=CA:FALSE\n")
    assert server.fails("ca", "verify", "factory", str(wrong))
    proof = factory.certificate("proof", f"/CN={code}", "root", extensions="basicConstraints=CA:FALSE\n")
    assert server.object("ca", "verify", "factory", str(proof))["properties"]["isVerified"] is True
    assert devices.register_x509("dev-1", chain, key).device_id == "dev-1"


def test_a_revoked_certificate_is_refused_and_why_says_so(server, devices, factory):
    server.object("enroll", "add-group", "--group-id", "all", "--ca", str(factory.pem("root")))
    server.object("enroll", "add-group", "--group-id", "line", "--intermediate", str(factory.pem("issuing")))
    chain, key = factory.device("dev-1", "issuing", ["issuing"])
    chain_2, key_2 = factory.device("dev-2", "issuing", ["issuing"])
    devices.register_x509("dev-1", chain, key)
    devices.raw_hub_x509("dev-1", chain, key).connect()
    server.object("crl", "add", str(factory.revocation_list("issuing", "dev-1")))
    assert_refused(devices.raw_hub_x509("dev-1", chain, key))
    assert_refused(devices.raw_dps_x509("dev-1", chain, key))
    assert "revoked" in refusal(server, "CertificateRevoked")["cause"]
    devices.raw_dps_x509("dev-2", chain_2, key_2).connect()


def test_a_revocation_list_in_a_file_counts_when_the_file_changes(server, devices, factory, tmp_path):
    server.object("enroll", "add-group", "--group-id", "all", "--ca", str(factory.pem("root")))
    server.object("ca", "add", "issuing", str(factory.pem("issuing")))
    chain, key = factory.device("dev-1", "issuing", ["issuing"])
    file = tmp_path / "issuing.crl"
    # Before the start there is no file: that is told, and stops nothing.
    server.stop()
    configuration = server.data / "unicity.toml"
    configuration.write_text(f'[x509]\ncrl_files = ["{file}"]\ncrl_poll_seconds = 1\n')
    server.start()
    [told] = server.objects("crl", "list", "--files")
    assert (told["path"], told["error"]) == (str(file), "FileUnreadable") and told["remedy"]
    assert f"{file}" in server.run("doctor").stdout

    def replace(content):
        new = tmp_path / "new.crl"
        new.write_bytes(content)
        new.rename(file)

    replace(factory.revocation_list("issuing").read_bytes())
    [told] = server.objects("crl", "reload")
    assert (told["issuer"], told["error"]) == ("CN=issuing", None)
    devices.raw_dps_x509("dev-1", chain, key).connect()

    # A file that is no list keeps the one in force.
    replace(b"not a list")
    assert "RevocationList" in server.fails("crl", "reload")
    devices.raw_dps_x509("dev-1", chain, key).connect()

    # Nobody asks: the server sees the change by itself.
    replace(factory.revocation_list("issuing", "dev-1").read_bytes())
    while True:
        [told] = server.objects("crl", "list", "--files")
        if told["error"] is None:
            break
    assert_refused(devices.raw_dps_x509("dev-1", chain, key))
    assert refusal(server, "CertificateRevoked")
    server.object("crl", "remove", "CN=issuing")
    devices.raw_dps_x509("dev-1", chain, key).connect()


def test_a_disabled_group_or_individual_enrollment_blocks(server, devices, factory):
    server.object("enroll", "add-group", "--group-id", "all", "--ca", str(factory.pem("root")))
    server.object("enroll", "add-group", "--group-id", "line", "--intermediate", str(factory.pem("issuing")))
    chain, key = factory.device("dev-1", "issuing", ["issuing"])
    server.object("enroll", "disable", "--group-id", "line")
    client = devices.raw_dps_x509("dev-1", chain, key)
    client.connect()
    client.subscribe("$dps/registrations/res/#")
    client.publish("$dps/registrations/PUT/iotdps-register/?$rid=1", b"")
    assert json.loads(client.wait_message()[1])["status"] == "disabled"


def test_a_renewed_certificate_over_the_same_key_goes_on_and_a_new_key_registers_again(server, devices, factory):
    server.object("enroll", "add-group", "--group-id", "all", "--ca", str(factory.pem("root")))
    chain, key = factory.device("dev-1", "issuing", ["issuing"])
    devices.register_x509("dev-1", chain, key)
    renewed, _ = factory.device("dev-1", "issuing", ["issuing"], key=key, days=60)
    devices.raw_hub_x509("dev-1", renewed, key).connect()

    rekeyed = factory.certificate("rekeyed", "/CN=dev-1", "issuing")
    new_chain = factory.directory / "rekeyed-chain.pem"
    new_chain.write_text(rekeyed.read_text() + factory.pem("issuing").read_text())
    new_key = factory.directory / "rekeyed.key"
    assert_refused(devices.raw_hub_x509("dev-1", new_chain, new_key))
    devices.register_x509("dev-1", new_chain, new_key)
    devices.raw_hub_x509("dev-1", new_chain, new_key).connect()


def test_roll_over_by_a_secondary_certificate(server, devices, tool, tmp_path):
    factory = Factory(tool, tmp_path / "factory")
    first = factory.certificate("first", "/CN=dev-1")
    second = factory.certificate("second", "/CN=dev-1")
    server.object("enroll", "add", "--registration-id", "dev-1", "--x509", str(first), "--x509-secondary", str(second))
    for name, certificate in (("first", first), ("second", second)):
        key = factory.directory / f"{name}.key"
        devices.register_x509("dev-1", certificate, key)
        assert send_and_read(server, devices, "dev-1", certificate, key)["key_fingerprint"] == factory.fingerprint(name)


def test_the_same_key_in_another_enrollment_is_refused(server, tool, tmp_path):
    factory = Factory(tool, tmp_path / "factory")
    key = factory.key("shared")
    first = factory.certificate("first", "/CN=dev-1", key=key)
    second = factory.certificate("second", "/CN=dev-2", key=key)
    server.object("enroll", "add", "--registration-id", "dev-1", "--x509", str(first))
    said = server.fails("enroll", "add", "--registration-id", "dev-2", "--x509", str(second))
    assert "dev-1" in said


def test_an_expired_certificate_is_refused_with_its_dates(server, devices, factory):
    server.object("enroll", "add-group", "--group-id", "all", "--ca", str(factory.pem("root")))
    chain, key = factory.expired_device("dev-1", "issuing", ["issuing"])
    assert_refused(devices.raw_dps_x509("dev-1", chain, key))
    assert "renew" in refusal(server, "CertificateExpired")["remedy"]
