"""A real `kluis up` in a folder of its own, for the end-to-end tests.

Nothing here knows how the server works: it starts the installed executable, reads the one line that it prints, and talks to it as
a user or an HTTP client would.
"""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import secrets
import signal
import socket
import ssl
import subprocess
import time
import typing

KLUIS = os.environ.get("KLUIS_BIN", "kluis")
READY_SECONDS = 30


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.detail = status, code, detail


class Server:
    """`kluis up` on loopback, with its data and configuration below `home`."""

    def __init__(self, home: pathlib.Path, listen: str = "127.0.0.1:0", options: typing.Sequence[str] = ()) -> None:
        self.home, self.listen, self.options = home, listen, list(options)
        #: What the server's own environment has besides; its clients' have it not.
        self.variables: dict[str, str] = {}
        self.data, self.config = home / "data", home / "config"
        self.log = home / "server.log"
        self.process: typing.Optional[subprocess.Popen] = None
        self.address = ""

    # Its life.

    def command(self, *words: str, cwd: pathlib.Path) -> list[str]:
        """How a program is started so that it sees this server."""
        del cwd
        return list(words)

    def start(self) -> "Server":
        up = [KLUIS, "up", "--data", str(self.data), "--listen", self.listen, *self.options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(*up, cwd=pathlib.Path.cwd()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environment(**self.variables),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if not line.startswith("ready https://"):
            self.process.wait(timeout=READY_SECONDS)
            raise AssertionError(f"no ready line but {line!r}; its log ends:\n{self.log.read_text()[-2000:]}")
        self.address = line.split()[1]
        # The same port after a restart.
        self.listen = self.address.removeprefix("https://")
        return self

    def kill(self) -> None:
        """As the kernel would: no goodbye."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 20) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=seconds)

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()

    # As a user on the same machine.

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KLUIS_", "AZUREML_"))}
        return {**kept, "KLUIS_CONFIG_DIR": str(self.config), "XDG_STATE_HOME": str(self.home / "state"), **more}

    def cli(
        self,
        *args: str,
        stdin: typing.Optional[bytes] = None,
        cwd: typing.Optional[pathlib.Path] = None,
        env: typing.Optional[dict[str, str]] = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess:
        cwd = cwd or self.home
        return subprocess.run(
            self.command(KLUIS, *args, cwd=cwd),
            input=stdin if stdin is not None else b"",
            capture_output=True,
            cwd=cwd,
            env=self.environment(**(env or {})),
            timeout=timeout,
            check=False,
        )

    def ok(self, *args: str, **keywords: typing.Any) -> str:
        done = self.cli(*args, **keywords)
        assert done.returncode == 0, f"kluis {' '.join(args)}: exit {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode()

    def json(self, *args: str, **keywords: typing.Any) -> typing.Any:
        return json.loads(self.ok(*args, "--json", **keywords))

    # As an HTTP client.

    @property
    def token(self) -> str:
        """The owner's token, where `kluis up` left it for the CLI."""
        found = find_tokens((self.config / "credentials.json").read_text())
        assert found, "no token in the configuration folder"
        return found[0]

    def client(self, token: typing.Optional[str] = None) -> "Client":
        return Client(self.address, token or self.token)


def find_tokens(text: str) -> list[str]:
    import re

    return re.findall(r"kls_[a-z]{3}_[0-9A-Za-z_]+", text)


class Client:
    """The native API over one kept-alive connection. Trusts any certificate: trust is tested elsewhere."""

    def __init__(self, address: str, token: typing.Optional[str]) -> None:
        self.host, port = address.removeprefix("https://").rsplit(":", 1)
        self.port = int(port)
        self.token = token
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.connection: typing.Optional[http.client.HTTPSConnection] = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def call(
        self,
        method: str,
        path: str,
        body: typing.Any = None,
        headers: typing.Optional[dict[str, str]] = None,
        raw: typing.Optional[bytes] = None,
        timeout: float = 60,
    ) -> typing.Any:
        """The decoded answer; `Refused` for a definite error; OSError or HTTPException when the server is away."""
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=timeout)
        sent = {"accept": "application/json", **(headers or {})}
        if self.token:
            sent["authorization"] = f"Bearer {self.token}"
        data = raw
        if body is not None:
            data = json.dumps(body).encode()
            sent["content-type"] = "application/json"
        elif raw is not None:
            sent.setdefault("content-type", "application/octet-stream")
        try:
            self.connection.request(method, path, body=data, headers=sent)
            answer = self.connection.getresponse()
            content = answer.read()
        except BaseException:
            self.close()
            raise
        if answer.status >= 400:
            try:
                problem = json.loads(content)
            except ValueError:
                problem = {}
            raise Refused(answer.status, problem.get("code", ""), problem.get("detail", ""))
        if not content:
            return None
        return json.loads(content) if answer.headers.get_content_type() == "application/json" else content

    def pages(self, path: str) -> typing.Iterator[typing.Any]:
        after = None
        while True:
            query = "limit=200" + (f"&after={after}" if after else "")
            page = self.call("GET", path + ("&" if "?" in path else "?") + query)
            yield from page["items"]
            after = page.get("next")
            if after is None:
                return


def away(error: BaseException) -> bool:
    """Whether an error means that the server was not there, so that nothing is known of the request."""
    return isinstance(error, (OSError, http.client.HTTPException)) or (
        isinstance(error, Refused) and error.status == 503
    )


def wait_for(what: str, condition: typing.Callable[[], typing.Any], seconds: float = 60) -> typing.Any:
    """Polls until the condition is true; its value, or a failure that says what was waited for."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds} s for: {what}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def canary() -> str:
    """A value that stands nowhere unless something put it there."""
    return f"canary-{secrets.token_hex(12)}-é\"&<{secrets.token_urlsafe(9)}"
