"""End-to-end tests: the unicity binary as a child process, driven only through its outer interfaces by real clients.

`cargo xtask test` runs them, `cargo xtask test --only e2e -- -k takeover` some of them. By hand, after one of these:
`UNICITY_BIN=target/debug/unicity target/python/bin/python -m pytest tests-e2e -k takeover`.

The SDKs can only speak to port 8883, so every server has a loopback address of its own. Nothing sleeps: tests wait for
lines, packets and exits, each wait has a deadline, and so has each test.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

import loopback
from devices import Devices
from server import Server

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def binary():
    """The unicity binary, as UNICITY_BIN names it."""
    path = os.environ.get("UNICITY_BIN")
    if not path:
        pytest.fail("UNICITY_BIN must name the unicity binary; `cargo xtask test` sets it")
    path = Path(path).resolve()
    assert os.access(path, os.X_OK), f"{path} is no executable file"
    return path


@pytest.fixture(scope="session")
def program():
    """The device-sim binary: as DEVICE_SIM_BIN names it, else cargo brings it up to date."""
    if named := os.environ.get("DEVICE_SIM_BIN"):
        return str(Path(named).resolve())
    line = [os.environ.get("CARGO", "cargo"), "build", "-q", "-p", "unicity-device-sim", "--bin", "device-sim"]
    done = subprocess.run(line, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return f"{target}/debug/device-sim"


@pytest.fixture
def address():
    """A loopback address whose port 8883 is ours for the time of the test."""
    with loopback.reserved() as address:
        yield address


@pytest.fixture
def initialised(binary, address, tmp_path):
    """A server with an initialised data directory that is not running. Stopped at the end, whatever the test left."""
    server = Server(binary, tmp_path / "data", address, tmp_path / "serve.log")
    server.init()
    yield server
    server.end()


@pytest.fixture
def server(initialised):
    """A server that accepts."""
    return initialised.start()


@pytest.fixture
def backend(initialised):
    """A server that accepts HTTPS on port 443, the only one that Node's service SDKs know. Its address is this test's own."""
    return initialised.start(https=f"{initialised.address}:443")


@pytest.fixture
def devices(initialised):
    """Makes clients of the server, and closes them at the end."""
    with Devices(initialised) as devices:
        yield devices


@pytest.fixture(scope="session")
def links(binary):
    """Goes on only where hubs of other nodes can be linked, which a build without outbound calls cannot."""
    done = subprocess.run([binary, "hub", "link", "--help"], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        pytest.skip("this binary has no `unicity hub link`")


@pytest.fixture
def tool():
    """Finds a program of the system, or fails with the remedy: a missing tool is no reason to skip."""

    def find(name, package):
        path = shutil.which(name)
        if path is None:
            pytest.fail(f"{name} is not installed: apt-get install {package}; `cargo xtask test` does")
        return path

    return find


# The watchdog. A signal interrupts every wait of the main thread, also those inside an SDK.


def _watched(item):
    marker = item.get_closest_marker("deadline")
    seconds = marker.args[0] if marker else 60

    def expired(_signal, _frame):
        # Not an Exception: the SDK would wrap it.
        pytest.fail(f"not done after {seconds} s")

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        return (yield)
    finally:
        signal.alarm(0)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item):
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows what the server logged beside a failure."""
    report = yield
    server = getattr(item, "funcargs", {}).get("initialised")
    if report.failed and server is not None:
        report.sections.append(("the server's log", server.log_tail()))
    return report
