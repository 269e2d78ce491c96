"""Fleets of device-sim: the bundled ones, one whose server crashes, one that remembers, one that is told to stop."""

import json
import signal
import subprocess

import pytest

from server import Lines, primary_key

# The first test builds the program if nobody has.
pytestmark = pytest.mark.deadline(600)

EVENT_SECONDS = 60
END_SECONDS = 60
DEVICES = 12

# Endless, so that whatever a test waits for happens in the middle of it.
ENDLESS = """
[[group]]
name = "endless"
count = %d
id = "endless-{n:02}"
attestation.group_key = {}
reconnect = { base = "50ms", factor = 2, cap = "500ms", jitter = "full" }

[group.telemetry]
interval = "20ms"
jitter = 0.5
body = '{"device":"${device_id}","sequence":${sequence}}'
properties = { sequence = "${sequence}" }
"""


class Run:
    """A fleet that runs, with its events as they come; use it in a `with`."""

    def __init__(self, line):
        self.process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._lines = Lines(self.process.stdout)
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(END_SECONDS)
        self.process.stderr.close()

    def next(self):
        """The next event, or None at the end."""
        line = self._lines.next(EVENT_SECONDS)
        if line is None:
            return None
        self.events.append(json.loads(line))
        return self.events[-1]

    def until(self, wanted):
        """The first event from now on that is wanted."""
        while (event := self.next()) is not None:
            if wanted(event):
                return event
        raise AssertionError(f"the fleet ended: {self.events[-3:]} {self.process.stderr.read()}")

    def end(self):
        """Exit code and summary."""
        while self.next() is not None:
            pass
        code = self.process.wait(END_SECONDS)
        assert self.events and self.events[-1]["event"] == "summary", self.process.stderr.read()
        return code, self.events[-1]

    def named(self, name):
        """All events of a name so far."""
        return [event for event in self.events if event["event"] == name]


@pytest.fixture
def fleet(program, server):
    """Starts a fleet against the server, with a group's key."""
    key = primary_key(server.enroll_group("fleet"))

    def start(plan, *extra):
        line = [
            *(program, "run", str(plan), "--endpoint", server.mqtt, "--ca", str(server.ca)),
            *("--id-scope", server.id_scope, "--group-key", key, "--events", "-", *map(str, extra)),
        ]
        return Run(line)

    return start


@pytest.fixture
def endless(tmp_path):
    """The path of an endless fleet's file."""
    path = tmp_path / "endless.toml"
    path.write_text(ENDLESS % DEVICES)
    return path


def stored(server):
    """Device and sequence of each stored message."""
    return [(record["device"], int(record["properties"]["sequence"])) for record in server.tail()]


@pytest.mark.parametrize(
    ("scenario", "groups"),
    [("weather-station", 1), ("connected-car", 1), ("factory-floor", 2), ("flaky-network", 1)],
)
def test_each_scenario_runs_small(server, fleet, scenario, groups):
    with fleet(scenario, "--count", 3, "--messages", 6, "--interval", "20ms", "--at-once") as run:
        code, summary = run.end()
    assert code == 0, summary
    assert summary["acknowledged"] == summary["sent"] == 18 * groups, summary
    assert summary["distinct_identities"] == 3 * groups
    kept = stored(server)
    assert len(set(kept)) == 18 * groups
    assert {sequence for _, sequence in kept} == set(range(6))


def test_a_scenario_of_clones_tells_what_copies_are_good_for(fleet):
    with fleet("clones", "--count", 2, "--messages", 2, "--interval", "20ms") as run:
        code, summary = run.end()
    assert code == 0, summary
    assert {(row["attack"], row["seen"], row["count"]) for row in summary["attacks"]} == {
        ("takeover", "took-over", 2),
        ("ping-pong", "traded", 2),
        ("register-only", "accepted", 2),
    }
    assert {event["device"] for event in run.named("attack")} == {"cloned-001", "cloned-002"}


def test_a_crash_of_the_server_loses_nothing_and_everybody_comes_back(server, fleet, endless):
    with fleet(endless) as run:
        connected = set()
        while len(connected) < DEVICES:
            connected.add(run.until(lambda event: event["event"] == "connected")["device"])
        run.until(lambda event: event["event"] == "acknowledged")
        server.kill()
        run.until(lambda event: event["event"] == "reconnecting")
        server.start()
        back = set()
        while len(back) < DEVICES:
            back.add(run.until(lambda event: event["event"] == "connected" and "outage_ms" in event)["device"])
        run.until(lambda event: event["event"] == "acknowledged")
        run.process.send_signal(signal.SIGTERM)
        code, summary = run.end()
    assert code == 0, summary
    assert summary["outages"] == summary["reconnects"] >= DEVICES, summary
    assert summary["stopped"] and summary["cut_off"] == 0
    # A device's messages are acknowledged in order, and all were: what is stored has no gap and no less.
    assert summary["sent"] == summary["acknowledged"]
    kept = set(stored(server))
    assert len(kept) == summary["acknowledged"]
    for device in connected:
        sequences = {sequence for owner, sequence in kept if owner == device}
        assert sequences == set(range(len(sequences))), device


def test_a_second_run_knows_its_hub_and_a_fresh_one_asks_again(fleet, endless, tmp_path):
    state = tmp_path / "state"
    counts = []
    for extra in ([], [], ["--fresh"]):
        with fleet(endless, "--messages", 2, "--state", state, *extra) as run:
            code, summary = run.end()
        assert code == 0, summary
        counts.append((summary["provisioned"], summary["remembered"], len(run.named("registered"))))
    assert counts == [(DEVICES, 0, DEVICES), (0, DEVICES, 0), (DEVICES, 0, DEVICES)]


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_what_is_in_flight_and_sums_up(server, fleet, endless, told):
    with fleet(endless) as run:
        run.until(lambda event: event["event"] == "acknowledged")
        run.process.send_signal(told)
        code, summary = run.end()
    assert code == 0 and summary["stopped"], summary
    assert summary["sent"] == summary["acknowledged"] == len(set(stored(server)))
    assert {event["reason"] for event in run.named("disconnected")} == {"stopped"}


def test_a_short_token_is_renewed_before_it_ends(fleet, endless):
    token = 'token = { ttl = "4s", renew_before = "3s" }\n'
    endless.write_text(endless.read_text().replace("[group.telemetry]", token + "[group.telemetry]"))
    with fleet(endless, "--count", 2) as run:
        run.until(lambda event: event["event"] == "renewed")
        run.process.send_signal(signal.SIGTERM)
        code, summary = run.end()
    assert code == 0 and summary["renewals"] >= 1 and summary["outages"] == 0, summary


def test_what_cannot_begin_has_an_exit_code_of_its_own(program, fleet, tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[[group]]\nname = "a"\nid = "a"\nattestation.group_key = {}\ntelemetry.interval = "soon"\n')
    with fleet(wrong) as run:
        assert run.process.wait(END_SECONDS) == 2
        assert "line 5: group.telemetry.interval" in run.process.stderr.read()
    listed = subprocess.run([program, "scenarios"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == [
        *("weather-station", "connected-car", "factory-floor", "flaky-network", "clones")
    ]
    shown = subprocess.run([program, "scenarios", "show", "clones"], capture_output=True, text=True, check=True)
    assert "[[group]]" in shown.stdout
