"""device-sim against the server, as a person runs it: thieves, devices with a bad life, a device with a TPM."""

import json
import subprocess

import pytest

from server import primary_key

# The first test builds the program if nobody has.
pytestmark = pytest.mark.deadline(600)


@pytest.fixture
def device_sim(program, server):
    """Runs device-sim against the server; gives its exit code and the objects that it prints."""

    def run(*args):
        line = [
            *(program, "--endpoint", server.mqtt, "--ca", str(server.ca), "--id-scope", server.id_scope),
            *("--https-port", server.https.rsplit(":", 1)[1], "--json", *map(str, args)),
        ]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, [json.loads(text) for text in done.stdout.splitlines()]

    return run


def stored(server):
    """How many messages are stored."""
    return len(server.tail())


def test_a_bad_life_is_a_good_one(server, device_sim):
    key = primary_key(server.enroll_group("flaky"))
    code, events = device_sim("--group-key", key, "--count", 20, "--flaky", "all", "--interruptions", 5, "--seed", 3)
    assert code == 0, events[-1]
    assert events[-1]["flaky"] == {"devices": 20, "untroubled": 20, "taken": 0}
    lives = [event for event in events if event["event"] == "flaky"]
    assert {kind for life in lives for kind in life["disturbances"]} == {
        *("drop", "vanish", "sleep", "renew", "move", "reboot")
    }
    assert stored(server) == sum(life["acknowledged"] for life in lives)


def test_thieves_are_seen_by_what_the_server_does(server, device_sim):
    key = primary_key(server.enroll_group("clones"))
    code, events = device_sim("--group-key", key, "--count", 2, "--clones", 2, "--rounds", 2)
    assert code == 0, events[-1]
    table = {row["attack"]: row for row in events[-1]["attacks"]}
    assert {name: row["seen"] for name, row in table.items()} == {
        "takeover": "took-over",
        "ping-pong": "traded",
        "register-only": "accepted",
        "old-token": "refused: CONNACK 5",
        "reissued-certificate": "impossible: the owner has no certificate",
        "same-key-other-id": "refused: CONNACK 5",
        "other-topic": "refused: connection closed",
        "overlap": "took-over",
    }
    assert all(row["count"] == 2 for row in table.values())
    assert stored(server) == sum(event["acknowledged"] for event in events if event["event"] == "attack")


def test_a_tpm_is_enrolled_by_its_key_and_registers(server, device_sim, program, tool, tmp_path):
    tool("swtpm", "swtpm")
    tpm = ["--tpm", "ecc", "--tpm-state", str(tmp_path / "tpm"), "--registration-id", "tpm-1"]
    line = [program, "--endpoint", server.mqtt, "--ca", str(server.ca), "--id-scope", server.id_scope, *tpm]
    key = subprocess.run([*line, "--print-endorsement-key"], capture_output=True, text=True, check=True).stdout.strip()
    server.object("enroll", "add", "--registration-id", "tpm-1", "--tpm-ek", key)
    code, [summary] = device_sim(*tpm, "--messages", 2)
    assert (code, summary["acknowledged"]) == (0, 2), summary
    # Another TPM is another device, and a clone of this one has nothing to show.
    code, [summary] = device_sim("--tpm", "ecc", "--registration-id", "tpm-1")
    assert code == 1 and summary["errors"][0]["kind"] == "registration-rejected", summary
    code, events = device_sim(*tpm, "--clones", 1, "--attack", "takeover,register-only")
    assert code == 0, events
    assert [row["seen"].split(":")[0] for row in events[-1]["attacks"]] == ["impossible", "refused"]
