"""Finding a conda environment of this machine by its name, without starting conda."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .exceptions import UserErrorException


def interpreter(environment: str) -> str:
    """The Python of the environment with this name or path."""
    for prefix in _prefixes(environment):
        python = os.path.join(prefix, "bin", "python")
        if os.path.isfile(python):
            return python
    raise UserErrorException(
        f"no conda environment {environment} was found on this machine; `conda env list` shows what there is, and "
        "environment.python.interpreter_path takes a path"
    )


def _prefixes(environment: str) -> Iterator[str]:
    if os.path.isabs(environment):
        yield environment
        return
    # conda writes down every environment that it makes.
    try:
        with open(os.path.expanduser("~/.conda/environments.txt"), encoding="utf-8") as known:
            yield from (line for line in known.read().splitlines() if os.path.basename(line) == environment)
    except OSError:
        pass
    executable = os.environ.get("CONDA_EXE")
    if executable:
        root = os.path.dirname(os.path.dirname(executable))
        yield root if environment == "base" else os.path.join(root, "envs", environment)
