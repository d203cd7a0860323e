"""Finding server, workspace and login, up to the point where something would be sent."""

import json
import os
import pathlib

import pytest

from kluis import Workspace, _native
from kluis.exceptions import InvalidName, Unauthenticated, Untrusted, UserErrorException
from kluis.workspace import _connect, _find_file

PIN = "ab" * 32
OTHER_PIN = "cd" * 32


def write(path, content) -> None:
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def login(tmp_path, monkeypatch):
    """A stored login for 127.0.0.1:9."""
    folder = tmp_path / "config"
    write(folder / "credentials.json", {"credentials": [{"address": "https://127.0.0.1:9", "ca_sha256": PIN, "token": "kls_usr_hunter2"}]})
    (folder / "credentials.json").chmod(0o600)
    monkeypatch.setenv("KLUIS_CONFIG_DIR", str(folder))
    return folder


def connect(start=".", **variables):
    environment = {"KLUIS_CONFIG_DIR": os.environ["KLUIS_CONFIG_DIR"], **variables}
    return _native.connect(str(pathlib.Path(start).resolve()), environment)


def test_our_file_is_found_from_below_and_wins_over_azures(login, tmp_path):
    write(".kluis/config.json", {"address": "https://127.0.0.1:9", "workspace": "ours", "ca_sha256": PIN})
    write("a/.azureml/config.json", {"subscription_id": "s", "resource_group": "g", "workspace_name": "theirs"})
    client, found = connect("a")
    assert (client.address, client.ca_sha256, found["workspace"]) == ("https://127.0.0.1:9", PIN, "ours")
    assert found["file"] == tmp_path / ".kluis" / "config.json"
    assert client.credential_from_environment is False


def test_the_projects_compute_target_wins_over_the_users(login):
    write(login / "config.json", {"compute": "of-the-user"})
    write(".kluis/config.json", {"address": "https://127.0.0.1:9", "workspace": "w", "ca_sha256": PIN})
    assert connect()[1]["compute"] == "of-the-user"
    write(".kluis/config.json", {"address": "https://127.0.0.1:9", "workspace": "w", "ca_sha256": PIN, "compute": "of-the-project"})
    assert connect()[1]["compute"] == "of-the-project"


def test_azures_file_gives_the_workspace_and_its_names_are_echoed(login):
    write("config.json", {"subscription_id": "s", "resource_group": "g", "workspace_name": "theirs"})
    client, found = connect(KLUIS_ADDR="127.0.0.1:9")
    assert (found["workspace"], found["subscription_id"], found["resource_group"]) == ("theirs", "s", "g")


def test_a_file_can_be_named(login):
    write("elsewhere/my.json", {"address": "127.0.0.1:9", "workspace": "named"})
    assert connect("elsewhere/my.json")[1]["workspace"] == "named"


def test_the_environment_wins_over_the_file(login):
    write(".kluis/config.json", {"address": "127.0.0.1:9", "workspace": "of-the-file"})
    assert connect(KLUIS_WORKSPACE="of-the-environment")[1]["workspace"] == "of-the-environment"


def test_a_token_of_the_environment_goes_only_where_the_environment_says(login):
    write(".kluis/config.json", {"address": "https://evil.example:1", "workspace": "w", "ca_sha256": OTHER_PIN})
    with pytest.raises(Unauthenticated, match="KLUIS_ADDR") as refused:
        connect(KLUIS_TOKEN="kls_usr_hunter3")
    assert "hunter" not in str(refused.value)
    client, _ = connect(KLUIS_TOKEN="kls_usr_hunter3", KLUIS_ADDR="https://good.example:1", KLUIS_CA_SHA256=PIN)
    assert client.credential_from_environment is True
    assert client.address == "https://good.example:1"


def test_a_login_given_in_the_call_stands_in_for_the_environments(login, monkeypatch):
    monkeypatch.setenv("KLUIS_ADDR", "https://127.0.0.1:9")
    monkeypatch.setenv("KLUIS_TOKEN", "kls_usr_hunter3")
    client, found = _connect(login={})
    assert client.credential_from_environment is False and found["login"] == {}
    client, found = _connect(login={"KLUIS_CLIENT_ID": "0" * 32, "KLUIS_CLIENT_SECRET": "hunter4"})
    assert client.credential_from_environment is True and "KLUIS_TOKEN" not in found["login"]
    assert "login" not in _connect()[1]


def test_a_login_given_in_the_call_is_never_replaced_by_the_stored_one(login, monkeypatch):
    write(".kluis/config.json", {"address": "https://127.0.0.1:9", "workspace": "w", "ca_sha256": PIN})
    assert _connect()[0].address == "https://127.0.0.1:9"
    with pytest.raises(Unauthenticated, match="KLUIS_ADDR") as refused:
        _connect(login={"KLUIS_TOKEN": "kls_usr_hunter3"})
    assert "hunter" not in str(refused.value)


def test_a_project_that_names_another_pin_gets_no_login(login):
    write(".kluis/config.json", {"address": "https://127.0.0.1:9", "workspace": "w", "ca_sha256": OTHER_PIN})
    with pytest.raises(Untrusted, match="nothing was sent"):
        connect()


def test_no_login_says_how_to_sign_in():
    with pytest.raises(UserErrorException, match="kluis login"):
        Workspace.from_config()


@pytest.mark.parametrize(
    ("content", "said"),
    [("{}", "no `workspace`"), ("{", "line 1"), ('{"workspace": "a b"}', "not allowed"), ('{"workspace": 3}', "text is expected")],
)
def test_a_bad_file_is_told_by_place(login, content, said):
    write(".kluis/config.json", content)
    with pytest.raises(UserErrorException, match=said):
        Workspace.from_config()


def test_no_file_and_no_workspace_says_what_would_help(login):
    with pytest.raises(UserErrorException, match="kluis init"):
        Workspace.from_config() if False else Workspace._open(*connect(KLUIS_ADDR="127.0.0.1:9"))


def test_a_place_that_does_not_exist_is_an_error(login):
    with pytest.raises(UserErrorException, match="neither a folder nor"):
        Workspace.from_config("nowhere")


def test_an_exposed_credentials_file_is_not_read(login):
    (login / "credentials.json").chmod(0o644)
    with pytest.raises(UserErrorException, match="chmod 600") as refused:
        connect(KLUIS_ADDR="127.0.0.1:9")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["KLUIS_TOKEN", "KLUIS_CLIENT_SECRET", "KLUIS_ADDR", "KLUIS_WORKSPACE"])
def test_a_variable_that_is_no_text_is_refused_by_its_name_alone(login, monkeypatch, name):
    monkeypatch.setenv("KLUIS_ADDR", "127.0.0.1:9")
    os.environb[name.encode()] = b"hunter2\xff"
    try:
        with pytest.raises(UserErrorException, match=f"{name} is not UTF-8 text") as refused:
            Workspace.from_config()
    finally:
        del os.environb[name.encode()]
    error = refused.value
    while error is not None:
        assert "hunter2" not in repr(vars(error)) + str(error) + repr(getattr(error, "object", ""))
        error = error.__cause__ or error.__context__


def test_a_folder_may_have_any_name(login, monkeypatch, tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.rename(login, folder)
    monkeypatch.setitem(os.environb, b"KLUIS_CONFIG_DIR", folder)
    assert connect(KLUIS_ADDR="127.0.0.1:9")[0].address == "https://127.0.0.1:9"


def test_a_file_with_a_name_of_its_own_is_found_from_below(login, tmp_path):
    write(".azureml/other.json", {"subscription_id": "s", "resource_group": "g", "workspace_name": "theirs"})
    write(".kluis/config.json", {"address": "https://127.0.0.1:9", "workspace": "ours"})
    (tmp_path / "a").mkdir()
    assert _find_file("a", "other.json") == str(tmp_path / ".azureml" / "other.json")
    with pytest.raises(UserErrorException, match="file another.json could not be found"):
        Workspace.from_config(_file_name="another.json")
    for wrong in ("", "..", "a/b"):
        with pytest.raises(UserErrorException, match="not a file's name"):
            Workspace.from_config(_file_name=wrong)


def test_what_is_written_is_found_again(login, tmp_path):
    path = _native.write_config(str(tmp_path / "p"), "127.0.0.1:9", PIN, "w")
    assert path == tmp_path / "p" / ".kluis" / "config.json" and "token" not in pathlib.Path(path).read_text()
    client, found = connect("p")
    assert (client.address, client.ca_sha256, found["workspace"]) == ("https://127.0.0.1:9", PIN, "w")
    with pytest.raises(InvalidName):
        _native.write_config(str(tmp_path), "127.0.0.1:9", PIN, "no workspace")
