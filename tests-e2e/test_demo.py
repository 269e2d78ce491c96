"""The demo, as a person runs it: a verdict over every attestation, and nothing left behind."""

import json
import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.deadline(120)


def demo(binary, tmp_path, *args, **environment):
    """Runs `unicity demo`; gives its verdict as JSON and what it says on standard error."""
    line = [binary, "demo", "--json", *args]
    variables = os.environ | {"TMPDIR": str(tmp_path)} | environment
    done = subprocess.run(
        line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, cwd=tmp_path, env=variables
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert list(tmp_path.iterdir()) == []
    return json.loads(done.stdout), done.stderr


def found(verdict):
    """What was found, by check."""
    return {check["check"]: check["found"] for check in verdict["checks"]}


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
def test_the_three_attestations_are_mixed(binary, tmp_path):
    verdict, _ = demo(binary, tmp_path, "--devices", "30", "--messages", "2")
    assert verdict["verdict"] == "pass"
    counts = found(verdict)
    assert counts["of these by symmetric key"] == "22"
    assert counts["of these by X.509 certificate"] == "6"
    assert counts["of these by TPM"] == "2"
    [impostor] = [attack for attack in verdict["attacks"] if attack["owner"] == "tpm"]
    assert impostor["seen"].startswith("refused: TPM: TPM2_ActivateCredential"), impostor


def test_what_thieves_try_ends_as_it_should(binary, tmp_path):
    verdict, _ = demo(binary, tmp_path, "--devices", "2", "--messages", "1")
    assert {attack["owner"] for attack in verdict["attacks"]} == {"key", "certificate"}
    table = {attack["attack"]: attack for attack in verdict["attacks"]}
    assert {name: attack["seen"].split(":")[0] for name, attack in table.items()} == {
        "other-topic": "refused",
        "takeover": "took-over",
        "register-only": "accepted",
        "old-token": "refused",
        "same-key-other-id": "refused",
        "reissued-certificate": "refused",
    }
    assert all(attack["ok"] for attack in table.values())
    steps = [step["step"] for step in table["old-token"]["steps"] if step["who"] == "thief"]
    assert "connect with a token of before" in steps, steps
    # The older session learns of it at its next message, which is not stored.
    owner = [step["seen"] for step in table["takeover"]["steps"] if step["who"] == "owner"]
    assert owner == ["assigned", "accepted", "acknowledged", "closed", "accepted"]
    assert found(verdict)["messages of attacks stored"] == str(
        sum(step["seen"] == "acknowledged" for attack in table.values() for step in attack["steps"])
    )


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
