"""The demo, as a person runs it: a verdict over every attestation, and nothing left behind."""

import json
import os
import re
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.deadline(120)


def run(binary, tmp_path, *args, **environment):
    """Runs `unicity demo`, which must pass."""
    line = [binary, "demo", *args]
    variables = os.environ | {"TMPDIR": str(tmp_path)} | environment
    done = subprocess.run(
        line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, cwd=tmp_path, env=variables
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def demo(binary, tmp_path, *args, **environment):
    """Gives its verdict as JSON and what it says on standard error."""
    done = run(binary, tmp_path, "--json", *args, **environment)
    assert list(tmp_path.iterdir()) == []
    return json.loads(done.stdout), done.stderr


def found(verdict):
    """What was found, by check."""
    return {check["check"]: check["found"] for check in verdict["checks"]}


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
def test_the_three_attestations_are_mixed(binary, tmp_path):
    verdict, said = demo(binary, tmp_path, "--devices", "30", "--messages", "2")
    assert "2 by TPM (swtpm)" in said
    assert verdict["verdict"] == "pass"
    counts = found(verdict)
    assert counts["of these by symmetric key"] == "22"
    assert counts["of these by X.509 certificate"] == "6"
    assert counts["of these by TPM"] == "2"
    [impostor] = [attack for attack in verdict["attacks"] if attack["owner"] == "tpm"]
    assert impostor["seen"].startswith("refused: TPM: TPM2_ActivateCredential"), impostor


# What comes of each attack, and of what kinds the evidence is that the server has of it.
TABLE = {
    "other-topic": ("refused", {"metric"}),
    "takeover": ("took-over", {"leaf"}),
    "register-only": ("accepted", {"leaf"}),
    "old-token": ("refused", {"refusal"}),
    "same-key-other-id": ("refused", {"refusal"}),
    "reissued-certificate": ("refused", {"refusal"}),
    "ping-pong": ("quarantined", {"leaf", "refusal", "standing"}),
    "stale-counter": ("suspected", {"leaf", "standing"}),
    "published-key": ("refused", {"refusal"}),
    "revoked-device": ("revoked", {"leaf", "refusal", "revocation"}),
    "revoked-batch": ("revoked", {"leaf", "refusal", "revocation"}),
    "flipped-bit": ("found", {"finding"}),
}


def seen_by(attack, who):
    """What this side was answered, step by step."""
    return [(step["step"], step["seen"]) for step in attack["steps"] if step["who"] == who]


def evidence_of(attack, kind):
    """Its evidence of one kind."""
    return [item for item in attack["evidence"] if item["kind"] == kind]


def test_what_thieves_try_ends_as_it_should(binary, tmp_path):
    verdict, _ = demo(binary, tmp_path, "--devices", "2", "--messages", "1")
    table = {attack["attack"]: attack for attack in verdict["attacks"]}
    shown = {
        name: (attack["seen"].split(":")[0], {item["kind"] for item in attack["evidence"]})
        for name, attack in table.items()
    }
    assert shown == TABLE
    assert all(attack["ok"] and attack["expected"] == TABLE[name][0] for name, attack in table.items())
    assert {attack["owner"] for attack in table.values()} == {"key", "certificate", "-"}
    assert ("connect with a token of before", "connack") in seen_by(table["old-token"], "thief")
    # The older session learns of it at its next message, which is not stored.
    owner = [seen for _, seen in seen_by(table["takeover"], "owner")]
    assert owner == ["assigned", "accepted", "acknowledged", "closed", "accepted"]
    assert found(verdict)["messages of attacks stored"] == str(
        sum(step["seen"] == "acknowledged" for attack in table.values() for step in attack["steps"])
    )


def test_its_evidence_is_what_the_server_has(binary, tmp_path):
    verdict, _ = demo(binary, tmp_path, "--devices", "2", "--messages", "1")
    table = {attack["attack"]: attack for attack in verdict["attacks"]}
    leaves = {
        (name, item["leaf"]["event"]): item for name, attack in table.items() for item in evidence_of(attack, "leaf")
    }
    assert leaves["takeover", "takenOver"]["leaf"]["deviceId"] == "owner-takeover"
    quarantined, released = (leaves["ping-pong", event]["index"] for event in ("quarantined", "released"))
    assert quarantined < released < verdict["audit"]["size"]

    fight = table["ping-pong"]
    [held] = evidence_of(fight, "standing")
    assert (held["clonePolicy"], held["standing"]["state"]) == ("quarantine", "quarantined")
    steps = [(step["who"], step["step"], step.get("code"), step["seen"]) for step in fight["steps"]]
    release = steps.index(("operator", "release", None, "status"))
    assert steps[release - 2 : release] == [("owner", "connect", 3, "connack"), ("thief", "connect", 3, "connack")]
    assert steps[release + 1 :] == [("owner", "connect", None, "accepted"), ("owner", "publish", None, "acknowledged")]

    for name, sessions in (("revoked-device", 1), ("revoked-batch", 2)):
        [revoked] = evidence_of(table[name], "revocation")
        assert revoked["revoke"]["sessionsCut"] == sessions
        assert 0 < revoked["cutSeenAfterMs"] <= revoked["refusedAfterMs"]
    [refusal] = evidence_of(table["published-key"], "refusal")
    assert "RFC 9500" in refusal["cause"]
    [refusal] = evidence_of(table["reissued-certificate"], "refusal")
    assert refusal["errorCode"] == 409_000 and "owner-reissued-certificate" in refusal["cause"]
    [stale] = evidence_of(table["stale-counter"], "standing")
    assert [item["signal"] for item in stale["standing"]["evidence"]] == ["staleContinuity"]
    [place] = evidence_of(table["flipped-bit"], "finding")
    assert place["file"].startswith("tile/entries/") and place["entry"] == verdict["audit"]["size"] // 2
    assert verdict["message"]["verdict"] == "proven"


def test_what_it_leaves_can_be_verified_by_its_own_words(binary, tmp_path):
    done = run(binary, tmp_path, "--devices", "2", "--messages", "1", "--keep", "kept")
    for line in done.stdout.splitlines():
        assert len(line) <= 120, line
    command = re.search(r"`unicity (audit verify [^`]*)`", done.stderr).group(1)
    checked = subprocess.run(
        [binary, *command.split(), "--json"], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    report = json.loads(checked.stdout)
    assert report["verified"] and f"{report['size']} leaves" in done.stdout and report["root"] in done.stdout
    again = run_fails(binary, tmp_path, "--keep", "kept")
    assert "exists already" in again


def run_fails(binary, tmp_path, *args):
    """Runs a demo that must not begin; gives what it says."""
    done = subprocess.run([binary, "demo", *args], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_without_swtpm_it_says_what_is_missing(binary, tmp_path):
    verdict, said = demo(binary, tmp_path, "--devices", "10", "--messages", "1", PATH="/nowhere")
    assert verdict["verdict"] == "pass"
    assert "swtpm is not installed" in said and "apt-get install swtpm" in said
    assert found(verdict)["of these by TPM"] == "0"


def test_a_swtpm_that_does_not_run_is_no_end(binary, tmp_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bin")
    fake = folder / "swtpm"
    fake.write_text("#!/bin/sh\necho forbidden >&2\nexit 1\n")
    fake.chmod(0o755)
    verdict, said = demo(binary, tmp_path, "--devices", "10", "--messages", "1", PATH=f"{folder}:{os.environ['PATH']}")
    assert verdict["verdict"] == "pass"
    assert "swtpm does not answer" in said and "forbidden" in said
    assert found(verdict)["of these by TPM"] == "0"


def test_many_hubs_are_spread_drained_and_checked(binary, tmp_path):
    verdict, said = demo(binary, tmp_path, "--hubs", "3", "--devices", "40", "--messages", "2", "--move-rate", "100")
    assert verdict["verdict"] == "pass", verdict
    assert "drain    hub-3" in said and "weight 2" in said
    hubs = {hub["hub"]: hub for hub in verdict["hubs"]}
    assert sum(hub["before"] for hub in hubs.values()) == sum(hub["after"] for hub in hubs.values()) == 40
    assert hubs["hub-3"]["before"] > 0 and hubs["hub-3"]["after"] == 0
    assert verdict["moves"]["moved"] == hubs["hub-3"]["before"] and verdict["moves"]["stayed"] == 0
    assert found(verdict)["devices connected at their hub and no other"] == "40"
    assert verdict["audit"]["verified"] and verdict["message"]["verdict"] == "proven"


def test_many_hubs_are_shown_to_people(binary, tmp_path):
    done = run(binary, tmp_path, "--hubs", "2", "--devices", "10", "--messages", "1")
    assert "after the drain" in done.stdout and "verdict: PASS" in done.stdout
