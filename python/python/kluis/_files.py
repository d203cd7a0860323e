"""A run's files, seen from outside: outputs and uploads, and the masked logs under the names that Azure ML gives them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .exceptions import UserErrorException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .run import Run

_USER_LOG = "user_logs/std_log.txt"
_SYSTEM_LOG = "system_logs/kluis.txt"


def names(run: Run) -> list[str]:
    """Every file, the logs among them."""
    outputs = run._client.run_outputs(run._workspace.name, run.id)
    return [*(output["path"] for output in outputs), _USER_LOG, _SYSTEM_LOG]


def download(run: Run, name: str, destination: str | os.PathLike[str] | None) -> None:
    """One file, to ``destination`` or to its own name in the working directory."""
    target = os.fspath(destination) if destination is not None else os.path.basename(name)
    if os.path.isdir(target):
        target = os.path.join(target, os.path.basename(name))
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    if name in (_USER_LOG, _SYSTEM_LOG):
        with open(target, "wb") as log:
            for record in run._client.run_logs(run._workspace.name, run.id, False, name == _SYSTEM_LOG):
                if record is not None:
                    log.write(record[3])
        return
    run._client.run_output_download(run._workspace.name, run.id, name, target)


def download_all(
    run: Run,
    prefix: str | None,
    directory: str | os.PathLike[str] | None,
    paths: Sequence[str] | None,
    append_prefix: bool,
) -> None:
    """Every file whose name starts with ``prefix``."""
    wanted = [name for name in names(run) if name.startswith(prefix or "")]
    if paths is not None:
        if len(paths) != len(wanted):
            raise UserErrorException(f"{len(paths)} output_paths for {len(wanted)} files")
        targets = list(paths)
    else:
        cut = 0 if append_prefix else len((prefix or "").rstrip("/")) + bool(prefix)
        targets = [_inside(name[cut:] or os.path.basename(name), directory) for name in wanted]
    for name, target in zip(wanted, targets):
        download(run, name, target)


def download_logs(run: Run, destination: str | os.PathLike[str] | None) -> list[str]:
    """Both logs; returns where they are."""
    written = []
    for name in (_USER_LOG, _SYSTEM_LOG):
        target = _inside(name, destination)
        download(run, name, target)
        written.append(target)
    return written


def _inside(name: str, directory: str | os.PathLike[str] | None) -> str:
    # A file's name comes from the run, which may be anybody's: it must not climb out of the folder.
    root = os.path.abspath(directory if directory is not None else os.curdir)
    target = os.path.normpath(os.path.join(root, name.lstrip("/")))
    if os.path.commonpath([root, target]) != root:
        raise UserErrorException("one of the run's files has a name that leads out of the folder; nothing more was written")
    return target
