"""`kluis run`: what is submitted, seen, waited for, cancelled and downloaded, and what the exit codes say."""

import json
import os
import signal

import pexpect
import pytest

from kluis_server import KLUIS, wait_for


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("churn")
    (folder / "train.py").write_text(
        "import sys, pathlib\n"
        "print('\\n'.join(f'line {i}' for i in range(30)))\n"
        "print('to stderr', file=sys.stderr)\n"
        "pathlib.Path('outputs/model.txt').write_text('the model')\n"
        "sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)\n"
    )
    return folder


def submit(server, project, *args):
    return server.ok("run", "submit", "--secret", "none-needed", *args, cwd=project).strip()


def status(server, run):
    return server.json("run", "show", run)["status"]


@pytest.fixture(scope="module", autouse=True)
def declared(server):
    server.ok("secret", "set", "none-needed", "-", stdin=b"nothing of interest")


def test_a_failed_run_is_shown_with_blame_and_its_last_twenty_lines(server, project):
    run = submit(server, project, "train.py", "3")
    assert server.cli("run", "wait", run).returncode == 3
    shown = server.ok("run", "show", run)
    assert "to blame     script" in shown and "exit         code 3" in shown
    assert "line 29" in shown and "line 5\n" not in shown
    view = server.json("run", "show", run)
    assert view["blame"] == "script" and view["exit"] == {"code": 3}
    assert json.loads(server.cli("run", "wait", run, "--json").stdout)["reason"]


def test_logs_are_bare_bytes_and_more_on_request(server, project):
    run = submit(server, project, "train.py")
    assert server.cli("run", "wait", run).returncode == 0
    log = server.ok("run", "logs", run)
    assert log.startswith("line 0\nline 1\n") and "to stderr" in log
    assert server.ok("run", "logs", "--follow", run) == log
    assert server.ok("run", "logs", "--tail", "2", run).count("\n") == 2
    assert server.ok("run", "logs", "--attempt", "1", run) == log
    stamped = server.ok("run", "logs", "--timestamps", run).splitlines()
    assert stamped[0].endswith("Z line 0") and stamped[0][:2] == "20"
    system = server.ok("run", "logs", "--system", run)
    assert system.startswith("Python 3.") and "line 0" not in system
    records = [json.loads(line) for line in server.ok("run", "logs", "--json", run).splitlines()]
    assert {r["stream"] for r in records} == {"stdout", "stderr"}


def test_what_a_run_left_is_listed_and_downloaded(server, project, tmp_path):
    run = submit(server, project, "train.py")
    assert server.cli("run", "wait", run).returncode == 0
    assert [f["path"] for f in server.json("run", "outputs", run)["items"]] == ["outputs/model.txt"]
    assert server.json("run", "download", run, "--to", str(tmp_path / "all"))["done"] == "downloaded"
    assert (tmp_path / "all/outputs/model.txt").read_text() == "the model"
    assert (tmp_path / "all/user_logs/std_log.txt").read_text() == server.ok("run", "logs", run)
    server.ok("run", "download", run, "--outputs", "--to", str(tmp_path / "outputs"))
    assert not (tmp_path / "outputs/user_logs").exists()
    server.ok("run", "download", run, "--snapshot", "--to", str(tmp_path / "tree"))
    assert (tmp_path / "tree/train.py").read_text() == (project / "train.py").read_text()
    assert run in [r["id"] for r in server.json("run", "list", "--status", "completed")["items"]]
    assert server.json("run", "secrets", run)["items"][0]["name"] == "none-needed"
    assert server.json("run", "metrics", run) == {"items": []}


@pytest.mark.parametrize(
    "command, code",
    [(["true"], 0), (["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -TERM $$"], 143), (["no-such-program"], 122)],
)
def test_the_exit_code_is_the_runs_own(server, project, command, code):
    done = server.cli("run", "submit", "--wait", "--", *command, cwd=project)
    assert done.returncode == code, done.stderr.decode()


def test_a_run_that_can_not_have_what_it_asks_for_is_not_the_scripts_fault(server, project):
    run = submit(server, project, "--compute", "server", "--gpus", "64", "train.py")
    assert server.cli("run", "wait", run).returncode == 122
    assert server.json("run", "show", run)["blame"] == "engine"


def test_a_canceled_run_is_120(server, project):
    run = submit(server, project, "--", "sleep", "120")
    wait_for("the run", lambda: status(server, run) == "running")
    server.json("run", "cancel", run)
    assert server.cli("run", "wait", run).returncode == 120


def test_a_lost_run_is_121(server, project):
    run = submit(server, project, "--compute", "server", "--", "sleep", "120")
    wait_for("the run", lambda: status(server, run) == "running")
    job = server.json("run", "show", run)["engine_job"]
    os.kill(int(job.split()[1]), signal.SIGKILL)
    assert server.cli("run", "wait", run).returncode == 121


def follow(server, project):
    command = ["run", "submit", "--secret", "none-needed", "--wait", "--", "sh", "-c", "echo begun; sleep 120"]
    child = pexpect.spawn(KLUIS, command, env=server.environment(), cwd=str(project), timeout=60, encoding="utf-8")
    child.expect(r"run (\S+_\d+_\S+)\r")
    run = child.match[1]
    child.expect("begun")
    return child, run


def test_ctrl_c_leaves_the_run_and_twice_cancels_it(server, project):
    child, run = follow(server, project)
    child.sendintr()
    child.expect("attaches again")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130 and status(server, run) == "running"
    server.ok("run", "cancel", run)
    assert server.cli("run", "wait", run).returncode == 120

    child, run = follow(server, project)
    child.sendintr()
    child.expect("Ctrl-C again")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 120
    assert server.cli("run", "wait", run).returncode == 120


def test_a_local_run_whose_agent_dies_at_once_is_not_waited_for(server, project, tmp_path):
    # A state folder that an agent can not be in.
    state = tmp_path / "state"
    (state / "kluis").mkdir(parents=True)
    (state / "kluis/covered").mkdir()
    for more in ([], ["--wait"]):
        done = server.cli("run", "submit", *more, "--", "true", cwd=project, env={"XDG_STATE_HOME": str(state)}, timeout=60)
        assert done.returncode == 122, done.stderr.decode()
        assert "the agent on this machine ended" in done.stderr.decode()
    assert all(r["status"] != "queued" for r in server.json("run", "list")["items"])


def test_the_logs_of_local_runs_are_apart_and_go_with_their_runs(server, project):
    long = submit(server, project, "--", "sleep", "120")
    short = submit(server, project, "train.py")
    assert server.cli("run", "wait", short).returncode == 0
    local = server.home / "state/kluis/local"
    wait_for("the short run's agent to leave", lambda: not list(local.glob(f"*{short}*")))
    assert (local / f"default.{long}.log").exists(), "another run's log is its own"
    server.ok("run", "cancel", long)
    wait_for("the long run's agent to leave", lambda: not list(local.glob(f"*{long}*")))


def test_the_project_says_where_its_runs_run(server, project, tmp_path):
    (tmp_path / "train.py").write_text("print('x')")
    (tmp_path / ".kluis").mkdir()
    config = {"workspace": "default", "compute": "server"}
    (tmp_path / ".kluis/config.json").write_text(json.dumps(config))
    run = server.ok("run", "submit", "train.py", cwd=tmp_path).strip()
    assert server.json("run", "show", run)["compute"] == "server"
    assert server.cli("run", "wait", run).returncode == 0
    run = server.ok("run", "submit", "--compute", "local", "train.py", cwd=tmp_path).strip()
    assert server.json("run", "show", run)["compute"] == "local"
    assert server.cli("run", "wait", run).returncode == 0
    server.ok("init", cwd=tmp_path)
    assert json.loads((tmp_path / ".kluis/config.json").read_text())["compute"] == "server"


def test_links_out_of_the_tree_are_refused_or_kept(server, tmp_path):
    (tmp_path / "link").symlink_to("/etc/hostname")
    done = server.cli("run", "submit", "--", "true", cwd=tmp_path)
    assert done.returncode == 1 and "--links=keep" in done.stderr.decode()
    done = server.cli("run", "submit", "--links=keep", "--wait", "--", "readlink", "link", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == b"/etc/hostname\n"
