"""The async twins: a blocking call on a thread of its own, given up as soon as nobody waits for it any more.

Not the loop's own pool: `asyncio.run` waits for everything in that, so that a cancelled read of a server that is away would
hold the program up until its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from ._native import Call

_T = TypeVar("_T")

#: More calls than this at once wait for their turn.
_AT_ONCE = 32
_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()


async def call(work: Callable[..., _T], *arguments: Any) -> _T:
    """``work(*arguments)`` without blocking the event loop."""
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = asyncio.Semaphore(_AT_ONCE)
    async with turns:
        answer: asyncio.Future[_T] = loop.create_future()
        native = Call()
        bound = functools.partial(contextvars.copy_context().run, work, *arguments)
        threading.Thread(target=_work, args=(native, bound, loop, answer), name="kluis-async").start()
        try:
            return await answer
        finally:
            native.give_up()


def _work(native: Call, bound: Callable[[], _T], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[_T]) -> None:
    settle: Callable[[], None]
    try:
        settle = functools.partial(answer.set_result, native.run(bound))
    except BaseException as error:
        settle = functools.partial(answer.set_exception, error)
    # A loop that is closed has nobody who waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_unless_settled, answer, settle)


def _unless_settled(answer: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    if not answer.done():
        settle()
