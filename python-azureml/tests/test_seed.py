"""The two code blocks that Kluis exists for, to the letter, with no package of Azure's."""

import pathlib
import subprocess
import sys

import pytest

SET = """\
from azureml.core import Workspace
import os

ws = Workspace.from_config()
my_secret = os.environ.get("MY_SECRET")
keyvault = ws.get_default_keyvault()
keyvault.set_secret(name="mysecret", value = my_secret)
"""

GET = """\
# Code in submitted run
from azureml.core import Run

run = Run.get_context()
secret_value = run.get_secret(name="mysecret")
"""

SUBMIT = """
import sys
from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace

environment = Environment("here")
environment.python.user_managed_dependencies = True
environment.python.interpreter_path = sys.executable
ws = Workspace.from_config()
src = ScriptRunConfig(source_directory=".", script="train.py", compute_target="{target}", environment=environment)
run = Experiment(workspace=ws, name="seed").submit(src)
details = run.wait_for_completion(show_output=True)
print(details["status"], run.get_status(), run.get_metrics())
"""


def python(signed_in, script: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, script], env={**signed_in.environment(), **variables}, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("target", ["local", "server"])
def test_the_two_blocks(signed_in, project, tmp_path, target):
    (tmp_path / "set.py").write_text(SET)
    (tmp_path / "train.py").write_text(GET + 'assert secret_value == "s3cret from outside"\nrun.log("ok", 1)\nprint(secret_value)\n')
    (tmp_path / "submit.py").write_text(SUBMIT.replace("{target}", target))
    python(signed_in, "set.py", MY_SECRET="s3cret from outside")
    out = python(signed_in, "submit.py")
    assert "***" in out and "s3cret" not in out
    assert "Completed Completed {'ok': 1}" in out, out


def test_an_unset_variable_is_named(signed_in, project, tmp_path):
    (tmp_path / "set.py").write_text(SET)
    done = subprocess.run([sys.executable, "set.py"], env=signed_in.environment(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"ValueError: value is None; is the environment variable set?" in done.stderr


def test_the_blocks_are_those_of_the_guide():
    guide = (pathlib.Path(__file__).parents[2] / "docs" / "guide" / "azureml-drop-in.md").read_text()
    assert SET in guide and GET in guide
