"""A team's place: its vault, its experiments and runs, and the compute targets they run on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, List

from . import _native
from .exceptions import Conflict, UserErrorException
from .keyvault import Keyvault

if TYPE_CHECKING:
    from .experiment import Experiment
    from .run import Run

#: What the lookup of address, workspace and login may depend on. The native module reads no environment itself.
_ENVIRONMENT = (
    "HOME",
    "KLUIS_ADDR",
    "KLUIS_CA_SHA256",
    "KLUIS_CLIENT_ID",
    "KLUIS_CLIENT_SECRET",
    "KLUIS_CONFIG_DIR",
    "KLUIS_TOKEN",
    "KLUIS_WORKSPACE",
    "XDG_CONFIG_HOME",
)


class ComputeTarget:
    """A named queue of runs. ``local`` is the submitter's own machine and is not listed."""

    def __init__(self, view: dict[str, Any]) -> None:
        self.name: str = view["name"]
        #: Whether every member who may submit runs may use it.
        self.open: bool = view["open"]
        #: When an agent last asked for work, RFC 3339; ``None`` if never.
        self.last_seen: str | None = view.get("last_seen")
        #: How many runs wait for it.
        self.queued: int = view["queued"]

    def __repr__(self) -> str:
        return f"ComputeTarget(name={self.name!r}, queued={self.queued})"


class Workspace:
    """A workspace of the server that one is signed in to.

    Get one by :meth:`from_config`, :meth:`get` or :meth:`create`.
    """

    def __init__(
        self, name: str, *, _client: _native.Client, _found: dict[str, Any] | None = None, _view: dict[str, Any] | None = None
    ) -> None:
        self._name = name
        self._client = _client
        self._found = _found or {}
        self._view = _view

    # ---- finding one -----------------------------------------------------------------------------------------------

    @staticmethod
    def from_config(path: str | os.PathLike[str] | None = None) -> Workspace:
        """The workspace that a project's configuration file names.

        ``path`` is a file, or the folder where the search starts (the working directory if not given) and goes upward:
        ``.kluis/config.json``, then Azure ML's ``.azureml/config.json``, ``aml_config/config.json`` and ``config.json``.
        ``KLUIS_ADDR`` and ``KLUIS_WORKSPACE`` win over it; without a file the user's own settings count. A file trusts
        nothing by itself: a login is only ever used with the server that it was made for.
        """
        client, found = _connect(start=path)
        return Workspace._open(client, found)

    @staticmethod
    def get(
        name: str,
        *,
        address: str | None = None,
        ca_sha256: str | None = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
    ) -> Workspace:
        """A workspace by name, on the server that is configured or the one named here."""
        client, found = _connect(address=address, workspace=name, ca_sha256=ca_sha256)
        found = {**found, "subscription_id": subscription_id, "resource_group": resource_group}
        return Workspace._open(client, found)

    @staticmethod
    def create(
        name: str,
        *,
        exist_ok: bool = False,
        retention_days: int | None = None,
        require_declared_secrets: bool | None = None,
        enforce_validity: bool | None = None,
        address: str | None = None,
        ca_sha256: str | None = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
    ) -> Workspace:
        """Makes a workspace, whose owner one becomes. ``exist_ok=True`` returns the one that is there already.

        ``retention_days`` (7 to 90, 90 if not given) is how long a deleted secret can be recovered.
        ``require_declared_secrets=True`` refuses runs that do not declare what they read.
        ``enforce_validity=True`` refuses reads of a secret outside its validity.
        """
        client, found = _connect(address=address, workspace=name, ca_sha256=ca_sha256)
        found = {**found, "subscription_id": subscription_id, "resource_group": resource_group}
        settings = {
            "retention_days": retention_days,
            "require_declared_secrets": require_declared_secrets,
            "enforce_validity": enforce_validity,
        }
        try:
            view = client.workspace_create({"name": name, "settings": {k: v for k, v in settings.items() if v is not None}})
        except Conflict:
            if not exist_ok:
                raise
            return Workspace._open(client, found)
        return Workspace(view["name"], _client=client, _found=found, _view=view)

    @staticmethod
    def list(*, address: str | None = None, ca_sha256: str | None = None) -> dict[str, List[Workspace]]:
        """The workspaces that one is a member of, by name.

        Each entry is a list, as scripts know it from Azure ML; here it always has one element.
        """
        client, found = _connect(address=address, ca_sha256=ca_sha256)
        return {
            view["name"]: [Workspace(view["name"], _client=client, _found={**found, "workspace": view["name"]}, _view=view)]
            for view in client.workspace_list()
        }

    @classmethod
    def _open(cls, client: _native.Client, found: dict[str, Any]) -> Workspace:
        if found["workspace"] is None:
            raise UserErrorException(
                "The workspace configuration file .kluis/config.json could not be found in the folder or its parents, and "
                "neither KLUIS_WORKSPACE nor the user's own settings name a workspace; `kluis init` writes the file, "
                "Workspace.get(name) needs none"
            )
        view = client.workspace_show(found["workspace"])
        return cls(view["name"], _client=client, _found=found, _view=view)

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The workspace's name."""
        return self._name

    @property
    def address(self) -> str:
        """The server's address, ``https://HOST:PORT``."""
        return self._client.address

    @property
    def subscription_id(self) -> str | None:
        """What an Azure ML configuration file said. Echoed; it means nothing here."""
        return self._found.get("subscription_id")

    @property
    def resource_group(self) -> str | None:
        """What an Azure ML configuration file said. Echoed; it means nothing here."""
        return self._found.get("resource_group")

    def get_details(self) -> dict[str, Any]:
        """Id, name, address, settings, one's own role, and what an Azure ML configuration file said."""
        view = self._view = self._client.workspace_show(self.name)
        return {
            "id": view["id"],
            "name": view["name"],
            "address": self.address,
            "creationTime": view["created"],
            "settings": view["settings"],
            "role": view.get("role"),
            "subscriptionId": self.subscription_id,
            "resourceGroup": self.resource_group,
        }

    def write_config(self, path: str | os.PathLike[str] | None = None) -> str:
        """Writes ``.kluis/config.json`` below ``path`` (the working directory if not given); returns where.

        It holds an address, a certificate's fingerprint and a name, no secret: it is made to be committed.
        """
        directory = os.path.abspath(path if path is not None else os.curdir)
        return _native.write_config(directory, self._client.address, self._client.ca_sha256, self.name)

    # ---- what it has -----------------------------------------------------------------------------------------------

    def get_default_keyvault(self) -> Keyvault:
        """The workspace's vault. Asks the server nothing yet."""
        return Keyvault(self)

    @property
    def experiments(self) -> dict[str, Experiment]:
        """Its experiments, by name."""
        from .experiment import Experiment

        return {view["name"]: Experiment(self, view["name"]) for view in self._client.experiment_list(self.name)}

    @property
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """The compute targets that one may see, by name."""
        return {view["name"]: ComputeTarget(view) for view in self._client.compute_list()}

    def get_run(self, run_id: str) -> Run:
        """The run with this id."""
        from .run import Run

        return Run.get(self, run_id)

    def __repr__(self) -> str:
        return f"Workspace(name={self.name!r}, address={self.address!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Workspace):
            return NotImplemented
        return (self.name.lower(), self.address) == (other.name.lower(), other.address)

    def __hash__(self) -> int:
        return hash((self.name.lower(), self.address))


def _connect(
    start: str | os.PathLike[str] | None = None,
    address: str | None = None,
    workspace: str | None = None,
    ca_sha256: str | None = None,
) -> tuple[_native.Client, dict[str, Any]]:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    place = os.path.abspath(start if start is not None else os.curdir)
    return _native.connect(place, environment, address=address, workspace=workspace, ca_sha256=ca_sha256)
