"""Factory import: a file comes in whole or not at all, over crashes, full disks and bad files; and its devices boot."""

import base64
import gzip
import hashlib
import json
import os
import random
import subprocess

import pytest

from server import STOP_SECONDS, Lines, Server

pytestmark = pytest.mark.deadline(300)

ROWS = 20_000
SECONDS = 240


def key(name):
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


def write(path, names):
    rows = "".join(f"{name},{key(name)}\n" for name in names)
    path.write_text("registrationId,primaryKey\n" + rows)
    return path


def imported(server, *args):
    """The last line of an import that must succeed."""
    last = server.command("enroll", "import", *args, "--json", seconds=SECONDS).splitlines()[-1]
    return json.loads(last)


def verdicts(path):
    return [(line["row"], line["code"]) for line in map(json.loads, path.read_text().splitlines())]


def listed(server):
    lines = server.command("enroll", "export", seconds=SECONDS).splitlines()
    return [json.loads(line)["registrationId"] for line in lines]


def run_until(server, file, wanted, *args):
    """Runs an import until an event is wanted; gives the process."""
    line = [str(server.binary), "enroll", "import", str(file), *args, "--json", "--data", str(server.data)]
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    lines = Lines(process.stdout)
    while (event := lines.next(SECONDS)) is not None:
        if wanted(json.loads(event)):
            break
    return process


def test_killed_at_any_point_it_goes_on_and_is_all_or_nothing(initialised, tmp_path):
    names = [f"lot-{number:06}" for number in range(ROWS)]
    file = write(tmp_path / "lot.csv", random.Random(7).sample(names, ROWS))
    server = initialised.start()
    chance = random.Random(os.environ.get("UNICITY_TEST_SEED", "1"))
    for _ in range(3):
        left = chance.randrange(1, 6)

        def wanted(event):
            nonlocal left
            left -= event["event"] == "progress"
            return left == 0

        process = run_until(server, file, wanted, "--batch", "lot")
        server.kill()
        # Its output is read by a thread already; a second reader would race with it.
        process.wait(SECONDS)
        server.start()
        states = [item["state"] for item in server.objects("enroll", "imports")]
        assert len(states) == 1, states
        assert len(listed(server)) == (ROWS if states == ["complete"] else 0)
    done = imported(server, file, "--batch", "lot")
    assert (done["state"], done["accepted"], done["import"]) == ("complete", ROWS, 1)
    assert listed(server) == names
    assert imported(server, file, "--batch", "lot")["repeated"]


def test_devices_of_a_batch_boot_and_one_revoke_ends_them(server, devices, tmp_path):
    file = write(tmp_path / "lot.csv", ["pump-1", "pump-2"])
    imported(server, file, "--batch", "may")
    client = None
    for name in ("pump-1", "pump-2"):
        devices.register(name, key(name))
        client = devices.raw_hub(name, key(name))
        client.connect()
    shown = server.object("enroll", "show", "--registration-id", "pump-1")
    assert shown["batch"] == "may"
    assert [item["registrationId"] for item in server.objects("enroll", "list", "--batch", "may")] == ["pump-1", "pump-2"]
    server.object("revoke", "--batch", "may", "--yes")
    client.wait_closed()


def test_duplicates_within_and_across_files(server, tmp_path):
    out = tmp_path / "verdicts"
    server.enroll("there")
    rows = [("a", "1"), ("b", "2"), ("a", "3"), ("c", "2"), ("there", "4"), ("d", "5")]
    file = tmp_path / "rows.csv"
    file.write_text("id,symmetric_key\n" + "".join(f"{name},{key(secret)}\n" for name, secret in rows))
    expected = ["Accepted", "Accepted", "DuplicateId", "DuplicateKey", "DuplicateId", "Accepted"]
    before = server.command("enroll", "export", "--with-keys")
    server.fails("enroll", "import", file, "--dry-run", "--verdicts", out)
    assert verdicts(out) == list(enumerate(expected, 1))
    server.fails("enroll", "import", file, "--verdicts", out)
    assert verdicts(out) == list(enumerate(expected, 1))
    assert server.command("enroll", "export", "--with-keys") == before
    done = imported(server, file, "--partial", "--verdicts", out)
    assert (done["accepted"], done["refused"]) == (3, 3)
    assert listed(server) == ["a", "b", "d", "there"]
    file.write_text(f"id,key\ne,{key('5')}\n")
    server.fails("enroll", "import", file, "--verdicts", out)
    assert "duplicate key of registration d" in out.read_text()
    # Another file under the same key is another import's.
    assert "ImportConflict" in server.fails("enroll", "import", file, "--idempotency-key", done["key"], "--partial")


def test_forms_of_files(server, tmp_path):
    row = json.dumps({"registrationId": "n", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key("n")}}})
    good = {
        "bom.csv": b"\xef\xbb\xbfregistrationId,key\r\nbom," + key("bom").encode() + b"\r\n",
        "quotes.csv": b'"Registration ID",key,optionalDeviceInformation\nq,' + key("q").encode() + b',"{""a"":\n""b,c""}"\n',
        "rows.ndjson": row.encode() + b"\n\n",
        "plain": b"registrationId\nmade\n",
        "rows.csv.gz": gzip.compress(b"registrationId,key\nzip," + key("zip").encode()),
    }
    for name, content in good.items():
        file = tmp_path / name
        file.write_bytes(content)
        assert imported(server, file)["accepted"] == 1, name
    assert sorted(listed(server)) == ["bom", "made", "n", "q", "zip"]
    bad = {
        "latin.csv": (b"registrationId,key\nok,\nb\xe4r,x\n", "line 3, column 2"),
        "utf16.csv": ("registrationId\na\n".encode("utf-16"), "line 1, column 1"),
        "columns.csv": (b"registrationId,colour\na,red\n", "colour"),
        "fields.csv": (b"registrationId,key\na\n", "line 2"),
        "quote.csv": (b'registrationId,key\n"a,b\n' + b"x\n" * 2_000_000, "quote"),
    }
    for name, (content, place) in bad.items():
        file = tmp_path / name
        file.write_bytes(content)
        assert place in server.fails("enroll", "import", file), name
    assert len(listed(server)) == 5


def test_a_line_without_an_end_is_refused_and_not_kept(server):
    line = [str(server.binary), "enroll", "import", "-", "--data", str(server.data)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sent = 0
    try:
        process.stdin.write(b"registrationId\na\n")
        for _ in range(2 << 10):
            sent += process.stdin.write(b"x" * (1 << 20))
        process.stdin.close()
    except BrokenPipeError:
        pass
    process.stdin = None
    _, talk = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and b"line 3" in talk, talk
    assert sent < 1 << 30, "the client went on sending"


def test_export_and_import_again_is_the_same(server, binary, address, tmp_path):
    file = tmp_path / "rows.ndjson"
    rows = [
        {"registrationId": "a", "deviceId": "dev-a", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key("a")}},
         "initialTwin": {"tags": {"x": "ä,\"q\"\n"}}, "payload": [1, 2.5], "optionalDeviceInformation": {"k": None},
         "provisioningStatus": "disabled", "capabilities": {"iotEdge": True}, "batch": None,
         "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": False}},
        {"registrationId": "b", "attestation": {"type": "symmetricKey"}},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    imported(server, file, "--batch", "lot")
    exports = {}
    for form in ("csv", "ndjson"):
        exports[form] = tmp_path / f"export.{form}"
        server.command("enroll", "export", "--with-keys", "--format", form, "--out", exports[form])
    for form, export in exports.items():
        for name in listed(server):
            server.command("enroll", "delete", "--registration-id", name)
        imported(server, export, "--idempotency-key", form)
        again = tmp_path / f"again.{form}"
        server.command("enroll", "export", "--with-keys", "--format", form, "--out", again)
        assert again.read_bytes() == export.read_bytes(), form


def test_a_full_disk_costs_nothing_and_it_goes_on(binary, address, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a small file system needs the right to mount one")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(small)], check=True)
    try:
        server = Server(binary, small / "data", address, tmp_path / "serve.log")
        server.init()
        server.start()
        try:
            server.enroll("before")
            file = write(tmp_path / "lot.csv", [f"lot-{number:06}" for number in range(2_000)])
            filler = small / "filler"
            free = os.statvfs(small)
            with open(filler, "wb") as out:
                # What is left is less than the server keeps free for its journal.
                os.posix_fallocate(out.fileno(), 0, free.f_bavail * free.f_frsize - (40 << 20))
            talk = server.fails("enroll", "import", file, "--batch", "lot")
            assert "full" in talk or "free" in talk, talk
            assert listed(server) == ["before"]
            server.enroll("between")
            filler.unlink()
            assert imported(server, file, "--batch", "lot")["accepted"] == 2_000
            server.stop()
        finally:
            server.end()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True, timeout=STOP_SECONDS)
