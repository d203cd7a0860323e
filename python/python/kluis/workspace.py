"""A team's place: its vault, its experiments and runs, and the compute targets they run on."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, List

from . import _native
from .exceptions import Conflict, Unauthenticated, UserErrorException
from .keyvault import Keyvault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .experiment import Experiment
    from .run import Run

#: The credentials among what :data:`_ENVIRONMENT` lists.
_CREDENTIALS = ("KLUIS_TOKEN", "KLUIS_CLIENT_ID", "KLUIS_CLIENT_SECRET")

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

    Get one by :meth:`from_config`, :meth:`get` or :meth:`create`. Arguments that mean something to Azure only
    (subscription, resource group, ``auth`` and the like) are accepted, so that old scripts run as they are. Subscription
    and resource group are echoed; who one is, is decided by Kluis's own login.
    """

    def __init__(
        self,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        workspace_name: str | None = None,
        auth: object = None,
        _location: str | None = None,
        _disable_service_check: bool = False,
        _workspace_id: str | None = None,
        sku: str = "basic",
        tags: Mapping[str, str] | None = None,
        _cloud: str = "AzureCloud",
        *,
        address: str | None = None,
        ca_sha256: str | None = None,
    ) -> None:
        """The same as :meth:`get`, in the form that Azure ML's scripts know."""
        if workspace_name is None:
            raise TypeError("Workspace needs workspace_name; Workspace.from_config() finds it in the project's file")
        client, found = _connect(address=address, workspace=workspace_name, ca_sha256=ca_sha256)
        view = client.workspace_show(workspace_name)
        self._set_up(view["name"], client, {**found, **_azure(subscription_id, resource_group)}, view)

    def _set_up(
        self, name: str, client: _native.Client, found: dict[str, Any] | None = None, view: dict[str, Any] | None = None
    ) -> None:
        self._name, self._client, self._found, self._view = name, client, found or {}, view

    @classmethod
    def _made(
        cls, name: str, client: _native.Client, found: dict[str, Any] | None = None, view: dict[str, Any] | None = None
    ) -> Workspace:
        workspace = object.__new__(cls)
        workspace._set_up(name, client, found, view)
        return workspace

    # ---- finding one -----------------------------------------------------------------------------------------------

    @staticmethod
    def from_config(
        path: str | os.PathLike[str] | None = None, auth: object = None, _logger: object = None, _file_name: str | None = None
    ) -> Workspace:
        """The workspace that a project's configuration file names.

        ``path`` is a file, or the folder where the search starts (the working directory if not given) and goes upward:
        ``.kluis/config.json``, then Azure ML's ``.azureml/config.json``, ``aml_config/config.json`` and ``config.json``.
        ``KLUIS_ADDR`` and ``KLUIS_WORKSPACE`` win over it; without a file the user's own settings count. A file trusts
        nothing by itself: a login is only ever used with the server that it was made for.
        """
        if _file_name is not None:
            path = _find_file(path, _file_name)
        client, found = _connect(start=path)
        return Workspace._open(client, found)

    @staticmethod
    def get(
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        cloud: str = "AzureCloud",
        id: str | None = None,
        *,
        address: str | None = None,
        ca_sha256: str | None = None,
    ) -> Workspace:
        """A workspace by name, on the server that is configured or the one named here."""
        client, found = _connect(address=address, workspace=name, ca_sha256=ca_sha256)
        return Workspace._open(client, {**found, **_azure(subscription_id, resource_group)})

    @staticmethod
    def create(
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        create_resource_group: bool = True,
        sku: str = "basic",
        tags: Mapping[str, str] | None = None,
        friendly_name: str | None = None,
        *,
        exist_ok: bool = False,
        show_output: bool = True,
        retention_days: int | None = None,
        require_declared_secrets: bool | None = None,
        enforce_validity: bool | None = None,
        address: str | None = None,
        ca_sha256: str | None = None,
    ) -> Workspace:
        """Makes a workspace, whose owner one becomes. ``exist_ok=True`` returns the one that is there already.

        ``retention_days`` (7 to 90, 90 if not given) is how long a deleted secret can be recovered.
        ``require_declared_secrets=True`` refuses runs that do not declare what they read.
        ``enforce_validity=True`` refuses reads of a secret outside its validity.
        """
        client, found = _connect(address=address, workspace=name, ca_sha256=ca_sha256)
        settings = {
            "retention_days": retention_days,
            "require_declared_secrets": require_declared_secrets,
            "enforce_validity": enforce_validity,
        }
        body = {"name": name, "settings": {k: v for k, v in settings.items() if v is not None}}
        return Workspace._create(client, {**found, **_azure(subscription_id, resource_group)}, body, exist_ok)

    @classmethod
    def _create(cls, client: _native.Client, found: dict[str, Any], body: dict[str, Any], exist_ok: bool) -> Workspace:
        try:
            view = client.workspace_create(body)
        except Conflict:
            if not exist_ok:
                raise
            return cls._open(client, found)
        return cls._made(view["name"], client, found, view)

    @staticmethod
    def list(
        subscription_id: str | None = None,
        auth: object = None,
        resource_group: str | None = None,
        *,
        address: str | None = None,
        ca_sha256: str | None = None,
    ) -> dict[str, List[Workspace]]:
        """The workspaces that one is a member of, by name.

        Each entry is a list, as scripts know it from Azure ML; here it always has one element.
        """
        client, found = _connect(address=address, ca_sha256=ca_sha256)
        return {workspace.name: [workspace] for workspace in Workspace._all(client, found)}

    @classmethod
    def _all(cls, client: _native.Client, found: dict[str, Any]) -> List[Workspace]:
        return [
            cls._made(view["name"], client, {**found, "workspace": view["name"]}, view) for view in client.workspace_list()
        ]

    @classmethod
    def _open(cls, client: _native.Client, found: dict[str, Any]) -> Workspace:
        if found["workspace"] is None:
            raise UserErrorException(
                "The workspace configuration file .kluis/config.json could not be found in the folder or its parents, and "
                "neither KLUIS_WORKSPACE nor the user's own settings name a workspace; `kluis init` writes the file, "
                "Workspace.get(name) needs none"
            )
        view = client.workspace_show(found["workspace"])
        return cls._made(view["name"], client, found, view)

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

    @property
    def discovery_url(self) -> str:
        """The same as :attr:`address`."""
        return self.address

    @property
    def location(self) -> None:
        """``None``: a server of one's own has no region."""
        return None

    @property
    def sku(self) -> None:
        """``None``: there is one edition."""
        return None

    @property
    def tags(self) -> dict[str, str]:
        """Empty: workspaces have no tags."""
        return {}

    def get_details(self) -> dict[str, Any]:
        """Id, name, address, settings, one's own role, and what an Azure ML configuration file said."""
        view = self._view = self._client.workspace_show(self.name)
        return {
            "id": view["id"],
            "workspaceid": view["id"],
            "name": view["name"],
            "friendlyName": view["name"],
            "address": self.address,
            "creationTime": view["created"],
            "settings": view["settings"],
            "role": view.get("role"),
            "subscriptionId": self.subscription_id,
            "resourceGroup": self.resource_group,
            "location": self.location,
            "sku": self.sku,
            "tags": self.tags,
            "discoveryUrl": self.discovery_url,
        }

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> str:
        """Writes ``.kluis/config.json`` below ``path`` (the working directory if not given); returns where.

        It holds an address, a certificate's fingerprint and a name, no secret: it is made to be committed. A file with
        another ``file_name`` is found by ``from_config(_file_name=...)`` only.
        """
        directory = os.path.abspath(path if path is not None else os.curdir)
        known = (self._client.address, self._client.ca_sha256, self.name)
        if file_name in (None, "config.json"):
            return os.fspath(_native.write_config(directory, *known))
        assert file_name is not None
        _check_file_name(file_name)
        target = os.path.join(directory, ".kluis", file_name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(f"{target}.new", "w", encoding="utf-8") as file:
            json.dump(dict(zip(("address", "ca_sha256", "workspace"), known)), file, indent=2)
            file.write("\n")
        os.replace(f"{target}.new", target)
        return target

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
    login: Mapping[str, str] | None = None,
) -> tuple[_native.Client, dict[str, Any]]:
    """``login`` stands in the place of the environment's credentials: a token or a client's id and secret, under the names
    of their variables; empty, it is the login stored on this machine and no other.
    """
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    if login is not None:
        environment = {**{name: value for name, value in environment.items() if name not in _CREDENTIALS}, **login}
    place = os.path.abspath(start if start is not None else os.curdir)
    client, found = _native.connect(place, environment, address=address, workspace=workspace, ca_sha256=ca_sha256)
    if login and not client.credential_from_environment:
        # The stored login of somebody else must not stand in for the one that was asked for.
        raise Unauthenticated(
            f"the login that was given was not used: it is only sent to an address given in KLUIS_ADDR or in the call, and "
            f"{client.address} was found in a file"
        )
    return client, found if login is None else {**found, "login": dict(login)}


def _azure(subscription_id: str | None, resource_group: str | None) -> dict[str, Any]:
    return {"subscription_id": subscription_id, "resource_group": resource_group}


def _check_file_name(name: str) -> None:
    if not name or os.path.basename(name) != name or name in (os.curdir, os.pardir):
        raise UserErrorException(f"{name!r} is not a file's name; a folder is given as path")


def _find_file(start: str | os.PathLike[str] | None, name: str) -> str:
    """A configuration file with a name of its own, looked for where those with the usual names are."""
    _check_file_name(name)
    first = folder = os.path.abspath(start if start is not None else os.curdir)
    while True:
        for inner in (".kluis", ".azureml", "aml_config", ""):
            candidate = os.path.join(folder, inner, name)
            if os.path.isfile(candidate):
                return candidate
        above = os.path.dirname(folder)
        if above == folder:
            raise UserErrorException(f"The workspace configuration file {name} could not be found in {first} or its parents")
        folder = above
