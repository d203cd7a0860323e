"""The real `azureml-core`: the two code blocks that Kluis exists for, to the letter; what a script can do in a run; and a laptop
that knows of Kluis by its environment alone."""

import json
import os
import pathlib

import pytest

from kluis_server import KLUIS, canary
from world import SDK_V1, interpreter, json_lines

VALUE = canary()
IN_RUN = "In a run: `azureml-core`"
LAPTOP = "On a laptop: `azureml-core`, `Workspace.from_config()` without `auth`"
PYTHONS = {"3.10": "Python 3.10", "3.12": "Python 3.12"}
RUN_OPERATIONS = {
    "Run.get_context": "works",
    "Run.get_secret": "works",
    "Run.get_secret, no such secret": "works",
    "Run.get_secrets": "works",
    "Run.log, log_list, log_row, log_table, flush": "works",
    "Run.get_metrics": "fails",  # inside a run metrics are logged and not read
    "Run.tag, set_tags, get_tags": "works",
    "Run.add_properties": "works",
    "Run.get_status, get_details": "works",
    "Run.child_run, get_children": "works",
    "Run.upload_file, get_file_names": "works",
    "Keyvault.get_secret": "works",
    "Keyvault.set_secret": "refused",
    "Keyvault.set_secrets": "refused",
    "Keyvault.list_secrets": "refused",
    "Keyvault.delete_secret": "refused",
}
UNDECLARED = {"Run.get_secret, not declared": "refused", "Run.get_secrets, not declared": "refused"}
LAPTOP_CREDENTIALS = {"service-principal": "a service principal", "login": "the stored login"}
SEED = json.dumps({"subscription_id": "5ab9d0ea-0000-4000-8000-000000000001", "resource_group": "old", "workspace_name": "default"})


def on_laptop(world, tmp_path, credential):
    """A project with Azure's config.json, and the shell of its user."""
    project = tmp_path / "laptop"
    (project / ".azureml").mkdir(parents=True)
    (project / ".azureml" / "config.json").write_text(SEED)
    (project / "project").mkdir()
    (project / "project" / "train.py").write_text((SDK_V1 / "train.py").read_text())
    path = f"{pathlib.Path(KLUIS).parent}:{os.environ['PATH']}"
    client = world.client if credential == "service-principal" else None
    return project, world.shell(client, cwd=project, HOME=str(tmp_path), PATH=path)


def run_of(world, tmp_path, python, script, *options, compute="local"):
    """A run of this script of sdk_v1 with the real package: its log."""
    project = tmp_path / "churn"
    project.mkdir(exist_ok=True)
    (project / "train.py").write_text((SDK_V1 / script).read_text() if script.endswith(".py") else script)
    done = world.cli(
        "run", "submit", "--python", str(interpreter(f"azureml-{python}")), "--compute", compute, *options,
        "--wait", "train.py", cwd=project, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("python, credential", [("3.10", "service-principal"), ("3.10", "login"), ("3.12", "login")])
def test_the_two_code_blocks_to_the_letter(world, tmp_path, python, credential):
    project, env = on_laptop(world, tmp_path, credential)
    (project / "set_secret.py").write_text((SDK_V1 / "set_secret.py").read_text())
    world.on_laptop(str(interpreter("azureml-3.10")), "set_secret.py", env=env | {"MY_SECRET": VALUE}, cwd=project)
    assert world.ok("secret", "get", "mysecret", "--reveal") == VALUE
    block = (SDK_V1 / "get_secret.py").read_text()
    after = f"assert len(secret_value) == {len(VALUE)}\nprint('the secret is', secret_value)\n"
    for compute in ("local", "server"):
        log = run_of(world, tmp_path, python, block + after, "--secret", "mysecret", compute=compute)
        assert "the secret is ***" in log and VALUE not in log, log


@pytest.mark.parametrize("python", PYTHONS)
def test_a_run_reads_what_it_may_and_writes_no_secret(world, found, tmp_path, python):
    world.ok("secret", "set", "mysecret", "-", stdin=VALUE.encode())
    world.ok("secret", "set", "undeclared", "-", stdin=canary().encode())
    variables = {"EXPECTED_LENGTH": str(len(VALUE)), "DRIVERS": str(SDK_V1)}
    options = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    log = run_of(world, tmp_path, python, "in_run.py", *options)
    run = world.json("run", "list")["items"][0]["id"]
    lines = json_lines(log) + json_lines(run_of(world, tmp_path, python, "undeclared.py", "--secret", "mysecret", *options))
    assert {line["operation"]: line["outcome"] for line in lines} == RUN_OPERATIONS | UNDECLARED, json.dumps(lines, indent=1)
    assert "the value is ***" in log and VALUE not in log
    assert world.ok("secret", "get", "mysecret", "--reveal") == VALUE, "nothing was overwritten"
    metrics = {m["name"] for m in world.json("run", "metrics", run)["items"]}
    assert {"accuracy", "many", "row", "table"} <= metrics, metrics
    found.add(IN_RUN, PYTHONS[python], lines)


@pytest.mark.parametrize("credential", LAPTOP_CREDENTIALS)
def test_the_whole_laptop_side_works(world, found, tmp_path, credential):
    world.ok("secret", "set", "mysecret", "-", stdin=VALUE.encode())
    project, env = on_laptop(world, tmp_path, credential)
    python = str(interpreter("azureml-3.10"))
    env |= {"EXPECTED_LENGTH": str(len(VALUE)), "DRIVERS": str(SDK_V1), "PROJECT_PYTHON": python}
    env |= {"TAG": f"laptop-{credential}", "TMPDIR": str(tmp_path)}
    if credential != "login":
        env["BRIEF"] = "runs here alone, for the time that the package takes to see a run's end"
    lines = world.on_laptop(python, str(SDK_V1 / "laptop.py"), env=env, cwd=project, seconds=240)
    assert all(line["outcome"] == "works" for line in lines), json.dumps(lines, indent=1)
    assert len(lines) == (11 if credential == "login" else 7)
    found.add(LAPTOP, LAPTOP_CREDENTIALS[credential], lines)
