"""Small things that scripts import."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class diagnostic_log:
    """A block in which Azure ML wrote debug logs to a file. Accepted, and writes none: ``kluis run logs --system`` has ours."""

    def __init__(self, log_path: str | None = None, namespaces: Any = None, context_name: str | None = None) -> None:
        self._path = log_path

    def start_capture(self) -> None:
        """Nothing."""

    def stop_capture(self) -> None:
        """Nothing."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None
