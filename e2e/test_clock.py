"""Clocks that jump: the server's, and that of whoever calls it. Said clearly on every side, and nothing is lost by it."""

import glob
import shutil
import subprocess
import sys

import pytest

from conftest import need
from kluis_server import Server, canary

LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
FAR_BACK = "-400d"


@pytest.fixture(autouse=True)
def faketime():
    need(LIBRARY is not None and shutil.which("faketime") is not None, "faketime")


def clock(text: str) -> dict[str, str]:
    """The variables under which a program's wall clock, and not its timers, is moved by so much."""
    return {"LD_PRELOAD": LIBRARY, "FAKETIME": text, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_a_caller_whose_clock_is_wrong_is_told_to_look_at_it(server):
    done = server.cli("secret", "list", env=clock(FAR_BACK))
    assert done.returncode == 5, done.stderr.decode()
    assert "check both clocks" in done.stderr.decode()
    code = "import kluis; kluis.Workspace.from_config().get_default_keyvault().list_secrets()"
    asked = subprocess.run(
        [sys.executable, "-c", code],
        cwd=server.home, env=server.environment(**clock(FAR_BACK)), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert asked.returncode == 1
    assert "check both clocks" in asked.stderr.splitlines()[-1], asked.stderr


def test_a_servers_clock_that_jumps_loses_nothing(tmp_path):
    moved = tmp_path / "clock"
    moved.write_text("+0")
    server = Server(tmp_path)
    server.variables = {**clock("+0"), "FAKETIME_TIMESTAMP_FILE": str(moved), "FAKETIME_NO_CACHE": "1"}
    del server.variables["FAKETIME"]
    with server:
        value = canary()
        server.ok("secret", "set", "kept", "-", stdin=value.encode())
        server.ok("secret", "set", "deleted", "-", stdin=b"recoverable")
        server.ok("secret", "delete", "deleted")
        for jump in ("+400d", "-400d", "+0"):
            moved.write_text(jump)
            server.ok("secret", "set", "set-meanwhile", "-", stdin=jump.encode())
            assert server.ok("secret", "get", "kept") == value
        times = [record["time"] for record in server.client().pages("/api/v1/workspaces/default/audit")]
        assert len({time[:4] for time in times}) >= 3, "the clock has jumped"
        server.ok("secret", "recover", "deleted")
        assert server.ok("secret", "get", "deleted") == "recoverable"
        assert server.ok("secret", "get", "set-meanwhile") == "+0"
        assert server.client(token=None).call("GET", "/api/v1/health")["status"] == "ok"
