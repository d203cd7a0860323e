"""Workspaces of a real server: found, made, refused."""

import http.client
import json
import pathlib
import re
import ssl
import time
import uuid

import pytest

from kluis import Experiment, Workspace
from kluis.exceptions import Conflict, Forbidden, InvalidName, NotFound, Unauthenticated, Untrusted, VaultUnavailable
from kluis.workspace import _connect


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


def api(up, method: str, path: str, body: object = None, token: str = ""):
    """One request of the native API, as any HTTP client makes it."""
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    connection = http.client.HTTPSConnection(up.address, context=ssl._create_unverified_context())
    try:
        connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status < 300, content
        return json.loads(content or b"null")
    finally:
        connection.close()


def service_principal(up) -> tuple:
    """A new one: its name, and the variables under which it is signed in."""
    name = f"ci-{uuid.uuid4().hex[:8]}"
    up.cli("admin", "principal", "create", name)
    made = json.loads(up.cli("admin", "client-secret", "create", name, "--json"))
    login = stored_login(up)
    return name, {
        "KLUIS_CONFIG_DIR": str(up.home / "nobody"),
        "KLUIS_ADDR": login["address"],
        "KLUIS_CA_SHA256": login["ca_sha256"],
        "KLUIS_CLIENT_ID": made["client_id"],
        "KLUIS_CLIENT_SECRET": made["client_secret"],
    }


def sign_in(monkeypatch, variables) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_wrong_client_secret_is_refused_and_not_repeated(up, monkeypatch):
    _, variables = service_principal(up)
    secret = variables["KLUIS_CLIENT_SECRET"]
    sign_in(monkeypatch, variables)
    assert Workspace.list() == {}
    for wrong in (secret[:-6] + "000000", "hunter2", ""):
        monkeypatch.setenv("KLUIS_CLIENT_SECRET", wrong)
        with pytest.raises(Unauthenticated) as refused:
            Workspace.list()
        assert secret[8:20] not in str(refused.value) and "hunter2" not in str(refused.value)


def test_a_service_principal_whose_token_has_died_signs_in_anew(up, monkeypatch):
    """As after a clock that was set back: the token was not renewed in time."""
    _, variables = service_principal(up)
    sign_in(monkeypatch, variables)
    client, _ = _connect()
    assert client.workspace_list() == []
    secret = {"client_id": variables["KLUIS_CLIENT_ID"], "client_secret": variables["KLUIS_CLIENT_SECRET"]}
    other = api(up, "POST", "/login/client", secret)
    for token in api(up, "GET", "/tokens", token=other["token"])["items"]:
        if token["id"] != other["view"]["id"]:
            api(up, "DELETE", f"/tokens/{token['id']}", token=other["token"])
    with pytest.raises(Unauthenticated):
        client.workspace_list()
    assert client.workspace_list() == []


def test_who_is_no_member_finds_nothing_and_a_reader_reads_no_value(up, workspace, monkeypatch):
    workspace.get_default_keyvault().set_secret("a", "hunter2")
    name, variables = service_principal(up)
    owner = dict(up.variables)
    sign_in(monkeypatch, variables)
    with pytest.raises(NotFound) as outside:
        Workspace.get(workspace.name)
    assert outside.value.status_code == 404
    sign_in(monkeypatch, owner)
    up.cli("workspace", "member", "--workspace", workspace.name, "add", name, "--role", "reader")
    sign_in(monkeypatch, variables)
    vault = Workspace.get(workspace.name).get_default_keyvault()
    assert vault.list_secrets() == [{"name": "a"}]
    for act in (lambda: vault.get_secret("a"), lambda: vault.set_secret("b", "1"), lambda: vault.delete_secret("a")):
        with pytest.raises(Forbidden) as refused:
            act()
        assert (refused.value.status_code, refused.value.code) == (403, "forbidden")
    sign_in(monkeypatch, owner)
    for variable in ("KLUIS_CLIENT_ID", "KLUIS_CLIENT_SECRET", "KLUIS_ADDR", "KLUIS_CA_SHA256"):
        monkeypatch.delenv(variable)
    assert workspace.get_default_keyvault().get_secrets(["a", "b"]) == {"a": "hunter2", "b": None}


def test_a_token_that_has_expired_is_refused(up, monkeypatch):
    login = stored_login(up)
    token = api(up, "POST", "/tokens", {"label": "short", "life_seconds": 2}, login["token"])["token"]
    sign_in(
        monkeypatch,
        {
            "KLUIS_CONFIG_DIR": str(up.home / "nobody"),
            "KLUIS_ADDR": login["address"],
            "KLUIS_CA_SHA256": login["ca_sha256"],
            "KLUIS_TOKEN": token,
        },
    )
    ws = Workspace.get("default")
    deadline = time.monotonic() + 10
    with pytest.raises(Unauthenticated, match="expired") as refused:
        while time.monotonic() < deadline:
            ws.get_details()
            time.sleep(0.2)
    assert refused.value.status_code == 401 and token[8:20] not in str(refused.value)


def test_azures_ways_to_a_workspace_lead_to_it(workspace, tmp_path):
    by_constructor = Workspace("s-1", "g-1", workspace.name, object())
    by_name = Workspace.get(workspace.name, None, "s-1", "g-1", "westeurope")
    for ws in (by_constructor, by_name):
        assert ws == workspace and (ws.subscription_id, ws.resource_group) == ("s-1", "g-1")
    assert Workspace.list("s-1", None, "g-1")[workspace.name] == [workspace]
    details = by_constructor.get_details()
    assert (details["location"], details["tags"], details["sku"]) == (None, {}, None)
    assert details["discoveryUrl"] == workspace.discovery_url == workspace.address
    path = workspace.write_config(tmp_path / "p", "team.json")
    assert path == str(tmp_path / "p" / ".kluis" / "team.json")
    assert Workspace.from_config(tmp_path / "p", _file_name="team.json") == Workspace.from_config(path, None) == workspace


def test_a_server_that_is_away_is_vault_unavailable(monkeypatch, tmp_path):
    monkeypatch.setenv("KLUIS_ADDR", "https://127.0.0.1:9")
    monkeypatch.setenv("KLUIS_CA_SHA256", "00" * 32)
    monkeypatch.setenv("KLUIS_TOKEN", "kls_usr_x")
    began = time.monotonic()
    with pytest.raises(VaultUnavailable, match="could not be reached"):
        Workspace.list()
    assert time.monotonic() - began < 20
