"""The program behind runs on one's own machine: found, started apart, and missed loudly."""

import gc
import json
import os
import pathlib
import sys
import time

import pytest

from kluis import Workspace, _local_agent
from kluis.exceptions import UserErrorException


PYTHON = sys.executable


class Client:
    address, ca_sha256 = "https://127.0.0.1:9", "ab" * 32

    def __init__(self, from_environment):
        self.credential_from_environment = from_environment


def program(tmp_path, code: str) -> str:
    path = tmp_path / "bin" / "kluis"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{PYTHON}\n{code}")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path, monkeypatch):
    """As after a source build: no program beside the interpreter, none on PATH."""
    monkeypatch.delenv("KLUIS_CLI", raising=False)
    monkeypatch.setattr(_local_agent.sys, "executable", str(tmp_path / "nowhere" / "python"))
    monkeypatch.setattr(_local_agent.sysconfig, "get_path", lambda _: str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def test_a_missing_program_is_said_with_every_way_out():
    with pytest.raises(UserErrorException) as refused:
        _local_agent.executable()
    for way in ("beside the interpreter", "PATH", "KLUIS_CLI", "compute_target"):
        assert way in str(refused.value)


def test_kluis_cli_then_beside_the_interpreter_then_path(tmp_path, monkeypatch):
    path = program(tmp_path, "")
    monkeypatch.setenv("PATH", os.path.dirname(path))
    assert _local_agent.executable() == path
    beside = tmp_path / "nowhere" / "kluis"
    beside.parent.mkdir()
    beside.touch(mode=0o755)
    assert _local_agent.executable() == str(beside)
    monkeypatch.setenv("KLUIS_CLI", path)
    assert _local_agent.executable() == path
    monkeypatch.setenv("KLUIS_CLI", str(tmp_path / "not-there"))
    with pytest.raises(UserErrorException, match="KLUIS_CLI names"):
        _local_agent.executable()


def started(tmp_path, monkeypatch, from_environment, found=None):
    """What an agent is started with."""
    monkeypatch.setenv("KLUIS_TOKEN", "kls_usr_hunter2")
    out = tmp_path / "seen.json"
    code = f"import json, os, sys\njson.dump([sys.argv[1:], dict(os.environ), os.getsid(0)], open({str(out) + '.new'!r}, 'w'))\nos.rename({str(out) + '.new'!r}, {str(out)!r})"
    agent = _local_agent.start(program(tmp_path, code), Workspace._made("team", Client(from_environment), found), "churn_1_0a")
    while not out.exists():
        assert agent.failure() is None
        time.sleep(0.01)
    agent._process.wait()
    return json.loads(pathlib.Path(out).read_text())


def test_it_serves_one_run_in_a_session_of_its_own(tmp_path, monkeypatch):
    arguments, environment, session = started(tmp_path, monkeypatch, True)
    state = str(tmp_path / "state" / "kluis" / "local" / "team_churn_1_0a")
    assert arguments == ["agent", "--compute", "local", "--run", "team/churn_1_0a", "--state", state]
    assert pathlib.Path(f"{state}.log").stat().st_mode & 0o777 == 0o600
    assert session != os.getsid(0)
    assert environment["KLUIS_ADDR"] == "https://127.0.0.1:9" and environment["KLUIS_CA_SHA256"] == "ab" * 32
    assert environment["KLUIS_TOKEN"] == "kls_usr_hunter2"


def test_a_token_that_was_not_used_for_this_server_is_not_handed_on(tmp_path, monkeypatch):
    _, environment, _ = started(tmp_path, monkeypatch, False)
    assert "KLUIS_TOKEN" not in environment


def test_a_login_given_in_the_call_goes_along_and_no_other(tmp_path, monkeypatch):
    _, environment, _ = started(tmp_path, monkeypatch, True, {"login": {"KLUIS_CLIENT_ID": "0a", "KLUIS_CLIENT_SECRET": "hunter3"}})
    assert (environment["KLUIS_CLIENT_ID"], environment["KLUIS_CLIENT_SECRET"]) == ("0a", "hunter3")
    assert "KLUIS_TOKEN" not in environment


def test_letting_go_of_an_agent_warns_of_nothing(tmp_path):
    # The object is part of a cycle, as in a traceback that is kept: what is collected first is nobody's choice.
    path = program(tmp_path, "import time\ntime.sleep(0.5)")
    held = [_local_agent.start(path, Workspace._made("team", Client(True)), "churn_1_0a")]
    process = held[0]._process
    held.append(held)
    pid = process.pid
    del held, process
    gc.collect()
    assert os.waitpid(pid, 0)[0] == pid


def test_a_program_that_can_not_be_started_is_said(tmp_path):
    broken = tmp_path / "kluis"
    broken.write_text("#!/nowhere/at/all\n")
    broken.chmod(0o755)
    with pytest.raises(UserErrorException, match="could not be started"):
        _local_agent.start(str(broken), Workspace._made("team", Client(True)), "churn_1_0a")


def test_an_agent_that_ends_badly_says_why(tmp_path):
    path = program(tmp_path, "import sys\nsys.exit('error: not signed in')")
    agent = _local_agent.start(path, Workspace._made("team", Client(True)), "churn_1_0a")
    agent._process.wait()
    assert "ended with code 1: error: not signed in" in agent.failure()
