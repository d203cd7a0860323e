"""The real Key Vault clients inside a run: no login and no configuration, `ManagedIdentityCredential()` and
`DefaultAzureCredential()` as they stand. A run reads what it may read, and changes and lists nothing."""

import json

import pytest

from kluis_server import canary
from test_key_vault import CLIENTS, driver
from world import DRIVERS, interpreter, json_lines

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


@pytest.fixture(scope="module")
def secrets(world):
    """One that the run declares, one that it does not, and one that is deleted."""
    for name, value in (("declared", VALUE), ("undeclared", canary()), ("deleted", canary())):
        world.ok("secret", "set", name, "-", stdin=value.encode())
    world.ok("secret", "delete", "deleted")


@pytest.fixture(scope="module", params=["local", "server"])
def said(request, world, secrets, tmp_path_factory):
    """What one run on this target wrote: its id, {(client, credential): lines}, and all of its log."""
    project = tmp_path_factory.mktemp("project")
    words = {client: driver(client, "flow") for client in CLIENTS}
    variables = {"EXPECTED_LENGTH": str(len(VALUE)), "UNDECLARED": "undeclared", "DELETED": "deleted"}
    env = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    script = [str(interpreter("azure")), str(DRIVERS / "in_run.py"), json.dumps(words)]
    submit = ["run", "submit", "--compute", request.param, "--secret", "declared", *env, "--", *script]
    run = world.ok(*submit, cwd=project).strip()
    done = world.cli("run", "wait", run, timeout=240)
    log = world.ok("run", "logs", run)
    assert done.returncode == 0, log + world.ok("run", "logs", "--system", run)
    lines, now = {}, None
    for line in json_lines(log):
        if "client" in line:
            now = lines.setdefault((line["client"], line["credential"]), [])
        else:
            now.append(line)
    return run, lines, log


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_run_reads_what_it_may_and_nothing_else(said, found, client, credential):
    _, lines, _ = said
    mine = lines[client, credential]
    assert {line["operation"]: line["outcome"] for line in mine} == EXPECTED, json.dumps(mine, indent=1)
    found.add(IN_RUN[client], CREDENTIALS[credential], mine)


def test_what_was_read_is_masked_and_on_record_with_the_run(world, said):
    run, lines, log = said
    assert log.count("the value is ***") == len(lines) == len(CLIENTS) * len(CREDENTIALS)
    assert VALUE not in log
    records = [json.loads(line) for line in world.ok("audit", "tail", "--run", run, "--no-follow", "--json").splitlines()]
    assert [r["name"] for r in records if r["action"] == "secret.delivered"] == ["declared"], records
