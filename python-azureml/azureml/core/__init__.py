"""``azureml.core`` over Kluis. Each name is loaded when it is first used: importing one costs what that one needs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from azureml.core.compute_target import ComputeTarget as ComputeTarget
    from azureml.core.environment import Environment as Environment
    from azureml.core.experiment import Experiment as Experiment
    from azureml.core.keyvault import Keyvault as Keyvault
    from azureml.core.run import Run as Run
    from azureml.core.run import get_run as get_run
    from azureml.core.runconfig import RunConfiguration as RunConfiguration
    from azureml.core.script_run import ScriptRun as ScriptRun
    from azureml.core.script_run_config import ScriptRunConfig as ScriptRunConfig
    from azureml.core.workspace import Workspace as Workspace

#: Which azureml-core the signatures are those of.
VERSION = "1.61.0"
__version__ = VERSION

_HOMES = {
    "ComputeTarget": "compute_target",
    "ContainerRegistry": "container_registry",
    "Dataset": "dataset",
    "Datastore": "datastore",
    "Environment": "environment",
    "Experiment": "experiment",
    "Image": "image",
    "Keyvault": "keyvault",
    "LinkedService": "linked_service",
    "Model": "model",
    "PrivateEndPoint": "private_endpoint",
    "PrivateEndPointConfig": "private_endpoint",
    "Run": "run",
    "RunConfiguration": "runconfig",
    "ScriptRun": "script_run",
    "ScriptRunConfig": "script_run_config",
    "SynapseWorkspaceLinkedServiceConfiguration": "linked_service",
    "Webservice": "webservice",
    "Workspace": "workspace",
    "attach_legacy_compute_target": "compute_target",
    "diagnostic_log": "util",
    "get_run": "run",
    "is_compute_target_prepared": "compute_target",
    "prepare_compute_target": "compute_target",
    "remove_legacy_compute_target": "compute_target",
}
_MODULES = frozenset(_HOMES.values()) | {"authentication", "compute", "conda_dependencies", "profile", "resource_configuration"}

__all__ = list(_HOMES)  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        # `__import__` and not importlib: the latter is another module to load.
        value = getattr(__import__(f"{__name__}.{home}", fromlist=[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return __import__(f"{__name__}.{name}", fromlist=["__name__"])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
