"""Telling a script that a secret it has read was rotated: one thread for each callback, until stopped or the process ends."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable

from ._native import Broker, Rotations

_POLL_MS = 50_000
_RETRY_SECONDS = 5.0


def watch(broker: Broker, callback: Callable[[list[str]], object]) -> Callable[[], None]:
    """Starts watching; the answer stops it."""
    rotations = broker.rotations()
    stopped = threading.Event()
    thread = threading.Thread(
        target=_follow, args=(rotations, callback, stopped), name="kluis-rotation", daemon=True
    )

    def stop() -> None:
        atexit.unregister(stop)
        stopped.set()
        rotations.stop()
        if thread is not threading.current_thread():
            # The interpreter must not end while the thread is in native code.
            thread.join(timeout=1.0)

    # A daemon thread, so that a script can end; stopped at exit, so that it is not cut off in native code.
    atexit.register(stop)
    thread.start()
    return stop


def _follow(rotations: Rotations, callback: Callable[[list[str]], object], stopped: threading.Event) -> None:
    log = logging.getLogger("kluis")
    while not stopped.is_set():
        try:
            names = rotations.wait(_POLL_MS)
        except Exception as error:
            if stopped.is_set():
                return
            log.warning("kluis: no word on rotations (%s); asking again", error)
            stopped.wait(_RETRY_SECONDS)
            continue
        if names and not stopped.is_set():
            try:
                callback(names)
            except Exception as error:
                # The class only: what a callback raises may hold the value it just read.
                log.error("kluis: the on_rotate callback raised %s", type(error).__name__)
