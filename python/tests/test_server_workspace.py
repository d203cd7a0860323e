"""Workspaces of a real server: found, made, refused."""

import json
import pathlib
import re
import time

import pytest

from kluis import Experiment, Workspace
from kluis.exceptions import Conflict, InvalidName, NotFound, Unauthenticated, Untrusted, VaultUnavailable


def stored_login(up) -> dict:
    return json.loads((up.home / "config" / "credentials.json").read_text())["credentials"][0]


def test_the_owners_default_workspace_is_there(signed_in):
    ws = Workspace.get("default")
    assert (ws.name, ws.address) == ("default", f"https://{signed_in.address}")
    details = ws.get_details()
    assert re.fullmatch("[0-9a-f]{32}", details["id"]) and details["role"] == "owner"
    assert Workspace.list()["default"] == [ws]


def test_made_found_and_made_once(signed_in):
    ws = Workspace.create("team-one", retention_days=7, require_declared_secrets=True)
    assert ws.get_details()["settings"] == {"retention_days": 7, "require_declared_secrets": True, "enforce_validity": False}
    assert Workspace.get("Team-One") == ws
    with pytest.raises(Conflict):
        Workspace.create("team-one")
    assert Workspace.create("team-one", exist_ok=True) == ws
    assert ws.experiments == {} and Experiment.list(ws) == []


def test_what_write_config_writes_from_config_finds(workspace, tmp_path):
    path = workspace.write_config(tmp_path / "project")
    assert pathlib.Path(path) == tmp_path / "project" / ".kluis" / "config.json"
    assert "kls_" not in pathlib.Path(path).read_text()
    (tmp_path / "project" / "deep" / "down").mkdir(parents=True)
    assert Workspace.from_config(tmp_path / "project" / "deep" / "down") == workspace
    assert Workspace.from_config(path) == workspace


def test_an_azure_file_maps_by_name_and_is_echoed(workspace, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"subscription_id": "s-1", "resource_group": "g-1", "workspace_name": workspace.name})
    )
    ws = Workspace.from_config()
    assert ws == workspace and (ws.subscription_id, ws.resource_group) == ("s-1", "g-1")
    assert ws.get_details()["subscriptionId"] == "s-1"


def test_compute_targets_have_the_built_in_one(workspace):
    assert workspace.compute_targets["server"].queued == 0


def test_an_unknown_workspace_and_an_impossible_name(signed_in):
    with pytest.raises(NotFound) as refused:
        Workspace.get("nobody-made-this")
    assert refused.value.status_code == 404 and refused.value.request_id
    with pytest.raises(InvalidName):
        Workspace.create("no workspace")


def test_ci_signs_in_by_the_environment_alone(up, monkeypatch, tmp_path):
    login = stored_login(up)
    monkeypatch.setenv("KLUIS_CONFIG_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("KLUIS_ADDR", login["address"])
    monkeypatch.setenv("KLUIS_CA_SHA256", login["ca_sha256"])
    monkeypatch.setenv("KLUIS_TOKEN", login["token"])
    assert "default" in Workspace.list()
    monkeypatch.setenv("KLUIS_TOKEN", login["token"][:-6] + "000000")
    with pytest.raises(Unauthenticated) as refused:
        Workspace.list()
    assert login["token"][8:20] not in str(refused.value)


def test_another_certificate_is_not_trusted(up, monkeypatch, tmp_path):
    login = stored_login(up)
    monkeypatch.setenv("KLUIS_CONFIG_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("KLUIS_ADDR", login["address"])
    monkeypatch.setenv("KLUIS_CA_SHA256", "00" * 32)
    monkeypatch.setenv("KLUIS_TOKEN", login["token"])
    with pytest.raises(Untrusted, match="nothing was sent"):
        Workspace.list()


def test_a_server_that_is_away_is_vault_unavailable(monkeypatch, tmp_path):
    monkeypatch.setenv("KLUIS_ADDR", "https://127.0.0.1:9")
    monkeypatch.setenv("KLUIS_CA_SHA256", "00" * 32)
    monkeypatch.setenv("KLUIS_TOKEN", "kls_usr_x")
    began = time.monotonic()
    with pytest.raises(VaultUnavailable, match="could not be reached"):
        Workspace.list()
    assert time.monotonic() - began < 20
