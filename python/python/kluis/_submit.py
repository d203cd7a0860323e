"""Submitting: check what can be checked here, pack and upload the tree, create the run, start its agent when it is local."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _conda, _local_agent
from ._resources import on_the_wire
from .environment import Environment, text_variables
from .exceptions import UserErrorException
from .run import Run
from .runconfig import RunConfiguration
from .script_run_config import ScriptRunConfig

if TYPE_CHECKING:
    from .experiment import Experiment

_noted_undeclared = False
_REFERENCE = "secret://"

#: The options that an engine takes, by name, with what each does. Compute targets are served by the process engine, which
#: takes none.
_ENGINE_OPTIONS: dict[str, str] = {}


def submit(experiment: Experiment, config: ScriptRunConfig, tags: Mapping[str, str] | None) -> Run:
    """Submits one run."""
    if not isinstance(config, ScriptRunConfig):
        raise TypeError(f"submit takes a ScriptRunConfig, not a {type(config).__name__}")
    workspace = experiment.workspace
    body = plan(config, workspace._found.get("compute"), workspace.name)
    local = body["compute"].lower() == "local"
    agent = _local_agent.executable() if local else ""
    body["experiment"] = experiment.name
    body["tags"] = {str(key): "" if value is None else str(value) for key, value in (tags or {}).items()}
    # Chosen here, so that a submission whose answer was lost can be repeated and stays one run.
    body["run"] = f"{experiment.name[:230]}_{int(time.time())}_{secrets.token_hex(4)}"

    body["snapshot"] = workspace._client.snapshot_upload(
        workspace.name, os.path.abspath(config.source_directory), config.keep_links, tempfile.gettempdir()
    )
    view = workspace._client.run_submit(workspace.name, body)
    run = Run(experiment, view["id"], _view=view)
    if local:
        try:
            run._agent = _local_agent.start(agent, workspace, run.id)
        except UserErrorException:
            # Nobody else will ever serve it.
            run.cancel()
            raise
    if body.get("secrets") is None:
        _note_undeclared()
    return run


def plan(config: ScriptRunConfig, default_compute: str | None = None, workspace: str | None = None) -> dict[str, Any]:
    """The submission's body as far as the configuration decides it. Refuses what can not work, before anything is sent.

    ``default_compute`` is what the project's or the user's file names: it counts where the submission says nothing.
    """
    shared = config.run_config or RunConfiguration()
    _refuse_what_is_not_there(shared, config)
    compute = config.compute_target
    if compute is None:
        compute = default_compute if config.run_config is None else shared.target
    compute = str(getattr(compute, "name", compute) or "local")
    environment = config.environment or shared.environment
    duration = config.max_run_duration_seconds
    body: dict[str, Any] = {
        "program": _program(config, shared),
        "compute": compute,
        "resources": on_the_wire(config.resources, shared.max_run_duration_seconds if duration is None else duration),
        "engine_options": _engine_options(config.engine_options),
        "environment": text_variables({**shared.environment_variables, **environment.environment_variables}),
    }
    _add_environment(body, environment, compute.lower() == "local")
    _add_secrets(body, config, workspace)
    return body


def _program(config: ScriptRunConfig, shared: RunConfiguration) -> dict[str, Any]:
    directory = os.path.abspath(config.source_directory)
    if not os.path.isdir(directory):
        raise UserErrorException(f"source_directory {directory} is not a folder")
    script = config.script or shared.script
    command = config.command if config.command is not None else shared.command
    if (script is None) == (command is None):
        raise UserErrorException("a run has a script or a command, one of the two")
    if script is not None:
        relative = os.path.relpath(os.path.join(directory, script), directory)
        if relative.split(os.sep)[0] == os.pardir:
            raise UserErrorException(f"the script {script} lies outside of source_directory {directory}")
        if not os.path.isfile(os.path.join(directory, relative)):
            raise UserErrorException(f"there is no script {script} in source_directory {directory}")
        arguments = config.arguments if config.arguments is not None else shared.arguments
        return {"script": {"path": relative.replace(os.sep, "/"), "arguments": _texts("arguments", arguments)}}
    if config.arguments:
        raise UserErrorException("arguments belong to a script; a command carries its own")
    argv = ["sh", "-c", command] if isinstance(command, str) else _texts("command", command or ())
    if not argv or (isinstance(command, str) and not command.strip()):
        raise UserErrorException("the command is empty")
    return {"command": {"argv": argv}}


def _engine_options(options: Mapping[str, object] | None) -> dict[str, str]:
    unknown = sorted(str(name) for name in options or {} if str(name) not in _ENGINE_OPTIONS)
    if unknown:
        takes = ", ".join(_ENGINE_OPTIONS) or "none"
        raise UserErrorException(
            f"engine_options has {', '.join(unknown)}, which no engine takes: compute targets are served by the process engine, "
            f"and the options that it takes are: {takes}. What a run needs goes into resources, variables into "
            "environment.environment_variables, and modules to be loaded into a command=[...] that loads them"
        )
    return {str(name): str(value) for name, value in (options or {}).items()}


def _texts(what: str, values: Iterable[object]) -> list[str]:
    if isinstance(values, str):
        raise UserErrorException(f"{what} must be a list, one entry for each word")
    texts = []
    for index, value in enumerate(values):
        if not isinstance(value, (str, int, float, os.PathLike)):
            kind = type(value).__name__
            raise UserErrorException(f"{what}[{index}] is a {kind}; only text, numbers and paths can be given to a script")
        texts.append(str(value))
    return texts


def _add_environment(body: dict[str, Any], environment: Environment, local: bool) -> None:
    unbuilt = environment._what_is_unbuilt()
    if unbuilt is not None:
        raise UserErrorException(
            f"the environment {environment.name} has {unbuilt}, and Kluis builds no environments. Make one where the run "
            "executes and name it: environment.python.interpreter_path = '/path/to/venv/bin/python', or "
            "Environment.from_existing_conda_environment(...)"
        )
    if environment.docker.base_image is not None or environment.docker.enabled or environment.docker.use_docker:
        raise UserErrorException(
            f"the environment {environment.name} asks for a container, and no engine runs containers yet: the run would start "
            "on the machine itself. Make an environment there and name it: environment.python.interpreter_path = "
            "'/path/to/venv/bin/python'; or start the container yourself with command=['docker', 'run', ...]"
        )
    interpreter = environment.python.interpreter_path
    if interpreter in (None, "", "python"):
        # Azure ML's default says as little as none at all.
        interpreter = (sys.executable or None) if local else None
    if environment._conda_environment is not None:
        interpreter = _conda_interpreter(environment._conda_environment, local)
    if interpreter is not None and "script" in body["program"]:
        body["python"] = interpreter


def _conda_interpreter(name: str, local: bool) -> str:
    if local:
        return _conda.interpreter(name)
    if os.path.isabs(name):
        return os.path.join(name, "bin", "python")
    raise UserErrorException(
        f"the conda environment {name} can not be found by its name on another machine; give its path there: "
        f"Environment.from_existing_conda_environment(..., '/opt/conda/envs/{name}'), or environment.python.interpreter_path"
    )


def _add_secrets(body: dict[str, Any], config: ScriptRunConfig, workspace: str | None) -> None:
    if isinstance(config.secrets, str):
        raise UserErrorException("secrets must be a list of names")
    env = {key: _named(name, workspace) for key, name in (config.secret_env or {}).items()}
    files = {key: _named(name, workspace) for key, name in (config.secret_files or {}).items()}
    if config.secrets is None and not env and not files:
        return
    # Names are compared without regard to case; the first spelling stays.
    declared: dict[str, str] = {}
    for name in [*(_named(name, workspace) for name in config.secrets or ()), *env.values(), *files.values()]:
        declared.setdefault(name.lower(), name)
    body["secrets"] = list(declared.values())
    body["secret_env"], body["secret_files"] = env, files


def _named(text: str, workspace: str | None) -> str:
    """A secret as named in a submission: its name, or ``secret://WORKSPACE/NAME`` of the workspace that it is made in.

    As on the command line, another workspace and a version are refused, and the text is not repeated: a value may have got
    into a name's place.
    """
    if not text.startswith(_REFERENCE):
        return text
    of, slash, name = text[len(_REFERENCE) :].partition("/")
    if not slash or not of or not name:
        raise UserErrorException("a reference to a secret looks like secret://WORKSPACE/NAME")
    if "@" in name:
        raise UserErrorException("a run reads the version that is current at its first read: leave @VERSION out of the reference")
    if workspace is not None and of.lower() != workspace.lower():
        raise UserErrorException(
            f"a reference names a secret of another workspace than {workspace}, where the run is submitted: a run reads its own "
            "workspace's"
        )
    return name


def _refuse_what_is_not_there(shared: RunConfiguration, config: ScriptRunConfig) -> None:
    if config.distributed_job_config is not None:
        raise UserErrorException(
            "distributed_job_config is not supported: start the ranks from the script, for example with "
            "command=['torchrun', '--nproc-per-node', '4', 'train.py']"
        )
    if config.resume_from is not None:
        raise UserErrorException(
            "resume_from is not supported: download the other run's files first (Run.get(...).download_files()), and give the "
            "script their place as an argument"
        )
    if shared.docker.use_docker or shared.docker.enabled or getattr(config.docker_runtime_config, "use_docker", False):
        raise UserErrorException(
            "no engine runs containers yet, and the run would start on the machine itself: leave use_docker out and name an "
            "interpreter, environment.python.interpreter_path; or start the container yourself with command=[...]"
        )
    if shared.communicator not in (None, "None"):
        raise UserErrorException(
            f"the communicator {shared.communicator} is not supported: start the ranks from the script, for example with "
            "torchrun, or through the compute target's own engine"
        )
    if shared.node_count != 1:
        raise UserErrorException("node_count other than 1 is not supported yet: use a compute target whose engine starts the ranks")
    if shared.framework.lower() not in ("python", "pytorch", "tensorflow"):
        raise UserErrorException(f"the framework {shared.framework} is not supported; give the program as command=[...]")


def _note_undeclared() -> None:
    global _noted_undeclared
    if not _noted_undeclared:
        _noted_undeclared = True
        logging.getLogger("kluis").warning(
            "kluis: this run declares no secrets, so it may read whatever its submitter may read; "
            "ScriptRunConfig(secrets=[...]) narrows it"
        )
