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
    "client-secret-tenant": "`ClientSecretCredential`, another tenant, `disable_instance_discovery`",
    "environment": "`EnvironmentCredential`",
    "workload-identity": "`WorkloadIdentityCredential`",
    "managed-identity": "`ManagedIdentityCredential`, Azure ML's variables",
    "managed-identity-app-service": "`ManagedIdentityCredential`, App Service's variables",
    "default": "`DefaultAzureCredential`",
    "device-code": "`DeviceCodeCredential`",
}
# What stands in a script that was made for Azure.
OLD_TENANT = "72f988bf-0000-4000-8000-2d7cd011db47"


def credentials_of(client):
    """Those that this client has: `azure.identity.aio` has no device code."""
    return [c for c in CREDENTIALS if (client, c) != ("aio", "device-code")]


def driver(client, name):
    """The words that start a driver of this client; `name` without its ending."""
    if client == "javascript":
        return [node(), str(DRIVERS / f"{name}.mjs")]
    words = [str(interpreter("azure")), str(DRIVERS / f"{name}.py")]
    return words + ["--aio"] if client == "aio" else words


def environment(world, credential, client=None):
    """The shell of somebody who uses this credential: their own login, or a service principal's."""
    if credential == "device-code":
        return world.shell() | {"DEVICE_CLIENT_ID": "any", "DEVICE_TENANT": "adfs"}
    if credential in ("managed-identity", "managed-identity-app-service"):
        env = world.shell()
        if credential == "managed-identity-app-service":
            env["IDENTITY_ENDPOINT"], env["IDENTITY_HEADER"] = env.pop("MSI_ENDPOINT"), env.pop("MSI_SECRET")
        return env
    client = client or world.client
    env = world.shell(client)
    if credential == "workload-identity":
        file = world.home / f"{client[0]}.token"
        file.write_text(world.token_of(client))
        env["AZURE_FEDERATED_TOKEN_FILE"] = str(file)
        del env["AZURE_CLIENT_SECRET"]
    return env | {"TENANT": OLD_TENANT}


@pytest.mark.parametrize("client, credential", [(client, c) for client in CLIENTS for c in credentials_of(client)])
def test_every_operation_works(world, found, client, credential):
    world.ok("secret", "set", "another", "-", stdin=b"so that a list has pages")
    env = environment(world, credential) | {"TAG": credential}
    words = [*driver(client, "flow"), credential.removesuffix("-app-service")]
    if credential == "device-code":
        with world.started_on_laptop(*words, env=env) as flow:
            prompt = flow.hear()["prompt"]
            assert prompt["uri"].startswith(env["AZURE_AUTHORITY_HOST"]), prompt
            world.ok("login", "approve", prompt["code"], "--yes")
            lines = flow.rest()
    else:
        lines = world.on_laptop(*words, env=env)
    assert [(line["operation"], line["outcome"]) for line in lines] == [(o, "works") for o in OPERATIONS], json.dumps(lines, indent=1)
    found.add(CLIENTS[client], CREDENTIALS[credential], lines)
