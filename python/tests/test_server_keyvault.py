"""The vault of a real server."""

import asyncio
import multiprocessing
import threading
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from kluis import Workspace
from kluis.exceptions import Conflict, InvalidName, InvalidValue, NotFound, SecretDeleted, SecretNotFound

LARGEST = 25_600


@pytest.fixture
def vault(workspace):
    return workspace.get_default_keyvault()


@pytest.mark.parametrize("value", ["hunter2", "", " spaces\n", "ünïcode \U0001f510", "x" * LARGEST, '{"a": "\\u0000"}', "\0"])
def test_a_value_comes_back_as_it_went_in(vault, value):
    vault.set_secret("a", value)
    assert vault.get_secret("a") == value
    assert vault.get_secrets(["a"]) == {"a": value}


def test_setting_again_makes_a_version_and_old_ones_stay_readable(vault):
    vault.set_secret(name="Db-Password", value="one")
    vault.set_secret(name="db-password", value="two", content_type="text/plain", tags={"k": "v"})
    assert vault.get_secret("DB-PASSWORD") == "two"
    newest, oldest = vault.list_secret_versions("db-password")
    assert (newest["current"], oldest["current"]) == (True, False)
    assert (newest["content_type"], newest["tags"], oldest["content_type"]) == ("text/plain", {"k": "v"}, None)
    assert vault.get_secret("db-password", version=oldest["version"]) == "one"
    assert vault.get_secret_content_type("db-password") == "text/plain"
    assert vault.list_secrets() == [{"name": "Db-Password"}]


def test_expiry_is_kept_and_informs_only(vault):
    expires = datetime.now(timezone.utc) - timedelta(days=1)
    vault.set_secret("a", "1", expires=expires)
    assert vault.get_secret("a") == "1"
    (version,) = vault.list_secret_versions("a")
    assert version["expires"].startswith(expires.strftime("%Y-%m-%dT%H:%M"))


def test_a_batch_is_set_whole_or_not_at_all(vault):
    vault.set_secrets({"a": "1", "b": "2"})
    assert vault.get_secrets(["b", "a", "no"]) == {"b": "2", "a": "1", "no": None}
    with pytest.raises(InvalidName):
        vault.set_secrets({"c": "3", "d/e": "4"})
    with pytest.raises(InvalidValue):
        vault.set_secrets({"c": "3", "d": "x" * (LARGEST + 1)})
    assert vault.get_secrets(["c", "d"]) == {"c": None, "d": None}
    vault.set_secrets({})
    assert vault.get_secrets([]) == {}


def test_more_than_a_page_of_names_is_listed(vault):
    names = [f"s{i:03}" for i in range(230)]
    vault.set_secrets({name: "x" for name in names})
    assert [s["name"] for s in vault.list_secrets()] == names
    assert vault.get_secrets(names) == {name: "x" for name in names}


def test_what_is_no_value_is_refused_and_never_shown(vault):
    for value in ("hunter2" * 4000, "hunter2\udcff"):
        with pytest.raises(InvalidValue) as refused:
            vault.set_secret("a", value)
        chain = [refused.value, refused.value.__cause__, refused.value.__context__]
        assert not any("hunter2" in repr(vars(e)) + str(e) for e in chain if e is not None)
    with pytest.raises(SecretNotFound):
        vault.get_secret("a")


def test_missing(vault):
    with pytest.raises(SecretNotFound) as refused:
        vault.get_secret("nope")
    assert (refused.value.status_code, refused.value.code) == (404, "secret_not_found")
    with pytest.raises(NotFound):
        vault.get_secret_content_type("nope")
    with pytest.raises(NotFound):
        vault.delete_secret("nope")


def test_deleted_keeps_its_name_until_purged(vault):
    vault.set_secrets({"a": "1", "b": "2", "c": "3"})
    vault.delete_secrets(["a", "b"])
    assert vault.list_secrets() == [{"name": "c"}]
    assert vault.get_secrets(["a", "c"]) == {"a": None, "c": "3"}
    with pytest.raises(SecretDeleted, match="recover it"):
        vault.get_secret("a")
    with pytest.raises(SecretDeleted) as refused:
        vault.set_secret("a", "new")
    assert isinstance(refused.value, Conflict)
    vault.recover_secret("a")
    assert vault.get_secret("a") == "1"
    vault.purge_secret("b")
    vault.set_secret("b", "another")
    assert vault.get_secret("b") == "another"
    assert len(vault.list_secret_versions("b")) == 1


def read(variables_and_name):
    workspace, name = variables_and_name
    return Workspace.get(workspace).get_default_keyvault().get_secret(name)


def test_the_async_twins_read_what_the_others_read(vault):
    async def main():
        with pytest.raises(SecretNotFound):
            await vault.aget_secret("no")
        value, values, names, versions, kind = await asyncio.gather(
            vault.aget_secret("a"),
            vault.aget_secrets(["a", "no"]),
            vault.alist_secrets(),
            vault.alist_secret_versions("a"),
            vault.aget_secret_content_type("a"),
        )
        older = await vault.aget_secret("a", version=versions[1]["version"])
        return value, values, names, len(versions), kind, older

    vault.set_secret("a", "0")
    vault.set_secret("a", "1", content_type="text/plain")
    assert asyncio.run(main()) == ("1", {"a": "1", "no": None}, [{"name": "a"}], 2, "text/plain", "0")


_shared = None


def read_shared(name):
    return _shared.get_secret(name)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_worker_uses_the_same_object_with_connections_of_its_own(vault):
    global _shared
    _shared = vault
    vault.set_secrets({f"s{i}": f"value-{i}" for i in range(8)})
    assert vault.get_secret("s0") == "value-0"  # so that the parent has a runtime and a connection
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(read_shared, [f"s{i}" for i in range(8)]) == [f"value-{i}" for i in range(8)]
    assert vault.get_secret("s1") == "value-1"


def test_a_spawned_worker_finds_the_workspace_anew(vault, workspace):
    vault.set_secret("a", "1")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(read, [(workspace.name, "a")]) == ["1"]


def test_threads_share_a_vault(vault):
    wrong = []

    def work(i):
        name, value = f"t{i}", uuid.uuid4().hex
        vault.set_secret(name, value)
        if vault.get_secret(name) != value:
            wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(vault.list_secrets()) == 16
