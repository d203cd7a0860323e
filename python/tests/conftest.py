"""Fixtures: a clean environment for every test, and one real server for those that need it.

The server is the program that KLUIS_BIN names, else `kluis` beside the interpreter or on PATH. Without it the tests that
need it are skipped loudly; in CI that is a failure.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import typing

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from up import Up  # noqa: E402


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No test sees the developer's own server, login or run."""
    for name in list(os.environ):
        if name.startswith("KLUIS_") and name not in ("KLUIS_BIN", "KLUIS_CLI"):
            monkeypatch.delenv(name)
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KLUIS_CONFIG_DIR", str(tmp_path / "no-config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def need(condition: bool, what: str) -> None:
    """What is missing is a failure in CI and a loud skip elsewhere."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def program() -> str:
    named = os.environ.get("KLUIS_BIN")
    beside = os.path.join(os.path.dirname(sys.executable), "kluis")
    found = named if named else beside if os.access(beside, os.X_OK) else shutil.which("kluis")
    if found and os.access(found, os.X_OK):
        return os.path.abspath(found)
    need(False, f"NO SERVER: {found or 'kluis'} is not an executable file; set KLUIS_BIN to the program kluis")
    raise AssertionError("unreachable")


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> typing.Iterator[Up]:
    """A real `kluis up` on a free port, with data and configuration of its own."""
    with Up(program(), tmp_path_factory.mktemp("up")) as server:
        yield server


@pytest.fixture
def signed_in(up: Up, monkeypatch: pytest.MonkeyPatch) -> Up:
    """The owner's login of that server, as `kluis up` left it for whoever started it."""
    for name, value in up.variables.items():
        monkeypatch.setenv(name, value)
    return up


@pytest.fixture
def workspace(signed_in: Up) -> typing.Any:
    """A fresh workspace on it."""
    import uuid

    from kluis import Workspace

    return Workspace.create(f"w{uuid.uuid4().hex[:12]}")


def pytest_terminal_summary(terminalreporter: typing.Any) -> None:
    for missing, way_out in (("NO SERVER", "set KLUIS_BIN"), ("NO WHEEL", "scripts/wheel.sh builds one")):
        skipped = [r for r in terminalreporter.stats.get("skipped", []) if missing in str(r.longrepr)]
        if skipped:
            terminalreporter.write_line(f"{len(skipped)} TESTS WERE SKIPPED, {missing}: {way_out}", red=True, bold=True)
