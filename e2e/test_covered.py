"""Runs of every agent on a server's own machine see neither its data nor its keys, wherever these lie."""

import json
import pathlib
import subprocess

import pytest

from kluis_server import KLUIS, Server

LOOK = """
import os, sys
for path in sys.argv[1:]:
    try:
        seen = os.listdir(path) if os.path.isdir(path) else open(path, "rb").read().hex()
    except OSError:
        seen = []
    print(path, "hidden" if not seen else "SEEN %s" % seen)
"""


class Elsewhere(Server):
    """With its folders in unusual places, given relative to where it is started."""

    def start(self):
        self.process = subprocess.Popen(
            [KLUIS, "up", "--data", str(self.data), "--listen", self.listen, *self.options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(self.log, "ab"), cwd=self.home, env=self.environment(),
        )  # fmt: skip
        line = self.process.stdout.readline().decode()
        assert line.startswith("ready "), self.log.read_text()[-2000:]
        self.address = line.split()[1]
        return self

    def environment(self, **more):
        return {**super().environment(), "KLUIS_CONFIG_DIR": "config", "XDG_DATA_HOME": str(self.home / "xdg"), **more}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    home = tmp_path_factory.mktemp("elsewhere")
    (home / "keys").mkdir()
    (home / "keys/passphrase").write_text("correct horse battery staple\n")
    with Elsewhere(home, options=["--root-key-file", "keys/root.key"]) as server:
        # As a rotation leaves it.
        (home / "keys/root.key.0a1b2c3d").write_bytes((home / "keys/root.key").read_bytes())
        yield server


def hidden(server):
    config, keys = server.home / "config", server.home / "keys"
    return [
        server.data, server.data / "kluis.db", keys / "root.key", keys / "root.key.0a1b2c3d", config, config / "credentials.json",
        server.home / "state/kluis/covered", server.home / "xdg/kluis",
    ]  # fmt: skip


def check(server, text):
    lines = text.splitlines()
    assert len(lines) == len(hidden(server)) + 1, text
    # A positive control: what is not covered is seen.
    assert "SEEN" in lines[0], text
    # The data folder may show the way to the run's own folder, and nothing else.
    way = f"{server.data} SEEN ['agent']"
    assert all(line.endswith(" hidden") or line == way for line in lines[1:]), text


def arguments(server):
    script = server.home / "look.py"
    script.write_text(LOOK)
    return ["python3", str(script), str(script), *map(str, hidden(server))]


@pytest.mark.parametrize("compute", ["local", "server"])
def test_a_run_sees_no_data_and_no_keys(elsewhere, compute):
    project = elsewhere.home / "project"
    project.mkdir(exist_ok=True)
    env = {"KLUIS_CONFIG_DIR": str(elsewhere.config)}
    run = elsewhere.ok("run", "submit", "--compute", compute, "--", *arguments(elsewhere), cwd=project, env=env).strip()
    assert elsewhere.cli("run", "wait", run).returncode == 0, elsewhere.ok("run", "logs", "--system", run)
    check(elsewhere, elsewhere.ok("run", "logs", run))


def test_a_command_of_exec_sees_no_data_and_no_keys(elsewhere):
    check(elsewhere, elsewhere.ok("exec", "--", *arguments(elsewhere)))


def test_a_run_of_an_agent_sees_no_data_and_no_keys(elsewhere):
    elsewhere.ok("compute", "create", "own")
    project = elsewhere.home / "project"
    project.mkdir(exist_ok=True)
    run = elsewhere.ok("run", "submit", "--compute", "own", "--source", str(project), "--", *arguments(elsewhere)).strip()
    agent = subprocess.Popen(
        [KLUIS, "agent", "--compute", "own", "--mine"], env=elsewhere.environment(), cwd=elsewhere.home, stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        assert elsewhere.cli("run", "wait", run).returncode == 0
    finally:
        agent.terminate()
        agent.wait(timeout=30)
    check(elsewhere, elsewhere.ok("run", "logs", run))


def test_passphrase_and_tls_key_are_covered(tmp_path):
    (tmp_path / "passphrase").write_text("correct horse battery staple\n")
    with Server(tmp_path, options=["--passphrase-file", str(tmp_path / "passphrase")]) as server:
        noted = [json.loads(line) for line in (tmp_path / "state/kluis/covered").read_text().splitlines()]
        assert str(tmp_path / "passphrase") in noted and str(server.data) in noted
        assert all(pathlib.Path(path).is_absolute() for path in noted)
        text = server.ok("exec", "--", "sh", "-c", f"cat {tmp_path}/passphrase; ls {server.data}; echo over")
        assert text == "over\n"


def test_a_server_without_a_state_folder_starts_and_says_what_that_means(tmp_path):
    with Server(tmp_path, options=["--no-runner"]) as server:
        server.stop()
        whole = server.environment()
        server.environment = lambda **more: {"PATH": whole["PATH"], "KLUIS_CONFIG_DIR": whole["KLUIS_CONFIG_DIR"], **more}
        server.start()
        assert server.json("whoami")
        assert "their runs may see them" in server.log.read_text()
