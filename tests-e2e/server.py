"""The server under test and the commands that reach it."""

import json
import queue
import re
import signal
import subprocess
import threading
import time

READY = re.compile(r"^unicity ready mqtt=(\S+) https=(\S+) admin=(\S+)$")

# No test measures time: these only end a hang.
COMMAND_SECONDS = 30
START_SECONDS = 30
STOP_SECONDS = 10


class Lines:
    """The lines of a pipe, read by a thread of its own, so that waiting for one can have a deadline."""

    def __init__(self, pipe):
        self._queue = queue.Queue()
        self.seen = []
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe):
        with pipe:
            for line in pipe:
                self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def next(self, seconds):
        """The next line, or None at the end."""
        try:
            line = self._queue.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"no line for {seconds} s; before: {self.seen}") from None
        if line is None:
            self._queue.put(None)
        else:
            self.seen.append(line)
        return line


class Server:
    """One data directory at one address, with at most one running server."""

    def __init__(self, binary, data, address, log):
        self.binary, self.data, self.address, self.log = binary, data, address, log
        self.process = None
        self.mqtt = self.https = self.admin = None
        self.lines = None

    # The life of the process.

    def init(self):
        """`unicity init` for this address."""
        return self.command("init", "--hostname", self.address)

    def serve_command(self, *extra, mqtt=None, https=None):
        """The command line of `unicity serve`."""
        return [
            *(str(self.binary), "serve", "--data", str(self.data)),
            *("--mqtt", mqtt or f"{self.address}:8883"),
            *("--https", https or f"{self.address}:0"),
            *("--admin", f"{self.address}:0"),
            *extra,
        ]

    def start(self, *extra, https=None):
        """Starts `unicity serve` and waits until it accepts."""
        assert self.process is None, "it runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.serve_command(*extra, https=https), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.lines = Lines(self.process.stdout)
        while True:
            line = self.lines.next(START_SECONDS)
            if line is None:
                code = self.process.wait(STOP_SECONDS)
                self.process = None
                raise AssertionError(f"serve ended with {code} before it was ready:\n{self.log_tail()}")
            if ready := READY.match(line):
                self.mqtt, self.https, self.admin = ready.groups()
                return self

    def stop(self):
        """Stops it as a service manager does: SIGTERM, a clean end, exit code 0."""
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_SECONDS)
        assert code == 0, f"serve ended with {code} on SIGTERM:\n{self.log_tail()}"

    def kill(self):
        """Ends it as a crash does: SIGKILL."""
        process, self.process = self.process, None
        process.kill()
        process.wait(STOP_SECONDS)

    def end(self):
        """Leaves no process behind."""
        if self.process is not None:
            self.kill()

    def log_tail(self, characters=20_000):
        """The end of what the server logged."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else "(no log)"

    # What is in the data directory.

    @property
    def ca(self):
        """The path of the root certificate that devices must trust."""
        return self.data / "pki" / "ca.pem"

    @property
    def connection_strings(self):
        """connection-strings.json"""
        return json.loads((self.data / "connection-strings.json").read_text())

    @property
    def id_scope(self):
        """The id scope that `init` made."""
        return self.connection_strings["id_scope"]

    @property
    def hub_connection_string(self):
        """For the service API of the one hub."""
        (string,) = self.connection_strings["hubs"].values()
        return string

    @property
    def dps_connection_string(self):
        """For the API of the provisioning service."""
        return self.connection_strings["dps"]

    # Commands.

    def run(self, *args, seconds=COMMAND_SECONDS):
        """Runs a unicity command on the data directory; gives the completed process, whatever its exit code."""
        line = [str(self.binary), *map(str, args), "--data", str(self.data)]
        return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)

    def command(self, *args, seconds=COMMAND_SECONDS):
        """Runs a unicity command that must succeed; gives its standard output."""
        done = self.run(*args, seconds=seconds)
        assert done.returncode == 0, f"unicity {' '.join(map(str, args))}: exit {done.returncode}\n{done.stderr}"
        return done.stdout

    def objects(self, *args):
        """The objects that a command prints with --json, one a line."""
        return [json.loads(line) for line in self.command(*args, "--json").splitlines()]

    def object(self, *args):
        """The one object that a command prints with --json."""
        objects = self.objects(*args)
        assert len(objects) == 1, objects
        return objects[0]

    def fails(self, *args):
        """Runs a unicity command that must be refused; gives what it says."""
        done = self.run(*args)
        assert done.returncode == 1, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr

    def enroll(self, registration_id, *extra):
        """Adds an individual enrollment with generated keys; gives it as printed, keys included."""
        return self.object("enroll", "add", "--registration-id", registration_id, "--generate-key", *extra)

    def enroll_group(self, group_id, *extra):
        """Adds an enrollment group with generated keys; gives it as printed, keys included."""
        return self.object("enroll", "add-group", "--group-id", group_id, "--generate-key", *extra)

    def tail(self, *extra):
        """Every stored message, in the order of each partition."""
        return self.objects("tail", "--from", "earliest", *extra)

    def follow(self):
        """Stored messages from the first on, and each further one as it comes."""
        return Follow([str(self.binary), "tail", "--from", "earliest", "--follow", "--json", "--data", str(self.data)])


class Follow:
    """A running `unicity tail --follow`; use it in a `with`."""

    def __init__(self, line):
        self._process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self._lines = Lines(self._process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def until(self, wanted, seconds):
        """Reads records up to the first that is wanted, which it gives."""
        end = time.monotonic() + seconds
        while True:
            line = self._lines.next(max(0.0, end - time.monotonic()))
            assert line is not None, "tail --follow ended"
            record = json.loads(line)
            if wanted(record):
                return record


def primary_key(enrollment):
    """The primary key of a printed enrollment."""
    return enrollment["attestation"]["symmetricKey"]["primaryKey"]


def secondary_key(enrollment):
    """The secondary key of a printed enrollment."""
    return enrollment["attestation"]["symmetricKey"]["secondaryKey"]
