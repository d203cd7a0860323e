"""What is refused before anything is sent, and a server that says nothing."""

import asyncio
import os
import socket
import time
from datetime import datetime, timezone

import pytest

from kluis import Workspace, _native
from kluis.exceptions import Forbidden
from kluis.keyvault import _attributes
from kluis.testing import fake_run


@pytest.fixture
def vault():
    """A vault without a server: getting past the checks is Forbidden here."""
    with fake_run() as fake:
        yield fake.run.experiment.workspace.get_default_keyvault()


def test_none_asks_for_the_variable(vault):
    with pytest.raises(ValueError, match=r"value is None; is the environment variable set\?"):
        vault.set_secret("a", None)
    with pytest.raises(ValueError, match=r"value of 'b' is None; is the environment variable set\?"):
        vault.set_secrets({"a": "1", "b": None})


@pytest.mark.parametrize("value", [7, b"bytes", ["x"], 1.5])
def test_other_types_are_a_type_error_that_does_not_show_the_value(vault, value):
    with pytest.raises(TypeError, match=f"must be a str, not {type(value).__name__}"):
        vault.set_secret("a", value)
    with pytest.raises(TypeError, match="'a'"):
        vault.set_secrets({"a": value})


def test_the_empty_text_is_a_value(vault):
    with pytest.raises(Forbidden):
        vault.set_secret("a", "")


def test_a_text_is_no_list_of_names(vault):
    with pytest.raises(TypeError, match="delete_secrets takes a list"):
        vault.delete_secrets("ab")
    with pytest.raises(TypeError, match="get_secrets takes a list"):
        vault.get_secrets("ab")


def test_attributes_need_time_zones_and_take_enumerations():
    import enum

    kind = enum.Enum("KeyVaultContentType", {"not_provided": "application/NotProvided"})
    expires = datetime(2030, 1, 1, tzinfo=timezone.utc)
    assert _attributes(kind.not_provided, {"k": "v"}, None, expires) == {
        "content_type": "application/NotProvided",
        "tags": {"k": "v"},
        "expires": "2030-01-01T00:00:00+00:00",
    }
    with pytest.raises(ValueError, match="time zone"):
        _attributes(None, None, datetime(2030, 1, 1), None)


def test_a_cancelled_read_of_a_silent_server_holds_up_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client, _ = _native.connect(
            str(tmp_path),
            {
                "KLUIS_CONFIG_DIR": os.environ["KLUIS_CONFIG_DIR"],
                "KLUIS_ADDR": f"https://127.0.0.1:{silent.getsockname()[1]}",
                "KLUIS_CA_SHA256": "ab" * 32,
                "KLUIS_TOKEN": "kls_usr_x",
            },
        )
        vault = Workspace._made("w", client).get_default_keyvault()

        async def main():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(vault.aget_secret("a"), 0.3)

        began = time.monotonic()
        asyncio.run(main())
        assert time.monotonic() - began < 3
