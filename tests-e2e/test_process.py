"""The server as a child process: what goes wrong at its start is said clearly, with a non-zero exit."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

import loopback


def refused(line, seconds=30):
    """Runs a command that must fail by itself; gives what it says on standard error."""
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 1, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert "unicity ready" not in done.stdout
    assert "panicked" not in done.stderr
    assert done.stderr.strip()
    return done.stderr


def test_run_json_tells_where_a_running_server_is(server):
    running = json.loads((server.data / "run.json").read_text())
    assert running["pid"] == server.process.pid
    text = json.dumps(running)
    assert all(bound in text for bound in (server.mqtt, server.https, server.admin))
    server.stop()
    assert not (server.data / "run.json").exists()


def test_a_second_server_on_one_data_directory_is_refused(server):
    with loopback.reserved() as other:
        said = refused(server.serve_command(mqtt=f"{other}:8883", https=f"{other}:0"))
    assert str(server.data) in said
    assert str(server.process.pid) in said
    # The first one is not disturbed.
    assert server.objects("enroll", "list") == []


def test_a_data_directory_is_free_again_after_a_crash(server):
    server.kill()
    server.start()
    server.stop()


def test_commands_without_a_server_say_so(initialised):
    done = initialised.run("registration", "list", "--json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "unicity serve" in done.stderr


def test_a_port_that_is_taken_is_named(initialised):
    with loopback.listening(initialised.address, loopback.MQTT_PORT):
        said = refused(initialised.serve_command())
    assert f"{initialised.address}:8883" in said
    assert "in use" in said
    # Nothing of the failed start is in the way of the next one.
    initialised.start().stop()


def test_port_443_without_the_right_says_how_to_grant_it(binary, tool):
    start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if start.exists() and int(start.read_text()) <= 443:
        pytest.skip("this system lets everybody listen on port 443")
    with loopback.reserved() as address, tempfile.TemporaryDirectory() as directory:
        # Not pytest's directory: nobody else may look into that.
        home = Path(directory)
        home.chmod(0o755)
        prefix = []
        if os.geteuid() == 0:
            setpriv = tool("setpriv", "util-linux")
            prefix = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
            shutil.copy(binary, home / "unicity")
            os.chown(home, 65534, 65534)
            binary = home / "unicity"
        data = home / "data"
        init = [*prefix, binary, "init", "--data", data, "--hostname", address]
        subprocess.run(init, stdin=subprocess.DEVNULL, check=True, capture_output=True)
        said = refused(
            [
                *(*prefix, binary, "serve", "--data", data),
                *("--mqtt", f"{address}:8883", "--https", f"{address}:443", "--admin", f"{address}:0"),
            ]
        )
    assert f"{address}:443" in said
    assert "CAP_NET_BIND_SERVICE" in said.upper()


BAD_CONFIGURATIONS = {
    "unknown section": ("# one\n\n[no_such_section]\nx = 1\n", 3, "no_such_section"),
    "unknown key": ("# one\nno_such_key = true\n", 2, "no_such_key"),
    "no TOML": ("# one\n\n\nthis is = = not toml\n", 4, ""),
}


@pytest.mark.parametrize("case", BAD_CONFIGURATIONS)
@pytest.mark.parametrize("where", ["--config", "data directory"])
def test_a_bad_configuration_is_named_by_line(initialised, tmp_path, case, where):
    text, line, name = BAD_CONFIGURATIONS[case]
    path = tmp_path / "given.toml" if where == "--config" else initialised.data / "unicity.toml"
    path.write_text(text)
    said = refused(initialised.serve_command(*(("--config", str(path)) if where == "--config" else ())))
    assert str(path) in said
    assert f"line {line}" in said or f"{path}:{line}" in said, said
    assert name in said


def test_a_value_of_the_wrong_type_is_named_by_line(initialised, tmp_path):
    # Every setting of the annotated configuration, one after the other; a commented one is set.
    annotated = Path(__file__).parent.parent / "config" / "unicity.toml"
    lines = annotated.read_text().splitlines()
    settings = [n for n, line in enumerate(lines) if re.match(r"#? ?[a-z_]+ = [^#]*[^\[#\s]", line)]
    assert settings
    path = tmp_path / "given.toml"
    for number in settings:
        key = lines[number].lstrip("# ").split(" ")[0]
        changed = lines[:number] + [f"{key} = {{ wrong = 'type' }}"] + lines[number + 1 :]
        path.write_text("\n".join(changed))
        said = refused(initialised.serve_command("--config", str(path)))
        assert f"line {number + 1}" in said or f"{path}:{number + 1}" in said, (lines[number], said)
        assert key in said


def test_a_bad_argument_is_a_usage_error(initialised):
    for arguments in (["serve", "--mqtt", "nonsense"], ["enroll", "add"], ["no-such-command"]):
        done = initialised.run(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stdout == "" and done.stderr


def test_a_stranger_that_says_nothing_does_not_hold_up_the_end(server):
    host, port = server.mqtt.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10):
        server.stop()


def test_the_data_directory_is_closed_to_others(initialised):
    assert initialised.data.stat().st_mode & 0o777 == 0o700
    for secret in ("pki/ca.key", "pki/server.key", "pki/master.key", "pki/audit.key", "connection-strings.json"):
        assert (initialised.data / secret).stat().st_mode & 0o777 == 0o600, secret
