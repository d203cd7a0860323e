"""No plaintext anywhere but where it was asked for.

A canary goes through every door: set from stdin, environment and file, read on the laptop and in a run, printed by the run, put in
a wrong request. Then everything that the server, the launcher and the run left behind is searched for it, raw, in base64 at each
alignment, in hex and URL-encoded.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import urllib.parse

import pytest

from kluis_server import Refused, Server, canary, wait_for
from needs import need

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


def command_lines_and_environments() -> dict[int, dict[str, bytes]]:
    """Of every process that can be looked at; our own holds the canaries for good reason."""
    seen: dict[int, dict[str, bytes]] = {}
    for pid in processes():
        if pid != os.getpid():
            try:
                seen[pid] = {name: pathlib.Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline")}
            except OSError:
                continue
    return seen


def search_processes(value: str) -> list[str]:
    seen = command_lines_and_environments().items()
    return [hit for pid, files in seen for name, text in files.items() for hit in search(f"/proc/{pid}/{name}", text, value)]


def test_the_search_finds_what_is_there(tmp_path):
    value = canary()
    for name, needle in disguises(value).items():
        (tmp_path / "hidden").write_bytes(b"x" + needle + b"y")
        assert search_tree(tmp_path, value, set()), name
    wrapped = base64.b64encode(b"prefix " + value.encode() + b" suffix")
    assert search("a", wrapped, value)
    for argument, environment in (("60", {"X": value}), (value, {})):
        # What it makes of its arguments does not matter: it holds them.
        code = "import time; time.sleep(60)"
        process = subprocess.Popen([sys.executable, "-c", code, argument], env=environment)
        try:
            wait_for("it to be found", lambda: search_processes(value), 10)
        finally:
            process.kill()
            process.wait()
    assert not search_processes(value)


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
        # Each over a connection of its own: after a refusal the server may have hung up.
        client = server.client()
        with pytest.raises(Refused) as refusal:
            client.call(method, path, **keywords)
        client.close()
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
    # The search looked at those that matter: the server, the run's launcher, the run's own process.
    seen = command_lines_and_environments()
    assert server.process.pid in seen
    assert any(b"kluis-launch" in files["cmdline"] for files in seen.values())
    assert any(f"KLUIS_RUN_ID={run}".encode() in files["environ"] for files in seen.values())
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


DUMP = """
import ctypes, json, os, resource, signal
from kluis import Run

value = Run.get_context().get_secret("canary")
try:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
except (OSError, ValueError):
    pass
# As a script that wants its own core file would ask: dumpable, whatever it was.
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
child = os.fork()
if child == 0:
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.abort()
status = os.waitpid(child, 0)[1]
with open("outputs/report.json", "w") as f:
    json.dump({"signal": os.WTERMSIG(status), "dumped": os.WCOREDUMP(status), "files": sorted(os.listdir("."))}, f)
os.abort()
"""

HOLD = """
import os, sys
value = sys.stdin.read()
os.abort()
"""


@pytest.fixture
def cores_allowed(tmp_path, monkeypatch):
    """What starts from here may write core files of any size, into a folder of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    need(hard == resource.RLIM_INFINITY, "a hard limit of core files that allows them")
    ground = tmp_path / "ground"
    ground.mkdir()
    monkeypatch.chdir(ground)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield ground
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def ended(pid: int) -> int:
    return os.waitpid(pid, 0)[1]


def test_a_crash_of_server_or_run_leaves_no_core_dump(cores_allowed, tmp_path):
    value = canary()
    # A process that does nothing about it is dumped, value and all: so the machine would do it.
    (cores_allowed / "control").mkdir()
    careless = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, cwd=cores_allowed / "control")
    assert careless.stdin is not None
    careless.stdin.write(value.encode())
    careless.stdin.close()
    status = ended(careless.pid)
    assert os.WTERMSIG(status) == signal.SIGABRT
    need(os.WCOREDUMP(status), "a kernel that writes core files (/proc/sys/kernel/core_pattern)")
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not pattern.startswith(("|", "/")):
        assert search_tree(cores_allowed / "control", value, set()), "the core file was not found"
    for core in (cores_allowed / "control").iterdir():
        core.unlink()

    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(DUMP)
    (tmp_path / "home").mkdir()
    with Server(tmp_path / "home") as server:
        assert server.process is not None
        server.ok("secret", "set", "canary", "-", stdin=value.encode())
        run = server.ok("run", "submit", "--compute", "server", "--secret", "canary", "train.py", cwd=project).strip()
        assert server.cli("run", "wait", run).returncode == 128 + signal.SIGABRT
        server.ok("run", "download", run, "--outputs", "--to", str(tmp_path / "out"))
        report = json.loads(next((tmp_path / "out").rglob("report.json")).read_text())
        assert (report["signal"], report["dumped"]) == (signal.SIGABRT, False), report
        assert not [name for name in report["files"] if name.startswith("core")], report

        assert server.ok("secret", "get", "canary") == value
        server.process.send_signal(signal.SIGABRT)
        status = ended(server.process.pid)
        assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (signal.SIGABRT, False)
    assert not [path for path in cores_allowed.rglob("core*")]
    found = search_tree(tmp_path, value, set())
    if pattern.startswith("/"):
        found += search_tree(pathlib.Path(pattern).parent, value, set())
    assert not found, found


def test_server_and_launcher_can_not_be_traced(server):
    assert server.process is not None
    # What is not dumpable belongs to root in /proc, whoever runs it.
    limits = pathlib.Path(f"/proc/{server.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"], core
    assert pathlib.Path(f"/proc/{server.process.pid}/mem").stat().st_uid == 0
