"""Watching a run from outside: its details, its log as it comes, and the wait for its end."""

from __future__ import annotations

import codecs
import sys
import time
from typing import Any

from .exceptions import ActivityFailedException, ServiceException, VaultUnavailable
from .run import _ENDED, _STATUS, Run

_POLL_FIRST, _POLL_LAST = 0.1, 2.0
_AWAY_AT_MOST = 120.0


def details(view: dict[str, Any]) -> dict[str, Any]:
    """A run's view in the spelling that Azure ML's callers know, and what Kluis knows beyond it."""
    status = _STATUS.get(view["status"], "Running")
    exit_status = view.get("exit") or {}
    known: dict[str, Any] = {
        "runId": view["id"],
        "target": view["compute"],
        "status": status,
        "createdTimeUtc": view["created"],
        "startTimeUtc": view.get("started"),
        "endTimeUtc": view.get("ended"),
        "submittedBy": view["submitter"],
        "tags": dict(view.get("tags") or {}),
        "properties": dict(view.get("properties") or {}),
        "runDefinition": _definition(view),
        "snapshotId": view.get("snapshot"),
        "logFiles": {},
        "experiment": view["experiment"],
        "number": view["number"],
        "attempt": view["attempt"],
        "phase": view["phase"],
        "engineJob": view.get("engine_job"),
        "exitCode": exit_status.get("code"),
        "signal": exit_status.get("signal"),
        "leaks": list(view.get("leaks") or []),
    }
    if status in ("Failed", "Canceled"):
        known["blame"] = view.get("blame")
        known["reason"] = view.get("reason") or (view["status"] if view["status"] != status.lower() else None)
    if status == "Failed":
        code = "UserError" if view.get("blame") == "script" else "ServiceError"
        known["error"] = {"error": {"code": code, "message": _why(view), "details": []}}
    return known


def _definition(view: dict[str, Any]) -> dict[str, Any]:
    program = view.get("program") or {}
    script = program.get("script") or {}
    return {
        "script": script.get("path"),
        "arguments": script.get("arguments") or [],
        "command": (program.get("command") or {}).get("argv"),
        "target": view["compute"],
        "secrets": view.get("secrets"),
    }


def _why(view: dict[str, Any]) -> str:
    parts = [f"the run {view['id']} is {view['status']}"]
    exit_status = view.get("exit") or {}
    if "code" in exit_status:
        parts.append(f"exit code {exit_status['code']}")
    if "signal" in exit_status:
        parts.append(f"signal {exit_status['signal']}")
    if view.get("blame"):
        parts.append(f"to blame: {view['blame']}")
    if view.get("reason"):
        parts.append(str(view["reason"]))
    return "; ".join(parts)


def wait(run: Run, show_output: bool, raise_on_error: bool) -> dict[str, Any]:
    """Waits for the run's end."""
    if show_output:
        print(f"RunId: {run.id}\n", flush=True)
        _show(run)
    view = _until_ended(run)
    known = details(view)
    if show_output:
        print(f"\nExecution Summary\n=================\nRunId: {run.id}\nStatus: {known['status']}", flush=True)
    if raise_on_error and known["status"] != "Completed":
        raise ActivityFailedException(_why(view), error_details=known)
    return known


def _until_ended(run: Run) -> dict[str, Any]:
    pause, away_since = _POLL_FIRST, None
    while True:
        try:
            view = run._fresh()
            away_since = None
        except VaultUnavailable:
            # A restart of the server ends no run and no wait.
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > _AWAY_AT_MOST:
                raise
        else:
            if _STATUS.get(view["status"], "Running") in _ENDED:
                return view
            _check_agent(run, view)
        time.sleep(pause)
        pause = min(pause * 1.5, _POLL_LAST)


def _check_agent(run: Run, view: dict[str, Any]) -> None:
    """A run for this machine whose agent died before it took it would wait for ever."""
    failure = run._agent.failure() if run._agent is not None and view["status"] in ("queued", "starting") else None
    if failure is not None:
        raise ServiceException(f"the run {run.id} was not started: {failure}", code="agent_failed")


class _Printer:
    """Bytes from several streams as text: a character split over two records stays whole."""

    def __init__(self) -> None:
        self._decoders: dict[tuple[int, str], codecs.IncrementalDecoder] = {}
        self._seen: dict[int, int] = {}
        self._attempt = 0

    def begin(self, attempt: int) -> None:
        if attempt != self._attempt:
            self._attempt, self._seen = attempt, {}

    def show(self, seq: int, rank: int, stream: str, data: bytes) -> None:
        # After a broken connection the log comes from its start again.
        if seq <= self._seen.get(rank, -1):
            return
        self._seen[rank] = seq
        decoder = self._decoders.get((rank, stream))
        if decoder is None:
            decoder = self._decoders[rank, stream] = codecs.getincrementaldecoder("utf-8")("replace")
        sys.stdout.write(decoder.decode(data))
        sys.stdout.flush()


def _show(run: Run) -> None:
    printer, away_since = _Printer(), None
    while True:
        try:
            view = run._fresh()
            away_since = None
            if view["attempt"] > 0:
                printer.begin(view["attempt"])
                _follow(run, printer)
                view = run._fresh()
            if _STATUS.get(view["status"], "Running") in _ENDED:
                return
            _check_agent(run, view)
        except VaultUnavailable:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > _AWAY_AT_MOST:
                raise
        time.sleep(_POLL_FIRST)


def _follow(run: Run, printer: _Printer) -> None:
    for record in run._client.run_logs(run._workspace.name, run.id, True, False):
        # None: nothing came for a second.
        if record is not None:
            printer.show(*record)
        elif run._agent is not None:
            _check_agent(run, run._fresh())
