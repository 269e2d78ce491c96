"""loadtest drives a server that it starts itself: every workload once, with few devices, and what makes no sense refused."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from server import primary_key
from test_tpm_blob import ROOT

# The first test builds the program if nobody has.
pytestmark = pytest.mark.deadline(600)

BOOT = ["tcp", "tls", "connect", "subscribe", "register", "assigned"]
SESSION = ["tcp", "tls", "connect"]


@pytest.fixture(scope="session")
def program():
    """The loadtest binary: LOADTEST_BIN, or what cargo builds."""
    if program := os.environ.get("LOADTEST_BIN"):
        return program
    line = [os.environ.get("CARGO", "cargo"), "build", "-q", "-p", "unicity-loadtest", "--bin", "loadtest"]
    done = subprocess.run(line, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "loadtest")


@pytest.fixture
def loadtest(program):
    """Runs loadtest to its end."""

    def run(*args):
        line = [program, *map(str, args)]
        return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture
def spawned(loadtest, binary):
    """Runs a workload against a server of its own; gives its report."""

    def run(workload, *args):
        done = loadtest(workload, "--spawn-server", "--server-bin", binary, "--json", *args)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        report = json.loads(done.stdout)
        assert (report["format"], report["workload"], report["failed"], report["errors"]) == (1, workload, 0, [])
        assert report["settings"]["spawn-server"] == "true"
        return report

    return run


def counts(report):
    """How often each stage was timed."""
    for times in report["stages"]:
        assert times["min_us"] <= times["p50_us"] <= times["p99_us"] <= times["max_us"], times
    return {times["stage"]: times["count"] for times in report["stages"]}


def test_register_with_keys_and_certificates(spawned):
    report = spawned("register", "--devices", 20, "--attestation", "symmetric:50,x509:50", "--concurrency", 4)
    assert counts(report) == dict.fromkeys([*BOOT, "total"], 20)
    assert (report["started"], report["completed"], report["loop_kind"]) == (20, 20, "closed")


def test_zero_touch_resumes_at_the_hub(spawned, tmp_path):
    kept = tmp_path / "kept"
    for versions in ("1.2", "1.3"):
        report = spawned("zero-touch", "--devices", 8, "--credentials", kept, "--tls", versions, "--resume")
        hub = ["hub-tcp", "hub-tls", "hub-connect", "first-puback"]
        assert counts(report) == dict.fromkeys([*BOOT, *hub, "total"], 8)
    assert len(list(kept.glob("lt-*/device.key"))) == 8


def test_an_open_loop_has_both_totals(spawned):
    report = spawned("register", "--devices", 20, "--rate", 40, "--attestation", "symmetric", "--arrivals", "uniform")
    assert counts(report)["total"] == counts(report)["total-uncorrected"] == 20
    assert (report["loop_kind"], report["offered_per_second"]) == ("open", 40.0)


def test_the_highest_rate_is_searched(loadtest, binary):
    done = loadtest(
        *("register", "--spawn-server", "--server-bin", binary, "--attestation", "symmetric", "--find-max", "--json"),
        *("--rate", 10, "--steps", 2, "--step-seconds", 1, "--step-warmup", "100ms", "--objective", "p99<=20s"),
    )
    assert done.stderr.count("step ") == 2, done.stderr
    assert json.loads(done.stdout)["workload"] == "register"


def test_connect_in_both_roles(spawned):
    for role in ("hub", "provisioning"):
        report = spawned("connect", "--devices", 12, "--pool", 6, "--role", role, "--attestation", "symmetric")
        assert counts(report) == dict.fromkeys([*SESSION, "total"], 12)


def test_telemetry_at_both_qualities(spawned):
    report = spawned("telemetry", "--devices", 3, "--messages", 50, "--window", 8, "--attestation", "symmetric")
    assert counts(report) == dict.fromkeys(SESSION, 3) | {"first-puback": 3, "puback": 147}
    assert report["completed"] == 150
    report = spawned("telemetry", "--devices", 2, "--messages", 50, "--qos", 0, "--attestation", "symmetric")
    assert (counts(report), report["completed"]) == (dict.fromkeys(SESSION, 2), 100)


def test_everybody_is_back_after_a_storm(spawned):
    report = spawned("storm", "--devices", 15, "--attestation", "symmetric")
    assert (counts(report)["total"], report["completed"]) == (15, 15)


def test_sessions_are_held_idle_or_sending(spawned):
    report = spawned("hold", "--devices", 10, "--seconds", 1, "--attestation", "symmetric")
    assert (counts(report), report["completed"]) == (dict.fromkeys(SESSION, 10), 10)
    report = spawned("hold", "--devices", 5, "--seconds", 2, "--send-every", "500ms", "--attestation", "symmetric")
    assert counts(report)["first-puback"] == 5 and report["completed"] == counts(report)["total"]


def test_a_server_that_runs_already(loadtest, server, tmp_path):
    key = primary_key(server.enroll_group("load"))
    reported = tmp_path / "report.json"
    done = loadtest(
        *("zero-touch", "--endpoint", server.mqtt, "--ca", server.ca, "--id-scope", server.id_scope),
        *("--group-key", key, "--devices", 5, "--report-json", reported),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: PASS" in done.stdout and "first-puback" in done.stdout, done.stdout
    report = json.loads(reported.read_text())
    assert (report["completed"], report["settings"]["group-key"]) == (5, "(given)")
    assert key not in reported.read_text()
    assert len(server.tail()) == 5


def test_refusals_fail_the_run_and_are_explained(loadtest, server):
    done = loadtest(
        *("register", "--endpoint", server.mqtt, "--ca", server.ca, "--id-scope", server.id_scope),
        *("--group-key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "--devices", 3, "--json"),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads(done.stdout)
    [error] = report["errors"]
    assert (error["stage"], error["kind"], error["count"]) == ("connect", "connack-5", 3)
    assert "not authorized" in error["first"] and report["completed"] == 0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "register",
        "register --endpoint 127.0.0.1",
        "register --endpoint 127.0.0.1 --ca ca.pem",
        "register --endpoint 127.0.0.1 --ca ca.pem --id-scope 0ne1",
        "register --spawn-server --endpoint 127.0.0.1",
        "register --spawn-server --rate 5 --concurrency 7",
        "zero-touch --spawn-server --plain-broker",
        "connect --endpoint 127.0.0.1 --plain-broker --no-tls --role provisioning",
        "register --endpoint 127.0.0.1 --plain-broker --no-tls",
        "telemetry --spawn-server --find-max --qos 0",
        "hold --spawn-server --send-every 20",
    ],
)
def test_what_makes_no_sense_is_usage(loadtest, line):
    done = loadtest(*line.split())
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--help" in done.stderr or "Usage:" in done.stderr, done.stderr


def test_a_missing_server_names_the_remedy(loadtest, tmp_path):
    done = loadtest("register", "--spawn-server", "--server-bin", tmp_path / "nothing", "--devices", 1)
    assert done.returncode == 1
    assert "cargo build" in done.stderr and "-p unicity" in done.stderr, done.stderr
