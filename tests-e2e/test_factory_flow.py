"""From serial numbers to revoked devices: a factory's batch is made offline, enrolled, booted, and ended, whole."""

import json
import os
import subprocess
import time

import pytest

# The first test builds device-sim if nobody has.
pytestmark = pytest.mark.deadline(600)

DEVICES = int(os.environ.get("UNICITY_TEST_FACTORY_DEVICES", "50"))
SECONDS = 300
BATCH = "week-7"

FLEET = """
[[group]]
name = "batch"
attestation.%s

[group.telemetry]
messages = 1
interval = "1ms"
"""
FOLDER = 'batch = { dir = "batch" }'
ROWS = 'keys = { file = "batch/enrollments.ndjson" }'


class Line:
    """A factory's line: a folder in which `unicity factory` runs with no server, and the clock of each step."""

    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        directory.mkdir()
        self.ids = [f"unit-{number:05}" for number in range(1, DEVICES + 1)]
        (directory / "serials.txt").write_text("".join(f"{serial}\n" for serial in self.ids))
        self.kit("keygen", "--out", "signer")

    @property
    def rows(self):
        return self.directory / "batch/enrollments.ndjson"

    @property
    def manifest(self):
        return self.directory / "batch/manifest.json"

    @property
    def signer(self):
        return self.directory / "signer.pub.pem"

    def timed(self, step, call):
        began = time.monotonic()
        result = call()
        print(f"{step}, {DEVICES} devices: {time.monotonic() - began:.2f} s")
        return result

    def kit(self, *args):
        line = [str(self.binary), "factory", *args, "--json"]
        done = subprocess.run(line, cwd=self.directory, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def issue(self, attestation):
        line = ["issue", "--serials", "serials.txt", "--attestation", attestation, "--batch", BATCH, "--out", "batch"]
        line += ["--signer", "signer.key.pem", "--by", "Line 3"]
        if attestation == "x509":
            self.kit("batch-ca", "--batch", BATCH, "--out", "ca")
            line += ["--issuer-chain", "ca/batch-ca-chain.pem", "--issuer-key", "ca/batch-ca.key"]
        issued = self.timed("issue", lambda: self.kit(*line))
        assert (issued["count"], issued["issued"]) == (DEVICES, DEVICES)
        return issued

    def arguments(self, rows=None, manifest=None, signer=None):
        return ["enroll", "import", rows or self.rows, "--manifest", manifest or self.manifest, "--signer", signer or self.signer]


@pytest.fixture
def line(binary, tmp_path):
    return Line(binary, tmp_path / "factory")


def boot(program, server, line, attestation):
    """Runs the batch; the summary, with each device's one message acknowledged or not."""
    (line.directory / "fleet.toml").write_text(FLEET % attestation)
    command = [
        *(program, "run", str(line.directory / "fleet.toml"), "--endpoint", server.mqtt, "--ca", str(server.ca)),
        *("--id-scope", server.id_scope, "--json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    return done.returncode, json.loads(lines[-1])


@pytest.mark.parametrize(("attestation", "credentials"), [("symmetric", FOLDER), ("symmetric", ROWS), ("x509", FOLDER)])
def test_a_batch_is_made_enrolled_booted_and_ended(line, server, program, tmp_path, attestation, credentials):
    issued = line.issue(attestation)
    out = tmp_path / "verdicts.ndjson"
    import_it = line.arguments() + ["--verdicts", out, "--json"]
    lines = line.timed("import", lambda: server.command(*import_it, seconds=SECONDS)).splitlines()
    done = json.loads(lines[-1])
    assert (done["state"], done["accepted"], done["batch"]) == ("complete", DEVICES, BATCH)
    kept = [json.loads(text) for text in out.read_text().splitlines()]
    assert [row["code"] for row in kept] == ["Accepted"] * DEVICES
    [leaf] = [one["leaf"] for one in server.objects("audit", "show", "--event", "importCompleted")]
    assert (leaf["batch"], leaf["rows"]) == (BATCH, DEVICES)
    assert leaf["manifest"]["sha256"] == issued["manifestSha256"]
    assert (leaf["manifest"]["by"], leaf["manifest"]["count"]) == ("Line 3", DEVICES)
    assert leaf["manifest"]["signer"] == json.loads(line.manifest.read_text().splitlines()[0])["signer"]
    # The same file with its manifest shows what was done, without it is another import.
    assert json.loads(server.command(*import_it, seconds=SECONDS).splitlines()[-1])["repeated"] is True
    assert "ImportConflict" in server.fails("enroll", "import", line.rows, "--idempotency-key", done["key"])

    code, summary = line.timed("boot", lambda: boot(program, server, line, credentials))
    assert (code, summary["acknowledged"], summary["distinct_identities"]) == (0, DEVICES, DEVICES), summary
    assert {record["device"] for record in server.tail()} == set(line.ids)

    ended = line.timed("revoke", lambda: server.object("revoke", "--batch", BATCH, "--yes"))
    assert ended["revocation"]["target"] == {"batch": BATCH}, ended
    code, summary = boot(program, server, line, credentials)
    assert (code, summary["acknowledged"]) == (1, 0), summary


def test_a_row_that_the_factory_did_not_sign_refuses_all(line, server, tmp_path):
    """Catches a file that was changed, shortened or sorted on its way, and rows that are the factory's only in part."""
    line.issue("symmetric")
    rows = line.rows.read_text().splitlines(keepends=True)
    changed = tmp_path / "enrollments.ndjson"
    other = json.loads(rows[6])
    other["attestation"]["symmetricKey"]["primaryKey"] = json.loads(rows[7])["attestation"]["symmetricKey"]["secondaryKey"]

    def refused(lines, *extra):
        changed.write_text("".join(lines))
        return server.fails(*line.arguments(rows=changed), *extra)

    swapped = rows[:6] + [rows[7], rows[6]] + rows[8:]
    assert "row 7 is not the factory's" in refused(rows[:6] + [json.dumps(other) + "\n"] + rows[7:])
    assert "row 7 is not the factory's" in refused(rows[:6] + [json.dumps(other) + "\n"] + rows[7:], "--partial")
    assert "it is row 8 there" in refused(swapped)
    assert f"the rows end after {DEVICES - 1}" in refused(rows[:-1])
    assert f"row {DEVICES + 1} is not the factory's" in refused(rows + [rows[0]])
    csv = tmp_path / "rows.csv"
    csv.write_text("registrationId,primaryKey\n")
    assert "enrollments.ndjson" in server.fails(*line.arguments(rows=csv))
    assert server.objects("enroll", "list") == []
    assert server.objects("audit", "show", "--event", "importCompleted") == []
    server.command(*line.arguments(), seconds=SECONDS)


def test_a_manifest_that_is_not_the_factory_s_is_refused(line, server, tmp_path):
    """Catches a manifest that anyone can write, and a key that nobody named."""
    line.issue("symmetric")
    line.kit("keygen", "--out", "other")
    said = server.fails(*line.arguments(signer=line.directory / "other.pub.pem"))
    assert "was signed with key" in said and "--signer" in said
    forged = tmp_path / "manifest.json"
    forged.write_text(line.manifest.read_text().replace("Line 3", "Line 4"))
    assert "the manifest's signature is not over this text" in server.fails(*line.arguments(manifest=forged))
    forged.write_text("{}\n")
    assert "no manifest" in server.fails(*line.arguments(manifest=forged))
    private = server.fails(*line.arguments(signer=line.directory / "signer.key.pem"))
    assert "public half" in private
    assert server.run("enroll", "import", str(line.rows), "--manifest", str(line.manifest)).returncode == 2
    assert "batch week-7, not of week-8" in server.fails(*line.arguments(), "--batch", "week-8")
    assert server.objects("enroll", "list") == []
