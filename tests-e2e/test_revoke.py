"""One revoke ends it all (U7): enrollment, hub identity, live sessions, tokens; for every kind of target, and over a crash."""

import json

import pytest

import sas
from devices import Refused
from openssl import Factory
from server import primary_key

NOT_AUTHORIZED = 5


@pytest.fixture
def factory(tool, tmp_path):
    """A root, an issuing authority, and devices, all made by openssl."""
    made = Factory(tool, tmp_path / "factory")
    made.authority("root")
    made.authority("issuing", "root", path_length=0)
    return made


def refused_for_good(client):
    with pytest.raises(Refused) as refused:
        client.connect()
    assert refused.value.code == NOT_AUTHORIZED


def assert_ended(server, devices, name, key):
    """Neither role lets it in."""
    refused_for_good(devices.raw_hub(name, key))
    refused_for_good(devices.raw_dps(name, devices.raw_dps_token(name, key)))


def on_line(devices, name, key):
    """Registered, and connected to its hub."""
    devices.register(name, key)
    client = devices.raw_hub(name, key)
    client.connect()
    return client


def test_a_device_ends_everywhere_and_for_ever(server, devices):
    key = primary_key(server.enroll("dev-1"))
    other_key = primary_key(server.enroll("dev-2"))
    live, other = on_line(devices, "dev-1", key), on_line(devices, "dev-2", other_key)
    registering = devices.raw_dps("dev-1", devices.raw_dps_token("dev-1", key))
    registering.connect()

    before = server.object("revoke", "--registration-id", "dev-1", "--dry-run")
    assert (before["devices"], before["sessions"], before["inForce"]) == (1, 2, False)
    done = server.object("revoke", "--registration-id", "dev-1", "--reason", "stolen")
    assert (done["sessionsCut"], done["keysDenied"], done["rowsEnded"], done["rowsFollow"]) == (2, 2, 1, False)
    assert 0 < done["syncMs"] <= done["durableMs"]
    live.wait_closed()
    registering.wait_closed()
    assert_ended(server, devices, "dev-1", key)

    # What was answered holds after a crash.
    server.kill()
    server.start()
    assert_ended(server, devices, "dev-1", key)
    for show in (["enroll", "show", "dev-1"], ["registration", "show", "dev-1"], ["device", "show", "dev-1"]):
        assert server.object(*show)["revoked"]["revoked"] == "registration dev-1", show
    assert server.object("device", "show", "dev-1")["statusReason"] == "revoked"
    [listed] = server.objects("revoke", "--list")
    assert (listed["target"], listed["reason"], listed["complete"]) == ({"registrationId": "dev-1"}, "stolen", True)

    # Nothing brings it or its key back but a new key after the lift.
    assert "registration dev-1 was revoked" in server.fails("enroll", "enable", "dev-1")
    assert "registration dev-1 was revoked" in server.fails("device", "enable", "dev-1")
    again = ["enroll", "add", "--registration-id", "dev-3", "--symmetric-key", key]
    refused = server.fails(*again)
    assert "registration dev-1 was revoked" in refused and "--replace" not in refused, refused
    assert "--replace" in server.fails("enroll", "add", "--registration-id", "dev-2", "--generate-key")
    server.command("revoke", "--registration-id", "dev-1", "--lift")
    assert "is denied" in server.fails(*again)
    assert server.objects("revoke", "--list") == []
    other = devices.raw_hub("dev-2", other_key)
    other.connect()


def test_a_key_a_batch_and_an_unknown_id(server, devices):
    keys = {name: primary_key(server.enroll(name, "--batch", "spring")) for name in ("dev-1", "dev-2")}
    keys["dev-3"] = primary_key(server.enroll("dev-3", "--batch", "autumn"))
    live = {name: on_line(devices, name, key) for name, key in keys.items()}
    assert {item["registrationId"] for item in server.objects("enroll", "list", "--batch", "spring")} == {"dev-1", "dev-2"}

    # More than one device, and nobody to be asked.
    asked = server.run("revoke", "--batch", "spring")
    assert asked.returncode == 2 and "2 devices" in asked.stderr, asked.stderr
    done = server.object("revoke", "--batch", "spring", "--yes")
    assert (done["sessionsCut"], done["rowsFollow"], done["rowsFollowed"]) == (2, True, 2)
    for name in ("dev-1", "dev-2"):
        live[name].wait_closed()
        assert_ended(server, devices, name, keys[name])
        assert server.object("device", "show", name)["status"] == "disabled"
    assert not live["dev-3"].is_closed

    [record] = [r for r in server.objects("device", "list") if r["deviceId"] == "dev-3"]
    fingerprint = record["keyFingerprints"][0]
    done = server.object("revoke", "--key-fingerprint", fingerprint)
    assert (done["sessionsCut"], done["keysDenied"]) == (1, 2)
    live["dev-3"].wait_closed()
    assert_ended(server, devices, "dev-3", keys["dev-3"])

    unknown = server.fails("revoke", "--batch", "sprign", "--yes")
    assert "enrollment with the batch label sprign" in unknown and "--force" in unknown, unknown
    assert "--force" in server.fails("revoke", "--registration-id", "nobody")
    server.command("revoke", "--registration-id", "nobody", "--force")
    assert "registration nobody was revoked" in server.fails(
        "enroll", "add", "--registration-id", "nobody", "--generate-key"
    )


def test_a_group_with_its_members_over_a_crash(server, devices):
    group_key = primary_key(server.enroll_group("line"))
    names = [f"dev-{n}" for n in range(4)]
    keys = {name: sas.device_key(group_key, name) for name in names}
    live = [on_line(devices, name, keys[name]) for name in names[:3]]
    done = server.object("revoke", "--group", "line", "--yes", "--no-wait")
    assert (done["sessionsCut"], done["rowsFollow"]) == (3, True)
    # Whether its rows had followed or not: they do now.
    server.kill()
    for client in live:
        client.wait_closed()
    server.start()
    for name in names[:3]:
        assert_ended(server, devices, name, keys[name])
    refused_for_good(devices.raw_dps("dev-3", devices.raw_dps_token("dev-3", keys["dev-3"])))
    again = server.object("revoke", "--group", "line", "--yes")
    assert again["rowsFollowed"] == 3
    for name in names[:3]:
        assert server.object("device", "show", name)["statusReason"] == "revoked"
    assert server.object("enroll", "show", "--group-id", "line")["revoked"]["target"] == {"groupId": "line"}
    assert "enrollment group line was revoked" in server.fails("enroll", "enable", "--group-id", "line")


def test_a_certificate_and_then_its_authority(server, devices, factory):
    server.object("ca", "add", "factory", str(factory.pem("root")), "--verified")
    server.object("enroll", "add-group", "--group-id", "all", "--ca", "factory")
    made = {name: factory.device(name, "issuing", ["issuing"]) for name in ("dev-1", "dev-2")}
    live = {}
    for name, (chain, key) in made.items():
        devices.register_x509(name, chain, key)
        live[name] = devices.raw_hub_x509(name, chain, key)
        live[name].connect()
    done = server.object("revoke", "--certificate", str(factory.pem("dev-1")))
    assert done["sessionsCut"] == 1
    live["dev-1"].wait_closed()
    refused_for_good(devices.raw_hub_x509("dev-1", *made["dev-1"]))
    refused_for_good(devices.raw_dps_x509("dev-1", *made["dev-1"]))
    assert not live["dev-2"].is_closed

    # How many it means, nobody can count: it always asks.
    asked = server.run("revoke", "--ca", "factory")
    assert asked.returncode == 2 and "certificate chain leads to it, at least" in asked.stderr, asked.stderr
    done = server.object("revoke", "--ca", "factory", "--yes")
    assert done["sessionsCut"] == 1
    live["dev-2"].wait_closed()
    refused_for_good(devices.raw_hub_x509("dev-2", *made["dev-2"]))
    refused_for_good(devices.raw_dps_x509("dev-2", *made["dev-2"]))
    assert done["rowsFollowed"] == 2


def test_a_list_a_rule_and_a_removed_group_cut_live_sessions(server, devices, factory):
    server.object("enroll", "add-group", "--group-id", "all", "--ca", str(factory.pem("root")))
    live = {}
    for name in ("dev-1", "dev-2", "dev-3"):
        chain, key = factory.device(name, "issuing", ["issuing"])
        devices.register_x509(name, chain, key)
        live[name] = devices.raw_hub_x509(name, chain, key)
        live[name].connect()
    server.object("ca", "add", "issuing", str(factory.pem("issuing")))
    server.object("crl", "add", str(factory.revocation_list("issuing", "dev-1")))
    live["dev-1"].wait_closed()
    server.command("deny", "--certificate", str(factory.pem("dev-2")))
    live["dev-2"].wait_closed()
    assert not live["dev-3"].is_closed


def test_the_preview_and_the_steps_are_told_to_people(server, devices):
    key = primary_key(server.enroll("dev-1"))
    live = on_line(devices, "dev-1", key)
    shown = server.run("revoke", "--registration-id", "dev-1", "--dry-run").stderr
    assert "1 device, 1 live session, 2 keys" in shown
    told = server.run("revoke", "--registration-id", "dev-1").stderr
    live.wait_closed()
    assert "revoked, durably" in told and "the disk:" in told and "1 session" in told
    assert json.loads(server.command("revoke", "--list", "--json"))["complete"] is True
