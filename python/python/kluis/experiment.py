"""A named group of runs, and submitting one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, List, NoReturn

from . import _native
from .exceptions import UserErrorException

if TYPE_CHECKING:
    from .run import Run
    from .script_run_config import ScriptRunConfig
    from .workspace import Workspace


class Experiment:
    """An experiment. It comes into being with its first run; making this object asks the server nothing."""

    def __init__(
        self,
        workspace: Workspace,
        name: str,
        _skip_name_validation: bool = False,
        _id: str | None = None,
        _archived_time: object = None,
        _create_in_cloud: bool = True,
        _experiment_dto: object = None,
        **_unused: Any,
    ) -> None:
        _native.check_experiment_name(name)
        self._workspace = workspace
        self._name = name

    @property
    def name(self) -> str:
        """1 to 255 letters, digits, ``-`` and ``_``, a letter or digit first."""
        return self._name

    @property
    def workspace(self) -> Workspace:
        """The workspace it belongs to."""
        return self._workspace

    def submit(self, config: ScriptRunConfig, tags: Mapping[str, str] | None = None, **ignored: Any) -> Run:
        """Submits a run and returns at once; :meth:`kluis.Run.wait_for_completion` waits.

        Refuses before anything is sent: a script that does not exist, an environment that would have to be built, a
        snapshot with links out of its folder; and on the server's word: a declared secret that is missing or that the
        submitter may not read, and a source tree that holds a value of this vault. Other keywords, which Azure ML hands
        on to its service, are ignored with a warning that names them.
        """
        from ._submit import submit

        if ignored:
            logging.getLogger("kluis").warning("kluis: submit ignores %s", ", ".join(sorted(ignored)))
        return submit(self, config, tags)

    def start_logging(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not here: a run is submitted, or started by ``kluis exec``."""
        raise UserErrorException(
            "there are no interactive runs: submit the script with Experiment.submit; or start what you have with `kluis exec "
            "-- python ...`, inside which Run.get_context() is the run; or leave it out, and Run.get_context() prints what "
            "it would have logged"
        )

    def get_runs(
        self,
        type: str | None = None,
        tags: str | Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """The experiment's runs, newest first.

        ``tags`` is a key or a mapping that the run's tags must contain. ``type`` is there for Azure ML's callers: every
        run here is a script run.
        """
        from .run import Run

        for view in self._workspace._client.run_list(self._workspace.name, self._name, None):
            run = Run(self, view["id"], _view=view)
            if has_tags(view.get("tags") or {}, tags) and has_tags(view.get("properties") or {}, properties):
                yield run
            if include_children:
                yield from run.get_children(recursive=True, tags=tags, properties=properties)

    @staticmethod
    def list(
        workspace: Workspace, experiment_name: str | None = None, view_type: str = "ActiveOnly", tags: object = None
    ) -> List[Experiment]:
        """The workspace's experiments, or the one with this name. They have no tags and are not archived."""
        found = workspace.experiments
        return [e for name, e in found.items() if experiment_name is None or name.lower() == experiment_name.lower()]

    def __repr__(self) -> str:
        return f"Experiment(workspace={self._workspace.name!r}, name={self._name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Experiment):
            return NotImplemented
        return (self._name.lower(), self._workspace) == (other._name.lower(), other._workspace)

    def __hash__(self) -> int:
        return hash((self._name.lower(), self._workspace))


def has_tags(tags: Mapping[str, Any], wanted: str | Mapping[str, str] | None) -> bool:
    """Whether the tags have the key, or all the entries, that are asked for."""
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return wanted in tags
    return all(key in tags and (value is None or tags[key] == str(value)) for key, value in wanted.items())
