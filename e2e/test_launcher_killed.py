"""The kernel kills a launcher: nothing of its run goes on, in namespaces or out of them, and the run does not wait for a day."""

import os
import pathlib
import signal

from kluis_server import wait_for

SCRIPT = """
import os, subprocess, sys, time
child = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
# A data loader that leads a session of its own, with the secret in its environment.
subprocess.Popen([sys.executable, "-c", child, os.environ["TELL"]], start_new_session=True)
time.sleep(600)
"""


def parent(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def lives(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_what_a_killed_launcher_left_is_ended_and_its_run_is_over(server, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "spawn.py").write_text(SCRIPT)
    tell = tmp_path / "tell"
    server.ok("secret", "set", "db", "-", stdin=b"correct horse battery")
    run = server.ok(
        "run", "submit", "--compute", "server", "--secret-env", "DB=db", "--secret-file", "key=db",
        "--env", f"TELL={tell}", "spawn.py", cwd=project,
    ).strip()  # fmt: skip
    child = int(wait_for("the child", lambda: tell.exists() and tell.read_text()))
    # The child's parent is the script, and the script's is the launcher.
    script = parent(child)
    launcher = parent(script)
    os.kill(launcher, signal.SIGKILL)
    wait_for("the run's end", lambda: server.json("run", "show", run)["status"] in ("lost", "failed"))
    assert not lives(script) and not lives(child)
    left = [path for path in pathlib.Path(f"/dev/shm/kluis-{os.geteuid()}").glob("run-*") if f"-{launcher}-" in path.name]
    assert not left, left
