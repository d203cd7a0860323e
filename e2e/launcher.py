"""A launcher in miniature: redeems a ticket and signs its requests, so that tests can do what an honest launcher never does."""

from __future__ import annotations

import hashlib
import json
import struct
import time
import typing

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis_server import Client, Refused


def signed_bytes(method: str, path: str, session: str, millis: int, body: bytes) -> bytes:
    """The canonical bytes of docs/format.md: each field after its length."""
    fields = [
        b"kluis/request/1",
        method.encode(),
        path.encode(),
        session.encode(),
        struct.pack(">q", millis),
        hashlib.sha256(body).digest(),
    ]
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


class Launcher:
    """One attempt of one run, on compute `local` unless told otherwise."""

    def __init__(self, address: str, workspace: str, run: str) -> None:
        self.client = Client(address, None)
        self.workspace, self.run = workspace, run
        self.key = Ed25519PrivateKey.generate()
        self.session = ""
        self.lease_answer: dict[str, typing.Any] = {}

    @property
    def attempt(self) -> dict[str, typing.Any]:
        return self.lease_answer["attempt"]

    @property
    def ticket(self) -> str:
        return self.lease_answer["tickets"][0]

    def lease(self, agent: Client, confirm: bool = True, compute: str = "local") -> None:
        """As the submitter's own machine: lease this one run and, unless told not to, confirm it."""
        wanted = {"compute": compute, "run": {"workspace": self.workspace, "run": self.run}}
        answer = agent.call("POST", "/api/v1/agent/leases", wanted)
        self.lease_answer = answer["lease"]
        if confirm:
            self.confirm(agent)

    def confirm(self, agent: Client) -> None:
        agent.call("POST", "/api/v1/agent/confirm", {"attempt": self.attempt, "handle": "test", "engine_job": "a test"})

    def redeem(self, key: typing.Optional[Ed25519PrivateKey] = None) -> dict[str, typing.Any]:
        key = key or self.key
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        body = {
            "attempt": self.attempt,
            "ticket": self.ticket,
            "public_key": public,
            "host": "test",
            "version": "0.1.0",
        }
        answer = self._call("POST", "/api/v1/session/redeem", body, key=key, session="")
        if key is self.key:
            self.session = answer["session"]
        return answer

    def read(self, *names: str, refresh: bool = False) -> dict[str, typing.Any]:
        return self._call("POST", "/api/v1/session/secrets", {"names": list(names), "refresh": refresh})

    def heartbeat(self) -> dict[str, typing.Any]:
        return self._call("POST", "/api/v1/session/heartbeat", {})

    def end(self, code: int = 0) -> None:
        self._call("POST", "/api/v1/session/end", {"exit": {"code": code}})

    def _call(
        self,
        method: str,
        path: str,
        body: typing.Any,
        key: typing.Optional[Ed25519PrivateKey] = None,
        session: typing.Optional[str] = None,
    ) -> typing.Any:
        session = self.session if session is None else session
        data = json.dumps(body).encode()
        millis = int(time.time() * 1000)
        signature = (key or self.key).sign(signed_bytes(method, path, session, millis, data)).hex()
        headers = {
            "kluis-session": session,
            "kluis-time": str(millis),
            "kluis-signature": signature,
            "content-type": "application/json",
        }
        # The body is sent as signed, byte for byte.
        return self.client.call(method, path, raw=data, headers=headers)


__all__ = ["Launcher", "Refused", "signed_bytes"]
