"""The rarer things that a run does through its launcher: files, images, details, and the way back to its vault."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import IO, TYPE_CHECKING, Any, cast

from .exceptions import Forbidden, UserErrorException
from .experiment import Experiment
from .keyvault import Keyvault
from .workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._native import Broker
    from ._submitted import _SubmittedRun


def upload_file(broker: Broker, child: str | None, name: str, source: str | os.PathLike[str] | IO[bytes]) -> None:
    """Uploads a file, or what a stream holds."""
    if isinstance(source, (str, os.PathLike)):
        path = os.path.abspath(source)
        if not os.path.isfile(path):
            raise UserErrorException(f"there is no file {path} to upload as {name}")
        broker.upload(child, name, path)
        return
    # The launcher reads files; a stream becomes one for as long as that takes.
    with tempfile.NamedTemporaryFile(prefix="kluis-upload-", dir=os.environ.get("KLUIS_RUN_DIR")) as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        broker.upload(child, name, copy.name)


def upload_folder(broker: Broker, child: str | None, name: str, source: str | os.PathLike[str]) -> None:
    """Uploads a folder with everything in it."""
    path = os.path.abspath(source)
    if not os.path.isdir(path):
        raise UserErrorException(f"there is no folder {path} to upload as {name}")
    broker.upload(child, name, path)


def upload_image(run: _SubmittedRun, name: str, path: str | None, plot: Any) -> None:
    """Uploads an image file, or draws a plot and uploads that."""
    if (path is None) == (plot is None):
        raise UserErrorException("log_image needs a path or a plot, and not both")
    if path is not None:
        suffix = os.path.splitext(path)[1]
        run.upload_file(f"outputs/images/{name}{suffix}", path)
        return
    with tempfile.NamedTemporaryFile(prefix="kluis-plot-", suffix=".png", dir=os.environ.get("KLUIS_RUN_DIR")) as image:
        plot.savefig(image, format="png", bbox_inches="tight")
        image.flush()
        run.upload_file(f"outputs/images/{name}.png", image.name)


def details(run: _SubmittedRun) -> dict[str, Any]:
    """What a run knows of itself, in the spelling of :meth:`kluis.Run.get_details`."""
    context = run._known()
    known: dict[str, Any] = {
        "runId": run.id,
        "experiment": context["experiment"],
        "workspace": context["workspace"],
        "number": run.number,
        "attempt": context["attempt"],
        "node": context["node"],
        "nodes": context["nodes"],
        "submittedBy": context["submitter"],
    }
    known["status"] = run.get_status()
    known["tags"] = run.get_tags()
    return known


class _RunKeyvault(Keyvault):
    """The vault as a run reaches it: reading only, and only what the run may read."""

    def __init__(self, workspace: Workspace, broker: Broker) -> None:
        super().__init__(workspace)
        self._broker = broker

    def get_secret(self, name: str, version: str | None = None) -> str:
        if version is not None:
            raise Forbidden("a run reads the version pinned for it; leave the version out")
        return self._run().get_secret(name)

    def get_secrets(self, secrets: Sequence[str]) -> dict[str, str | None]:
        return self._run().get_secrets(secrets)

    def _run(self) -> _SubmittedRun:
        from ._submitted import current

        return current(os.fspath(self._broker.socket))


class _NoClient:
    """Stands where a laptop has its client. Whatever is asked of it, a run may not."""

    def __getattr__(self, operation: str) -> Any:
        noun = operation.split("_")[0]
        raise Forbidden(
            f"a run reads its secrets and reports its metrics and files; other requests about a {noun} are made where "
            "it was submitted"
        )


class _RunWorkspace(Workspace):
    def __init__(self, name: str, broker: Broker) -> None:
        self._set_up(name, cast(Any, _NoClient()))
        self._broker = broker

    def get_default_keyvault(self) -> Keyvault:
        return _RunKeyvault(self, self._broker)


def experiment(broker: Broker, context: dict[str, Any]) -> Experiment:
    """The run's experiment, whose workspace knows its vault: ``run.experiment.workspace.get_default_keyvault()``."""
    return Experiment(_RunWorkspace(context["workspace"], broker), context["experiment"])
