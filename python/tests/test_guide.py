"""The guide's snippets run as they stand: the laptop's against a real server, the run's in a pretended run."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from kluis import Experiment, Run
from kluis.testing import fake_run

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guide" / "python.md"


def blocks() -> list:
    return re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_block_is_python():
    found = blocks()
    assert len(found) == 4
    for block in found:
        compile(block, str(GUIDE), "exec")


TRAIN = """
import os, sys
from kluis import Run

run = Run.get_context()
run.log("length", len(run.get_secret("db-password")))
run.log("rate", float(sys.argv[2]))
open("outputs/model.pkl", "w").write("a model")
"""


@pytest.fixture
def cluster(up, workspace, tmp_path):
    """A compute target of this name, and the agent that serves it."""
    up.cli("compute", "create", "cluster")
    options = ["--mine", "--python", sys.executable, "--state", str(tmp_path / "agent")]
    with open(tmp_path / "agent.log", "wb") as log:
        agent = subprocess.Popen(
            [up.program, "agent", "--compute", "cluster", *options],
            env=up.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        # A target that nobody serves lets runs wait for ever.
        while workspace.compute_targets["cluster"].last_seen is None:
            assert agent.poll() is None, (tmp_path / "agent.log").read_text()
            time.sleep(0.05)
        yield
    finally:
        agent.terminate()
        agent.wait(timeout=20)


def test_the_block_of_the_laptop_runs(workspace, cluster, monkeypatch, tmp_path, capsys):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    pathlib.Path("train.py").write_text(TRAIN)
    workspace.write_config()
    monkeypatch.setenv("DB_PASSWORD", "hunter2-of-the-guide")
    exec(blocks()[0], {})
    shown = capsys.readouterr().out
    assert "Status: Completed" in shown and "{'length': 20, 'rate': 0.1}" in shown, shown
    assert pathlib.Path("model.pkl").read_text() == "a model"
    (run,) = Experiment(workspace, "churn").get_runs()
    assert (run.get_tags(), run.get_details()["target"]) == ({"try": "1"}, "cluster")
    assert workspace.get_default_keyvault().get_secret("db-password") == os.environ["DB_PASSWORD"]


def test_the_blocks_of_the_run_run():
    _, read, report, _ = blocks()
    names: dict = {}
    with fake_run(secrets={"db-password": "hunter2"}) as fake:
        exec(read + report, names)
        assert names["password"] == "hunter2"
        assert fake.metrics["confusion"] == {"tp": 40, "fp": 2, "fn": 1, "tn": 57}
        assert [child.metrics for child in fake.children.values()] == [{"accuracy": 0.9}]


def test_the_block_for_tests_runs():
    exec(blocks()[3], {})
    assert Run.get_context().id.startswith("OfflineRun_")
