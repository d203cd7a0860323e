"""A run on another host: a network namespace with its own address, another user, and no folder shared with the server.

The agent connects outward only: on its side nothing listens, and the server never opens a connection to it.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import pytest

from kluis_server import Server, wait_for
from needs import need
from test_example import EXAMPLE, Postgres

HERE, THERE = "198.51.100.1", "198.51.100.2"  # TEST-NET-2, inside namespaces that this test makes


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True)


CLONE_NEWNET = 0x40000000


def enter(namespace: int) -> None:
    """Moves this thread, and what it starts, into a network namespace (`os.setns` came with Python 3.12)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Host:
    """Two namespaces joined by a cable: `inside` for the server, `outside` for the other machine."""

    def __init__(self) -> None:
        self.inside, self.outside = f"kluis-a{os.getpid()}", f"kluis-b{os.getpid()}"
        for name in (self.inside, self.outside):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "kva", "netns", self.inside, "type", "veth", "peer", "name", "kvb", "netns", self.outside)
        for name, device, address in ((self.inside, "kva", HERE), (self.outside, "kvb", THERE)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")

    def command(self, namespace: str, user: str, *command: str) -> list[str]:
        entered = ["nsenter", f"--net=/run/netns/{namespace}"]
        if user != "root":
            entry = pwd.getpwnam(user)
            entered += ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--"]
        return [*entered, *command]

    def close(self) -> None:
        for name in (self.inside, self.outside):
            subprocess.run(["ip", "netns", "delete", name], check=False)


def install(away: pathlib.Path) -> pathlib.Path:
    """What the other machine has: a Python of the system's, and the wheel. Readable by the user there, nothing else is."""
    python = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if has_venv(p)), None)
    need(python is not None, "a system-wide Python with venv (Debian: apt-get install python3-venv)")
    wheels = sorted((EXAMPLE.parent.parent / "dist").glob("kluis-*.whl"), key=lambda p: p.stat().st_mtime)
    need(bool(wheels), "the wheel (scripts/wheel.sh)")
    requirements = str(EXAMPLE / "requirements.txt")
    subprocess.run([str(python), "-m", "venv", str(away / "venv")], check=True)
    pip = [str(away / "venv/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", requirements, str(wheels[-1])], check=True)
    return away / "venv/bin"


def has_venv(python: str) -> bool:
    supported = "import ensurepip, sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))"
    return os.path.exists(python) and subprocess.run([python, "-c", supported], capture_output=True, check=False).returncode == 0


@pytest.fixture
def host():
    need(os.getuid() == 0 and shutil.which("ip") is not None, "root and iproute2, for network namespaces")
    made = Host()
    try:
        yield made
    finally:
        made.close()


def test_the_example_runs_on_another_host(host, tmp_path):
    # The remote user can read neither pytest's private folders nor the server's.
    away = pathlib.Path(tempfile.mkdtemp(prefix="kluis-remote."))
    shutil.chown(away, "nobody")
    os.chmod(away, 0o700)
    there = install(away)
    subprocess.run(["chown", "-R", "nobody", str(away)], check=True)
    in_namespace = os.open(f"/run/netns/{host.inside}", os.O_RDONLY)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    database = agent = None
    try:
        # This process and what it starts join the server's side of the cable.
        enter(in_namespace)
        database = Postgres(listen=HERE)
        database.load()
        with Server(tmp_path, listen=f"{HERE}:0", options=["--host", HERE]) as server:
            server.ok("compute", "create", "remote")
            server.ok("secret", "set", "db-password", "--from-env", "DB", env={"DB": database.password})
            code = server.ok("admin", "invite", "--agent", "remote-agent", "--compute", "remote").split()[-1]
            environment = {
                "PATH": f"{there}:/usr/bin:/bin",
                "HOME": str(away),
                "KLUIS_CONFIG_DIR": str(away / "config"),
                "XDG_STATE_HOME": str(away / "state"),
            }
            enroll = subprocess.run(
                host.command(host.outside, "nobody", str(there / "kluis"), "agent", "enroll", code),
                env=environment, cwd=away, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            assert enroll.returncode == 0, enroll.stderr.decode()
            with open(tmp_path / "agent.log", "wb") as log:
                agent = subprocess.Popen(
                    host.command(host.outside, "nobody", str(there / "kluis"), "agent", "--compute", "remote"),
                    env=environment, cwd=away, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            run = server.ok(
                "run", "submit", "--compute", "remote", "--source", str(EXAMPLE), "--experiment", "far-away",
                "--secret", "db-password", "--python", str(there / "python"), "train.py", *database.arguments,
            ).strip()  # fmt: skip
            waited = server.cli("run", "wait", run, timeout=240)
            assert waited.returncode == 0, (
                server.ok("run", "logs", run) + server.ok("run", "logs", "--system", run) + (tmp_path / "agent.log").read_text()
            )
            shown = server.json("run", "show", run)
            assert shown["status"] == "completed" and shown["compute"] == "remote"
            metrics = {m["name"]: m["value"] for m in server.json("run", "metrics", run)["items"]}
            assert metrics["accuracy"] > 0.9
            server.ok("run", "download", run, "--outputs", "--to", str(tmp_path / "out"))
            assert next((tmp_path / "out").rglob("model.pkl")).stat().st_size > 1000
            # The agent can serve its own target and nothing else.
            done = subprocess.run(
                host.command(host.outside, "nobody", str(there / "kluis"), "secret", "list", "--workspace", "default"),
                env=environment, cwd=away, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode in (3, 4), done
            # Nothing on the other host listens.
            listening = subprocess.run(
                host.command(host.outside, "root", "ss", "-Htln"), capture_output=True, check=True
            ).stdout.decode()
            assert not listening.strip(), listening
            # Nor does it keep the password or what is left of the run.
            wait_for("the run's folder to be removed", lambda: not list(away.glob("state/**/train.py")))
            for path in away.rglob("*"):
                if path.is_file():
                    assert database.password.encode() not in path.read_bytes(), path
    finally:
        if agent is not None:
            agent.terminate()
            agent.wait(timeout=60)
        if database is not None:
            database.stop()
        enter(own)
        os.close(own)
        os.close(in_namespace)
        shutil.rmtree(away, ignore_errors=True)
