"""No plaintext anywhere but where it was asked for.

A canary goes through every door: set from stdin, environment and file, read on the laptop and in a run, printed by the run, put in
a wrong request. Then everything that the server, the launcher and the run left behind is searched for it, raw, in base64 at each
alignment, in hex and URL-encoded.
"""

from __future__ import annotations

import base64
import os
import pathlib
import urllib.parse

import pytest

from kluis_server import Refused, canary, wait_for

WORKSPACE = "/api/v1/workspaces/default"

SCRIPT = """
import os, sys, time
from kluis import Run

run = Run.get_context()
value = run.get_secret("canary")
print("on stdout:", value)
print("on stderr:", value, file=sys.stderr)
sys.stdout.write(value[:7]); sys.stdout.flush(); time.sleep(0.3); sys.stdout.write(value[7:] + "\\n"); sys.stdout.flush()
run.log("length", len(value))
run.tag("seen", value)
with open("outputs/fine.txt", "w") as f:
    f.write("nothing secret")
open(os.environ["STARTED"], "w").close()
while not os.path.exists(os.environ["STOP"]):
    time.sleep(0.05)
"""


def disguises(value: str) -> dict[str, bytes]:
    data = value.encode()
    found = {
        "raw": data,
        "hex": data.hex().encode(),
        "HEX": data.hex().upper().encode(),
        "url": urllib.parse.quote(value, safe="").encode(),
        "url+": urllib.parse.quote_plus(value).encode(),
    }
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + data)
        # The characters at both ends depend on the neighbours.
        core = encoded[4 if offset else 0 : -4]
        found[f"base64/{offset}"] = core
        found[f"base64url/{offset}"] = core.replace(b"+", b"-").replace(b"/", b"_")
    return found


def search(where: str, content: bytes, value: str) -> list[str]:
    return [f"{where}: {name}" for name, needle in disguises(value).items() if needle in content]


def search_tree(root: pathlib.Path, value: str, leave_out: set[pathlib.Path]) -> list[str]:
    found = []
    for path in root.rglob("*"):
        if path.is_file() and path not in leave_out:
            try:
                found += search(str(path), path.read_bytes(), value)
            except FileNotFoundError:
                continue
    return found


def processes() -> dict[int, str]:
    return {int(p.name): str(p) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit()}


def search_processes(value: str) -> list[str]:
    found = []
    for pid in processes():
        if pid == os.getpid():
            continue
        for name in ("environ", "cmdline"):
            try:
                content = pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            found += search(f"/proc/{pid}/{name}", content, value)
    return found


def test_the_search_finds_what_is_there(tmp_path):
    value = canary()
    for name, needle in disguises(value).items():
        (tmp_path / "hidden").write_bytes(b"x" + needle + b"y")
        assert search_tree(tmp_path, value, set()), name
    wrapped = base64.b64encode(b"prefix " + value.encode() + b" suffix")
    assert search("a", wrapped, value)


def test_a_canary_is_found_nowhere(server, tmp_path):
    value = canary()
    by_env, by_file = canary(), canary()
    server.ok("secret", "set", "canary", "-", stdin=value.encode())
    server.ok("secret", "set", "canary-env", "--from-env", "CANARY", env={"CANARY": by_env})
    source = tmp_path / "value"
    source.write_text(by_file)
    server.ok("secret", "set", "canary-file", f"@{source}")
    assert server.ok("secret", "get", "canary") == value
    assert server.ok("secret", "get", "canary-env") == by_env
    assert server.ok("secret", "get", "canary-file") == by_file

    # Answers to wrong requests never repeat what was sent.
    client = server.client()
    for method, path, keywords in (
        ("PUT", f"{WORKSPACE}/secrets/canary", {"raw": b'{"value": "' + value.encode() + b'"', "headers": {"content-type": "application/json"}}),
        ("PUT", f"{WORKSPACE}/secrets/canary", {"body": {"value": value, "unknown": value}}),
        ("PUT", f"{WORKSPACE}/secrets/canary", {"body": {"value": [value]}}),
        ("PUT", f"{WORKSPACE}/secrets/canary", {"body": {"value": value * 1000}}),
        ("PUT", f"{WORKSPACE}/secrets/a%2Fb", {"body": {"value": value}}),
        ("POST", f"{WORKSPACE}/secrets:set", {"body": {"items": [{"name": "x", "value": value}, {"name": "", "value": value}]}}),
        ("POST", f"{WORKSPACE}/runs", {"body": {"experiment": value}}),
        ("GET", f"{WORKSPACE}/secrets/{urllib.parse.quote(value, safe='')}", {}),
    ):  # fmt: skip
        with pytest.raises(Refused) as refusal:
            client.call(method, path, **keywords)
        assert 400 <= refusal.value.status < 500, (method, path, refusal.value.status)
        assert not search("answer", str(refusal.value).encode(), value), (method, path)
    refused = server.cli("secret", "set", "canary", value)
    assert refused.returncode == 2 and not search("stderr", refused.stderr, value)

    # A run that reads and prints it, looked at while it runs and afterwards.
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(SCRIPT)
    started, stop = tmp_path / "started", tmp_path / "stop"
    run = server.ok(
        "run", "submit", "--compute", "server", "--secret", "canary",
        "--env", f"STARTED={started}", "--env", f"STOP={stop}", "train.py", cwd=project,
    ).strip()  # fmt: skip
    wait_for("the run to have read", started.exists)
    found = search_processes(value)
    stop.touch()
    assert server.cli("run", "wait", run).returncode == 0
    log = server.ok("run", "logs", run)
    assert "on stdout: ***" in log and "on stderr: ***" in log
    shown = server.ok("run", "show", run, "--json") + server.ok("audit", "tail", "--no-follow", "--json")
    for secret in (value, by_env, by_file):
        found += search("log", log.encode(), secret)
        found += search("run show and audit", shown.encode(), secret)
        found += search("server's log", server.log.read_bytes(), secret)
        found += search_tree(server.home, secret, set())
        found += search_tree(project, secret, set())
        found += search_processes(secret)
    # Memory-backed folders are where a careless launcher would leave a file.
    found += search_tree(pathlib.Path("/dev/shm"), value, set())
    assert not found, found


def test_server_and_launcher_leave_no_core_dump_and_can_not_be_traced(server):
    assert server.process is not None
    limits = pathlib.Path(f"/proc/{server.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4] == "0", core
    # What is not dumpable belongs to root in /proc, whoever runs it.
    assert pathlib.Path(f"/proc/{server.process.pid}/mem").stat().st_uid == 0
