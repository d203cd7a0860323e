"""How a script is run, to be shared between several :class:`kluis.ScriptRunConfig`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .environment import DockerSection, Environment


class RunConfiguration:
    """Script, arguments, target and environment. What a :class:`kluis.ScriptRunConfig` says itself wins over this."""

    def __init__(
        self,
        script: str | None = None,
        arguments: Sequence[object] | None = None,
        framework: str | None = None,
        communicator: str | None = None,
        conda_dependencies: object = None,
        _history_enabled: object = None,
        _path: object = None,
        _name: object = None,
        command: str | Sequence[str] | None = None,
    ) -> None:
        self.script = script
        self.arguments: list[object] = list(arguments or ())
        self.command = command
        #: The compute target's name; ``local`` is the submitter's own machine.
        self.target = "local"
        self.environment = Environment("default")
        self.environment.python.conda_dependencies = conda_dependencies
        #: ``use_docker`` is refused at submit: no engine runs containers yet.
        self.docker = DockerSection()
        self.framework = framework or "Python"
        #: Not there yet: submitting with one is refused.
        self.communicator = communicator
        #: More than one is not there yet: submitting with it is refused.
        self.node_count = 1
        self.max_run_duration_seconds: int | None = None

    @property
    def environment_variables(self) -> dict[str, str]:
        """The environment's variables."""
        return self.environment.environment_variables

    @environment_variables.setter
    def environment_variables(self, variables: Mapping[str, str]) -> None:
        self.environment.environment_variables = dict(variables)

    def __repr__(self) -> str:
        return f"RunConfiguration(script={self.script!r}, target={self.target!r})"
