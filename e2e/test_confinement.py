"""A run on `server` reads its own folder and nothing of the server's, the owner's or another run's."""

import json

from kluis_server import wait_for

LOOK = """
import json, os, pathlib, sys

def look(path):
    try:
        p = pathlib.Path(path)
        return sorted(x.name for x in p.iterdir()) if p.is_dir() else p.read_bytes()[:20].hex()
    except OSError as e:
        return type(e).__name__

ppid = os.getppid()
report = {
    "data": look(os.environ["DATA"]),
    "root key": look(os.environ["DATA"] + "/root.key"),
    "config": look(os.environ["CONFIG"]),
    "credentials": look(os.environ["CONFIG"] + "/credentials.json"),
    "own": look("."),
    "environ": sorted(k for k in os.environ),
    "tokens of the server": sorted(k for k, v in os.environ.items() if "kls_" in v),
    "server environ": look("/proc/%s/environ" % os.environ["SERVER_PID"]),
    "server mem": look("/proc/%s/mem" % os.environ["SERVER_PID"]),
    "server cwd": look("/proc/%s/cwd" % os.environ["SERVER_PID"]),
    "server root": look("/proc/%s/root" % os.environ["SERVER_PID"] + os.environ["DATA"]),
    "run dir": os.environ["KLUIS_RUN_DIR"],
    "neighbours": look(pathlib.Path(os.environ["KLUIS_RUN_DIR"]).parent),
}
pathlib.Path("outputs/report.json").write_text(json.dumps(report))
"""

WAIT = """
import os, time, pathlib
pathlib.Path("outputs").mkdir(exist_ok=True)
pathlib.Path("neighbour-was-here").write_text("x")
while not os.path.exists(os.environ["STOP"]):
    time.sleep(0.05)
"""


def test_a_run_sees_its_own_folder_only(server, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "look.py").write_text(LOOK)
    (project / "wait.py").write_text(WAIT)
    stop = tmp_path / "stop"
    # A neighbour that is alive while we look.
    neighbour = server.ok("run", "submit", "--compute", "server", "--env", f"STOP={stop}", "wait.py", cwd=project).strip()
    wait_for("the neighbour", lambda: server.json("run", "show", neighbour)["status"] == "running")
    run = server.ok(
        "run", "submit", "--compute", "server",
        "--env", f"DATA={server.data}", "--env", f"CONFIG={server.config}", "--env", f"SERVER_PID={server.process.pid}",
        "look.py", cwd=project,
    ).strip()  # fmt: skip
    assert server.cli("run", "wait", run).returncode == 0, server.ok("run", "logs", "--system", run)
    out = tmp_path / "out"
    server.ok("run", "download", run, "--outputs", "--to", str(out))
    report = json.loads(next(out.rglob("report.json")).read_text())
    stop.touch()
    assert server.cli("run", "wait", neighbour).returncode == 0

    hidden = ([], "FileNotFoundError", "PermissionError", "NotADirectoryError")
    assert report["root key"] in hidden and report["credentials"] in hidden, report
    assert report["config"] in hidden, report
    # The data folder may show the way to the run's own folder, and nothing else.
    if isinstance(report["data"], list):
        assert not {"root.key", "kluis.db", "kluis.db-wal", "blobs", "kluis.lock"} & set(report["data"]), report
    assert "look.py" in report["own"]
    for what in ("server environ", "server mem", "server cwd", "server root"):
        assert report[what] in ("PermissionError", "FileNotFoundError"), (what, report[what])
    own = report["run dir"].rsplit("/", 1)[1]
    if isinstance(report["neighbours"], list):
        assert set(report["neighbours"]) <= {own}, report["neighbours"]
    # Azure clients carry a token of the launcher's own, which is good on this node, for this run, and nowhere else.
    for name in set(report["environ"]) - {"AZUREML_RUN_TOKEN", "AZUREML_RUN_TOKEN_EXPIRY", "AZURE_TOKEN_CREDENTIALS"}:
        assert "TICKET" not in name and "SESSION" not in name and "TOKEN" not in name, name
    assert report["tokens of the server"] == []


ASK = """
import json, socket, struct

def ask(path):
    request = json.dumps({"op": "get_secrets", "names": ["mine"]}).encode()
    answer = b""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        try:
            s.sendall(struct.pack(">I", len(request)) + request)
        except BrokenPipeError:
            pass  # told so and hung up on, before it asked
        while len(answer) < 4 or len(answer) < 4 + struct.unpack(">I", answer[:4])[0]:
            piece = s.recv(65536)
            if not piece:
                raise EOFError(repr(answer))
            answer += piece
    return json.loads(answer[4:])
"""

OWN = """
import os
path = os.environ["KLUIS_RUN_SOCKET"]
(item,) = ask(path)["items"]
told = json.dumps({"path": path, "read": item["value"] == "only for the run"})
with open(os.environ["TELL"] + ".new", "w") as f:
    f.write(told)
os.rename(os.environ["TELL"] + ".new", os.environ["TELL"])
"""

OTHERS = """
import os
try:
    outcome = ask(os.environ["THEIRS"])
except OSError as e:
    outcome = type(e).__name__
(own,) = ask(os.environ["KLUIS_RUN_SOCKET"])["items"]
with open("outputs/report.json", "w") as f:
    json.dump({"theirs": outcome, "own": own["value"] == "only for the run"}, f)
"""


def test_a_runs_socket_answers_the_run_and_neither_a_stranger_nor_another_run(server, tmp_path):
    """All three ask in the same words, with the same uid; only who they are differs."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "tell.py").write_text(ASK + OWN + WAIT)
    (project / "others.py").write_text(ASK + OTHERS)
    stop, tell = tmp_path / "stop", tmp_path / "tell"
    server.ok("secret", "set", "mine", "-", stdin=b"only for the run")
    run = server.ok(
        "run", "submit", "--compute", "server", "--secret", "mine",
        "--env", f"STOP={stop}", "--env", f"TELL={tell}", "tell.py", cwd=project,
    ).strip()  # fmt: skip
    told = json.loads(wait_for("the run to have asked", lambda: tell.exists() and tell.read_text()))
    assert told["read"] is True

    names: dict = {}
    exec(ASK, names)
    answer = names["ask"](told["path"])
    assert (answer["answer"], answer["code"]) == ("error", "forbidden"), answer
    assert "only processes that were started by the run" in answer["detail"]

    # While the first one lives.
    other = server.ok(
        "run", "submit", "--compute", "server", "--secret", "mine", "--env", f"THEIRS={told['path']}", "others.py", cwd=project
    ).strip()
    assert server.cli("run", "wait", other).returncode == 0, server.ok("run", "logs", other)
    server.ok("run", "download", other, "--outputs", "--to", str(tmp_path / "out"))
    report = json.loads(next((tmp_path / "out").rglob("report.json")).read_text())
    assert report["own"] is True
    theirs = report["theirs"]
    if isinstance(theirs, dict):
        assert (theirs["answer"], theirs["code"]) == ("error", "forbidden"), theirs
    else:
        # It is not even there for it.
        assert theirs in ("FileNotFoundError", "PermissionError"), theirs
    assert server.json("run", "show", run)["status"] == "running"
    stop.touch()
    assert server.cli("run", "wait", run).returncode == 0
    # The one who was refused stands in the run's own log.
    assert "was refused" in server.ok("run", "logs", "--system", run)
