"""A client that lives on: it works across a restart of the server, and no longer when its access is taken away."""

import pytest

from kluis_server import canary
from test_key_vault import driver, environment

VALUE = canary()


@pytest.mark.parametrize("credential", ["client-secret-adfs", "workload-identity", "managed-identity"])
@pytest.mark.parametrize("client", ["python", "javascript"])
def test_it_survives_a_restart_and_ends_with_its_access(world, client, credential):
    name, who = f"long-{client}-{credential}", f"{client}-{credential}"
    world.ok("secret", "set", name, "-", stdin=VALUE.encode())
    if credential == "managed-identity":
        env = world.user(who, "contributor")
    else:
        env = environment(world, credential, world.service_principal(who, "contributor"))
    with world.started_on_laptop(*driver(client, "long_lived"), credential, name, env=env) as living:
        assert living.ask() == {"value": VALUE}
        world.stop()
        world.start()
        assert living.ask() == {"value": VALUE}
        world.kill()
        world.start()
        assert living.ask() == {"value": VALUE}

        world.ok("workspace", "member", "remove", who)
        refused = living.ask()
        assert refused.get("status") in (403, 404), refused
        world.ok("workspace", "member", "add", who, "--role", "contributor")
        assert living.ask() == {"value": VALUE}, "given back, it works on with the token that it has"

        world.ok("admin", "principal", "disable", who)
        refused = living.ask()
        assert "value" not in refused and VALUE not in str(refused), refused
