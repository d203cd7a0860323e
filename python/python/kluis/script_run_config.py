"""What is submitted: a source tree, a script or command in it, where it runs, and which secrets it may read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .environment import Environment
    from .runconfig import RunConfiguration
    from .workspace import ComputeTarget


class ScriptRunConfig:
    """One submission. Nothing is checked before :meth:`kluis.Experiment.submit`.

    The arguments up to ``docker_runtime_config`` stand in Azure ML's order; those that mean nothing here are refused at
    submit when they would have changed what runs, with the alternative.

    - ``source_directory`` is packed as the run's snapshot; ``script`` lies in it, with ``arguments``; or ``command`` is
      run instead (a text goes through ``sh``, a list is taken as it is).
    - ``compute_target``: a name; ``"local"`` is this machine. ``None`` is what ``run_config`` says, else the ``compute`` of the
      project's or the user's file (``kluis compute use``), else this machine.
    - ``secrets``: the names that the run may read, or references ``secret://WORKSPACE/NAME`` of the workspace that it is
      submitted to. ``None``: whatever its submitter may read.
    - ``secret_env``: variable to secret; ``secret_files``: path, in the run's private folder of secrets, to secret. Both
      declare the secret too. They are for programs that can read a password in no other way.
    - ``resources``: ``gpus``, ``cpus``, ``memory`` (``"16GiB"``), ``time`` (``"2h"``); ``max_run_duration_seconds`` wins
      over ``time``. ``engine_options`` are for the compute target's engine; those that no engine takes are refused.
    - ``keep_links=True`` stores links that lead out of the tree, unread, instead of refusing the tree.
    """

    def __init__(
        self,
        source_directory: str | os.PathLike[str],
        script: str | None = None,
        arguments: Sequence[object] | None = None,
        run_config: RunConfiguration | None = None,
        _telemetry_values: object = None,
        compute_target: str | ComputeTarget | None = None,
        environment: Environment | None = None,
        distributed_job_config: Any = None,
        resume_from: Any = None,
        max_run_duration_seconds: float | None = None,
        command: str | Sequence[object] | None = None,
        docker_runtime_config: Any = None,
        *,
        secrets: Sequence[str] | None = None,
        secret_env: Mapping[str, str] | None = None,
        secret_files: Mapping[str, str] | None = None,
        resources: Mapping[str, int | str] | None = None,
        engine_options: Mapping[str, str] | None = None,
        keep_links: bool = False,
    ) -> None:
        self.source_directory = source_directory
        self.script = script
        self.arguments = arguments
        self.run_config = run_config
        self.compute_target = compute_target
        self.environment = environment
        self.distributed_job_config = distributed_job_config
        self.resume_from = resume_from
        self.max_run_duration_seconds = max_run_duration_seconds
        self.command = command
        self.docker_runtime_config = docker_runtime_config
        self.secrets = secrets
        self.secret_env = secret_env
        self.secret_files = secret_files
        self.resources = resources
        self.engine_options = engine_options
        self.keep_links = keep_links

    def __repr__(self) -> str:
        return f"ScriptRunConfig(source_directory={os.fspath(self.source_directory)!r}, script={self.script!r})"
