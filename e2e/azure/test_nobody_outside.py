"""What the clients of all the tests before these asked the world for: nothing. And the one way to sign in that does ask, which the
guide warns of, so that it is known that asking is noticed."""

import json

import pytest

from test_key_vault import CLIENTS, driver, environment


def test_nobody_outside_was_asked(world):
    assert world.network.asked() == set()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_tenant_that_must_be_discovered_asks_microsoft_and_so_fails(world, client):
    env = environment(world, "client-secret-tenant") | {"TAG": "discovering", "ONLY": "set"}
    lines = world.on_laptop(*driver(client, "flow"), "client-secret-discovering", env=env)
    assert [line["outcome"] for line in lines] == ["fails"], json.dumps(lines)
    assert "login.microsoftonline.com" in world.network.asked()
