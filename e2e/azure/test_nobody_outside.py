"""What the clients of all the tests before these asked the world for: nothing. And the one way to sign in that does ask, which the
guide warns of, so that it is known that asking is noticed."""

import json

import pytest

from test_key_vault import driver, environment


def asked_outside(world):
    """Names below `localhost` are this machine's: `kluis` looks whether they resolve."""
    return {name for name in world.network.asked() if not name.endswith(".localhost")}


def test_nobody_outside_was_asked(world):
    assert asked_outside(world) == set()


@pytest.mark.parametrize("client", ["python", "javascript"])
def test_a_tenant_that_must_be_discovered_asks_microsoft_and_so_fails(world, client):
    env = environment(world, "client-secret-tenant") | {"TAG": "discovering", "ONLY": "set"}
    lines = world.on_laptop(*driver(client, "flow"), "client-secret-discovering", env=env)
    assert [line["outcome"] for line in lines] == ["fails"], json.dumps(lines)
    assert "login.microsoftonline.com" in asked_outside(world)
