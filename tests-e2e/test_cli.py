"""The command line's comforts: contexts, calls as curl lines, completions, man pages."""

import json
import os
import shutil
import subprocess

import pytest

SHELLS = ["bash", "zsh", "fish", "powershell"]


@pytest.fixture
def run(binary, tmp_path):
    """Runs the command with a home of its own, and no data directory named."""
    home = tmp_path / "home"
    home.mkdir()

    def run(*args, code=0, env=None):
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), **(env or {})}
        line = [str(binary), *map(str, args)]
        done = subprocess.run(line, cwd=home, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    run.home = home
    return run


def test_contexts_stand_for_servers(run, server):
    """Catches a context that is not followed, comes before an option, or shows a key."""
    server.enroll("dev-1")
    run("ctx", "add", "lab", "--data", server.data)
    stored = run.home / ".config/unicity/contexts.toml"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert "dev-1" in run("enroll", "list").stdout
    host, port = server.https.rsplit(":", 1)
    string = server.connection_strings["dps"]
    name = dict(part.split("=", 1) for part in string.split(";"))["HostName"]
    string = string.replace(f"HostName={name}", f"HostName={host}:{port}")
    run("ctx", "add", "prod", "--connection-string", string, "--ca", server.ca)
    assert "dev-1" in run("enroll", "list", "--ctx", "prod").stdout
    listed = run("ctx", "list").stdout
    assert "SharedAccessKey=" not in listed and "*" in listed
    shown = json.loads(run("ctx", "show", "prod", "--json").stdout)
    assert shown["current"] is False and "Key" not in shown["server"]
    run("ctx", "use", "prod")
    assert "dev-1" in run("enroll", "list").stdout
    # Options and the environment come first.
    elsewhere = run.home / "none"
    assert str(elsewhere) in run("enroll", "list", "--data", elsewhere, code=1).stderr
    assert str(elsewhere) in run("enroll", "list", code=1, env={"UNICITY_DATA": str(elsewhere)}).stderr
    run("enroll", "list", "--ctx", "lab", "--data", elsewhere, code=2)
    run("ctx", "remove", "prod")
    run("ctx", "remove", "lab", "--yes")
    assert "unicity-data" in run("enroll", "list", code=1).stderr
    assert "there is no context" in run("enroll", "list", "--ctx", "lab", code=1).stderr


def test_curl_lines_work_and_change_nothing(run, server, binary, tool):
    """Catches a line that a shell or curl does not take, one with a secret in it, and one that was carried out."""
    tool("curl", "curl")
    made = server.enroll("dev-1")
    key = made["attestation"]["symmetricKey"]["primaryKey"]
    environment = {"PATH": f"{binary.parent}:{os.environ['PATH']}"}
    shown = server.command("enroll", "show", "dev-1", "--curl")
    answer = subprocess.run(["sh", "-c", shown.strip()], env=environment, capture_output=True, text=True)
    assert json.loads(answer.stdout)["registrationId"] == "dev-1", answer.stderr
    listed = server.command("device", "list", "--curl")
    answer = subprocess.run(["sh", "-c", listed.strip()], env=environment, capture_output=True, text=True)
    assert json.loads(answer.stdout)["items"] == [], answer.stderr
    added = server.command("enroll", "add", "--registration-id", "dev-2", "--symmetric-key", key, "--curl")
    assert key not in added and "<primaryKey>" in added and "-X PUT" in added
    # Reads that the next call needs are made; the change is not.
    disabled = server.command("enroll", "disable", "dev-1", "--curl").splitlines()
    assert len(disabled) == 2 and "-X PUT" in disabled[1]
    server.command("enroll", "delete", "dev-1", "--curl")
    revoked = server.command("revoke", "--registration-id", "dev-1", "--curl").splitlines()
    assert '"dryRun":false' in revoked[-1]
    assert json.loads(server.command("enroll", "list", "--curl", "--json"))["curl"].startswith("curl ")
    assert [row["registrationId"] for row in server.objects("enroll", "list")] == ["dev-1"]
    assert server.object("enroll", "show", "dev-1")["provisioningStatus"] == "enabled"


@pytest.mark.parametrize("shell", SHELLS)
def test_completions_know_the_commands(run, shell):
    """Catches a script that is empty, or that its shell cannot read."""
    script = run("completions", shell).stdout
    assert "factory" in script and "batch-ca" in script
    if (path := shutil.which(shell)) and shell != "powershell":
        checked = subprocess.run([path, "-n"], input=script, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def test_completions_complete_in_bash(run, tool):
    """Catches a script that loads and completes nothing."""
    script = run.home / "completions"
    script.write_text(run("completions", "bash").stdout)
    probe = f"source {script}; COMP_WORDS=(unicity fac); COMP_CWORD=1; _unicity unicity fac unicity; echo ${{COMPREPLY[@]}}"
    found = subprocess.run([tool("bash", "bash"), "-c", probe], capture_output=True, text=True)
    assert found.stdout.strip() == "factory", found.stderr


def test_man_pages_render(run):
    """Catches a command without a page, and pages that the formatter complains about."""
    run("man", "--out", "man")
    pages = {path.name for path in (run.home / "man").iterdir()}
    assert {"unicity.1", "unicity-enroll.1", "unicity-factory-issue.1", "unicity-ctx-add.1"} <= pages
    for page in ["unicity.1", "unicity-factory-issue.1"]:
        if man := shutil.which("man"):
            environment = {"PATH": os.environ["PATH"], "MANWIDTH": "100", "LC_ALL": "C.UTF-8"}
            line = [man, "--warnings", "-l", str(run.home / "man" / page)]
            shown = subprocess.run(line, env=environment, capture_output=True, text=True)
            assert shown.returncode == 0 and "SYNOPSIS" in shown.stdout and not shown.stderr, shown.stderr


def test_what_is_destroyed_without_a_terminal_was_meant(server):
    """Catches scripts that hang on a question, or that `--yes` does not fit."""
    for name, extra in [("dev-1", []), ("dev-2", ["--yes"])]:
        server.enroll(name)
        server.command("enroll", "delete", name, *extra)
    assert server.objects("enroll", "list") == []
