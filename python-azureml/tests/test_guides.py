"""The snippets of both guides run as they stand."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest
from azureml.core import Workspace

GUIDES = pathlib.Path(__file__).parents[2] / "docs" / "guide"
_BLOCK = re.compile(r"^```(?P<language>python|bash) ?(?P<what>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list:
    return [(b["language"], b["what"], b["text"]) for b in _BLOCK.finditer((GUIDES / page).read_text())]


@pytest.fixture
def agent(signed_in, project, tmp_path, request):
    """A compute target, and the agent that serves it."""
    signed_in.cli("compute", "create", request.param)
    options = ["--mine", "--python", sys.executable, "--state", str(tmp_path / "agent")]
    with open(tmp_path / "agent.log", "wb") as log:
        process = subprocess.Popen(
            [signed_in.program, "agent", "--compute", request.param, *options],
            env=signed_in.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        while Workspace.from_config().compute_targets[request.param].get_status()["lastSeen"] is None:
            assert process.poll() is None, (tmp_path / "agent.log").read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def run(signed_in, *command: str) -> str:
    path = f"{os.path.dirname(signed_in.program)}:{os.environ['PATH']}"
    environment = {**signed_in.environment(), "PATH": path, "MY_SECRET": "hunter2-of-the-guide"}
    done = subprocess.run([*command], env=environment, capture_output=True, timeout=120, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("agent", ["gpu-box"], indirect=True)
def test_the_drop_in(signed_in, project, agent, tmp_path):
    set_secret, train, submit = (text for _, _, text in blocks("azureml-drop-in.md"))
    (tmp_path / "train.py").write_text(train + 'run.log("length", len(secret_value))\nprint("it is", secret_value)\n')
    run(signed_in, sys.executable, "-c", set_secret)
    shown = run(signed_in, sys.executable, "-c", submit)
    assert "it is ***" in shown and "{'length': 20}" in shown and "hunter2" not in shown


@pytest.mark.parametrize("agent", ["gpu-cluster"], indirect=True)
def test_from_azure_ml(signed_in, project, agent, tmp_path):
    found = blocks("from-azure-ml.md")
    assert [what for _, what, _ in found] == ["file=train.py", "no-run", "file=submit.py", ""]
    files = {what.removeprefix("file="): text for _, what, text in found if what.startswith("file=")}
    (tmp_path / "src").mkdir()
    check = "import os, sys\nassert (os.environ['LOG_LEVEL'], sys.argv[1:]) == ('debug', ['--rate', '0.1'])\nprint('it is', password)\n"
    (tmp_path / "src" / "train.py").write_text(files["train.py"] + check)
    (tmp_path / "submit.py").write_text(files["submit.py"])
    Workspace.from_config().get_default_keyvault().set_secret("db-password", "hunter2-of-the-guide")
    for shown in (run(signed_in, sys.executable, "submit.py"), run(signed_in, "bash", "-euc", found[3][2])):
        assert "it is ***" in shown and "hunter2" not in shown
    compile(found[1][2], "the v2 block", "exec")
