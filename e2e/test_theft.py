"""Tickets: a lost reply is harmless, a second key is theft, and a ticket is inert until its agent confirms."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kluis_server import Refused
from launcher import Launcher

WORKSPACE = "/api/v1/workspaces/default"


@pytest.fixture
def launcher(server):
    client = server.client()
    client.call("PUT", f"{WORKSPACE}/secrets/db-password", {"value": "the value"})
    run = client.call(
        "POST",
        f"{WORKSPACE}/runs",
        {
            "experiment": "theft",
            "program": {"command": {"argv": ["true"]}},
            "compute": "local",
            "secrets": ["db-password"],
        },
    )["id"]
    return Launcher(server.address, "default", run)


def status(server, launcher):
    return server.json("run", "show", launcher.run)["status"]


def actions(server, launcher):
    records = server.client().pages(f"{WORKSPACE}/audit?run={launcher.run}")
    return [record["action"] for record in records]


def test_a_lost_reply_retried_with_the_same_key_gets_the_same_session(server, launcher):
    launcher.lease(server.client())
    first = launcher.redeem()["session"]
    assert launcher.redeem()["session"] == first
    assert launcher.read("db-password")["items"][0]["value"] == "the value"
    assert status(server, launcher) == "running"


def test_a_thief_who_comes_second_kills_the_session_and_is_on_record(server, launcher):
    launcher.lease(server.client())
    launcher.redeem()
    with pytest.raises(Refused) as refusal:
        launcher.redeem(key=Ed25519PrivateKey.generate())
    assert (refusal.value.status, refusal.value.code) == (403, "compromised")
    with pytest.raises(Refused):
        launcher.read("db-password")
    assert status(server, launcher) == "compromised"
    assert "ticket.theft" in actions(server, launcher)


def test_a_thief_who_came_first_loses_the_session_when_the_launcher_arrives(server, launcher):
    launcher.lease(server.client())
    thief = launcher.key
    launcher.redeem()
    honest = Ed25519PrivateKey.generate()
    with pytest.raises(Refused) as refusal:
        launcher.redeem(key=honest)
    assert refusal.value.code == "compromised"
    launcher.key = thief
    with pytest.raises(Refused):
        launcher.read("db-password")
    assert status(server, launcher) == "compromised"


def test_a_ticket_is_refused_before_its_agent_confirms(server, launcher):
    client = server.client()
    launcher.lease(client, confirm=False)
    with pytest.raises(Refused) as refusal:
        launcher.redeem()
    assert (refusal.value.status, refusal.value.code) == (409, "ticket_not_confirmed")
    assert status(server, launcher) == "starting"
    launcher.confirm(client)
    launcher.redeem()
    assert status(server, launcher) == "running"


def test_a_session_id_without_its_key_is_worth_nothing(server, launcher):
    launcher.lease(server.client())
    launcher.redeem()
    honest, launcher.key = launcher.key, Ed25519PrivateKey.generate()
    with pytest.raises(Refused) as refusal:
        launcher.read("db-password")
    assert refusal.value.status == 401
    launcher.key = honest
    launcher.read("db-password")


def test_an_ended_run_is_given_nothing(server, launcher):
    launcher.lease(server.client())
    launcher.redeem()
    launcher.end()
    with pytest.raises(Refused) as refusal:
        launcher.read("db-password")
    assert refusal.value.status in (401, 403, 409, 410)
    assert status(server, launcher) == "completed"


def test_an_undeclared_secret_is_refused_and_an_unknown_one_is_missing(server, launcher):
    client = server.client()
    client.call("PUT", f"{WORKSPACE}/secrets/undeclared", {"value": "another value"})
    launcher.lease(client)
    launcher.redeem()
    with pytest.raises(Refused) as refusal:
        launcher.read("undeclared")
    assert (refusal.value.status, refusal.value.code) == (403, "secret_undeclared")
    client.call("DELETE", f"{WORKSPACE}/secrets/db-password")
    assert launcher.read("db-password") == {"items": [], "missing": ["db-password"]}
    client.call("POST", f"{WORKSPACE}/deleted-secrets/db-password/recover", {})
