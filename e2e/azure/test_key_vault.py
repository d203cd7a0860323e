"""The real Key Vault clients on a laptop: Python in both ways and JavaScript, every operation as every credential. Resource
verification is on, as it is by default."""

import json


import pytest

from world import DRIVERS, interpreter, node

CLIENTS = {
    "python": "Python: `azure-keyvault-secrets` with `azure-identity`",
    "aio": "Python, `aio`: `azure-keyvault-secrets.aio` with `azure-identity.aio`",
    "javascript": "JavaScript: `@azure/keyvault-secrets` with `@azure/identity`",
}
OPERATIONS = [
    "set", "get", "get a version", "update", "list", "list versions", "disable", "enable", "backup", "delete", "set a deleted name",
    "list deleted", "get deleted", "recover", "purge", "restore",
]  # fmt: skip
# What is tried, by the name that drivers/credentials knows, and the column of the table.
CREDENTIALS = {
    "client-secret-adfs": "`ClientSecretCredential`, tenant `adfs`",
    "client-secret-tenant": "`ClientSecretCredential`, our tenant, `disable_instance_discovery`",
    "environment": "`EnvironmentCredential`",
    "workload-identity": "`WorkloadIdentityCredential`",
    "managed-identity": "`ManagedIdentityCredential`, Azure ML's variables",
    "managed-identity-app-service": "`ManagedIdentityCredential`, App Service's variables",
    "default": "`DefaultAzureCredential`",
    "device-code": "`DeviceCodeCredential`",
}


def columns(client):
    """The credentials that this client has."""
    return [column for credential, column in CREDENTIALS.items() if (client, credential) != ("aio", "device-code")]


def driver(client, name):
    """The words that start a driver of this client; `name` without its ending."""
    if client == "javascript":
        return [node(), str(DRIVERS / f"{name}.mjs")]
    words = [str(interpreter("azure")), str(DRIVERS / f"{name}.py")]
    return words + ["--aio"] if client == "aio" else words


def environment(world, credential):
    """The shell of somebody who uses this credential."""
    if credential == "managed-identity":
        return world.shell("--msi")
    if credential == "managed-identity-app-service":
        return world.shell("--app-service")
    return world.shell(base={"AZURE_CLIENT_ID": world.client_id, "AZURE_CLIENT_SECRET": world.client_secret})


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("client", CLIENTS)
def test_every_operation_works(world, found, client, credential):
    env = environment(world, credential) | {"TAG": credential}
    words = [*driver(client, "flow"), credential.removesuffix("-app-service")]
    if credential == "device-code":
        if client == "aio":
            pytest.skip("azure-identity has no DeviceCodeCredential for asyncio")
        with world.started_on_laptop(*words, env=env) as flow:
            prompt = flow.hear()["prompt"]
            assert prompt["uri"].startswith(world.address), prompt
            world.ok("login", "--approve", prompt["code"])
            lines = flow.rest()
    else:
        lines = world.on_laptop(*words, env=env)
    assert [(line["operation"], line["outcome"]) for line in lines] == [(o, "works") for o in OPERATIONS], json.dumps(lines, indent=1)
    found.add(CLIENTS[client], CREDENTIALS[credential], lines)
