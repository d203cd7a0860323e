"""Logins, tokens, a second user, workspaces, compute targets, agents, administration; and what needs no server."""

import json
import os
import pathlib
import re
import subprocess

import pytest

from kluis_server import KLUIS, Server, find_tokens, free_port, wait_for


@pytest.fixture(scope="module")
def ann(server, tmp_path_factory):
    """The environment of a second user, a contributor."""
    home = tmp_path_factory.mktemp("ann")
    env = {"KLUIS_CONFIG_DIR": str(home / "config"), "XDG_STATE_HOME": str(home / "state"), "XDG_DATA_HOME": str(home / "data")}
    code = server.ok("admin", "invite", "ann", "--role", "contributor").strip()
    assert "signed in" in server.cli("login", code, env=env).stderr.decode()
    again = server.cli("login", code, env=env)
    assert again.returncode == 4, "a code works once"
    return env


def test_the_second_user_is_who_she_is(server, ann):
    who = server.json("whoami", env=ann)
    assert who["principal"]["name"] == "ann" and who["workspaces"][0]["role"] == "contributor"
    assert "contributor in default" in server.ok("whoami", env=ann)
    assert "ann" in [p["name"] for p in server.json("admin", "principal", "list")["items"]]
    server.ok("secret", "set", "anns", "-", stdin=b"set by ann", env=ann)
    assert server.ok("secret", "get", "anns") == "set by ann"


def test_tokens_are_listed_and_revoked(server, ann):
    token = server.client().call("POST", "/api/v1/tokens", {"label": "for a test"})
    listed = {t["label"]: t["id"] for t in server.json("token", "list")["items"]}
    assert "for a test" in listed and "for a test" in server.ok("token", "list")
    assert "for a test" not in server.ok("token", "list", env=ann), "tokens are their owner's"
    env = {"KLUIS_TOKEN": token["token"], "KLUIS_ADDR": server.address, "KLUIS_CONFIG_DIR": str(server.home / "other")}
    env["KLUIS_CA_SHA256"] = json.loads((server.config / "config.json").read_text())["ca_sha256"]
    assert server.json("whoami", env=env)
    assert server.json("token", "revoke", listed["for a test"])["done"] == "revoked"
    assert server.cli("whoami", env=env).returncode == 4
    assert server.json("whoami"), "the owner's own login is another one"


def test_a_token_signs_in_and_signing_out_ends_the_stored_login_only(server, tmp_path):
    pin = json.loads((server.config / "config.json").read_text())["ca_sha256"]
    made = [server.client().call("POST", "/api/v1/tokens", {"label": f"login {n}"})["token"] for n in range(2)]
    env = {"KLUIS_CONFIG_DIR": str(tmp_path / "config")}
    server.ok("login", server.address, "--ca-sha256", pin, "--token-stdin", stdin=made[0].encode() + b"\n", env=env)
    assert (tmp_path / "config/credentials.json").stat().st_mode & 0o777 == 0o600
    ci = {**env, "KLUIS_ADDR": server.address, "KLUIS_TOKEN": made[1]}
    out = server.json("logout", env=ci)
    assert out == {"done": "signed_out", "address": server.address, "revoked": True}
    assert server.client(made[1]).call("GET", "/api/v1/whoami"), "the token in the environment lives"
    with pytest.raises(Exception, match="401"):
        server.client(made[0]).call("GET", "/api/v1/whoami")
    assert not find_tokens((tmp_path / "config/credentials.json").read_text())


def test_a_login_that_can_not_be_revoked_is_forgotten_and_said(tmp_path):
    with Server(tmp_path) as server:
        server.stop()
        done = server.cli("logout", "--json")
        assert done.returncode == 5 and "could not be revoked" in json.loads(done.stderr)["error"]["message"]
        assert not find_tokens((server.config / "credentials.json").read_text())


def test_a_service_principal_signs_in_from_the_environment(server, tmp_path):
    assert server.json("admin", "principal", "create", "ci")["name"] == "ci"
    server.json("workspace", "member", "add", "ci", "--role", "reader")
    secret = server.json("admin", "client-secret", "create", "ci")
    pin = json.loads((server.config / "config.json").read_text())["ca_sha256"]
    env = {
        "KLUIS_CONFIG_DIR": str(tmp_path), "KLUIS_ADDR": server.address, "KLUIS_CA_SHA256": pin,
        "KLUIS_CLIENT_ID": secret["client_id"], "KLUIS_CLIENT_SECRET": secret["client_secret"],
    }  # fmt: skip
    assert server.json("whoami", env=env)["principal"]["name"] == "ci"
    assert server.cli("secret", "get", "anything", "--workspace", "default", env=env).returncode == 4
    server.json("admin", "principal", "disable", "ci")
    assert server.cli("whoami", env=env).returncode == 4
    server.json("admin", "principal", "enable", "ci")
    assert server.json("whoami", env=env)
    (listed,) = server.json("admin", "client-secret", "list", "ci")["items"]
    assert listed["id"] == secret["id"] and "client_secret" not in listed
    server.json("admin", "client-secret", "revoke", "ci", secret["id"])
    assert server.cli("whoami", env=env).returncode == 4
    assert server.json("admin", "client-secret", "list", "ci")["items"] == []
    assert server.cli("admin", "client-secret", "revoke", "ci", secret["id"]).returncode == 3


def test_an_invitation_that_is_taken_back_lets_nobody_in(server, tmp_path):
    code = server.json("admin", "invite", "bob")["code"]
    (listed,) = server.json("admin", "invitation", "list")["items"]
    assert listed["name"] == "bob" and "code" not in listed
    server.json("admin", "invitation", "revoke", listed["id"])
    assert server.cli("login", code, env={"KLUIS_CONFIG_DIR": str(tmp_path)}).returncode == 4
    assert server.json("admin", "invitation", "list")["items"] == []


def test_workspaces_live_and_die(server, ann, tmp_path):
    assert server.json("workspace", "create", "fraud")["name"] == "fraud"
    assert server.cli("workspace", "create", "fraud").returncode == 6
    assert server.cli("workspace", "show", "fraud", env=ann).returncode == 3, "an outsider does not see it"
    server.json("workspace", "member", "add", "ann", "--role", "secrets-writer", "--workspace", "fraud")
    assert server.json("workspace", "show", "fraud", env=ann)["role"] == "secrets-writer"
    server.ok("secret", "set", "x", "-", "--workspace", "fraud", stdin=b"written blindly", env=ann)
    assert server.cli("secret", "get", "x", "--workspace", "fraud", env=ann).returncode == 4
    members = server.json("workspace", "member", "list", "--workspace", "fraud")["items"]
    assert {m["name"] for m in members} >= {"ann"}
    removed = server.json("workspace", "member", "remove", "ann", "--workspace", "fraud")
    assert removed == {"done": "removed", "principal": "ann", "workspace": "fraud"}
    server.json("workspace", "use", "fraud")
    assert server.ok("secret", "get", "x") == "written blindly"
    server.ok("workspace", "use", "default")
    server.ok("admin", "key", "rotate-workspace", "--workspace", "fraud")
    assert server.ok("secret", "get", "secret://fraud/x") == "written blindly"
    server.json("init", "--workspace", "fraud", cwd=tmp_path)
    assert server.ok("secret", "get", "x", cwd=tmp_path) == "written blindly"
    assert server.cli("workspace", "delete", "fraud").returncode == 2
    assert server.json("workspace", "delete", "fraud", "--yes")["done"] == "deleted"
    assert "fraud" not in [w["name"] for w in server.json("workspace", "list")["items"]]


def test_compute_targets_and_an_agent_of_ones_own(server, ann, tmp_path):
    server.json("compute", "create", "box", "--closed")
    assert server.cli("compute", "show", "box", env=ann).returncode == 3
    assert server.json("compute", "grant", "box", "ann")["done"] == "granted"
    assert server.json("compute", "show", "box", env=ann)["name"] == "box"
    assert "box" in server.ok("compute", "list", env=ann)
    server.json("compute", "use", "box", env=ann)
    ours = server.ok("run", "submit", "--compute", "box", "--", "true", cwd=tmp_path).strip()
    run = server.ok("run", "submit", "--", "echo", "by anns agent", cwd=tmp_path, env=ann).strip()
    assert server.json("run", "show", run)["compute"] == "box"
    agent = subprocess.Popen(
        [KLUIS, "agent", "--compute", "box", "--mine"], env=server.environment(**ann), stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        assert server.cli("run", "wait", run).returncode == 0
        assert server.ok("run", "logs", run) == "by anns agent\n"
        assert server.json("run", "show", ours)["status"] == "queued", "an agent of one's own serves nobody else"
    finally:
        agent.terminate()
        agent.wait(timeout=30)
    server.ok("run", "cancel", ours)
    server.json("compute", "use", "local", env=ann)
    server.json("compute", "revoke", "box", "ann")
    assert server.cli("compute", "show", "box", env=ann).returncode == 3
    assert server.json("compute", "delete", "box")["done"] == "deleted"


def test_the_audit_log_is_shown_and_its_checkpoint_kept(server, tmp_path):
    records = [json.loads(line) for line in server.ok("audit", "tail", "--no-follow", "--last", "5", "--json").splitlines()]
    assert len(records) == 5 and records == sorted(records, key=lambda r: r["seq"])
    assert server.ok("audit", "tail", "--all", "--no-follow").count("\n") > 5
    assert server.cli("audit", "tail", "--run", "a_1_b", "--last", "3", "--no-follow").returncode == 2
    written = server.json("audit", "checkpoint", "--out", str(tmp_path / "checkpoint.json"))
    assert written["done"] == "written"
    assert json.loads((tmp_path / "checkpoint.json").read_text())["checkpoint"]["size"] == written["records"]


def test_completions_and_man_pages_are_made(server, tmp_path):
    for shell in ("bash", "zsh", "fish"):
        assert "kluis" in server.ok("completions", shell)
    server.ok("man", str(tmp_path))
    assert (tmp_path / "kluis-run-submit.1").read_text().count(".SH") > 2
    assert len(list(pathlib.Path(tmp_path).glob("*.1"))) > 50


def test_a_stopped_servers_data_is_looked_over_and_its_owner_let_in_again(tmp_path):
    with Server(tmp_path) as server:
        server.ok("secret", "set", "kept", "-", stdin=b"kept through it all")
        done = server.cli("admin", "doctor", "--data", str(server.data))
        assert done.returncode == 1, "a running server is not looked into"
        server.stop()
        found = server.json("admin", "doctor", "--data", str(server.data))
        assert found["sound"] and found["audit_holds"]
        before = (server.data / "root.key").read_bytes()
        rotated = server.json("admin", "key", "rotate-root", "--data", str(server.data))
        assert (server.data / "root.key").read_bytes() != before
        assert pathlib.Path(rotated["old"]).read_bytes() == before
        (server.config / "credentials.json").unlink()
        reset = server.json("admin", "reset-owner", "--data", str(server.data), "--address", server.address)
        assert reset["address"] == server.address
        server.start()
        assert server.ok("secret", "get", "kept") == "kept through it all"


def test_the_owners_login_follows_the_server_to_another_port_and_name(tmp_path):
    with Server(tmp_path) as server:
        server.ok("secret", "set", "kept", "-", stdin=b"wherever it listens")
        server.stop()
        server.listen = f"127.0.0.1:{free_port()}"
        server.options = ["--host", "kluis.example.org"]  # a new name makes a new pin
        server.start()
        assert server.ok("secret", "get", "kept") == "wherever it listens"
        run = server.ok("run", "submit", "--compute", "server", "--", "true").strip()
        assert server.cli("run", "wait", run).returncode == 0, "the built-in agent's login followed as well"


def test_another_installation_gets_no_login(tmp_path):
    with Server(tmp_path) as server:
        token = server.token
        server.stop()
        # Other data, the same user and address.
        other = Server(tmp_path, listen=server.listen)
        other.data = tmp_path / "other"
        with other:
            text = (other.config / "credentials.json").read_text()
            entries = json.loads(text)["credentials"]
            assert [e["token"] for e in entries].count(token) == 1, "the first one's login is still its own"
            assert len({e["ca_sha256"] for e in entries}) == 2
            assert other.json("whoami")


def test_up_says_where_the_root_key_lies_at_every_start(tmp_path):
    with Server(tmp_path) as server:
        server.stop()
        server.start()
        assert re.findall(r"the root key is (\S+):", server.log.read_text()) == [str(server.data / "root.key")] * 2
        wait_for("the built-in agent", lambda: os.path.exists(server.data / "agent/credentials.json"))
