"""A run that was submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azureml.core.run import Run

if TYPE_CHECKING:
    from azureml.core.experiment import Experiment

__all__ = ["ScriptRun"]


class ScriptRun(Run):
    """What :meth:`Experiment.submit <azureml.core.Experiment.submit>` gives."""

    def __init__(
        self, experiment: Experiment, run_id: str, directory: str | None = None, _run_config: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(experiment, run_id, **kwargs)
