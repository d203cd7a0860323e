"""Outside a run: a real object, so that a script can be tried as it is. It prints what it would have logged.

The texts are those that Azure ML's offline run prints: scripts and notebooks that compare them go on working.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, List, NoReturn

from .exceptions import RunEnvironmentException, UserErrorException
from .run import Run

if TYPE_CHECKING:
    from .experiment import Experiment
    from .keyvault import Keyvault

_current: _OfflineRun | None = None


def current_offline() -> _OfflineRun:
    """The same offline run for the whole process."""
    global _current
    if _current is None:
        _current = _OfflineRun()
    return _current


class _OfflineRun(Run):
    """What :meth:`kluis.Run.get_context` returns outside a run."""

    def __init__(self, run_id: str | None = None, parent: _OfflineRun | None = None) -> None:
        # Not the base's: there is neither a workspace nor a client.
        self._id = run_id or f"OfflineRun_{uuid.uuid4()}"
        self._parent = parent
        self._tags: dict[str, str] = {}
        self._properties: dict[str, str] = {}
        self._children = 0
        self._vault: Keyvault | None = None

    @property
    def number(self) -> int:
        return 0

    @property
    def name(self) -> str:
        return self._id

    @property
    def display_name(self) -> str:
        return self._id

    @display_name.setter
    def display_name(self, value: str) -> None:
        print(f"Attempted to set the display name {value}")

    @property
    def experiment(self) -> Experiment:
        raise RunEnvironmentException("an offline run belongs to no experiment; submit the script, or check run.id first")

    @property
    def parent(self) -> Run | None:
        return self._parent

    # ---- secrets ---------------------------------------------------------------------------------------------------

    def get_secret(self, name: str, refresh: bool = False, timeout: float | None = None) -> str:
        return self._keyvault().get_secret(name)

    def get_secrets(
        self, secrets: Sequence[str], refresh: bool = False, timeout: float | None = None
    ) -> dict[str, str | None]:
        return self._keyvault().get_secrets(secrets)

    def _keyvault(self) -> Keyvault:
        if os.environ.get("KLUIS_OFFLINE_SECRETS") != "1":
            raise RunEnvironmentException(
                "this process is not part of a run, so it has no secrets of its own. Submit the script with `kluis run "
                "submit`; or set KLUIS_OFFLINE_SECRETS=1 to read as the signed-in user; or, in a test, use "
                "kluis.testing.fake_run(secrets={...})."
            )
        if self._vault is None:
            from .workspace import Workspace

            self._vault = Workspace.from_config().get_default_keyvault()
        return self._vault

    def on_rotate(self, callback: Callable[[List[str]], object]) -> Callable[[], None]:
        return lambda: None

    # ---- metrics, tags, files --------------------------------------------------------------------------------------

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        print(f"Attempted to log scalar metric {name}:\n{value}")

    def log_list(self, name: str, value: Sequence[Any], description: str = "") -> None:
        print(f"Attempted to log list metric {name}:\n{value}")

    def log_row(self, name: str, description: str | None = None, **kwargs: Any) -> None:
        print(f"Attempted to log row metric {name}:\n{kwargs}")

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        print(f"Attempted to log table metric {name}:\n{value}")

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        print(f"Attempted to log image metric {name}:\n{path if path is not None else plot}")

    def tag(self, key: str, value: str | None = None) -> None:
        self._tags[str(key)] = "" if value is None else str(value)
        print(f"Attempted to add tag {key} with value {value}")

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        self._tags.update((str(k), "" if v is None else str(v)) for k, v in tags.items())
        print(f"Attempted to set tags {dict(tags)}")

    def remove_tags(self, tags: str | Sequence[str]) -> None:
        for key in [tags] if isinstance(tags, str) else tags:
            self._tags.pop(key, None)
        print(f"Attempted to remove tags {tags}")

    def get_tags(self) -> dict[str, str]:
        return dict(self._tags)

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        self._properties.update((str(k), str(v)) for k, v in properties.items())
        print(f"Attempted to add properties {dict(properties)}")

    def get_properties(self) -> dict[str, str]:
        return dict(self._properties)

    def upload_file(self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes], datastore_name: None = None) -> None:
        print(f"Attempted to track file {name} at {path_or_stream}")

    def upload_folder(self, name: str, path: str | os.PathLike[str], datastore_name: None = None) -> None:
        print(f"Attempted to track folder {name} at {path}")

    def flush(self, timeout_seconds: float = 300) -> None:
        print(f"Attempted to flush run with id {self.id}")

    # ---- child runs and the end ------------------------------------------------------------------------------------

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: None = None) -> Run:
        self._children += 1
        return _OfflineRun(run_id or f"{self.id}.{name if name is not None else self._children}", self)

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Sequence[str] | None = None
    ) -> List[Run]:
        if tag_values is not None:
            children = [self.child_run() for _ in tag_values]
            for child, value in zip(children, tag_values):
                child.tag(str(tag_key), value)
            return children
        return [self.child_run() for _ in range(count or 0)]

    def complete(self, _set_status: bool = True) -> None:
        return None

    def fail(self, error_details: object = None, error_code: str | None = None, _set_status: bool = True) -> None:
        print(f"Run failed with error code {error_code}:\n{error_details}")

    def cancel(self) -> None:
        return None

    def __enter__(self) -> Run:
        print(f"[START] Run {self.id} context")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        print(f"[STOP] Run {self.id} context")

    # ---- watching --------------------------------------------------------------------------------------------------

    def get_status(self) -> str:
        return "Running"

    def get_details(self) -> dict[str, Any]:
        return {"runId": self.id, "status": "Running", "tags": self.get_tags(), "properties": self.get_properties()}

    def _known(self) -> NoReturn:
        self._nowhere()

    def _fresh(self) -> NoReturn:
        self._nowhere()

    @property
    def _client(self) -> NoReturn:
        self._nowhere()

    def _nowhere(self) -> NoReturn:
        raise UserErrorException("an offline run is kept nowhere: submit the script to have its metrics, files and log")

    def __repr__(self) -> str:
        return f"Run(id={self.id!r}, offline=True)"
