"""On a laptop: `Workspace.from_config()` without an `auth` argument, the whole `Keyvault`, and submitted runs."""

import contextlib
import io
import os
import pathlib
import sys
import time

sys.path.insert(0, os.environ["DRIVERS"])

from azureml.core import Experiment, Keyvault, ScriptRunConfig, Workspace  # noqa: E402
from azureml.core.run import Run  # noqa: E402
from azureml.exceptions import ActivityFailedException, ServiceException  # noqa: E402
from steps import raises, step  # noqa: E402

TAG = os.environ["TAG"]
VALUE = "välue with \"quotes\" and \U0001f511"
ws = Workspace.from_config()
keyvault = ws.get_default_keyvault()
runs = {}


def workspace():
    assert (ws.name, isinstance(keyvault, Keyvault)) == ("default", True)
    assert ws.get_details()["name"] == "default", ws.get_details()


def setting():
    assert keyvault.set_secret(name=TAG, value=VALUE) is None
    assert keyvault.get_secret(TAG) == VALUE
    keyvault.set_secret(TAG, "second")
    assert keyvault.get_secret(TAG) == "second"


def batches():
    keyvault.set_secrets({f"{TAG}-1": "one", f"{TAG}-2": "two"})
    got = keyvault.get_secrets([f"{TAG}-1", f"{TAG}-2", "no-such"])
    assert got == {f"{TAG}-1": "one", f"{TAG}-2": "two", "no-such": None}, list(got)


def listing():
    names = [item["name"] for item in keyvault.list_secrets()]
    assert {TAG, f"{TAG}-1", f"{TAG}-2", "mysecret"} <= set(names), names


def deleting():
    keyvault.delete_secret(TAG)
    keyvault.delete_secrets([f"{TAG}-1", f"{TAG}-2"])
    error = raises(ServiceException, TAG, lambda: keyvault.get_secret(TAG))
    assert error.status_code == 404


def submit(target, script, *arguments):
    config = ScriptRunConfig(source_directory="project", script=script, arguments=list(arguments), compute_target=target)
    if os.environ.get("PROJECT_PYTHON"):
        config.run_config.environment.python.interpreter_path = os.environ["PROJECT_PYTHON"]
        config.run_config.environment.python.user_managed_dependencies = True
    return Experiment(ws, "laptop").submit(config)


def whole(target):
    def work():
        run = submit(target, "train.py", "slow")
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            details = run.wait_for_completion(show_output=True)
        assert details["status"] == "Completed" and run.get_status() == "Completed", details
        log = shown.getvalue()
        assert "the secret has" in log and "the secret is ***" in log, log[-3000:]
        assert run.get_metrics()["characters"] == int(os.environ["EXPECTED_LENGTH"]), run.get_metrics()
        assert run.id in [r.id for r in Experiment(ws, "laptop").get_runs()]
        assert Run.get(ws, run.id).get_status() == "Completed"
        runs[target] = run

    return work


def failing():
    run = submit("server", "train.py", "fail")
    raises(ActivityFailedException, "", lambda: run.wait_for_completion(show_output=False))
    assert run.get_status() == "Failed", run.get_status()


def cancelling():
    run = submit("server", "train.py", "sleep")
    end = time.monotonic() + 60
    while run.get_status() != "Running":
        assert time.monotonic() < end, run.get_status()
        time.sleep(0.3)
    run.cancel()
    while run.get_status() not in ("Canceled", "Failed"):
        assert time.monotonic() < end, run.get_status()
        time.sleep(0.3)
    assert run.get_status() == "Canceled", run.get_status()


def logs():
    run = runs["server"]
    names = list(run.get_details()["logFiles"])
    assert "user_logs/std_log.txt" in names, names


def written():
    pathlib.Path("elsewhere").mkdir()
    ws.write_config(path="elsewhere")
    assert Workspace.from_config(path="elsewhere").name == ws.name
    assert pathlib.Path("elsewhere/.azureml/config.json").exists()


step("Workspace.from_config, get_details", workspace)
step("Workspace.write_config", written)
step("Keyvault.set_secret, get_secret", setting)
step("Keyvault.set_secrets, get_secrets", batches)
step("Keyvault.list_secrets", listing)
step("Keyvault.delete_secret, delete_secrets", deleting)
step("Experiment.submit to `local`, wait_for_completion, get_metrics", whole("local"))
if "BRIEF" not in os.environ:
    step("Experiment.submit to a compute target, wait_for_completion, get_metrics", whole("server"))
    step("Run.get_details: logs", logs)
    step("Run.wait_for_completion of a failing run", failing)
    step("Run.cancel", cancelling)
