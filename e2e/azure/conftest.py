"""Fixtures: a server in a network of its own, the real packages, and the table of what they found."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from found import Found  # noqa: E402
from needs import need  # noqa: E402
from network import Network  # noqa: E402
from world import World  # noqa: E402


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("azure")
    network = Network(folder)
    try:
        need(network.ready, f"a network namespace: {network.trouble}")
        with World(folder, network) as running:
            yield running
    finally:
        network.close()


@pytest.fixture(scope="session")
def found() -> Found:
    return Found()
