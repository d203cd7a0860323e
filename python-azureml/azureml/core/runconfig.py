"""How a script is run. What Kluis can not honour is refused at submit, with the alternative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import kluis
from azureml._kluis.unsupported import DATA, not_here
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.container_registry import ContainerRegistry
from azureml.core.environment import DEFAULT_CPU_IMAGE, DEFAULT_GPU_IMAGE, DockerSection, Environment, PythonSection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CondaDependencies",
    "ContainerRegistry",
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "DockerConfiguration",
    "DockerSection",
    "Environment",
    "HistoryConfiguration",
    "MpiConfiguration",
    "PyTorchConfiguration",
    "PythonSection",
    "RunConfiguration",
    "TensorflowConfiguration",
]


class DockerConfiguration:
    """Whether the run wants a container. ``use_docker=True`` is refused at submit: no engine runs containers yet."""

    def __init__(
        self,
        use_docker: bool = False,
        shared_volumes: bool = True,
        arguments: Sequence[str] | None = None,
        shm_size: str | None = None,
    ) -> None:
        self.use_docker, self.shared_volumes = use_docker, shared_volumes
        self.arguments, self.shm_size = list(arguments or ()), shm_size


class HistoryConfiguration:
    """What is kept of a run. Kluis keeps all of it: source tree, masked log, metrics, ``./outputs`` and ``./logs``."""

    def __init__(self, **_unused: Any) -> None:
        self.output_collection = self.snapshot_project = True
        self.directories_to_watch = ["logs"]


class MpiConfiguration:
    """Refused at submit: start the ranks from the script, or through the target's own engine."""

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        self.process_count_per_node, self.node_count = process_count_per_node, node_count


class PyTorchConfiguration:
    """Refused at submit: start the ranks from the script, for example with torchrun."""

    def __init__(self, communication_backend: str = "nccl", process_count: int | None = None, node_count: int = 1) -> None:
        self.communication_backend, self.process_count, self.node_count = communication_backend, process_count, node_count


class TensorflowConfiguration:
    """Refused at submit: start the ranks from the script."""

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count, self.parameter_server_count = worker_count, parameter_server_count


class RunConfiguration:
    """Script, arguments, target, environment and limits."""

    def __init__(
        self,
        script: str | None = None,
        arguments: Sequence[Any] | None = None,
        framework: str | None = None,
        communicator: str | None = None,
        conda_dependencies: CondaDependencies | None = None,
        _history_enabled: Any = None,
        _path: Any = None,
        _name: Any = None,
        command: str | Sequence[Any] | None = None,
    ) -> None:
        self.script = script
        self.arguments: list[Any] = list(arguments or ())
        self.command: str | Sequence[Any] = command if command is not None else ""
        self._target = "local"
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.node_count = 1
        self.max_run_duration_seconds: int | None = None
        self.priority: int | None = None
        self.environment = Environment("default-environment")
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies
        self.history = HistoryConfiguration()
        self.docker = DockerConfiguration()
        self.mpi, self.pytorch, self.tensorflow = MpiConfiguration(), PyTorchConfiguration(), TensorflowConfiguration()
        self.data_references: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.output_data: dict[str, Any] = {}
        self._variables: dict[str, str] = {}

    @property
    def target(self) -> str:
        """The compute target's name; ``local`` is the submitter's own machine. Settable, also with a compute target."""
        return self._target

    @target.setter
    def target(self, value: Any) -> None:
        self._target = str(getattr(value, "name", value) or "local")

    @property
    def environment_variables(self) -> dict[str, str]:
        """The run's variables. They win over those of the environment."""
        return self._variables

    @environment_variables.setter
    def environment_variables(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    @property
    def auto_prepare_environment(self) -> bool:
        """``False``: Kluis prepares no environments."""
        return False

    @auto_prepare_environment.setter
    def auto_prepare_environment(self, value: bool) -> None:
        """Accepted, as Azure ML's is, and changes nothing."""

    @staticmethod
    def load(path: str, name: str | None = None) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("RunConfiguration.load", "make the RunConfiguration in code")

    def save(self, path: str | None = None, name: str | None = None, separate_environment_yaml: bool = False) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("RunConfiguration.save", "make the RunConfiguration in code")

    @staticmethod
    def delete(path: str, name: str) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("RunConfiguration.delete", "make the RunConfiguration in code")

    def _for_kluis(self, says_what_runs: bool) -> kluis.RunConfiguration:
        """``says_what_runs``: the submission names a script or a command, and this one's count no more."""
        if self.data_references or self.data or self.output_data:
            raise not_here("data in a RunConfiguration", DATA)
        made = kluis.RunConfiguration(framework=self.framework, communicator=self.communicator)
        if not says_what_runs:
            made.script, made.command = self.script, self.command or None
        made.arguments = list(self.arguments)
        made.target = self.target
        made.node_count = self.node_count
        made.max_run_duration_seconds = self.max_run_duration_seconds
        made.docker.use_docker = self.docker.use_docker
        made.environment = self.environment._for_kluis(self._variables)
        return made
