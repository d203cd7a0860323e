"""A run is started without a copy of the server's memory: as quick beside a server that holds gigabytes as beside a small one."""

import re
import shutil
import subprocess

from conftest import need
from kluis_server import wait_for


def test_the_launcher_is_started_without_a_fork(server, tmp_path):
    need(shutil.which("strace") is not None, "strace")
    log = tmp_path / "strace.log"
    pid = str(server.process.pid)
    traced = "trace=clone,clone3,fork,vfork,execve"
    tracer = subprocess.Popen(["strace", "-f", "-s", "999", "-e", traced, "-p", pid, "-o", log], stderr=subprocess.PIPE, text=True)
    try:
        wait_for("strace", lambda: "attached" in tracer.stderr.readline())
        server.ok("run", "submit", "--wait", "--compute", "server", "--", "true", cwd=tmp_path)
    finally:
        tracer.terminate()
        tracer.communicate(timeout=20)
    calls = log.read_text()
    (launcher,) = re.findall(r'^(\d+) +execve\("[^"]*kluis-launch", \["[^"]*kluis-launch"\]', calls, re.MULTILINE)
    # A thread that starts a process in its own memory waits until that one is another program.
    thread = re.search(rf"^(\d+) .*(clone3?|v?fork).* = {launcher}$", calls, re.MULTILINE).group(1)
    before = calls[: calls.index(f"{launcher} ")]
    start = [line for line in before.splitlines() if re.match(rf"{thread} +(clone|fork|vfork)", line)][-1]
    assert "CLONE_VM|CLONE_VFORK" in start or "vfork(" in start, start
