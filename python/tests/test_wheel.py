"""The wheel as a user gets it: into an environment with nothing else of ours, with nothing said in variables.

Taken from dist/, where scripts/wheel.sh leaves it.
"""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from conftest import need
from up import Up

DIST = pathlib.Path(__file__).parents[2] / "dist"

FLOW = """
import pathlib
from kluis import Experiment, ScriptRunConfig, Workspace

ws = Workspace.get("default")
ws.get_default_keyvault().set_secret("alone", "hunter2-and-more")
pathlib.Path("train.py").write_text(
    "from kluis import Run\\nrun = Run.get_context(allow_offline=False)\\nrun.log('n', len(run.get_secret('alone')))\\n"
)
run = Experiment(ws, "wheel").submit(ScriptRunConfig(".", "train.py", secrets=["alone"]))
print(run.wait_for_completion()["status"], run.get_metrics())
print(open(run.get_all_logs()[1]).readline())
"""


@pytest.fixture(scope="module")
def wheel() -> pathlib.Path:
    wheels = sorted(DIST.glob("kluis-*.whl"), key=lambda path: path.stat().st_mtime)
    need(bool(wheels), "NO WHEEL: scripts/wheel.sh builds one")
    return wheels[-1]


@pytest.fixture(scope="module")
def alone(wheel, tmp_path_factory) -> pathlib.Path:
    """The programs' folder of an environment that has this wheel and pip."""
    folder = tmp_path_factory.mktemp("alone") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True)
    return folder / "bin"


def environment(**more: str) -> dict:
    """No variable of ours, and a path on which nothing of ours lies."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **more}


def test_the_wheel_carries_both_programs_and_the_types(wheel):
    with zipfile.ZipFile(wheel) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        for program in ("kluis", "kluis-launch"):
            (name,) = [n for n in entries if n.endswith(f".data/scripts/{program}")]
            assert archive.read(name)[:4] == b"\x7fELF"
            assert entries[name].external_attr >> 16 & 0o111 == 0o111
        for name in ("kluis/__init__.py", "kluis/py.typed", "kluis/_native.pyi", "kluis/_native.abi3.so"):
            assert name in entries
        # One for every interpreter since 3.9.
        assert "-cp39-abi3-" in wheel.name


def test_the_programs_start_where_nothing_else_is_installed(alone, tmp_path):
    for program in ("kluis", "kluis-launch"):
        assert os.access(alone / program, os.X_OK)
    done = subprocess.run([str(alone / "kluis"), "--version"], env=environment(), cwd=tmp_path, capture_output=True, check=True)
    version = subprocess.run(
        [str(alone / "python"), "-c", "import kluis; print(kluis.__version__)"],
        env=environment(), cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[:2] == [b"kluis", version.stdout.strip()]


def test_the_whole_flow_runs_where_nothing_else_is_installed(alone, tmp_path):
    with Up(str(alone / "kluis"), tmp_path) as up:
        del up.variables["KLUIS_CLI"]
        (tmp_path / "project").mkdir()
        done = subprocess.run(
            [str(alone / "python"), "-c", FLOW],
            env=environment(**up.variables, HOME=str(tmp_path)), cwd=tmp_path / "project", capture_output=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        status, interpreter, *_ = done.stdout.decode().splitlines()
        assert status == "Completed {'n': 16}"
        assert str(alone) in interpreter
