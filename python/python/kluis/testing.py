"""Trying code that runs inside a run, with no server: ``with fake_run(secrets={...}): ...``.

A small launcher on a real socket answers, so everything is as in a run: the same client, processes made by fork, spawn or
``subprocess``, pinned versions, refusals. It checks nothing about who is asking; it is for tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets as chance
import shutil
import socketserver
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._metrics import gather
from .exceptions import UserErrorException
from .run import Run

_MAX_FRAME = 32 * 1024 * 1024
#: A UNIX socket's path has room for 107 bytes; launchers stay under 100.
_MAX_SOCKET_PATH = 100


class _Refused(Exception):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code, self.detail = code, detail


class FakeChild:
    """What a run, or one of its child runs, has reported."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.display_name: str | None = None
        self.tags: dict[str, str] = {}
        self.properties: dict[str, str] = {}
        #: File name to content, as uploaded.
        self.files: dict[str, bytes] = {}
        #: For a child run: how it ended, and why.
        self.status = "running"
        self.reason: str | None = None
        self._logged: list[dict[str, Any]] = []

    @property
    def metrics(self) -> dict[str, Any]:
        """What :meth:`kluis.Run.get_metrics` would say."""
        return gather(self._logged)


class FakeRun(FakeChild):
    """The pretended run: what it was given, and what it has reported so far."""

    def __init__(
        self,
        secrets: Mapping[str, str],
        declared: Sequence[str] | None,
        experiment: str,
        workspace: str,
        run_id: str | None,
        tags: Mapping[str, str],
    ) -> None:
        super().__init__(run_id or f"{experiment}_0_{chance.token_hex(4)}")
        self.experiment, self.workspace = experiment, workspace
        self.tags.update(tags)
        #: Every value handed out: name, version and the asking rank, in order.
        self.reads: list[tuple[str, str, int]] = []
        #: The child runs by id.
        self.children: dict[str, FakeChild] = {}
        #: When False, the server behind the launcher is away: reads end as VaultUnavailable.
        self.available = True
        #: How often the script asked for a flush.
        self.flushes = 0
        self._declared = None if declared is None else {name.lower() for name in declared}
        self._versions: dict[str, tuple[str, str]] = {}
        self._pinned: dict[str, tuple[str, str]] = {}
        self._rotations: list[str] = []
        self._changed = threading.Condition()
        for name, value in secrets.items():
            self.rotate(name, value)

    @property
    def run(self) -> Run:
        """The run as the script sees it."""
        return Run.get_context(allow_offline=False)

    def rotate(self, name: str, value: str) -> None:
        """Sets a new version. Processes that have read the secret are told; what they read stays until they refresh."""
        if not isinstance(value, str):
            raise TypeError(f"the value of {name!r} must be a str, not {type(value).__name__}")
        with self._changed:
            self._versions[name.lower()] = (chance.token_hex(16), value)
            if name.lower() in self._pinned:
                self._rotations.append(name)
            self._changed.notify_all()

    def delete(self, name: str) -> None:
        """Takes a secret away: it is not found any more."""
        with self._changed:
            self._versions.pop(name.lower(), None)
            self._pinned.pop(name.lower(), None)

    # ---- the launcher's side of the socket -------------------------------------------------------------------------

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            handler = getattr(self, f"_on_{request.pop('op')}", None)
            if handler is None:
                raise _Refused("bad_request", "the fake launcher does not know this request")
            answer: dict[str, Any] = handler(request)
            return answer
        except _Refused as refused:
            return {"answer": "error", "code": refused.code, "detail": refused.detail}

    def _of(self, request: dict[str, Any]) -> FakeChild:
        run = request.get("run")
        if run is None or run == self.id:
            return self
        if run not in self.children:
            raise _Refused("not_found", f"the run {run} is not a child run of this one")
        return self.children[run]

    def _on_context(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            "answer": "context",
            "workspace": self.workspace,
            "experiment": self.experiment,
            "run": self.id,
            "number": 1,
            "attempt": 1,
            "node": 0,
            "nodes": 1,
            "submitted_by": "0" * 32,
            "submitter": "tester",
            "program": {"command": {"argv": ["fake"]}},
            "tags": self.tags,
        }

    def _on_get_secrets(self, request: dict[str, Any]) -> dict[str, Any]:
        items, missing = [], []
        with self._changed:
            if not self.available:
                raise _Refused("unavailable", "the server could not be reached in time (fake_run: available is False)")
            for name in request["names"]:
                if self._declared is not None and name.lower() not in self._declared:
                    raise _Refused("secret_undeclared", f"the run did not declare the secret `{name}`")
            for name in request["names"]:
                key = name.lower()
                if key not in self._versions:
                    missing.append(name)
                    continue
                if request.get("refresh") or key not in self._pinned:
                    self._pinned[key] = self._versions[key]
                version, value = self._pinned[key]
                self.reads.append((name, version, request.get("rank", 0)))
                items.append({"name": name, "version": version, "value": value})
        return {"answer": "secrets", "items": items, "missing": missing}

    def _on_wait_rotation(self, request: dict[str, Any]) -> dict[str, Any]:
        after = request.get("after", 0)
        with self._changed:
            self._changed.wait_for(lambda: len(self._rotations) > after, request["timeout_ms"] / 1000)
            return {"answer": "rotation", "counter": len(self._rotations), "names": self._rotations[after:]}

    def _on_log_metrics(self, request: dict[str, Any]) -> dict[str, Any]:
        self._of(request)._logged.extend(request["metrics"])
        return {"answer": "done"}

    def _on_change(self, request: dict[str, Any]) -> dict[str, Any]:
        run, change = self._of(request), request["change"]
        for key in change.get("properties", {}):
            if key in run.properties:
                raise _Refused("conflict", f"the property {key} is set already")
        run.properties.update(change.get("properties", {}))
        run.tags.update(change.get("tags", {}))
        for key in change.get("remove_tags", ()):
            run.tags.pop(key, None)
        run.display_name = change.get("display_name", run.display_name)
        return {"answer": "done"}

    def _on_upload(self, request: dict[str, Any]) -> dict[str, Any]:
        run, name, path = self._of(request), request["name"], request["path"]
        if os.path.isdir(path):
            for folder, _, files in os.walk(path):
                for file in files:
                    full = os.path.join(folder, file)
                    with open(full, "rb") as content:
                        run.files[f"{name}/{os.path.relpath(full, path)}"] = content.read()
        elif os.path.isfile(path):
            with open(path, "rb") as content:
                run.files[name] = content.read()
        else:
            raise _Refused("not_found", f"there is no file to upload as {name}")
        return {"answer": "done"}

    def _on_create_child(self, request: dict[str, Any]) -> dict[str, Any]:
        child = FakeChild(request.get("run") or f"{self.id}_{len(self.children) + 1}")
        if child.id in self.children:
            raise _Refused("conflict", f"the run {child.id} exists already")
        child.display_name = request.get("display_name")
        child.tags.update(request.get("tags", {}))
        self.children[child.id] = child
        return {"answer": "child", "run": child.id, "number": len(self.children) + 1}

    def _on_end_child(self, request: dict[str, Any]) -> dict[str, Any]:
        child = self._of(request)
        child.status, child.reason = request["end"]["status"], request["end"].get("reason")
        return {"answer": "done"}

    def _on_flush(self, request: dict[str, Any]) -> dict[str, Any]:
        self.flushes += 1
        return {"answer": "done"}

    def _on_status(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"answer": "status", "status": "running", "tags": self.tags}


class _Launcher(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, fake: FakeRun) -> None:
        self.fake = fake
        super().__init__(path, _Connection)


class _Connection(socketserver.BaseRequestHandler):
    """Frames: four bytes of length, most significant first, then JSON; any number of requests, answered in order."""

    server: _Launcher

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                head = self._read(4)
                if head is None:
                    return
                (length,) = struct.unpack(">I", head)
                body = self._read(length) if length <= _MAX_FRAME else None
                if body is None:
                    return
                answer = json.dumps(self.server.fake._answer(json.loads(body))).encode()
                self.request.sendall(struct.pack(">I", len(answer)) + answer)

    def _read(self, count: int) -> bytes | None:
        parts = b""
        while len(parts) < count:
            part = self.request.recv(count - len(parts))
            if not part:
                return None
            parts += part
        return parts


@contextlib.contextmanager
def fake_run(
    secrets: Mapping[str, str] | None = None,
    *,
    declared: Sequence[str] | None = None,
    experiment: str = "fake",
    workspace: str = "fake",
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[FakeRun]:
    """While it lasts, this process and those it starts are part of a pretended run that has these secrets.

    ``declared`` limits what it may read, as ``ScriptRunConfig(secrets=...)`` does; ``None`` allows all. What the code
    reports is found on the object that this gives::

        with fake_run(secrets={"db-password": "hunter2"}) as fake:
            train.main()
        assert fake.metrics["accuracy"] > 0.9
    """
    fake = FakeRun(secrets or {}, declared, experiment, workspace, run_id, tags or {})
    folder = tempfile.mkdtemp(prefix="kluis-")
    if len(os.path.join(folder, "run.sock")) > _MAX_SOCKET_PATH:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="kluis-", dir="/tmp")
        if len(folder) > _MAX_SOCKET_PATH:
            raise UserErrorException("no folder with a path short enough for a UNIX socket; set TMPDIR to a shorter one")
    path = os.path.join(folder, "run.sock")
    # What a launcher tells its run's processes (crates/launch/src/environment.rs).
    variables = {
        "KLUIS_RUN_ID": fake.id,
        "KLUIS_RUN_DIR": folder,
        "KLUIS_ATTEMPT": "1",
        "KLUIS_RANK": "0",
        "KLUIS_WORLD_SIZE": "1",
        "KLUIS_RUN_SOCKET": path,
        "KLUIS_WORKSPACE": workspace,
        "KLUIS_EXPERIMENT": experiment,
    }
    before = {name: os.environ.get(name) for name in variables}
    launcher = _Launcher(path, fake)
    thread = threading.Thread(target=launcher.serve_forever, args=(0.05,), name="kluis-fake-launcher", daemon=True)
    thread.start()
    try:
        os.environ.update(variables)
        yield fake
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        launcher.shutdown()
        launcher.server_close()
        thread.join()
        shutil.rmtree(folder, ignore_errors=True)
