"""Runs on a real server: submitted, watched, read from, ended."""

import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from kluis import Environment, Experiment, Run, ScriptRunConfig, Workspace
from kluis.exceptions import ActivityFailedException, KluisException, NotFound, ServiceException, UserErrorException

CANARY = "hunter2-canary-5f1c"

TRAIN = """
import os, sys
from kluis import Run

run = Run.get_context(allow_offline=False)
value = run.get_secret("db-password")
print("the value is", value, flush=True)
print("on stderr:", value, file=sys.stderr, flush=True)
run.log("length", len(value))
for loss in (0.5, 0.25):
    run.log("loss", loss)
run.log_row("row", x=1, y="z")
run.tag("phase", "done")
run.add_properties({"p": 1})
with run.child_run(name="fold") as child:
    child.log("acc", 0.9)
os.makedirs("outputs/deep", exist_ok=True)
open("outputs/deep/model.txt", "w").write("a model")
assert run.get_secrets(["db-password", "absent"] if len(sys.argv) > 1 else ["db-password"])["db-password"] == value
assert run.experiment.workspace.get_default_keyvault().get_secret("db-password") == value
"""


@pytest.fixture
def project(tmp_path, workspace):
    """A source tree, and a workspace that holds its secret."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").write_text(TRAIN)
    workspace.get_default_keyvault().set_secret("db-password", CANARY)
    return tmp_path / "project"


def script(project: pathlib.Path, text: str) -> None:
    (project / "train.py").write_text(text)


def submit(workspace, project, **keywords) -> Run:
    keywords = {"script": "train.py", "secrets": ["db-password"], "compute_target": "server", **keywords}
    if keywords["compute_target"] == "server" and "environment" not in keywords and keywords["script"]:
        # The server's own python3 may be any; the tests' interpreter has the wheel.
        keywords["environment"] = Environment("tests")
        keywords["environment"].python.interpreter_path = sys.executable
    return Experiment(workspace, "churn").submit(ScriptRunConfig(source_directory=project, **keywords), tags={"by": "test"})


@pytest.mark.parametrize("target", ["local", "server"])
def test_a_run_from_submission_to_its_files(workspace, project, target, capsys, tmp_path):
    run = submit(workspace, project, compute_target=target)
    details = run.wait_for_completion(show_output=True)
    shown = capsys.readouterr().out
    assert CANARY not in shown and "the value is ***" in shown and "on stderr: ***" in shown
    assert (details["status"], details["exitCode"], details["target"]) == ("Completed", 0, target)
    assert details["runDefinition"]["script"] == "train.py" and details["runDefinition"]["secrets"] == ["db-password"]
    assert run.get_status() == run.status == "Completed"

    assert run.get_metrics() == {"length": len(CANARY), "loss": [0.5, 0.25], "row": {"x": 1, "y": "z"}}
    assert run.get_metrics("length") == {"length": len(CANARY)}
    assert run.get_tags() == {"by": "test", "phase": "done"} and run.get_properties() == {"p": "1"}
    (child,) = run.get_children()
    assert (child.get_metrics(), child.name, child.get_status(), child.parent.id) == ({"acc": 0.9}, "fold", "Completed", run.id)
    assert run.get_metrics(recursive=True)[child.id] == {"acc": 0.9}

    assert "outputs/deep/model.txt" in run.get_file_names() and "user_logs/std_log.txt" in run.get_file_names()
    run.download_file("outputs/deep/model.txt", tmp_path / "got.txt")
    assert (tmp_path / "got.txt").read_text() == "a model"
    run.download_files(prefix="outputs/", output_directory=tmp_path / "all", append_prefix=False)
    assert (tmp_path / "all" / "deep" / "model.txt").read_text() == "a model"
    logs = run.get_all_logs(tmp_path / "logs")
    assert "the value is ***" in pathlib.Path(logs[0]).read_text()
    assert not any(CANARY in pathlib.Path(log).read_text() for log in logs)

    (read,) = run.get_secrets_read()
    assert read["name"] == "db-password" and len(read["version"]) == 32


def test_a_run_is_found_again(workspace, project):
    script(project, "print('hello')")
    first, second = submit(workspace, project), submit(workspace, project)
    experiment = Experiment(workspace, "churn")
    assert [run.id for run in experiment.get_runs()] == [second.id, first.id]
    assert [run.id for run in experiment.get_runs(tags={"by": "nobody"})] == []
    again = Run.get(workspace, first.id)
    assert (again.id, again.number, again.experiment) == (first.id, 1, experiment) and second.number == 2
    assert workspace.get_run(first.id).id == first.id
    assert list(workspace.experiments) == ["churn"]
    again.display_name = "the first"
    assert Run.get(workspace, first.id).name == "the first"
    for run in (first, second):
        run.wait_for_completion()


def test_a_failing_script_is_to_blame(workspace, project):
    script(project, "import sys; print('about to fail'); sys.exit(3)")
    run = submit(workspace, project)
    with pytest.raises(ActivityFailedException, match="exit code 3") as failed:
        run.wait_for_completion()
    assert (failed.value.error_details["exitCode"], failed.value.error_details["blame"]) == (3, "script")
    details = run.wait_for_completion(raise_on_error=False)
    assert details["status"] == "Failed" and details["error"]["error"]["code"] == "UserError"


def test_cancel_ends_a_run(workspace, project):
    script(project, "import time; print('up', flush=True); time.sleep(120)")
    run = submit(workspace, project)
    deadline = time.monotonic() + 60
    while run.get_status() != "Running":
        assert time.monotonic() < deadline and run.get_status() in ("Queued", "Starting", "Running")
        time.sleep(0.1)
    run.cancel()
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Canceled"


def test_an_undeclared_secret_is_refused_in_the_run(workspace, project):
    workspace.get_default_keyvault().set_secret("other", "x")
    script(
        project,
        "from kluis import Run\nfrom kluis.exceptions import SecretUndeclared\n"
        "try:\n    Run.get_context().get_secret('other')\nexcept SecretUndeclared:\n    print('refused')\nelse:\n    raise SystemExit(1)\n",
    )
    submit(workspace, project).wait_for_completion()


def test_a_missing_secret_is_refused_at_submit(workspace, project):
    with pytest.raises(KluisException, match="absent"):
        submit(workspace, project, secrets=["db-password", "absent"])
    assert list(Experiment(workspace, "churn").get_runs()) == []


def test_a_tree_that_can_not_travel_is_refused_at_submit(workspace, project):
    (project / "link").symlink_to("/etc/hostname")
    with pytest.raises(UserErrorException, match="leads out of the tree"):
        submit(workspace, project)


def test_variables_and_files_hold_the_value_while_the_run_lives(workspace, project):
    environment = Environment("plain")
    environment.environment_variables = {"PLAIN": "yes"}
    file = '"$KLUIS_SECRETS_DIR/deep/key.pem"'
    run = submit(
        workspace,
        project,
        script=None,
        command=f"""printf '%s' "$PGPASSWORD" | wc -c; cat {file} | wc -c; stat -c %a {file}; cat {file}; echo
            [ "$(cat {file})" = "$PGPASSWORD" ] && echo same; echo "plain=$PLAIN"; echo "$KLUIS_SECRETS_DIR" """,
        environment=environment,
        secrets=None,
        secret_env={"PGPASSWORD": "db-password"},
        secret_files={"deep/key.pem": "db-password"},
    )
    run.wait_for_completion()
    (log, _) = run.get_all_logs()
    *lines, folder = pathlib.Path(log).read_text().split()
    assert lines == [str(len(CANARY)), str(len(CANARY)), "400", "***", "same", "plain=yes"]
    assert not os.path.exists(folder)
    # It was declared by being delivered, and its delivery is on record.
    assert run.get_details()["runDefinition"]["secrets"] == ["db-password"]
    assert [read["name"] for read in run.get_secrets_read()] == ["db-password"]


@pytest.mark.parametrize("path", ["../key.pem", "/etc/key.pem", "", "a//b"])
def test_a_secrets_file_stays_in_its_folder(workspace, project, path):
    with pytest.raises(KluisException) as refused:
        submit(workspace, project, secret_files={path: "db-password"})
    assert refused.value.status_code == 400
    assert list(Experiment(workspace, "churn").get_runs()) == []


def test_a_secret_that_does_not_exist_is_missing_in_the_run(workspace, project):
    script(
        project,
        "from kluis import Run\nfrom kluis.exceptions import SecretNotFound\nrun = Run.get_context()\n"
        "try:\n    run.get_secret('no-such')\nexcept SecretNotFound as e:\n    run.log('status', e.status_code)\n"
        "run.log('batch', str(run.get_secrets(['no-such'])))\n",
    )
    run = submit(workspace, project, secrets=None)
    run.wait_for_completion()
    assert run.get_metrics() == {"status": 404, "batch": "{'no-such': None}"}


def test_a_file_that_changes_while_it_is_packed_is_refused_and_no_run_is_made(workspace, project):
    stop = threading.Event()
    (project / "log.bin").write_bytes(os.urandom(8 << 20))

    def write() -> None:
        with open(project / "log.bin", "ab") as file:
            while not stop.is_set():
                file.write(b"x")
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(UserErrorException, match="log.bin changed while it was packed"):
            submit(workspace, project)
    finally:
        stop.set()
        writer.join()
    assert list(Experiment(workspace, "churn").get_runs()) == []


def test_an_unknown_compute_target_is_refused_and_no_run_is_made(workspace, project):
    with pytest.raises(NotFound):
        submit(workspace, project, compute_target="nobody-serves-this")
    assert list(Experiment(workspace, "churn").get_runs()) == []


def test_rotation_reaches_a_running_script(workspace, project):
    script(
        project,
        "import queue, time\nfrom kluis import Run\nrun = Run.get_context()\nheard = queue.Queue()\n"
        "old = run.get_secret('db-password')\nstop = run.on_rotate(heard.put)\nrun.tag('ready')\nrun.flush()\n"
        "names = heard.get(timeout=60)\nnew = run.get_secret('db-password', refresh=True)\nstop()\n"
        "run.log('told', names)\nrun.log('changed', old != new)\n",
    )
    run = submit(workspace, project)
    deadline = time.monotonic() + 60
    while "ready" not in run.get_tags():
        assert time.monotonic() < deadline, run.get_details()
        time.sleep(0.1)
    workspace.get_default_keyvault().set_secret("db-password", "another-value")
    run.wait_for_completion()
    assert run.get_metrics() == {"told": ["db-password"], "changed": True}


def test_an_agent_that_dies_ends_the_waiting(workspace, project, monkeypatch, tmp_path):
    broken = tmp_path / "kluis"
    broken.write_text("#!/bin/sh\necho 'no agent today' >&2\nexit 4\n")
    broken.chmod(0o755)
    monkeypatch.setenv("KLUIS_CLI", str(broken))
    run = submit(workspace, project, compute_target="local")
    for show in (False, True):
        with pytest.raises(ServiceException, match="no agent today"):
            run.wait_for_completion(show_output=show)
    run.cancel()


def test_offline_the_signed_in_user_reads_when_told_to(workspace, monkeypatch, tmp_path):
    workspace.get_default_keyvault().set_secret("a", "1")
    workspace.write_config()
    monkeypatch.setenv("KLUIS_OFFLINE_SECRETS", "1")
    run = Run.get_context()
    run._vault = None
    assert run.get_secret("a") == "1"
    assert run.get_secrets(["a", "b"]) == {"a": "1", "b": None}
    run._vault = None


def test_the_seeds_blocks_run_as_they_stand(workspace, monkeypatch):
    seed = pathlib.Path(__file__).parents[2] / "examples" / "seed"
    workspace.write_config()
    environment = {**os.environ, "MY_SECRET": CANARY}
    subprocess.run([sys.executable, str(seed / "set_secret.py")], env=environment, check=True)
    environment.pop("MY_SECRET")
    unset = subprocess.run([sys.executable, str(seed / "set_secret.py")], env=environment, capture_output=True, check=False)
    assert unset.returncode == 1 and b"value is None; is the environment variable set?" in unset.stderr
    ws = Workspace.from_config()
    assert ws.get_default_keyvault().get_secret("mysecret") == CANARY
    run = Experiment(ws, "seed").submit(ScriptRunConfig(seed, "train.py"))
    assert run.wait_for_completion()["status"] == "Completed"
    assert [read["name"] for read in run.get_secrets_read()] == ["mysecret"]


def test_waiting_hears_ctrl_c_and_the_run_goes_on(workspace, project):
    import signal

    script(project, "import time; time.sleep(3)")
    run = submit(workspace, project)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run.wait_for_completion(show_output=True)
    timer.join()
    assert run.wait_for_completion()["status"] == "Completed"
