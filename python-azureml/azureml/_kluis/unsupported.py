"""What Azure ML has and Kluis has not: it can be imported, named and subclassed, and says what to use when it is called."""

from __future__ import annotations

from typing import Any, NoReturn


def not_here(what: str, instead: str) -> NotImplementedError:
    """The error, naming the alternative."""
    return NotImplementedError(f"{what} is not part of Kluis: {instead}")


class _Member:
    """An attribute of such a class: `Dataset.Tabular.from_delimited_files`. Reading it is no use of it; calling it is."""

    def __init__(self, what: str, instead: str) -> None:
        self._what, self._instead = what, instead

    def __getattr__(self, name: str) -> _Member:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Member(f"{self._what}.{name}", self._instead)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise not_here(self._what, self._instead)

    def __repr__(self) -> str:
        return f"<{self._what}, not part of Kluis>"


class _Absent(type):
    _instead = ""

    def __getattr__(cls, name: str) -> _Member:
        if name.startswith("_"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        return _Member(f"{cls.__name__}.{name}", cls._instead)

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise not_here(cls.__name__, cls._instead)


def absent(module: str, name: str, instead: str) -> Any:
    """A class of this name that can be imported, subclassed and asked for, and raises when it is called."""
    return _Absent(name, (), {"__module__": module, "__doc__": f"Not part of Kluis: {instead}", "_instead": instead})


def absent_function(module: str, name: str, instead: str) -> Any:
    """A function of this name that raises when it is called."""

    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise not_here(name, instead)

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = module, f"Not part of Kluis: {instead}"
    return function


#: What to use instead, by subject. The guide says the same at more length.
DATA = (
    "read the data from where it lies, with a secret for its password (Run.get_context().get_secret); small data travels with "
    "source_directory"
)
MODEL = (
    "what a run writes to ./outputs is kept with it (Run.get(ws, run_id).download_file); for a registry, MLflow's, with a secret "
    "for its token"
)
PIPELINE = "a script that submits runs and waits for them; or Airflow, Prefect, a makefile"
SWEEP = "child runs in a loop (run.child_run), or Optuna or Ray Tune inside the script"
SERVING = "the serving system of your choice; it fetches the model by Run.get(ws, run_id).download_file(...)"
COMPUTE = "`kluis compute create NAME` makes a queue, and `kluis agent --compute NAME` on a machine serves it"
SCRIPT = "ScriptRunConfig(source_directory, script=... or command=[...])"
NETWORK = "the server is your own: `kluis up --listen`, and your network's rules"
WIDGET = "run.wait_for_completion(show_output=True) shows the log, run.get_metrics() the metrics, and so does `kluis run`"
