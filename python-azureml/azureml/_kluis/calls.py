"""Calls into ``kluis`` whose errors come out as Azure ML's. On the path to a secret, so it imports nothing at its top."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])
    Item = TypeVar("Item")


def azure_errors(function: Function) -> Function:
    """The function, raising Azure ML's exceptions."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            from .errors import translated

            other = translated(error)
            if other is None:
                raise
            raise other from error

    # What functools.wraps does, without the time that importing it takes.
    call.__name__, call.__qualname__, call.__doc__ = function.__name__, function.__qualname__, function.__doc__
    call.__module__ = function.__module__
    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def each(items: Iterable[Item]) -> Iterator[Item]:
    """The items, with the errors of getting the next one translated."""
    iterator = iter(items)
    step = azure_errors(next)
    while True:
        try:
            item = step(iterator)
        except StopIteration:
            return
        yield item
