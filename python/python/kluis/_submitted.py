"""A run as its own processes see it: everything goes through the launcher's socket, nothing needs a login.

The launcher registers a value with the log's masker before it answers, so a value that got here is masked wherever the
run prints it. This module is on the path from interpreter start to secret in hand: it imports nothing heavy at its top.
"""

from __future__ import annotations

import os

from ._native import Broker
from .run import _STATUS, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import IO, Any, List, NoReturn

    from .experiment import Experiment

_current: dict[str, _SubmittedRun] = {}

#: Who says which rank this is, the most particular first: torchrun and its like, Slurm, Open MPI, MPICH. Kluis itself knows
#: only the node, so its own variable comes last.
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "KLUIS_RANK")


def current(socket: str) -> _SubmittedRun:
    """The run behind this socket; the same object every time."""
    run = _current.get(socket)
    if run is None:
        run = _current.setdefault(socket, _SubmittedRun(Broker(socket)))
    return run


def _rank() -> int:
    # Read anew each time: what starts the ranks may set it after this module was imported.
    for variable in _RANKS:
        text = os.environ.get(variable, "")
        if text.isdecimal():
            return int(text)
    return 0


def _milliseconds(timeout: float | None) -> int | None:
    return None if timeout is None else max(0, int(timeout * 1000))


class _SubmittedRun(Run):
    """The run that this process is part of, or a child run of it."""

    def __init__(self, broker: Broker, child: str | None = None, number: int = 0, parent: Run | None = None) -> None:
        # Not the base's: there is no client here, and the experiment is known only when somebody asks.
        self._broker = broker
        self._child = child
        self._child_number = number
        self._parent = parent
        self._child_name: str | None = None
        self._ended: str | None = None
        self._context: dict[str, Any] | None = None
        # What this process has reported. Of a child run nobody else in the run can say more.
        self._made: list[_SubmittedRun] = []
        self._tags: dict[str, str] = {}
        self._properties: dict[str, str] = {}

    # ---- which run -------------------------------------------------------------------------------------------------

    def _known(self) -> dict[str, Any]:
        if self._context is None:
            self._context = self._broker.context()
        return self._context

    @property
    def id(self) -> str:
        if self._child is not None:
            return self._child
        return os.environ.get("KLUIS_RUN_ID") or str(self._known()["run"])

    @property
    def number(self) -> int:
        return self._child_number if self._child is not None else int(self._known()["number"])

    @property
    def name(self) -> str:
        return self._child_name or self.id

    @property
    def display_name(self) -> str:
        return self.name

    @display_name.setter
    def display_name(self, value: str) -> None:
        self._change(display_name=value)
        self._child_name = value

    @property
    def experiment(self) -> Experiment:
        from ._inside import experiment

        return experiment(self._broker, self._known())

    @property
    def parent(self) -> Run | None:
        return self._parent

    @property
    def rank(self) -> int:
        """This process's rank among the run's, as torchrun, Slurm or MPI say it; else the node's number, from 0."""
        return _rank()

    # ---- secrets ---------------------------------------------------------------------------------------------------

    def get_secret(self, name: str, refresh: bool = False, timeout: float | None = None) -> str:
        return self._broker.get_secret(name, refresh, _rank(), _milliseconds(timeout))

    def get_secrets(
        self, secrets: Sequence[str], refresh: bool = False, timeout: float | None = None
    ) -> dict[str, str | None]:
        if isinstance(secrets, str):
            raise TypeError("get_secrets takes a list of names; for one secret use get_secret")
        return self._broker.get_secrets(list(secrets), refresh, _rank(), _milliseconds(timeout))

    def on_rotate(self, callback: Callable[[list[str]], object]) -> Callable[[], None]:
        from ._rotation import watch

        return watch(self._broker, callback)

    # ---- metrics, tags, files --------------------------------------------------------------------------------------

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        self._broker.log_metric(self._child, name, value, "scalar", step)

    def log_list(self, name: str, value: Sequence[Any], description: str = "") -> None:
        self._broker.log_metric(self._child, name, list(value), "list", None)

    def log_row(self, name: str, description: str | None = None, **kwargs: Any) -> None:
        self._broker.log_metric(self._child, name, kwargs, "row", None)

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        self._broker.log_metric(self._child, name, dict(value), "table", None)

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        from ._inside import upload_image

        upload_image(self, name, path, plot)

    def get_tags(self) -> dict[str, str]:
        return dict(self._tags) if self._child is not None else self._broker.status()[1]

    def get_properties(self) -> dict[str, str]:
        if self._child is None:
            self._not_inside("get_properties")
        return dict(self._properties)

    def _change(self, **change: Any) -> None:
        self._broker.change(self._child, change)
        self._tags.update(change.get("tags", {}))
        for key in change.get("remove_tags", ()):
            self._tags.pop(key, None)
        self._properties.update(change.get("properties", {}))

    def upload_file(self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes], datastore_name: None = None) -> None:
        from ._inside import upload_file

        upload_file(self._broker, self._child, name, path_or_stream)

    def upload_folder(self, name: str, path: str | os.PathLike[str], datastore_name: None = None) -> None:
        from ._inside import upload_folder

        upload_folder(self._broker, self._child, name, path)

    def flush(self, timeout_seconds: float = 300) -> None:
        self._broker.flush()

    # ---- child runs and the end ------------------------------------------------------------------------------------

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: None = None) -> Run:
        return self._create_child(name, run_id, {})

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Sequence[str] | None = None
    ) -> List[Run]:
        if tag_values is not None:
            if tag_key is None or (count is not None and count != len(tag_values)):
                raise ValueError("tag_values needs tag_key, and a count, if given, of the same number")
            return [self._create_child(None, None, {tag_key: str(value)}) for value in tag_values]
        if count is None:
            raise ValueError("create_children needs count or tag_key and tag_values")
        return [self._create_child(None, None, {}) for _ in range(count)]

    def _create_child(self, name: str | None, run_id: str | None, tags: dict[str, str]) -> Run:
        if self._child is not None:
            self._not_inside("child_run of a child run")
        made, number = self._broker.create_child(run_id, name, tags)
        child = _SubmittedRun(self._broker, made, number, self)
        child._context = self._context
        child._child_name = name
        child._tags.update(tags)
        self._made.append(child)
        return child

    def complete(self, _set_status: bool = True) -> None:
        self._end("completed", None)

    def fail(self, error_details: object = None, error_code: str | None = None, _set_status: bool = True) -> None:
        details = None if error_details is None else str(error_details)
        self._end("failed", ": ".join(part for part in (error_code, details) if part) or None)

    def cancel(self) -> None:
        if self._child is None:
            import logging

            # As Azure ML's: a script that calls it goes on.
            logging.getLogger("kluis").warning(
                "kluis: cancel() inside the run changes nothing: a run ends with its process; leave with sys.exit(), or "
                "cancel it where it was submitted"
            )
            return
        self._end("canceled", None)

    def _end(self, status: str, reason: str | None) -> None:
        self._broker.flush()
        if self._child is not None and self._ended is None:
            self._broker.end_child(self._child, status, reason)
            self._ended = status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The class of the error and not its text: a message may hold a value, and this one is not the log.
        if kind is None:
            self.complete()
        else:
            self.fail(kind.__name__)

    # ---- watching --------------------------------------------------------------------------------------------------

    def get_status(self) -> str:
        status = (self._ended or "running") if self._child is not None else self._broker.status()[0]
        return _STATUS.get(status, "Running")

    def get_details(self) -> dict[str, Any]:
        from ._inside import details

        return details(self)

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> NoReturn:
        self._not_inside("wait_for_completion")

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: None = None, populate: bool = False
    ) -> NoReturn:
        self._not_inside("get_metrics")

    def get_children(
        self,
        recursive: bool = False,
        tags: str | Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        type: str | None = None,
        status: str | None = None,
        _rehydrate_runs: bool = True,
    ) -> Iterator[Run]:
        """The child runs that this process made, newest first."""
        from .experiment import has_tags

        for child in reversed(self._made):
            wanted = status is None or child.get_status().lower() == status.lower()
            if wanted and has_tags(child._tags, tags) and has_tags(child._properties, properties):
                yield child

    def get_file_names(self) -> NoReturn:
        self._not_inside("get_file_names")

    def download_file(self, name: str, output_file_path: Any = None, _validate_checksum: bool = False) -> NoReturn:
        self._not_inside("download_file")

    def download_files(
        self,
        prefix: Any = None,
        output_directory: Any = None,
        output_paths: Any = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: Any = None,
    ) -> NoReturn:
        self._not_inside("download_files")

    def get_all_logs(self, destination: Any = None) -> NoReturn:
        self._not_inside("get_all_logs")

    def get_secrets_read(self) -> NoReturn:
        self._not_inside("get_secrets_read")

    def _not_inside(self, method: str) -> NoReturn:
        from .exceptions import UserErrorException

        raise UserErrorException(
            f"{method} is not available inside a run, whose rights end with its secrets, metrics and files; call it "
            "where the run was submitted, with kluis.Run.get(workspace, run_id)"
        )

    def __repr__(self) -> str:
        return f"Run(id={self.id!r}, inside=True)"
