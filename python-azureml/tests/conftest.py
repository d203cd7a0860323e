"""Fixtures: a clean environment for every test, and one real server for those that need it.

The server is started as the tests of the package `kluis` start theirs (python/tests/up.py).
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import typing

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "python" / "tests"))

from up import Up  # noqa: E402

CREDENTIALS = ("KLUIS_TOKEN", "KLUIS_CLIENT_ID", "KLUIS_CLIENT_SECRET")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No test sees the developer's own server, login or run."""
    for name in list(os.environ):
        if name.startswith(("KLUIS_", "AZUREML_")) and name not in ("KLUIS_BIN", "KLUIS_CLI"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KLUIS_CONFIG_DIR", str(tmp_path / "no-config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def program() -> str:
    found = os.environ.get("KLUIS_BIN") or os.path.join(os.path.dirname(sys.executable), "kluis")
    if not os.access(found, os.X_OK):
        what = f"NO SERVER: {found} is not an executable file; set KLUIS_BIN to the program kluis"
        if os.environ.get("CI"):
            pytest.fail(what)
        pytest.skip(what)
    return os.path.abspath(found)


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
def project(signed_in: Up, tmp_path: pathlib.Path) -> str:
    """A fresh workspace, named by a `config.json` as it is downloaded from Azure ML. Its name."""
    from azureml.core import Workspace

    name = f"w{os.urandom(6).hex()}"
    Workspace.create(name)
    (tmp_path / "config.json").write_text(
        json.dumps({"subscription_id": "my-subscription-id", "resource_group": "my-ml-rg", "workspace_name": name})
    )
    return name


class Principal(typing.NamedTuple):
    """A service principal, with a client secret."""

    name: str
    id: str
    secret: str


@pytest.fixture
def principal(signed_in: Up, project: str, monkeypatch: pytest.MonkeyPatch) -> Principal:
    """A service principal that contributes to the workspace; the server's address is given as a pipeline gives it."""
    name = f"ci{os.urandom(4).hex()}"
    signed_in.cli("admin", "principal", "create", name)
    signed_in.cli("workspace", "member", "add", name, "--role", "contributor", "--workspace", project)
    made = json.loads(signed_in.cli("admin", "client-secret", "create", name, "--json"))
    from kluis import Workspace

    client = Workspace.get(project)._client
    monkeypatch.setenv("KLUIS_ADDR", client.address)
    monkeypatch.setenv("KLUIS_CA_SHA256", client.ca_sha256)
    return Principal(name, made["client_id"], made["client_secret"])


def pytest_terminal_summary(terminalreporter: typing.Any) -> None:
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "NO SERVER" in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} TESTS WERE SKIPPED, NO SERVER: set KLUIS_BIN", red=True, bold=True)
