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

ROOT = pathlib.Path(__file__).parents[2]


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
        "azureml", "azureml._kluis", "azureml._kluis.beside", "azureml._kluis.calls", "azureml.core", "azureml.core.run",
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
    done = python("-c", f"import sys; sys.path.insert(0, {here!r}); from azureml.core import Run; print('imported')", PYTHONPATH=str(theirs))
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
