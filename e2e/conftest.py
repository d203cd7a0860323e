"""Fixtures: a server per module, and dependencies whose absence is loud."""

import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from kluis_server import KLUIS, Server  # noqa: E402


def pytest_configure() -> None:
    if shutil.which(KLUIS) is None:
        pytest.exit(f"{KLUIS} is not installed; ./test e2e builds and installs it", returncode=2)


def need(condition: bool, what: str) -> None:
    """A missing dependency fails in CI and is a loud skip elsewhere."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {what}")
    pytest.skip(f"SKIPPED FOR WANT OF {what}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with Server(tmp_path_factory.mktemp("kluis")) as running:
        yield running
