"""Activation blobs against a TPM: swtpm is the TPM and tpm2-tools are the device, so every byte that we make of a blob is
judged by somebody else's code.

The blob comes from an example program of unicity-provisioning; no server runs here.
"""

import base64
import hashlib
import hmac
import os
import select
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EK, SRK = "0x81010001", "0x81000001"
STORAGE = "fixedtpm|fixedparent|sensitivedataorigin|restricted|decrypt"
# PolicySecret of the endorsement hierarchy, and the policy of the EK profile's high range.
POLICY_A_SHA384 = "8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e143e8bb1133824ccb431053871c6db53"
POLICY_B_SHA256 = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"

# The first phase of the first test builds the example.
pytestmark = pytest.mark.deadline(600)


class Refused(Exception):
    """The TPM said no."""


class Tpm:
    """A swtpm on a socket in a directory of its own, and the tpm2-tools that speak to it."""

    def __init__(self, find, directory):
        self.directory = directory
        self.tools = Path(find("tpm2_import", "tpm2-tools")).parent
        state = directory / "state"
        state.mkdir(parents=True)
        self.log = open(directory / "swtpm.log", "wb")
        # It writes its process id here when its sockets listen.
        os.mkfifo(directory / "pid")
        ready = os.open(directory / "pid", os.O_RDONLY | os.O_NONBLOCK)
        # Relative names, as a socket's path may have no more than 107 bytes.
        self.process = subprocess.Popen(
            [find("swtpm", "swtpm"), "socket", "--tpm2", "--tpmstate", "dir=state"]
            + ["--server", "type=unixio,path=s", "--ctrl", "type=unixio,path=s.ctrl"]
            + ["--flags", "not-need-init,startup-clear", "--pid", "file=pid"],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        ended = os.pidfd_open(self.process.pid)
        readable, _, _ = select.select([ready, ended], [], [])
        os.close(ready)
        os.close(ended)
        assert ended not in readable, f"swtpm ended: {(directory / 'swtpm.log').read_text()}"

    def end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def run(self, tool, *args):
        """Runs one of tpm2-tools in the TPM's directory; gives its standard output, or raises Refused."""
        done = subprocess.run(
            [self.tools / tool, *args],
            cwd=self.directory,
            env=os.environ | {"TPM2TOOLS_TCTI": "swtpm:path=s"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        if done.returncode != 0:
            raise Refused(f"{tool} {' '.join(args)}: {done.stdout.decode()}{done.stderr.decode()}")
        # No resource manager stands between the tools and the TPM.
        subprocess.run(
            [self.tools / "tpm2_flushcontext", "-t"],
            cwd=self.directory,
            env=os.environ | {"TPM2TOOLS_TCTI": "swtpm:path=s"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        return done.stdout

    def public(self, handle):
        """A key's TPM2B_PUBLIC."""
        self.run("tpm2_readpublic", "-c", handle, "-o", "public")
        return (self.directory / "public").read_bytes()

    def make_ek(self, kind):
        """The endorsement key after the TCG's low-range template, at the handle where devices look for it."""
        self.run("tpm2_createek", "-c", EK, "-G", kind, "-u", "ek.pub")
        return self.public(EK)

    def make_primary(self, handle, hierarchy, kind, attributes, *more):
        self.run("tpm2_createprimary", "-C", hierarchy, "-G", kind, "-a", attributes, "-c", "primary.ctx", *more)
        self.run("tpm2_evictcontrol", "-C", "o", "-c", "primary.ctx", handle)
        return self.public(handle)

    def make_srk(self, kind, handle=SRK):
        """The storage root key as the SDKs make it."""
        return self.make_primary(handle, "o", kind, f"{STORAGE}|userwithauth|noda")

    def activate(self, parts, srk=SRK, session_hash="sha256", password=False):
        """ActivateCredential: the inner wrapper's key."""
        # The tools' own form: a magic number and a version, then the two structures.
        blob = bytes.fromhex("badcc0de00000001") + parts.credential + parts.credential_secret
        (self.directory / "credential").write_bytes(blob)
        arguments = ["-c", srk, "-C", EK, "-i", "credential", "-o", "inner.key"]
        if password:
            self.run("tpm2_activatecredential", *arguments)
        else:
            self.run("tpm2_startauthsession", "--policy-session", "-g", session_hash, "-S", "session.ctx")
            self.run("tpm2_policysecret", "-S", "session.ctx", "-c", "e")
            self.run("tpm2_activatecredential", *arguments, "-P", "session:session.ctx")
            self.run("tpm2_flushcontext", "session.ctx")
        return (self.directory / "inner.key").read_bytes()

    def import_key(self, parts, srk=SRK):
        """Import and Load, with the inner wrapper's key that activate left."""
        for name in ("duplicate", "duplicate_secret", "public"):
            (self.directory / f"key.{name}").write_bytes(getattr(parts, name))
        self.run(
            *("tpm2_import", "-C", srk, "-i", "key.duplicate", "-u", "key.public", "-r", "key.private"),
            *("-s", "key.duplicate_secret", "-k", "inner.key"),
        )
        self.run("tpm2_load", "-C", srk, "-u", "key.public", "-r", "key.private", "-c", "key.ctx")

    def sign(self, message):
        """HMAC with the loaded key, by the scheme that its public area names."""
        (self.directory / "message").write_bytes(message)
        self.run("tpm2_hmac", "-c", "key.ctx", "-o", "signature", "message")
        return (self.directory / "signature").read_bytes()


class Parts:
    """A blob cut into its six structures, by their sizes alone."""

    NAMES = ("credential", "credential_secret", "duplicate", "duplicate_secret", "public", "data")

    def __init__(self, blob):
        for name in self.NAMES:
            end = 2 + int.from_bytes(blob[:2], "big")
            assert len(blob) >= end, f"{name} is cut"
            setattr(self, name, blob[:end])
            blob = blob[end:]
        assert blob == b""


@pytest.fixture(scope="session")
def make_blob():
    """Makes a blob with the example program, which cargo brings up to date."""
    cargo = os.environ.get("CARGO", "cargo")
    line = [cargo, "build", "-q", "-p", "unicity-provisioning", "--example", "tpm_blob"]
    done = subprocess.run(line, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(line)}\n{done.stderr}"
    program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/examples/tpm_blob"

    def make(ek, srk, key, wrapper="outer"):
        keys = [base64.b64encode(each).decode() for each in (ek, srk, key)]
        done = subprocess.run(
            [program, *keys, wrapper], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return Parts(base64.b64decode(done.stdout))

    return make


@pytest.fixture
def new_tpm(tool, tmp_path):
    """Makes TPMs, each with keys of its own."""
    tpms = []

    def new():
        tpms.append(Tpm(tool, tmp_path / f"tpm{len(tpms)}"))
        return tpms[-1]

    yield new
    for tpm in tpms:
        tpm.end()


@pytest.fixture
def tpm(new_tpm):
    return new_tpm()


def assert_signs(tpm, key):
    message = b"0ne00000001%2Fregistrations%2Fdev-1\n1893456000"
    assert tpm.sign(message) == hmac.new(key, message, hashlib.sha256).digest()


@pytest.mark.parametrize("wrapper", ["outer", "inner"])
@pytest.mark.parametrize("srk_kind", ["rsa2048", "ecc256"])
@pytest.mark.parametrize("ek_kind", ["rsa", "ecc"])
def test_a_tpm_signs_with_the_key_of_a_blob(tpm, make_blob, ek_kind, srk_kind, wrapper):
    ek, srk = tpm.make_ek(ek_kind), tpm.make_srk(srk_kind)
    key = bytes(range(32))
    parts = make_blob(ek, srk, key, wrapper)
    assert (len(parts.duplicate_secret) == 2) == (wrapper == "inner")
    assert len(tpm.activate(parts)) == 16
    tpm.import_key(parts)
    assert_signs(tpm, key)


@pytest.mark.parametrize("size", [16, 20, 64])
def test_keys_of_every_length_that_an_enrollment_may_have(tpm, make_blob, size):
    ek, srk = tpm.make_ek("ecc"), tpm.make_srk("ecc256")
    key = bytes(range(size))
    parts = make_blob(ek, srk, key)
    tpm.activate(parts)
    tpm.import_key(parts)
    assert_signs(tpm, key)


@pytest.mark.parametrize("kind", ["rsa2048:null:aes256cfb", "ecc256:null:aes256cfb"])
def test_sha384_and_aes256(tpm, make_blob, kind):
    (tpm.directory / "policy").write_bytes(bytes.fromhex(POLICY_A_SHA384))
    ek = tpm.make_primary(EK, "e", kind, f"{STORAGE}|adminwithpolicy", "-g", "sha384", "-L", "policy")
    srk = tpm.make_primary(SRK, "o", kind, f"{STORAGE}|userwithauth", "-g", "sha384")
    key = bytes(range(32))
    parts = make_blob(ek, srk, key)
    tpm.activate(parts, session_hash="sha384")
    tpm.import_key(parts)
    assert_signs(tpm, key)


def test_high_range_template_that_a_password_authorizes(tpm, make_blob):
    (tpm.directory / "policy").write_bytes(bytes.fromhex(POLICY_B_SHA256))
    attributes = f"{STORAGE}|adminwithpolicy|userwithauth"
    ek, srk = tpm.make_primary(EK, "e", "ecc256", attributes, "-L", "policy"), tpm.make_srk("ecc256")
    key = bytes(range(32))
    parts = make_blob(ek, srk, key)
    tpm.activate(parts, password=True)
    tpm.import_key(parts)
    assert_signs(tpm, key)


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_another_tpm_does_not_activate(new_tpm, make_blob, kind):
    ours, theirs = new_tpm(), new_tpm()
    ek, srk = ours.make_ek(kind), ours.make_srk("ecc256")
    assert theirs.make_ek(kind) != ek
    theirs.make_srk("ecc256")
    parts = make_blob(ek, srk, bytes(range(32)))
    # A handle of another TPM names another key, so the seed is another one, or does not decrypt at all.
    with pytest.raises(Refused, match="tpm2_activatecredential"):
        theirs.activate(parts)
    ours.activate(parts)


def test_a_credential_is_bound_to_the_storage_root_key(tpm, make_blob):
    ek, srk = tpm.make_ek("ecc"), tpm.make_srk("ecc256")
    tpm.make_srk("rsa2048", "0x81000002")
    parts = make_blob(ek, srk, bytes(range(32)))
    with pytest.raises(Refused, match="tpm2_activatecredential"):
        tpm.activate(parts, srk="0x81000002")
    assert len(tpm.activate(parts)) == 16


@pytest.mark.parametrize("wrapper", ["outer", "inner"])
def test_a_changed_duplicate_is_not_imported(tpm, make_blob, wrapper):
    ek, srk = tpm.make_ek("ecc"), tpm.make_srk("ecc256")
    parts = make_blob(ek, srk, bytes(range(32)), wrapper)
    tpm.activate(parts)
    whole = parts.duplicate
    parts.duplicate = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(Refused, match="tpm2_import"):
        tpm.import_key(parts)
    parts.duplicate = whole
    tpm.import_key(parts)
