"""Fixtures: a server per module."""

import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from kluis_server import KLUIS, Server  # noqa: E402


def pytest_configure() -> None:
    if shutil.which(KLUIS) is None:
        pytest.exit(f"{KLUIS} is not installed; ./test e2e builds and installs it", returncode=2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with Server(tmp_path_factory.mktemp("kluis")) as running:
        yield running
