"""What is submitted. Azure ML's arguments at their places; Kluis's own by keyword."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import kluis
from azureml.core.runconfig import RunConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from azureml.core.environment import Environment

#: Azure ML's default, 30 days. Given or not, it can not be told from nothing said; Kluis then sets no limit.
_THIRTY_DAYS = 2592000


class ScriptRunConfig:
    """One submission: a folder, a ``script`` in it with ``arguments`` or a ``command``, and where it runs.

    ``run_config`` holds target, environment and limits, and may be changed until the submission. The arguments after
    ``docker_runtime_config`` are Kluis's: ``secrets`` is what the run may read (``None``: whatever its submitter may),
    ``secret_env`` and ``secret_files`` deliver a secret to programs that can read it in no other way, ``resources`` is what
    it needs.
    """

    def __init__(
        self,
        source_directory: str | os.PathLike[str],
        script: str | None = None,
        arguments: Sequence[Any] | None = None,
        run_config: RunConfiguration | None = None,
        _telemetry_values: Any = None,
        compute_target: Any = None,
        environment: Environment | None = None,
        distributed_job_config: Any = None,
        resume_from: Any = None,
        max_run_duration_seconds: float | None = _THIRTY_DAYS,
        command: str | Sequence[Any] | None = None,
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
        self.script, self.arguments, self.command = script, arguments, command
        self.secrets, self.secret_env, self.secret_files = secrets, secret_env, secret_files
        self.resources, self.engine_options, self.keep_links = resources, engine_options, keep_links
        self._distributed, self._resume_from, self._docker_runtime = distributed_job_config, resume_from, docker_runtime_config
        if run_config is None:
            self.run_config = RunConfiguration()
            if compute_target is not None:
                self.run_config.target = str(getattr(compute_target, "name", compute_target))
            if environment is not None:
                self.run_config.environment = environment
            if max_run_duration_seconds not in (None, _THIRTY_DAYS):
                self.run_config.max_run_duration_seconds = int(max_run_duration_seconds or 0)
            return
        self.run_config = run_config
        given = (compute_target, environment, distributed_job_config, docker_runtime_config)
        if any(value is not None for value in given) or max_run_duration_seconds not in (None, _THIRTY_DAYS):
            # As Azure ML's, which says so too.
            self._distributed = self._docker_runtime = None
            logging.getLogger().warning(
                "If 'run_config' is specified, the following parameters will be ignored: 'compute_target', 'environment', "
                "'distributed_job_config', 'max_run_duration_seconds', and 'docker_runtime_config'."
            )

    def _for_kluis(self) -> kluis.ScriptRunConfig:
        return kluis.ScriptRunConfig(
            self.source_directory,
            script=self.script,
            arguments=self.arguments,
            run_config=self.run_config._for_kluis(self.script is not None or self.command is not None),
            distributed_job_config=self._distributed,
            resume_from=self._resume_from,
            command=self.command,
            docker_runtime_config=self._docker_runtime,
            secrets=self.secrets,
            secret_env=self.secret_env,
            secret_files=self.secret_files,
            resources=self.resources,
            engine_options=self.engine_options,
            keep_links=self.keep_links,
        )

    def __repr__(self) -> str:
        return f"ScriptRunConfig(source_directory={os.fspath(self.source_directory)!r}, script={self.script!r})"
