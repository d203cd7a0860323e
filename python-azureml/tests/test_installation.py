"""The distribution: its version, what importing it loads, and the real azureml-core beside it."""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

import azureml
import pytest
from azureml._kluis.beside import check
from up import Up

ROOT = pathlib.Path(__file__).parents[2]

FLOW = """
from azureml.core import Experiment, ScriptRunConfig, Workspace

ws = Workspace.get("default")
ws.get_default_keyvault().set_secret("alone", "hunter2-and-more")
open("train.py", "w").write(
    "from azureml.core import Run\\nrun = Run.get_context(allow_offline=False)\\nrun.log('n', len(run.get_secret('alone')))\\n"
)
run = Experiment(ws, "wheels").submit(ScriptRunConfig(".", "train.py", secrets=["alone"]))
print(run.wait_for_completion()["status"], run.get_metrics())
"""


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=60, check=False, text=True)


def test_its_version_is_that_of_kluis_and_it_takes_no_other():
    version = importlib.metadata.version("kluis-azureml")
    assert version == importlib.metadata.version("kluis")
    assert importlib.metadata.requires("kluis-azureml") == [f"kluis=={version}"]
    assert f'\nversion = "{version}"\n' in (ROOT / "python-azureml" / "pyproject.toml").read_text()


def test_it_is_typed():
    assert (pathlib.Path(azureml.__path__[0]) / "py.typed").exists()


def test_the_way_to_a_secret_loads_nothing_that_it_does_not_need():
    code = (
        "import sys; before = set(sys.modules)\n"
        "from kluis.testing import fake_run\n"
        "with fake_run(secrets={'a': '1'}):\n"
        "    import subprocess, json\n"
        "    script = '''import sys; before = set(sys.modules)\nfrom azureml.core import Run\n"
        "assert Run.get_context().get_secret(name=\"a\") == \"1\"\nprint(sorted(set(sys.modules) - before))'''\n"
        "    print(subprocess.check_output([sys.executable, '-c', script], text=True))\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.strip().replace("'", '"'))
    assert [name for name in loaded if name.split(".")[0] not in ("__future__", "azureml", "kluis")] == []
    assert [name for name in loaded if name.startswith("azureml")] == [
        "azureml", "azureml._kluis", "azureml._kluis.calls", "azureml.core", "azureml.core.run",
    ]  # fmt: skip


@pytest.fixture
def theirs(tmp_path) -> pathlib.Path:
    """A folder with what only the real azureml-core has."""
    folder = tmp_path / "site"
    (folder / "azureml" / "_base_sdk_common").mkdir(parents=True)
    return folder


def test_the_real_one_in_the_same_folder_is_refused_and_both_ways_out_named(theirs):
    with pytest.raises(ImportError, match="keep one") as refused:
        check([str(theirs / "azureml")])
    for way_out in ("pip install kluis-azureml", "pip install azureml-core", "pip uninstall -y azureml-core kluis-azureml"):
        assert way_out in str(refused.value)


def test_the_real_one_elsewhere_is_warned_about(theirs):
    here = str(pathlib.Path(azureml.__path__[0]).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); from azureml.core import Run; print('imported')"
    done = python("-c", code, PYTHONPATH=str(theirs))
    assert done.stdout == "imported\n", done.stderr
    assert f"azureml-core is installed too, in {theirs}" in done.stderr and "pip uninstall azureml-core" in done.stderr
    assert "installed too" not in python("-c", "from azureml.core import Run").stderr


def test_the_real_one_installed_last_is_told_by_what_it_loads():
    (found,) = [
        entry
        for entry in importlib.metadata.distribution("kluis-azureml").entry_points
        if entry.group == "azureml_run_type_providers"
    ]
    with pytest.raises(ImportError, match="keep one"):
        found.load()


def test_both_wheels_alone_are_enough(tmp_path):
    """In a fresh environment, by its name, with nothing from anywhere else and nothing said in variables of ours."""
    dist = ROOT / "dist"
    if len(list(dist.glob("kluis*.whl"))) < 2:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("NO WHEEL: scripts/wheel.sh builds them")
    binaries = tmp_path / "venv" / "bin"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [str(binaries / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "--no-index", "--find-links", str(dist), "kluis-azureml"], check=True)
    (tmp_path / "project").mkdir()
    with Up(str(binaries / "kluis"), tmp_path) as server:
        clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(tmp_path)}
        environment = {**clean, "KLUIS_CONFIG_DIR": server.variables["KLUIS_CONFIG_DIR"]}
        done = subprocess.run(
            [str(binaries / "python"), "-c", FLOW],
            env=environment, cwd=tmp_path / "project", capture_output=True, timeout=120, check=False, text=True,
        )  # fmt: skip
    assert done.stdout == "Completed {'n': 16}\n", done.stderr
