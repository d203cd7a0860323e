"""Secrets for training runs: the laptop side and the run side.

Importing this package imports nothing else: each name below is loaded when it is first used, so that a script of a run
has its secret in hand a few milliseconds after the interpreter started.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._native import __version__ as __version__
    from .environment import Environment as Environment
    from .experiment import Experiment as Experiment
    from .keyvault import Keyvault as Keyvault
    from .run import Run as Run
    from .runconfig import RunConfiguration as RunConfiguration
    from .script_run_config import ScriptRunConfig as ScriptRunConfig
    from .workspace import ComputeTarget as ComputeTarget
    from .workspace import Workspace as Workspace

_HOMES = {
    "ComputeTarget": "workspace",
    "Environment": "environment",
    "Experiment": "experiment",
    "Keyvault": "keyvault",
    "Run": "run",
    "RunConfiguration": "runconfig",
    "ScriptRunConfig": "script_run_config",
    "Workspace": "workspace",
    "__version__": "_native",
}
_MODULES = ("environment", "exceptions", "experiment", "keyvault", "runconfig", "script_run_config", "testing", "workspace")

__all__ = [
    "ComputeTarget",
    "Environment",
    "Experiment",
    "Keyvault",
    "Run",
    "RunConfiguration",
    "ScriptRunConfig",
    "Workspace",
    "__version__",
]


def __getattr__(name: str) -> "Any":
    home = _HOMES.get(name)
    if home is not None:
        # `__import__` and not importlib: the latter is another module to load.
        value = getattr(__import__(f"{__name__}.{home}", fromlist=[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return __import__(f"{__name__}.{name}", fromlist=[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return sorted([*globals(), *__all__, *_MODULES])
