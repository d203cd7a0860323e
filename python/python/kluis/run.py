"""A run: as it is seen from where it was submitted, and the door to it from inside.

:meth:`Run.get_context` answers with a subclass for where the code runs: ``_submitted`` in a run, ``_offline`` elsewhere.
This module is on the path from interpreter start to secret in hand: it imports nothing heavy at its top.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import IO, Any, List

    from .experiment import Experiment
    from .workspace import Workspace

#: How a run's status is spelled here, as Azure ML spells it. What is lost or compromised has failed, with a reason.
_STATUS = {
    "queued": "Queued",
    "starting": "Starting",
    "running": "Running",
    "unresponsive": "NotResponding",
    "completed": "Completed",
    "failed": "Failed",
    "canceled": "Canceled",
    "lost": "Failed",
    "compromised": "Failed",
}
_ENDED = frozenset({"Completed", "Failed", "Canceled"})


class Run:
    """One execution of a script.

    Made by :meth:`kluis.Experiment.submit` and :meth:`Run.get`; inside a run by :meth:`Run.get_context`, on an object
    that reads secrets and logs metrics through the launcher beside it.
    """

    def __init__(
        self,
        experiment: Experiment,
        run_id: str,
        outputs: None = None,
        *,
        _view: dict[str, Any] | None = None,
        **_unused: Any,
    ) -> None:
        self._experiment = experiment
        self._id = run_id
        self._view = _view or {}
        # The agent process that serves this run, when it was submitted to this machine.
        self._agent: Any = None

    # ---- which run -------------------------------------------------------------------------------------------------

    @classmethod
    def get_context(
        cls, allow_offline: bool = True, used_for_context_manager: bool = False, **_unused: Any
    ) -> Run:
        """The run that this process is part of.

        Outside a run this is an offline run, which prints what it would have logged; with ``allow_offline=False`` it is a
        :class:`kluis.exceptions.RunEnvironmentException`.
        """
        socket = os.environ.get("KLUIS_RUN_SOCKET")
        if socket:
            from ._submitted import current

            return current(socket)
        if not allow_offline:
            from .exceptions import RunEnvironmentException

            raise RunEnvironmentException(
                "Could not load a submitted run. This process was not started by Kluis: submit the script with "
                "`kluis run submit` or Experiment.submit, or let it run offline with allow_offline=True."
            )
        from ._offline import current_offline

        return current_offline()

    @classmethod
    def get_submitted_run(cls, **_unused: Any) -> Run:
        """:meth:`get_context` with ``allow_offline=False``."""
        return cls.get_context(allow_offline=False)

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> Run:
        """The run with this id."""
        from .experiment import Experiment

        view = workspace._client.run_show(workspace.name, run_id)
        return Run(Experiment(workspace, view["experiment"]), view["id"], _view=view)

    @staticmethod
    def list(
        experiment: Experiment,
        type: str | None = None,
        tags: str | Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        status: str | None = None,
        include_children: bool = False,
        _rehydrate_runs: bool = True,
    ) -> Iterator[Run]:
        """The experiment's runs, newest first. The other arguments are those of :meth:`kluis.Experiment.get_runs`."""
        for run in experiment.get_runs(type=type, tags=tags, properties=properties, include_children=include_children):
            if status is None or run.status.lower() == status.lower():
                yield run

    @property
    def id(self) -> str:
        """The run's id, unique in its workspace."""
        return self._id

    @property
    def number(self) -> int:
        """Counts the experiment's runs, from 1."""
        return int(self._known()["number"])

    @property
    def name(self) -> str:
        """The display name, or the id."""
        return str(self._known().get("display_name") or self.id)

    @property
    def display_name(self) -> str:
        """The same as :attr:`name`. Settable."""
        return self.name

    @display_name.setter
    def display_name(self, value: str) -> None:
        self._change(display_name=value)

    @property
    def experiment(self) -> Experiment:
        """The experiment that the run belongs to."""
        return self._experiment

    @property
    def parent(self) -> Run | None:
        """The run that made this one, for child runs."""
        parent = self._known().get("parent")
        return Run.get(self._workspace, parent) if parent else None

    @property
    def status(self) -> str:
        """What :meth:`get_status` says now."""
        return self.get_status()

    @property
    def tags(self) -> dict[str, str]:
        """What :meth:`get_tags` says now."""
        return self.get_tags()

    @property
    def properties(self) -> dict[str, str]:
        """What :meth:`get_properties` says now."""
        return self.get_properties()

    @property
    def _workspace(self) -> Workspace:
        return self._experiment.workspace

    @property
    def _client(self) -> Any:
        return self._workspace._client

    def _known(self) -> dict[str, Any]:
        return self._view or self._fresh()

    def _fresh(self) -> dict[str, Any]:
        self._view = self._client.run_show(self._workspace.name, self._id)
        return self._view

    # ---- secrets ---------------------------------------------------------------------------------------------------

    def get_secret(self, name: str, refresh: bool = False, timeout: float | None = None) -> str:
        """The value of a secret, as text.

        In a run the version is pinned at the first read; ``refresh=True`` moves on to the current one. When the server is
        away, the launcher tries for ``timeout`` seconds (30 if not given) and then raises
        :class:`kluis.exceptions.VaultUnavailable`. Elsewhere this reads as the signed-in user, and the last two arguments
        change nothing. Never print the value or write it to a file.
        """
        return self._workspace.get_default_keyvault().get_secret(name)

    def get_secrets(
        self, secrets: Sequence[str], refresh: bool = False, timeout: float | None = None
    ) -> dict[str, str | None]:
        """Several values in one go: name, as asked, to value; a secret that does not exist is ``None``.

        A secret that the run may not read, such as an undeclared one, is an error for all of them.
        """
        return self._workspace.get_default_keyvault().get_secrets(secrets)

    async def aget_secret(self, name: str, refresh: bool = False, timeout: float | None = None) -> str:
        """:meth:`get_secret` without blocking the event loop. Cancelling it ends the read within a moment."""
        from ._async import call

        return await call(self.get_secret, name, refresh, timeout)

    async def aget_secrets(
        self, secrets: Sequence[str], refresh: bool = False, timeout: float | None = None
    ) -> dict[str, str | None]:
        """:meth:`get_secrets` without blocking the event loop."""
        from ._async import call

        return await call(self.get_secrets, secrets, refresh, timeout)

    def on_rotate(self, callback: Callable[[List[str]], object]) -> Callable[[], None]:
        """Calls ``callback(names)`` from a thread of its own when secrets that this run has read get a newer version.

        The callback reads with ``get_secret(name, refresh=True)``. What it raises goes to the log and ends nothing. The
        answer is a function that stops it. A process made by ``fork`` has no such thread: register there anew.
        """
        raise self._only_inside("on_rotate")

    # ---- metrics, tags, files --------------------------------------------------------------------------------------

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Logs a number or a text. Logged again under the same name it becomes a list."""
        raise self._only_inside("log")

    def log_list(self, name: str, value: Sequence[Any], description: str = "") -> None:
        """Logs a list of numbers or texts; logged again it is lengthened."""
        raise self._only_inside("log_list")

    def log_row(self, name: str, description: str | None = None, **kwargs: Any) -> None:
        """Logs a row with named columns; logged again it becomes a table."""
        raise self._only_inside("log_row")

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Logs a table: column name to a list of its values."""
        raise self._only_inside("log_table")

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        """Uploads an image file, or a plot with a ``savefig`` method, as ``outputs/images/NAME``."""
        raise self._only_inside("log_image")

    def tag(self, key: str, value: str | None = None) -> None:
        """Sets one tag."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Sets tags; others stay."""
        self._change(tags={str(k): "" if v is None else str(v) for k, v in tags.items()})

    def remove_tags(self, tags: str | Sequence[str]) -> None:
        """Removes tags by key."""
        self._change(remove_tags=[tags] if isinstance(tags, str) else [str(t) for t in tags])

    def get_tags(self) -> dict[str, str]:
        """The run's tags."""
        return dict(self._fresh().get("tags") or {})

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Adds properties: like tags, but once set they stay."""
        self._change(properties={str(k): str(v) for k, v in properties.items()})

    def get_properties(self) -> dict[str, str]:
        """The run's properties."""
        return dict(self._fresh().get("properties") or {})

    def _change(self, **change: Any) -> None:
        self._view = self._client.run_change(self._workspace.name, self._id, change)

    def upload_file(self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes], datastore_name: None = None) -> None:
        """Uploads a file among the run's files. What lies in ``./outputs`` at the end is uploaded without it."""
        raise self._only_inside("upload_file")

    def upload_files(
        self,
        names: Sequence[str],
        paths: Sequence[str | os.PathLike[str]],
        return_artifacts: bool = False,
        timeout_seconds: float | None = None,
        datastore_name: None = None,
    ) -> None:
        """Uploads several files, each under the name at its place."""
        if isinstance(names, str) or isinstance(paths, str) or len(names) != len(paths):
            raise ValueError("upload_files takes a list of names and a list of as many paths")
        for name, path in zip(names, paths):
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: str | os.PathLike[str], datastore_name: None = None) -> None:
        """Uploads a folder with everything in it."""
        raise self._only_inside("upload_folder")

    def flush(self, timeout_seconds: float = 300) -> None:
        """Waits until metrics and files logged so far have reached the server."""
        raise self._only_inside("flush")

    # ---- child runs and the end ------------------------------------------------------------------------------------

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: None = None) -> Run:
        """A child run, for the parts of a sweep or the folds of a validation. Use it in a ``with`` block, or end it."""
        raise self._only_inside("child_run")

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Sequence[str] | None = None
    ) -> List[Run]:
        """``count`` child runs, or one for each of ``tag_values``, tagged ``tag_key``."""
        raise self._only_inside("create_children")

    def complete(self, _set_status: bool = True) -> None:
        """Ends a child run as completed. For a submitted run its exit code decides, and this only flushes."""
        raise self._only_inside("complete")

    def fail(
        self, error_details: object = None, error_code: str | None = None, _set_status: bool = True
    ) -> None:
        """Ends a child run as failed. For a submitted run its exit code decides, and this only flushes."""
        raise self._only_inside("fail")

    def cancel(self) -> None:
        """Asks for the run's end: SIGTERM, and 30 seconds later SIGKILL. Inside the run it only warns, as Azure ML's."""
        self._view = self._client.run_cancel(self._workspace.name, self._id)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    # ---- watching --------------------------------------------------------------------------------------------------

    def get_status(self) -> str:
        """``Queued``, ``Starting``, ``Running``, ``NotResponding``, ``Completed``, ``Failed`` or ``Canceled``.

        A run that is lost, or whose ticket was used twice, is ``Failed``; :meth:`get_details` has the reason.
        """
        return _STATUS.get(self._fresh()["status"], "Running")

    def get_details(self) -> dict[str, Any]:
        """Everything that is known of the run, in Azure ML's spelling, with ``blame`` and ``reason`` for a failure."""
        from ._watch import details

        return details(self._fresh())

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> dict[str, Any]:
        """Waits for the end; ``show_output=True`` prints the run's masked log meanwhile.

        Returns :meth:`get_details`. A run that did not succeed raises
        :class:`kluis.exceptions.ActivityFailedException` unless ``raise_on_error=False``. Ctrl-C stops the waiting, not
        the run.
        """
        from ._watch import wait

        return wait(self, show_output, raise_on_error)

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: None = None, populate: bool = False
    ) -> dict[str, Any]:
        """Metrics by name: a value, a list of them when it was logged more than once, a table as columns.

        With ``recursive`` the child runs' metrics follow, by run id.
        """
        from ._metrics import gather

        gathered = gather(self._client.run_metrics(self._workspace.name, self._id))
        metrics = gathered if name is None else {k: v for k, v in gathered.items() if k == name}
        if recursive:
            for child in self.get_children(recursive=True):
                metrics[child.id] = child.get_metrics(name)
        return metrics

    def get_children(
        self,
        recursive: bool = False,
        tags: str | Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        type: str | None = None,
        status: str | None = None,
        _rehydrate_runs: bool = True,
    ) -> Iterator[Run]:
        """The child runs, newest first. In a run: those that this process made."""
        from .experiment import has_tags

        views = self._client.run_list(self._workspace.name, None, self._id)
        for view in views:
            child = Run(self._experiment, view["id"], _view=view)
            wanted = status is None or _STATUS.get(view["status"], "").lower() == status.lower()
            if wanted and has_tags(view.get("tags") or {}, tags) and has_tags(view.get("properties") or {}, properties):
                yield child
            if recursive:
                yield from child.get_children(True, tags, properties, type, status)

    def get_file_names(self) -> List[str]:
        """The run's files, such as ``outputs/model.pkl`` and ``user_logs/std_log.txt``."""
        from ._files import names

        return names(self)

    def download_file(
        self, name: str, output_file_path: str | os.PathLike[str] | None = None, _validate_checksum: bool = False
    ) -> None:
        """Downloads one file, to its own name in the working directory unless told otherwise."""
        from ._files import download

        download(self, name, output_file_path)

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | os.PathLike[str] | None = None,
        output_paths: Sequence[str] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: float | None = None,
    ) -> None:
        """Downloads every file whose name starts with ``prefix``, keeping the folders below ``output_directory``."""
        from ._files import download_all

        download_all(self, prefix, output_directory, output_paths, append_prefix)

    def get_all_logs(self, destination: str | os.PathLike[str] | None = None) -> List[str]:
        """Downloads the masked log and the system log; returns the paths written."""
        from ._files import download_logs

        return download_logs(self, destination)

    def get_secrets_read(self) -> List[dict[str, Any]]:
        """Which secrets the run was given: name, version, attempt and when. Never a value."""
        return list(self._client.run_secrets(self._workspace.name, self._id))

    def _only_inside(self, method: str) -> Exception:
        from .exceptions import UserErrorException

        return UserErrorException(
            f"{method} works inside the run only, on the object that Run.get_context() returns there; this is the run "
            f"{self.id} as seen from outside"
        )

    def __repr__(self) -> str:
        return f"Run(experiment={self._experiment.name!r}, id={self.id!r})"
