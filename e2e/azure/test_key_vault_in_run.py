"""The real Key Vault clients inside a run: no login and no configuration, `ManagedIdentityCredential()` and
`DefaultAzureCredential()` as they stand. A run reads what it may read, and changes and lists nothing."""

import json

import pytest

from kluis_server import canary
from test_key_vault import CLIENTS, driver
from world import DRIVERS, interpreter

VALUE = canary()
CREDENTIALS = {
    "managed-identity-app-service": "`ManagedIdentityCredential`",
    "managed-identity": "`ManagedIdentityCredential`, Azure ML's variables alone",
    "default": "`DefaultAzureCredential`",
}
IN_RUN = {client: f"In a run, {heading}" for client, heading in CLIENTS.items()}
EXPECTED = {
    "get": "works",
    "get a version": "works",
    "get another": "refused",
    "set": "refused",
    "update": "refused",
    "list": "refused",
    "list versions": "refused",
    "disable": "refused",
    "backup": "refused",
    "delete": "refused",
    "list deleted": "refused",
    "get deleted": "refused",
    "recover": "refused",
    "purge": "refused",
    "restore": "refused",
}


@pytest.fixture(scope="module", params=["local", "server"])
def said(request, world, tmp_path_factory):
    """What one run on this target wrote: {(client, credential): lines}, and all of its log."""
    for name, value in (("declared", VALUE), ("undeclared", canary()), ("deleted", canary())):
        if name not in [s["name"] for s in world.json("secret", "list")["items"]]:
            world.ok("secret", "set", name, "-", stdin=value.encode())
    world.cli("secret", "delete", "deleted")
    project = tmp_path_factory.mktemp("project")
    words = {client: driver(client, "flow") for client in CLIENTS}
    variables = {"EXPECTED_LENGTH": str(len(VALUE)), "UNDECLARED": "undeclared", "DELETED": "deleted"}
    env = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    done = world.cli(
        "run", "submit", "--compute", request.param, "--secret", "declared", *env, "--wait", "--",
        str(interpreter("azure")), str(DRIVERS / "in_run.py"), json.dumps(words), cwd=project, timeout=240,
    )  # fmt: skip
    log = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    lines, now = {}, None
    for line in log.splitlines():
        if not line.startswith("{"):
            continue
        line = json.loads(line)
        if "client" in line:
            now = lines.setdefault((line["client"], line["credential"]), [])
        else:
            now.append(line)
    return lines, log


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_run_reads_what_it_may_and_nothing_else(said, found, client, credential):
    lines, log = said
    mine = lines[client, credential]
    outcomes = {line["operation"]: line["outcome"] for line in mine if "operation" in line}
    assert outcomes == EXPECTED, json.dumps(mine, indent=1)
    assert {"said": "the value is ***"} in mine, mine
    assert VALUE not in log
    found.add(IN_RUN[client], CREDENTIALS[credential], [line for line in mine if "operation" in line])


def test_reads_are_audited_with_the_run(world, said):
    records = [json.loads(line) for line in world.ok("audit", "tail", "--json").splitlines()]
    assert any(r.get("run") for r in records if "deliver" in json.dumps(r)), records[-5:]
