"""Runs first in a network of its own, and as long as it lasts: makes the whole world this machine, answers that no name exists,
hangs up on whoever calls, and writes down who was asked for. Started by network.py."""

from __future__ import annotations

import pathlib
import socket
import subprocess
import sys
import threading


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def name_of(query: bytes) -> str:
    """The name in a DNS query: labels after the 12 bytes of its header, each behind its length."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels).lower()


def answer(query: bytes) -> bytes:
    """The same query with the flags of an answer: there is no such name."""
    return query[:2] + b"\x81\x83" + query[4:6] + b"\0\0\0\0\0\0" + query[12:]


class Notes:
    def __init__(self, path: pathlib.Path) -> None:
        self.file = open(path, "a", buffering=1)  # noqa: SIM115
        self.seen: set[str] = set()

    def note(self, what: str) -> None:
        if what not in self.seen:
            self.seen.add(what)
            self.file.write(what + "\n")


def names(notes: Notes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 53))
        while True:
            query, sender = listener.recvfrom(4096)
            notes.note(name_of(query))
            # Additional records are not repeated: the header counts none.
            end = 12 + len(name_of(query)) + 2 + 4
            listener.sendto(answer(query[:end]), sender)


def calls(notes: Notes, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("0.0.0.0", port))
        listener.listen(64)
        while True:
            connection, _ = listener.accept()
            with connection:
                notes.note("{}:{}".format(*connection.getsockname()[:2]))


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    run("ip", "link", "set", "lo", "up")
    # Every address is this machine's, so that a call to one that is written in a program is seen too.
    run("ip", "route", "add", "local", "default", "dev", "lo")
    names_by = "passwd: files\ngroup: files\nhosts: files dns\n"
    for path, content in (("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", names_by)):
        (folder / path).write_text(content)
        run("mount", "--bind", str(folder / path), f"/etc/{path}")
    notes = Notes(folder / "asked")
    for work in (lambda: names(notes), lambda: calls(notes, 80), lambda: calls(notes, 443)):
        threading.Thread(target=work, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


main()
