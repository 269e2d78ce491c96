"""The factory kit: credentials for a batch, made without a server, and what its manifest is worth."""

import json
import shutil
import subprocess

import pytest

from openssl import Factory


class Kit:
    """`unicity factory` in a directory of its own; no server anywhere."""

    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        self.ok("keygen", "--out", "signer")

    def run(self, *args, stdin=None):
        return subprocess.run(
            [str(self.binary), "factory", *map(str, args)],
            cwd=self.directory, input=stdin, capture_output=True, text=True, timeout=50,
        )

    def ok(self, *args, stdin=None):
        done = self.run(*args, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fails(self, *args, stdin=None, code=1):
        done = self.run(*args, stdin=stdin)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr

    def issue(self, serials, attestation, *extra, out="batch"):
        return self.ok(*self.issue_line(attestation, out), *extra, stdin="\n".join(serials))

    def issue_line(self, attestation, out="batch"):
        line = ["issue", "--serials", "-", "--attestation", attestation, "--batch", "week-7", "--out", out]
        return [*line, "--signer", "signer.key.pem", "--by", "Line 3"]

    def rows(self, out="batch"):
        return [json.loads(line) for line in (self.directory / out / "enrollments.ndjson").read_text().splitlines()]

    def verify(self, out="batch"):
        return self.ok("verify", out, "--signer", "signer.pub.pem")


@pytest.fixture
def kit(binary, tmp_path):
    directory = tmp_path / "kit"
    directory.mkdir()
    return Kit(binary, directory)


def test_a_batch_of_symmetric_keys_can_be_enrolled(kit, server):
    """Catches rows that the service API does not take."""
    issued = kit.issue(["A1", "A2"], "symmetric", "--id-pattern", "sensor-{serial}")
    assert (issued["count"], issued["issued"]) == (2, 2)
    checked = kit.verify()
    assert (checked["count"], checked["by"], checked["keys"]) == (2, "Line 3", "random")
    [first, second] = kit.rows()
    assert first["registrationId"] == "sensor-a1" and second["batch"] == "week-7"
    keys = first["attestation"]["symmetricKey"]
    server.command(
        "enroll", "add", "--registration-id", first["registrationId"], "--batch", first["batch"],
        "--symmetric-key", keys["primaryKey"], "--secondary-key", keys["secondaryKey"],
    )
    stored = (kit.directory / "batch/devices/sensor-a1/primary.key").read_text().strip()
    assert stored == keys["primaryKey"]
    manifest = (kit.directory / "batch/manifest.json").read_text()
    assert keys["primaryKey"] not in manifest and keys["secondaryKey"] not in manifest


def test_certificates_are_taken_by_openssl_and_by_a_device_s_server(kit, server, tool):
    """Catches certificates that other software refuses, and chains that lead nowhere."""
    kit.ok("batch-ca", "--batch", "week-7", "--out", "ca")
    kit.issue(["dev-1"], "x509", "--issuer-chain", "ca/batch-ca-chain.pem", "--issuer-key", "ca/batch-ca.key")
    kit.verify()
    device = kit.directory / "batch/devices/dev-1"
    openssl = Factory(tool, kit.directory)
    chain = ["-CAfile", "ca/root.pem", "-untrusted", device / "device-chain.pem"]
    openssl.run("verify", *chain, "-purpose", "sslclient", device / "device.pem")
    server.command("cert", "lint", device / "device-chain.pem", "--ca", kit.directory / "ca/root.pem")
    server.command("enroll", "add", "--registration-id", "dev-1", "--x509", device / "device.pem")


def test_a_manifest_is_checked_by_openssl_alone(kit, tool):
    """Catches a signature that only we can check."""
    kit.ok("keygen", "--out", "p256", "--algorithm", "p256")
    line = kit.issue_line("symmetric")
    line[line.index("signer.key.pem")] = "p256.key.pem"
    kit.ok(*line, stdin="a")
    import base64

    signed, signature = (kit.directory / "batch/manifest.json").read_bytes().splitlines(keepends=True)
    (kit.directory / "signed").write_bytes(signed)
    (kit.directory / "signature").write_bytes(base64.b64decode(json.loads(signature)["signature"]))
    openssl = Factory(tool, kit.directory)
    openssl.run("dgst", "-sha256", "-verify", "p256.pub.pem", "-signature", "signature", "signed")


def test_devices_that_keep_their_keys_send_requests(kit, tool):
    """Catches a private key made where none is wanted, and requests that are granted too much."""
    openssl = Factory(tool, kit.directory / "csr")
    for number, algorithm in enumerate(["p256", "rsa2048"]):
        key = openssl.key(f"key-{number}", algorithm)
        openssl.run("req", "-new", "-key", key, "-subj", f"/O=Else/CN=dev-{number}", "-out", f"{number}.csr")
    kit.ok("batch-ca", "--batch", "week-7", "--out", "ca")
    issuer = ["--issuer-chain", "ca/batch-ca-chain.pem", "--issuer-key", "ca/batch-ca.key", "--csr-dir", "csr"]
    kit.issue(["dev-0", "dev-1"], "x509", *issuer)
    assert kit.verify()["keys"] == "device"
    assert not list((kit.directory / "batch/devices").rglob("device.key"))
    subject = openssl.run("x509", "-in", kit.directory / "batch/devices/dev-1/device.pem", "-noout", "-subject")
    assert b"Else" not in subject and b"dev-1" in subject
    shutil.copy(kit.directory / "csr/0.csr", kit.directory / "csr/2.csr")
    assert "a second request" in kit.fails(*kit.issue_line("x509", "other"), *issuer, stdin="dev-0\ndev-1")


def test_a_run_that_broke_off_goes_on(kit):
    """Catches a device that is issued twice, and a manifest over other rows than the file's."""
    kit.issue(["a", "b", "c"], "symmetric")
    before = kit.rows()
    shutil.rmtree(kit.directory / "batch/devices/b")
    (kit.directory / "batch/manifest.json").unlink()
    again = kit.issue(["a", "b", "c"], "symmetric")
    assert (again["issued"], again["kept"]) == (1, 2)
    after = kit.rows()
    assert before[0] == after[0] and before[1] != after[1] and before[2] == after[2]
    kit.verify()
    assert "holds another batch" in kit.fails(*kit.issue_line("symmetric"), stdin="a\nb")


def test_the_first_wrong_row_is_named(kit):
    """Catches a file that was changed, reordered, cut or grown and passes all the same."""
    kit.issue(["a", "b", "c"], "symmetric")
    path = kit.directory / "batch/enrollments.ndjson"
    lines = path.read_text().splitlines()
    verify = ["verify", "batch", "--signer", "signer.pub.pem"]
    for changed, told in [
        ([lines[0], lines[1].replace('"b"', '"x"'), lines[2]], "row 2"),
        ([lines[2], lines[1], lines[0]], "it is row 3 there"),
        (lines[:2], "the rows end after 2"),
        ([*lines, lines[0]], "row 4"),
    ]:
        path.write_text("\n".join(changed) + "\n")
        assert told in kit.fails(*verify)
    path.write_text("\r\n".join(lines) + "\r\n")
    assert "line ends differ" in kit.run(*verify).stderr
    path.write_text("\n".join(lines) + "\n")
    manifest = kit.directory / "batch/manifest.json"
    manifest.write_text(manifest.read_text().replace("Line 3", "Line 4"))
    assert "signature" in kit.fails(*verify)
    kit.ok("keygen", "--out", "other")
    assert "was signed with key" in kit.fails("verify", "batch", "--signer", "other.pub.pem")


def test_what_is_asked_wrongly_is_refused(kit):
    """Catches batches that would fail at the import, or devices that would share a name."""
    line = kit.issue_line("symmetric")
    assert "line 2: a is there already" in kit.fails(*line, stdin="a\nA")
    assert "line 1" in kit.fails(*line, stdin="a b")
    kit.fails(*kit.issue_line("x509"), stdin="a", code=2)
    (kit.directory / "group.key").write_text("AAAAAAAAAAAAAAAAAAAAAA==")
    assert "worthless" in kit.fails(*line, "--group-key", "group.key", stdin="a")
    assert "is there already" in kit.fails("keygen", "--out", "signer")
    assert "public half" in kit.fails("verify", "batch", "--signer", "signer.key.pem")
