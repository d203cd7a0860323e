"""The two code blocks that Kluis exists for, as the original documentation has them, with `azureml.core` replaced by `kluis`."""

import pathlib
import subprocess
import sys

SET = """\
from kluis import Workspace
import os

ws = Workspace.from_config()
my_secret = os.environ.get("MY_SECRET")
keyvault = ws.get_default_keyvault()
keyvault.set_secret(name="mysecret", value = my_secret)
"""

GET = """\
# Code in submitted run
from kluis import Run

run = Run.get_context()
secret_value = run.get_secret(name="mysecret")
"""

SUBMIT = """
from kluis import Experiment, ScriptRunConfig, Workspace

ws = Workspace.from_config()
print(ws.get_default_keyvault().list_secrets())
run = Experiment(ws, "seed").submit(ScriptRunConfig(source_directory=".", script="train.py", compute_target="{target}"))
print(run.wait_for_completion(show_output=True)["status"], run.get_metrics())
"""


def python(server, project: pathlib.Path, script: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, script], cwd=project, env=server.environment(**env), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_the_four_steps(server, tmp_path):
    server.ok("init", "--workspace", "default", cwd=tmp_path)
    (tmp_path / "set.py").write_text(SET)
    (tmp_path / "train.py").write_text(GET + 'assert secret_value == "s3cret from outside"\nrun.log("ok", 1)\nprint(secret_value)\n')
    python(server, tmp_path, "set.py", MY_SECRET="s3cret from outside")
    for target in ("local", "server"):
        (tmp_path / "submit.py").write_text(SUBMIT.replace("{target}", target))
        out = python(server, tmp_path, "submit.py")
        assert "{'name': 'mysecret'}" in out
        assert "***" in out and "s3cret" not in out
        assert "Completed {'ok': 1}" in out, out


def test_the_blocks_are_those_of_the_examples(request):
    examples = pathlib.Path(__file__).parent.parent / "examples" / "seed"
    assert SET in (examples / "set_secret.py").read_text()
    assert GET in (examples / "train.py").read_text()
