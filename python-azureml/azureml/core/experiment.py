"""A named group of runs, and submitting one. Over :class:`kluis.Experiment`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, NoReturn

import kluis
from azureml._kluis.calls import azure_errors, each
from azureml._kluis.unsupported import not_here
from azureml.core.run import Run
from azureml.core.script_run import ScriptRun
from azureml.exceptions import UserErrorException

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from azureml.core.script_run_config import ScriptRunConfig
    from azureml.core.workspace import Workspace

_NO_TAGS = "tags are kept with runs: run.tag(key, value)"


class Experiment:
    """An experiment. It comes into being with its first run; making this object asks the server nothing."""

    def __init__(
        self,
        workspace: Workspace,
        name: str,
        _skip_name_validation: bool = False,
        _id: str | None = None,
        _archived_time: Any = None,
        _create_in_cloud: bool = True,
        _experiment_dto: Any = None,
        **kwargs: Any,
    ) -> None:
        from kluis.exceptions import InvalidName

        try:
            self._experiment = kluis.Experiment(workspace._kluis_workspace, name)
        except InvalidName as error:
            raise UserErrorException(error.message) from error
        self._workspace: Workspace | None = workspace

    @classmethod
    def _over(cls, experiment: kluis.Experiment, workspace: Workspace | None = None) -> Experiment:
        made = object.__new__(cls)
        made._experiment, made._workspace = experiment, workspace
        return made

    @property
    def name(self) -> str:
        """1 to 255 letters, digits, ``-`` and ``_``, a letter or digit first."""
        return self._experiment.name

    @property
    def id(self) -> str:
        """The name: it is unique in its workspace."""
        return self._experiment.name

    @property
    def workspace(self) -> Workspace:
        """The workspace it belongs to."""
        if self._workspace is None:
            from azureml.core.workspace import Workspace

            self._workspace = Workspace._over(self._experiment.workspace)
        return self._workspace

    @property
    def workspace_object(self) -> Workspace:
        """The same as :attr:`workspace`."""
        return self.workspace

    @azure_errors
    def submit(self, config: ScriptRunConfig, tags: Mapping[str, str] | None = None, **kwargs: Any) -> Run:
        """Submits a run and returns at once; :meth:`Run.wait_for_completion` waits.

        Kluis refuses what can not work before anything is sent, and on the server's word a declared secret that is missing
        and a source tree that holds a value of the vault.
        """
        plan = getattr(config, "_for_kluis", None)
        if plan is None:
            from azureml._kluis.unsupported import SCRIPT

            raise not_here(f"submitting a {type(config).__name__}", SCRIPT)
        run = self._experiment.submit(plan(), tags, **kwargs)
        return ScriptRun._over(run, self)

    def start_logging(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here(
            "Experiment.start_logging",
            "`kluis exec -- python ...` starts what you have as a run, in which Run.get_context() is that run; or submit the script",
        )

    def get_runs(
        self,
        type: str | None = None,
        tags: str | Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """The experiment's runs, newest first."""
        for run in each(self._experiment.get_runs(type, tags, properties, include_children)):
            yield ScriptRun._over(run, self)

    @staticmethod
    def list(
        workspace: Workspace, experiment_name: str | None = None, view_type: str = "ActiveOnly", tags: Any = None
    ) -> List[Experiment]:
        """The workspace's experiments, or the one with this name."""
        found = workspace.experiments
        return [e for name, e in found.items() if experiment_name is None or name.lower() == experiment_name.lower()]

    @staticmethod
    def delete(workspace: Workspace, experiment_id: str) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Experiment.delete", "experiments stay with the record of their runs until the workspace goes")

    @staticmethod
    def from_directory(path: str, auth: Any = None) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Experiment.from_directory", "Experiment(Workspace.from_config(path), name)")

    @classmethod
    def get_docs_url(cls) -> str:
        """Where this is described."""
        return "docs/guide/azureml-drop-in.md"

    @property
    def archived_time(self) -> None:
        """``None``: experiments are not archived."""
        return None

    @property
    def tags(self) -> dict[str, str]:
        """Empty: experiments have no tags."""
        return {}

    def archive(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Experiment.archive", "nothing: a finished experiment costs nothing")

    def reactivate(self, new_name: str | None = None) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Experiment.reactivate", "nothing: experiments are not archived")

    def refresh(self) -> None:
        """Nothing: what is asked is asked anew each time."""

    def tag(self, key: str, value: str | None = None) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Experiment.tag", _NO_TAGS)

    def set_tags(self, tags: Mapping[str, str]) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Experiment.set_tags", _NO_TAGS)

    def remove_tags(self, tags: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Experiment.remove_tags", _NO_TAGS)

    def get_portal_url(self) -> str:
        """The server's address."""
        return self.workspace._kluis_workspace.address

    def __repr__(self) -> str:
        return f"Experiment(Name: {self.name},\nWorkspace: {self.workspace.name})"
