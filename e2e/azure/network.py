"""A network of the tests' own: loopback and nothing behind it, in which every name that is looked up and every address
that is called outside loopback is written down. What is in it can reach no one; what it tried is known.

Programs enter by `command`. With `hosts` they also see a hosts file of their own: the machine's is never touched.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import typing

HERE = pathlib.Path(__file__).parent


class Network:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.asked_file = folder / "asked"
        own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self.holder = subprocess.Popen(
            ["unshare", *own, "--net", "--mount", "--propagation", "private", sys.executable, str(HERE / "nowhere.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.holder.stdout is not None and self.holder.stderr is not None
        self.ready = self.holder.stdout.readline() == b"ready\n"
        self.trouble = "" if self.ready else self.holder.stderr.read().decode()

    def close(self) -> None:
        self.holder.terminate()
        self.holder.communicate()

    def command(self, *words: str, cwd: pathlib.Path, hosts: typing.Sequence[str] = ()) -> list[str]:
        """These words, started inside. `hosts` are names of this machine."""
        own = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        entered = ["nsenter", "--target", str(self.holder.pid), *own, "--net", "--mount", "--"]
        inside = ["env", "-C", str(cwd), *words]
        if not hosts:
            return [*entered, *inside]
        file = self.folder / "hosts"
        file.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *hosts)))
        mount = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"']
        return [*entered, *mount, str(file), *inside]

    def asked(self) -> set[str]:
        """The names and addresses outside that anybody here has tried so far."""
        return set(self.asked_file.read_text().split())
