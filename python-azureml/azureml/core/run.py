"""A run: as seen from where it was submitted, from inside, and offline. Over :class:`kluis.Run`.

This module is on the path from interpreter start to secret in hand: it imports nothing heavy at its top.
"""

from __future__ import annotations

import os

from azureml._kluis.calls import azure_errors, each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import IO, Any, List, NoReturn, Type

    import kluis

    from azureml.core.environment import Environment
    from azureml.core.experiment import Experiment
    from azureml.core.workspace import Workspace

_current: dict[str, _SubmittedRun] = {}


class Run:
    """One execution of a script, made by :meth:`Experiment.submit <azureml.core.Experiment.submit>`.

    Inside a run :meth:`get_context` gives it, and reads secrets and logs metrics with no login. ``run.kluis`` is the
    :class:`kluis.Run` underneath, for what Azure ML never had: ``refresh=True``, ``on_rotate``, ``aget_secret``.
    """

    def __init__(self, experiment: Experiment, run_id: str, outputs: Any = None, **kwargs: Any) -> None:
        self._run: kluis.Run = _found(experiment.workspace, run_id)
        self._experiment: Experiment | None = experiment

    @classmethod
    def _over(cls, run: kluis.Run, experiment: Experiment | None = None) -> Run:
        made = object.__new__(cls)
        made._run, made._experiment = run, experiment
        return made

    @property
    def kluis(self) -> kluis.Run:
        """The :class:`kluis.Run` underneath."""
        return self._run

    # ---- which run -------------------------------------------------------------------------------------------------

    @classmethod
    def get_context(cls, allow_offline: bool = True, used_for_context_manager: bool = False, **kwargs: Any) -> Any:
        """The run that this process is part of.

        Outside a run this is an offline run, which prints what it would have logged and has no secrets; with
        ``allow_offline=False`` it is a ``RunEnvironmentException``. ``KLUIS_OFFLINE_SECRETS=1`` gives the offline run a
        ``get_secret`` that reads as the signed-in user.
        """
        socket = os.environ.get("KLUIS_RUN_SOCKET")
        if socket:
            run = _current.get(socket)
            return run if run is not None else _current.setdefault(socket, _SubmittedRun())
        if not allow_offline:
            from azureml.exceptions import RunEnvironmentException

            raise RunEnvironmentException()
        return _OfflineRunWithSecrets() if os.environ.get("KLUIS_OFFLINE_SECRETS") == "1" else _OfflineRun()

    @classmethod
    def get_submitted_run(cls, **kwargs: Any) -> Any:
        """:meth:`get_context` with ``allow_offline=False``."""
        return cls.get_context(allow_offline=False, **kwargs)

    @staticmethod
    @azure_errors
    def get(workspace: Workspace, run_id: str) -> Run:
        """The run with this id."""
        from azureml.core.script_run import ScriptRun

        return ScriptRun._over(_found(workspace, run_id))

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
        """The experiment's runs, newest first."""
        for run in experiment.get_runs(type=type, tags=tags, properties=properties, include_children=include_children):
            if status is None or run.status.lower() == status.lower():
                yield run

    @staticmethod
    def list_by_compute(
        compute: Any,
        type: str | None = None,
        tags: str | Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        status: str | None = None,
    ) -> NoReturn:
        """Not part of Kluis."""
        raise _not_here("Run.list_by_compute", "experiment.get_runs(), where run.get_details()['target'] names the compute target")

    @staticmethod
    def add_type_provider(runtype: str, run_factory: Callable[..., Any]) -> None:
        """Accepted and not used: every run is a script run."""

    @property
    def id(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    @azure_errors
    def number(self) -> int:
        """Counts the experiment's runs, from 1."""
        return self._run.number

    @property
    @azure_errors
    def name(self) -> str:
        """The display name, or the id."""
        return self._run.name

    @property
    @azure_errors
    def display_name(self) -> str:
        """The same as :attr:`name`. Settable."""
        return self._run.display_name

    @display_name.setter
    @azure_errors
    def display_name(self, value: str) -> None:
        self._run.display_name = value

    @property
    def description(self) -> str | None:
        """``None``: Kluis keeps no descriptions; tags are for that."""
        return None

    @property
    def type(self) -> str:
        """``azureml.scriptrun``: there is no other kind."""
        return "azureml.scriptrun"

    @property
    @azure_errors
    def experiment(self) -> Experiment:
        """The experiment that the run belongs to."""
        if self._experiment is None:
            from azureml.core.experiment import Experiment

            self._experiment = Experiment._over(self._run.experiment)
        return self._experiment

    @property
    @azure_errors
    def parent(self) -> Run | None:
        """The run that made this one, for child runs."""
        parent = self._run.parent
        return None if parent is None else Run._over(parent)

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

    # ---- secrets ---------------------------------------------------------------------------------------------------

    def get_secret(self, name: str) -> str:
        """The value of a secret, as text. Never print it or write it to a file."""
        try:
            return self._run.get_secret(name)
        except Exception as error:
            from azureml._kluis.errors import secret_error

            other = secret_error(error, name)
            if other is None:
                raise
            raise other from error

    @azure_errors
    def get_secrets(self, secrets: Sequence[str]) -> dict[str, str | None]:
        """Several values: name, as asked, to value; ``None`` for what does not exist, or what the run did not declare."""
        from azureml._kluis.batch import get_secrets

        return get_secrets(secrets, self._run.get_secrets, self._run.get_secret)

    # ---- metrics, tags, files --------------------------------------------------------------------------------------

    @azure_errors
    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Logs a number or a text. Logged again under the same name it becomes a list."""
        self._run.log(name, value, description, step)

    @azure_errors
    def log_list(self, name: str, value: Sequence[Any], description: str = "") -> None:
        """Logs a list."""
        self._run.log_list(name, value, description)

    @azure_errors
    def log_row(self, name: str, description: str | None = None, **kwargs: Any) -> None:
        """Logs a row with named columns; logged again it becomes a table."""
        self._run.log_row(name, description, **kwargs)

    @azure_errors
    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Logs a table: column name to a list of its values."""
        self._run.log_table(name, value, description)

    @azure_errors
    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        """Uploads an image file, or a plot with a ``savefig`` method."""
        self._run.log_image(name, path, plot, description)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> NoReturn:
        """Not part of Kluis."""
        raise _not_here("Run.log_accuracy_table", "run.log_table or run.log_image")

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> NoReturn:
        """Not part of Kluis."""
        raise _not_here("Run.log_confusion_matrix", "run.log_table or run.log_image")

    def log_predictions(self, name: str, value: Any, description: str = "") -> NoReturn:
        """Not part of Kluis."""
        raise _not_here("Run.log_predictions", "run.log_table or run.log_image")

    def log_residuals(self, name: str, value: Any, description: str = "") -> NoReturn:
        """Not part of Kluis."""
        raise _not_here("Run.log_residuals", "run.log_table or run.log_image")

    @azure_errors
    def tag(self, key: str, value: str | None = None) -> None:
        """Sets one tag."""
        self._run.tag(key, value)

    @azure_errors
    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Sets tags; others stay."""
        self._run.set_tags(tags)

    @azure_errors
    def remove_tags(self, tags: str | Sequence[str]) -> None:
        """Removes tags by key."""
        self._run.remove_tags(tags)

    @azure_errors
    def get_tags(self) -> dict[str, str]:
        """The run's tags."""
        return self._run.get_tags()

    @azure_errors
    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Adds properties: like tags, but once set they stay."""
        self._run.add_properties(properties)

    @azure_errors
    def get_properties(self) -> dict[str, str]:
        """The run's properties."""
        return self._run.get_properties()

    @azure_errors
    def upload_file(
        self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes], datastore_name: str | None = None
    ) -> None:
        """Uploads a file among the run's files."""
        _no_datastore(datastore_name)
        self._run.upload_file(name, path_or_stream)

    @azure_errors
    def upload_files(
        self,
        names: Sequence[str],
        paths: Sequence[str | os.PathLike[str]],
        return_artifacts: bool = False,
        timeout_seconds: float | None = None,
        datastore_name: str | None = None,
    ) -> None:
        """Uploads several files, each under the name at its place."""
        _no_datastore(datastore_name)
        self._run.upload_files(names, paths)

    @azure_errors
    def upload_folder(self, name: str, path: str | os.PathLike[str], datastore_name: str | None = None) -> None:
        """Uploads a folder with everything in it."""
        _no_datastore(datastore_name)
        self._run.upload_folder(name, path)

    @azure_errors
    def flush(self, timeout_seconds: float = 300) -> None:
        """Waits until metrics and files logged so far have reached the server."""
        self._run.flush(timeout_seconds)

    # ---- child runs and the end ------------------------------------------------------------------------------------

    @azure_errors
    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: Any = None) -> Run:
        """A child run, for the parts of a sweep or the folds of a validation. Use it in a ``with`` block, or end it."""
        return Run._over(self._run.child_run(name, run_id))

    @azure_errors
    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Sequence[str] | None = None
    ) -> List[Run]:
        """``count`` child runs, or one for each of ``tag_values``, tagged ``tag_key``."""
        return [Run._over(child) for child in self._run.create_children(count, tag_key, tag_values)]

    def submit_child(self, config: Any, tags: Mapping[str, str] | None = None, **kwargs: Any) -> NoReturn:
        """Not part of Kluis."""
        raise _not_here("Run.submit_child", "run.child_run() in this process, or Experiment.submit where the run was submitted")

    def start(self) -> None:
        """Nothing: a run starts when its compute target takes it, a child run when it is made."""

    @azure_errors
    def complete(self, _set_status: bool = True) -> None:
        """Ends a child run as completed. For a submitted run its exit code decides, and this only flushes."""
        self._run.complete()

    @azure_errors
    def fail(self, error_details: Any = None, error_code: str | None = None, _set_status: bool = True) -> None:
        """Ends a child run as failed. For a submitted run its exit code decides, and this only flushes."""
        self._run.fail(error_details, error_code)

    @azure_errors
    def cancel(self) -> None:
        """Asks for the run's end. Inside the run it only warns."""
        self._run.cancel()

    def clean(self) -> NoReturn:
        """Not part of Kluis."""
        raise _not_here("Run.clean", "nothing: a run leaves nothing on its machine when it has ended")

    def __enter__(self) -> Any:
        self._run.__enter__()
        return self

    @azure_errors
    def __exit__(
        self, kind: Type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.__exit__(kind, error, trace)

    # ---- watching --------------------------------------------------------------------------------------------------

    @azure_errors
    def get_status(self) -> str:
        """``Queued``, ``Starting``, ``Running``, ``NotResponding``, ``Completed``, ``Failed`` or ``Canceled``."""
        return self._run.get_status()

    @azure_errors
    def get_details(self) -> dict[str, Any]:
        """What is known of the run."""
        return self._run.get_details()

    @azure_errors
    def get_details_with_logs(self) -> dict[str, Any]:
        """:meth:`get_details`, whose ``logFiles`` hold the run's masked logs."""
        import tempfile

        known = self._run.get_details()
        with tempfile.TemporaryDirectory(prefix="kluis-logs-") as folder:
            logs = {}
            for path in self._run.get_all_logs(folder):
                with open(path, encoding="utf-8", errors="replace") as log:
                    logs[os.path.relpath(path, folder)] = log.read()
        return {**known, "logFiles": logs}

    def get_detailed_status(self) -> dict[str, Any]:
        """The status, and who is to blame and why when it failed."""
        known = self.get_details()
        reason, status = known.get("reason"), known["status"]
        return {"status": status, "details": [] if reason is None else [{"reason": reason, "blame": known.get("blame")}]}

    @azure_errors
    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> dict[str, Any]:
        """Waits for the end; ``show_output=True`` prints the run's masked log meanwhile. Returns :meth:`get_details`."""
        return self._run.wait_for_completion(show_output, wait_post_processing, raise_on_error)

    @azure_errors
    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: Any = None, populate: bool = False
    ) -> dict[str, Any]:
        """Metrics by name: a value, a list of them when it was logged more than once, a table as columns."""
        return self._run.get_metrics(name, recursive)

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
        for child in each(self._run.get_children(recursive, tags, properties, type, status)):
            yield Run._over(child)

    @azure_errors
    def get_file_names(self) -> List[str]:
        """The run's files."""
        return self._run.get_file_names()

    @azure_errors
    def download_file(
        self, name: str, output_file_path: str | os.PathLike[str] | None = None, _validate_checksum: bool = False
    ) -> None:
        """Downloads one file, to its own name in the working directory unless told otherwise."""
        self._run.download_file(name, output_file_path)

    @azure_errors
    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | os.PathLike[str] | None = None,
        output_paths: Sequence[str] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: float | None = None,
    ) -> None:
        """Downloads every file whose name starts with ``prefix``."""
        self._run.download_files(prefix, output_directory, output_paths, batch_size, append_prefix, timeout_seconds)

    @azure_errors
    def get_all_logs(self, destination: str | os.PathLike[str] | None = None) -> List[str]:
        """Downloads the masked log and the system log; returns the paths written."""
        return self._run.get_all_logs(destination)

    def get_portal_url(self) -> str:
        """The server's address."""
        return self.experiment.workspace._kluis_workspace.address

    # ---- what is not here ------------------------------------------------------------------------------------------

    def get_environment(self) -> Environment:
        """Not part of Kluis."""
        raise _not_here("Run.get_environment", "the first line of `kluis run logs --system`, which names the interpreter")

    @azure_errors
    def get_snapshot_id(self) -> str | None:
        """Where the run's source tree is kept."""
        snapshot: str | None = self._run.get_details().get("snapshotId")
        return snapshot

    def restore_snapshot(self, snapshot_id: str | None = None, path: str | None = None) -> NoReturn:
        """Not part of Kluis."""
        raise _not_here("Run.restore_snapshot", f"`kluis run download --snapshot {self.id}`")

    def take_snapshot(self, file_or_folder_path: str) -> NoReturn:
        """Not part of Kluis."""
        raise _not_here("Run.take_snapshot", "the source tree is kept at submit; run.upload_folder adds files")

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Any = None,
        properties: Any = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        datasets: Any = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        **kwargs: Any,
    ) -> NoReturn:
        """Not part of Kluis."""
        from azureml._kluis.unsupported import MODEL

        raise _not_here("Run.register_model", MODEL)

    def __repr__(self) -> str:
        return f"Run(Experiment: {self.experiment.name},\nId: {self.id},\nType: {self.type},\nStatus: {self.get_status()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)


class _SubmittedRun(Run):
    """What :meth:`Run.get_context` gives inside a run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from kluis._submitted import current

        self._run = current(os.environ["KLUIS_RUN_SOCKET"])
        self._experiment = None

    @azure_errors
    def cancel(self) -> None:
        """Only warns: a run ends with its process, or is canceled where it was submitted."""
        self._run.cancel()

    @azure_errors
    def complete(self) -> None:  # type: ignore[override]
        """Only flushes: the exit code decides."""
        self._run.complete()

    @azure_errors
    def fail(self, error_details: Any = None, error_code: str | None = None) -> None:  # type: ignore[override]
        """Only flushes: the exit code decides."""
        self._run.fail(error_details, error_code)

    @property
    def input_datasets(self) -> NoReturn:
        """Not part of Kluis."""
        from azureml._kluis.unsupported import DATA

        raise _not_here("run.input_datasets", DATA)

    @property
    def output_datasets(self) -> NoReturn:
        """Not part of Kluis."""
        from azureml._kluis.unsupported import DATA

        raise _not_here("run.output_datasets", DATA)


def _new_id() -> str:
    # As uuid4 makes it: the module `uuid` takes longer to import than everything else here.
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class _OfflineRun:
    """What :meth:`Run.get_context` gives outside a run. It prints what it would have logged, and has no secrets."""

    #: Between the parts of :attr:`identity`.
    DELIM = "#"

    def __init__(self, parent_logger: Any = None, run_id: str | None = None, **kwargs: Any) -> None:
        self._id = run_id or f"OfflineRun_{_new_id()}"

    @property
    def id(self) -> str:
        """``OfflineRun_`` and a UUID."""
        return self._id

    @property
    def identity(self) -> str:
        """The same as :attr:`id`."""
        return self._id

    def log(self, name: str, value: Any, description: str = "") -> None:
        """Prints what it would have logged."""
        self._attempt("log scalar metric", name, value)

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        """Prints what it would have logged."""
        self._attempt("log list metric", name, value)

    def log_row(self, name: str, description: str | None = None, **kwargs: Any) -> None:
        """Prints what it would have logged."""
        self._attempt("log row metric", name, kwargs)

    def log_table(self, name: str, value: Any, description: str = "") -> None:
        """Prints what it would have logged."""
        self._attempt("log table metric", name, value)

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        """Prints what it would have logged."""
        self._attempt("log image metric", name, path if path is not None else plot)

    def log_accuracy_table(self, name: str, value: Any, description: str | None = None) -> None:
        """Prints what it would have logged."""
        self._attempt("log accuracy_table metric", name, value)

    def log_confusion_matrix(self, name: str, value: Any, description: str | None = None) -> None:
        """Prints what it would have logged."""
        self._attempt("log confusion_matrix metric", name, value)

    def log_predictions(self, name: str, value: Any, description: str | None = None) -> None:
        """Prints what it would have logged."""
        self._attempt("log predictions metric", name, value)

    def log_residuals(self, name: str, value: Any, description: str | None = None) -> None:
        """Prints what it would have logged."""
        self._attempt("log residual metric", name, value)

    @staticmethod
    def _attempt(what: str, name: str, value: Any) -> None:
        print(f"Attempted to {what} {name}:\n{value}")

    def tag(self, name: str, value: str | None = None) -> None:
        """Prints what it would have done."""
        print(f"Attempted to add tag {name} with value {value}")

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Prints what it would have done."""
        print(f"Attempted to set tags {tags}")

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Prints what it would have done."""
        print(f"Attempted to add properties {properties}")

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: str | None = None) -> None:
        """Prints what it would have done."""
        print(f"Attempted to track file {name} at {path_or_stream}")

    def upload_files(
        self,
        name: Sequence[str],
        paths: Sequence[str],
        return_artifacts: bool = False,
        timeout_seconds: float | None = None,
        datastore_name: str | None = None,
    ) -> None:
        """Prints what it would have done."""
        print(f"Attempted to track files {name} at {paths} with timeout {timeout_seconds}s")

    def upload_folder(self, name: str, path: Any, datastore_name: str | None = None) -> None:
        """Prints what it would have done."""
        print(f"Attempted to track folder {name} at {path}")

    def flush(self) -> None:
        """Prints what it would have done."""
        print(f"Attempted to flush run with id {self.id}")

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: Any = None) -> _OfflineRun:
        """Another offline run."""
        return type(self)(run_id=run_id or f"{self.id}.{name if name is not None else _new_id()}")

    def complete(self) -> None:
        """Nothing."""

    def cancel(self) -> None:
        """Nothing."""

    def fail(self, error_details: Any = None, error_code: str | None = None) -> None:
        """Prints why."""
        print(f"Run failed with error code {error_code}:\n{error_details}")

    def __enter__(self) -> Any:
        print(f"[START] Run {self.id} context")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        print(f"[STOP] Run {self.id} context")


class _OfflineRunWithSecrets(_OfflineRun):
    """An offline run that reads secrets as the signed-in user: only where ``KLUIS_OFFLINE_SECRETS=1`` asks for it."""

    _vault: Any = None

    def get_secret(self, name: str) -> str:
        """As the signed-in user, from the workspace that the project's file names."""
        value: str = self._keyvault().get_secret(name)
        return value

    def get_secrets(self, secrets: Sequence[str]) -> dict[str, str | None]:
        """The same for several."""
        values: dict[str, str | None] = self._keyvault().get_secrets(secrets)
        return values

    def _keyvault(self) -> Any:
        if self._vault is None:
            from azureml.core.workspace import Workspace

            self._vault = Workspace.from_config().get_default_keyvault()
        return self._vault


def get_run(experiment: Experiment, run_id: str, rehydrate: bool = True, clean_up: bool = True) -> Run:
    """The run with this id."""
    return Run.get(experiment.workspace, run_id)


@azure_errors
def _found(workspace: Workspace, run_id: str) -> kluis.Run:
    from kluis import Run as KluisRun

    return KluisRun.get(workspace._kluis_workspace, run_id)


def _not_here(what: str, instead: str) -> NotImplementedError:
    from azureml._kluis.unsupported import not_here

    return not_here(what, instead)


def _no_datastore(name: str | None) -> None:
    if name is not None:
        from azureml._kluis.unsupported import DATA

        raise _not_here("datastore_name", DATA)
