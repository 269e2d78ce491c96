"""The report of loadtest as its reader gets it: a page in a browser, a comparison on a terminal."""

import json
import math
import os
import re
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from test_tpm_blob import ROOT

# The first test builds the program if nobody has.
pytestmark = pytest.mark.deadline(600)

CHARTS = ["throughput", "percentiles", "stages", "server-cpu", "server-memory", "sessions"]


@pytest.fixture(scope="session")
def loadtest():
    """Runs the loadtest binary: LOADTEST_BIN, or what cargo builds."""
    program = os.environ.get("LOADTEST_BIN")
    if not program:
        line = [os.environ.get("CARGO", "cargo"), "build", "-q", "-p", "unicity-loadtest", "--bin", "loadtest"]
        done = subprocess.run(line, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "loadtest"

    def run(*args):
        line = [program, *map(str, args)]
        return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def browser(tool, tmp_path):
    """Runs a browser without a window on a page; gives what it printed. Nothing of it is left on this machine's profile."""
    program = tool("chromium", "chromium")

    def run(page, *args):
        line = [
            *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", "--disable-extensions", f"--user-data-dir={tmp_path / 'profile'}"),
            *(*args, page.as_uri()),
        ]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def stage(name, median_us, count=18_000):
    """Times of a stage: a slow tail of 1 in 200."""
    nines = [point / 20 for point in range(1, 86)]
    value = [round(median_us * (0.7 + 0.45 * n) * (1 if n < 2.3 else 6 + n)) for n in nines]
    at = dict(zip(nines, value, strict=True))
    quantiles = [(0.0, median_us // 2), *zip([1 - 10**-n for n in nines], value, strict=True), (1.0, value[-1] * 2)]
    return {
        "stage": name,
        "count": count,
        "min_us": median_us // 2,
        "mean_us": median_us * 1.1,
        "p50_us": median_us,
        "p90_us": at[1.0],
        "p99_us": at[2.0],
        "p999_us": at[3.0],
        "max_us": value[-1] * 2,
        "quantiles": quantiles,
    }


def report(**fields):
    """A report of zero touch with a stall in the middle."""
    seconds = [
        {
            "at": float(at),
            "completed": 130 if at == 30 else 880 + round(40 * math.sin(at * 1.7)),
            "failed": 9 if at == 30 else 0,
            "messages": 880,
            "connected": min(at * 880, 52_000),
            "server_cpu_ms": 190.0 if at == 30 else 935.0 + 20 * math.sin(at * 2.3),
            "server_rss_bytes": (40 << 20) + at * 14_700_000,
        }
        for at in range(1, 61)
    ]
    usage = {
        "cpu_us": 55_000_000,
        "cores": 0.92,
        "cpu_us_per_operation": 1042.5,
        "rss_before_bytes": 40 << 20,
        "rss_after_bytes": seconds[-1]["server_rss_bytes"],
        "rss_peak_bytes": seconds[-1]["server_rss_bytes"],
        "bytes_per_connection": 16_745.0,
        "context_switches": 412_345,
        "cores_allowed": 1,
    }
    stages = [("tcp", 90), ("tls", 1900), ("connect", 210), ("subscribe", 150), ("register", 700), ("assigned", 1400)]
    stages += [("hub-tcp", 80), ("hub-tls", 1850), ("hub-connect", 260), ("first-puback", 900)]
    stages += [("total", 6900), ("total-uncorrected", 6300)]
    return {
        "format": 1,
        "workload": "zero-touch",
        "loop_kind": "open",
        "offered_per_second": 900.0,
        "settings": {"devices": "52000", "tls": "1.3", "resume": "false", "endpoint": "dps.example:8883"},
        "began": "2026-01-02T03:04:05Z",
        "seconds": 60.0,
        "started": 52_020,
        "completed": 52_000,
        "failed": 9,
        "completed_per_second": 866.7,
        "messages": 52_000,
        "connected": 52_000,
        "stages": [stage(*one) for one in stages],
        "errors": [
            {
                "stage": "hub-tls",
                "kind": "connection-closed",
                "count": 9,
                "first": "<script>document.title = 'run'</script> closed before the handshake was done",
            }
        ],
        "timeline": seconds,
        "server": usage,
        "generator": usage | {"cores": 0.61, "bytes_per_connection": None},
        "warnings": ["the generator used 0.93 of the 1 core it may use: it may be what limits"],
        "verdicts": [
            {"figure": "completed_per_second", "wanted": ">= 850", "found": 866.7, "met": True},
            {"figure": "total.p99_us", "wanted": "<= 10000", "found": 11_040.0, "met": False},
        ],
        "environment": {"processor": "A Processor", "cores": 1, "kernel": "6.1.0", "version": "0.1.0"},
        **fields,
    }


@pytest.fixture
def stored(tmp_path):
    """Stores a report under a name."""

    def store(name, **fields):
        path = tmp_path / name
        path.write_text(json.dumps(report(**fields)))
        return path

    return store


def colours(png):
    """Width, height and the number of different bytes in the pixels of a PNG."""
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    pixels, at = b"", 8
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        pixels += data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    return *struct.unpack(">II", data[16:24]), len(set(zlib.decompress(pixels)))


def test_a_page_shows_its_charts_in_a_browser(loadtest, stored, browser, tmp_path):
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    done = loadtest("html", stored("report.json"), "-o", page)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    document = browser(page, "--dump-dom")
    for chart in CHARTS:
        figure = re.search(rf'<figure id="{chart}-chart".*?</figure>', document, re.DOTALL)
        assert figure and "<svg" in figure[0], chart
        # Something is drawn, and all of it is within numbers.
        assert re.search(r'<path class="line[^>]* d="M[\d. ]+L|<rect class="bar', figure[0]), chart
        assert "NaN" not in figure[0] and "inf" not in figure[0], chart
    assert "1 of 2 thresholds missed" in document
    # What a server said is text, not a part of the page.
    assert "<title>loadtest zero-touch" in document and "<script" not in document

    browser(page, "--window-size=1280,2200", f"--screenshot={picture}")
    width, height, different = colours(picture)
    assert (width, height) == (1280, 2200) and different > 50


def test_b_is_compared_with_a(loadtest, stored):
    slow, slower = stored("a1.json"), stored("a2.json", completed_per_second=840.0)
    fast = stored("b.json", completed_per_second=1300.0, settings={"devices": "52000", "tls": "1.2"})
    done = loadtest("compare", f"{slow},{slower}", fast)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^completed_per_second +853 \(840 to 867\) +1,300 +\+52\.3 % +better$", done.stdout, re.M)
    assert "warning: setting tls differs: A 1.3, B 1.2\n" in done.stdout

    compared = json.loads(loadtest("compare", slow, fast, "--json", "--noise", 60).stdout)
    figures = {figure["figure"]: figure for figure in compared["figures"]}
    assert figures["completed_per_second"]["judgement"] == "within-noise"
    assert figures["total.count"]["judgement"] == "not-judged"


@pytest.mark.parametrize(
    "fields, reason",
    [({"format": 2}, "has format 2, and this loadtest reads format 1"), ({"workload": "storm"}, "storm, zero-touch")],
)
def test_what_cannot_be_compared_is_refused(loadtest, stored, fields, reason):
    done = loadtest("compare", stored("a.json"), stored("b.json", **fields))
    assert (done.returncode, done.stdout) == (2, "") and reason in done.stderr
