"""The commands of docs/many-nodes.md, as they stand there, one after the other."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

import nodes as cluster
from server import READY, START_SECONDS, STOP_SECONDS, Lines

pytestmark = pytest.mark.deadline(300)
DOC = cluster.ROOT / "docs" / "many-nodes.md"
BLOCK_SECONDS = 120


def blocks():
    """The fenced blocks of shell, each with its lines."""
    return [block.strip().splitlines() for block in re.findall(r"^```sh\n(.*?)^```", DOC.read_text(), re.M | re.S)]


class Terminals:
    """Somebody who reads the page and types: servers in terminals of their own, everything else in one shell."""

    def __init__(self, folder, path):
        self._folder, self._state = folder, folder / "state.sh"
        self._state.write_text("")
        self._environment = os.environ | {"PATH": path}
        self._servers = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server, log in self._servers:
            server.send_signal(signal.SIGTERM)
        for server, log in self._servers:
            server.wait(STOP_SECONDS)
            log.close()

    def serve(self, line):
        """A server, until it accepts."""
        log = open(self._folder / f"serve-{len(self._servers)}.log", "wb")
        server = subprocess.Popen(
            shlex.split(line), cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=log, text=True,
        )
        self._servers.append((server, log))
        first = Lines(server.stdout).next(START_SECONDS)
        assert first and READY.match(first), (line, Path(log.name).read_text()[-4000:])

    def type(self, lines):
        """Some lines, all of which must work; gives what they print. Variables stay for the next ones."""
        script = "\n".join(["set -euao pipefail", f". {self._state}", *lines, f"export -p > {self._state}"])
        done = subprocess.run(
            ["bash", "-c", script], cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=BLOCK_SECONDS,
        )
        assert done.returncode == 0, f"{lines}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.mark.usefixtures("links")
def test_the_commands_work_as_they_stand(binary, program, tool, tmp_path):
    tool("jq", "jq")
    (tmp_path / "config").symlink_to(cluster.ROOT / "config")
    path = os.pathsep.join([str(binary.parent), str(Path(program).parent), os.environ["PATH"]])
    printed = []
    with cluster.reserved(), Terminals(tmp_path, path) as terminals:
        for lines in blocks():
            if all(line.startswith("unicity serve") for line in lines):
                for line in lines:
                    terminals.serve(line)
            else:
                printed.append(terminals.type(lines))
    text = "\n".join(printed)
    assert "sim-30" in text and "hub-1" in text
