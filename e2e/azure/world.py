"""`kluis up` in a network without a way out, and what stands around it: a service principal, the environment that
`kluis azure env` prints, and the interpreters that have the real packages.

The server and its runs see the machine's own hosts file, in which no vault is named. Programs on the "laptop" see one that names
the vault, as `kluis up` tells its user to.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
import typing
import urllib.parse

from kluis_server import KLUIS, Server
from needs import need
from network import Network

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
DRIVERS = HERE / "drivers"
SDK_V1 = HERE / "sdk_v1"
NODE_MODULES = HERE / "node_modules"


def interpreter(name: str) -> pathlib.Path:
    """The Python of .venvs/NAME, which ./test makes."""
    python = ROOT / ".venvs" / name / "bin" / "python"
    need(python.exists(), f"{python} (scripts/azure.sh makes it)")
    return python


def node() -> str:
    need((NODE_MODULES / ".installed").exists(), f"{NODE_MODULES} (scripts/azure.sh makes it)")
    return "node"


class World(Server):
    def __init__(self, home: pathlib.Path, network: Network) -> None:
        super().__init__(home)
        self.network = network
        self.client = ("", "")

    def command(self, *words: str, cwd: pathlib.Path) -> list[str]:
        return self.network.command(*words, cwd=cwd)

    def __enter__(self) -> "World":
        super().__enter__()
        try:
            self.client = self.service_principal("ci", "owner")
            self.ok("compute", "grant", "server", "ci")
        except BaseException:
            self.__exit__()
            raise
        return self

    def service_principal(self, name: str, role: str) -> tuple[str, str]:
        """A new one with this role in the workspace: its client id and secret."""
        self.ok("admin", "principal", "create", name)
        self.ok("workspace", "member", "add", name, "--role", role)
        made = self.json("admin", "client-secret", "create", name)
        return made["client_id"], made["client_secret"]

    def user(self, name: str, role: str) -> dict[str, str]:
        """The shell of a new user with this role in the workspace."""
        config = str(self.home / name)
        self.ok("login", self.ok("admin", "invite", name, "--role", role).strip(), env={"KLUIS_CONFIG_DIR": config})
        return self.shell(KLUIS_CONFIG_DIR=config)

    def token_of(self, client: tuple[str, str]) -> str:
        """What a service principal signs in to."""
        program = (
            "import json, sys; from kluis_server import Client\n"
            "address, client, secret = json.load(sys.stdin)\n"
            "body = {'client_id': client, 'client_secret': secret}\n"
            "print(Client(address, None).call('POST', '/api/v1/login/client', body)['token'])\n"
        )
        done = subprocess.run(
            self.command(sys.executable, "-c", program, cwd=HERE.parent),
            input=json.dumps([self.address, *client]).encode(),
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    # What a user has in the shell.

    def shell(
        self, client: typing.Optional[tuple[str, str]] = None, cwd: typing.Optional[pathlib.Path] = None, **more: str
    ) -> dict[str, str]:
        """The environment after `eval "$(kluis azure env)"`, for the login of this machine's user or for a service principal; with
        nothing of Azure or Kluis before."""
        env = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "USER", "LANG", "TMPDIR"}}
        env |= {"KLUIS_CONFIG_DIR": str(self.config), "XDG_STATE_HOME": str(self.home / "state"), **more}
        program = 'set -e; printed=$("$0" azure env "$@"); eval "$printed"; env -0'
        words = ["sh", "-c", program, KLUIS]
        if client:
            words += ["--client-id", client[0]]
            env["KLUIS_CLIENT_SECRET"] = client[1]
        done = subprocess.run(
            self.command(*words, cwd=cwd or self.home), env=env, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        return dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)

    def vault_host(self, env: dict[str, str]) -> str:
        return typing.cast(str, urllib.parse.urlsplit(env["KLUIS_VAULT_URL"]).hostname)

    def on_laptop(
        self, *words: str, env: dict[str, str], cwd: typing.Optional[pathlib.Path] = None, seconds: float = 120
    ) -> list[dict]:
        """A program on the laptop: its JSON lines."""
        command = self.network.command(*words, cwd=cwd or self.home, hosts=[self.vault_host(env)])
        done = subprocess.run(command, env=env, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=False)
        assert done.returncode == 0, done.stderr.decode()[-4000:] + done.stdout.decode()[-2000:]
        return json_lines(done.stdout.decode())

    def started_on_laptop(self, *words: str, env: dict[str, str]) -> "Spoken":
        return Spoken(self.network.command(*words, cwd=self.home, hosts=[self.vault_host(env)]), env)


class Spoken:
    """A program that is asked by a line and answers with a JSON line."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.errors: list[str] = []
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()  # type: ignore[arg-type]

    def hear(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "".join(self.errors)
        return json.loads(line)

    def ask(self) -> dict:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.hear()

    def rest(self, seconds: float = 120) -> list[dict]:
        """What it says until its end, which is a good one."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        said = self.process.stdout.read()
        assert self.process.wait(timeout=seconds) == 0, "".join(self.errors)
        return json_lines(said)

    def __enter__(self) -> "Spoken":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
