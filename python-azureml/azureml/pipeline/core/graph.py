"""Pipelines. Not part of Kluis; whatever is imported from here says so when it is used."""

from typing import Any

from azureml._kluis.unsupported import PIPELINE, absent


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = absent(__name__, name, PIPELINE)
    return globals()[name]
