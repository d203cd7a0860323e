"""A real `kluis up` for tests: started as a user starts it, stopped as a user stops it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing


class Up:
    """The server's process, and the variables under which its owner is signed in."""

    def __init__(self, program: str, home: pathlib.Path) -> None:
        self.program, self.home = program, home
        self.variables = {"KLUIS_CONFIG_DIR": str(home / "config"), "KLUIS_CLI": program}
        self.address = ""
        self._process: typing.Optional[subprocess.Popen] = None

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KLUIS_")}
        return {**kept, **self.variables, "XDG_STATE_HOME": str(self.home / "state")}

    def cli(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.program, *arguments], env=self.environment(), cwd=self.home, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"kluis {arguments[0]}: exit {done.returncode}: {done.stderr.decode()}"
        return done.stdout.decode()

    def start(self) -> Up:
        command = [self.program, "up", "--data", str(self.home / "data"), "--listen", self.address or "127.0.0.1:0"]
        with open(self.home / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        assert line.startswith("ready https://"), f"{line!r}; {(self.home / 'server.log').read_text()[-2000:]}"
        self.address = line.split()[1].replace("https://", "")
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            finally:
                if self._process.poll() is None:
                    self._process.kill()
                    self._process.wait()
                if self._process.stdout is not None:
                    self._process.stdout.close()
                self._process = None

    def __enter__(self) -> Up:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
