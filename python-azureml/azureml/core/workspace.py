"""A team's place, as Azure ML's scripts open it. Over :class:`kluis.Workspace`.

Subscription and resource group are stored and echoed; they authorize nothing.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, List, NoReturn

import kluis
from azureml._kluis import unsupported
from azureml._kluis.calls import azure_errors
from azureml._kluis.connect import connect, from_config, open_workspace
from azureml._kluis.unsupported import not_here
from azureml.core.keyvault import Keyvault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azureml.core.compute_target import ComputeTarget
    from azureml.core.experiment import Experiment
    from azureml.core.run import Run

#: Said where nobody has named any: scripts build paths of them.
_NO_SUBSCRIPTION, _NO_GROUP = "00000000-0000-0000-0000-000000000000", "kluis"
_LOCATION = "kluis"
_AUTHENTICATE = "who one is, is Kluis's own login: `kluis login`"


class Workspace:
    """A workspace of the Kluis server that is configured (``KLUIS_ADDR``, the project's file, or the user's own settings)."""

    def __init__(
        self,
        subscription_id: str,
        resource_group: str,
        workspace_name: str,
        auth: Any = None,
        _location: str | None = None,
        _disable_service_check: bool = False,
        _workspace_id: str | None = None,
        sku: str = "basic",
        tags: Mapping[str, str] | None = None,
        _cloud: str = "AzureCloud",
    ) -> None:
        self._set_up(open_workspace(workspace_name, auth), subscription_id, resource_group)

    def _set_up(self, workspace: kluis.Workspace, subscription_id: str | None, resource_group: str | None) -> None:
        self._kluis_workspace = workspace
        self._subscription_id = subscription_id or workspace.subscription_id or _NO_SUBSCRIPTION
        self._resource_group = resource_group or workspace.resource_group or _NO_GROUP

    @classmethod
    def _over(
        cls, workspace: kluis.Workspace, subscription_id: str | None = None, resource_group: str | None = None
    ) -> Workspace:
        made = object.__new__(cls)
        made._set_up(workspace, subscription_id, resource_group)
        return made

    # ---- finding one -----------------------------------------------------------------------------------------------

    @staticmethod
    def from_config(
        path: str | os.PathLike[str] | None = None, auth: Any = None, _logger: Any = None, _file_name: str | None = None
    ) -> Workspace:
        """The workspace that a configuration file names: Kluis's ``.kluis/config.json``, else Azure ML's.

        ``path`` is a file, or the folder where the search starts and goes upward: ``.azureml/``, ``aml_config/`` and the
        folder itself, for ``config.json`` and ``project.json``, in either of the two shapes that Azure ML writes.
        """
        workspace, names = from_config(path, _file_name, auth)
        return Workspace._over(workspace) if names is None else Workspace._over(workspace, names[0], names[1])

    @staticmethod
    def get(
        name: str,
        auth: Any = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        cloud: str = "AzureCloud",
        id: str | None = None,
    ) -> Workspace:
        """A workspace by name."""
        return Workspace._over(open_workspace(name, auth), subscription_id, resource_group)

    @staticmethod
    @azure_errors
    def list(subscription_id: str, auth: Any = None, resource_group: str | None = None) -> dict[str, List[Workspace]]:
        """The workspaces that one is a member of: name to a list of one."""
        client, found = connect(auth)
        made = kluis.Workspace._all(client, found)
        return {workspace.name: [Workspace._over(workspace, subscription_id, resource_group)] for workspace in made}

    @staticmethod
    @azure_errors
    def create(
        name: str,
        auth: Any = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        create_resource_group: bool = True,
        sku: str = "basic",
        tags: Mapping[str, str] | None = None,
        friendly_name: str | None = None,
        storage_account: Any = None,
        key_vault: Any = None,
        app_insights: Any = None,
        container_registry: Any = None,
        adb_workspace: Any = None,
        primary_user_assigned_identity: Any = None,
        cmk_keyvault: Any = None,
        resource_cmk_uri: Any = None,
        hbi_workspace: bool = False,
        default_cpu_compute_target: Any = None,
        default_gpu_compute_target: Any = None,
        private_endpoint_config: Any = None,
        private_endpoint_auto_approval: bool = True,
        exist_ok: bool = False,
        show_output: bool = True,
        user_assigned_identity_for_cmk_encryption: Any = None,
        system_datastores_auth_mode: str = "accessKey",
        v1_legacy_mode: bool | None = None,
    ) -> Workspace:
        """Makes a workspace, whose owner one becomes. What is Azure's own among the arguments changes nothing."""
        client, found = connect(auth, name)
        made = kluis.Workspace._create(client, found, {"name": name}, exist_ok)
        return Workspace._over(made, subscription_id, resource_group)

    @staticmethod
    def setup() -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.setup", "`kluis up` makes a server with a workspace, `kluis init` a project's file")

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The workspace's name."""
        return self._kluis_workspace.name

    @property
    def subscription_id(self) -> str:
        """What a configuration file or the caller said. It means nothing here."""
        return self._subscription_id

    @property
    def resource_group(self) -> str:
        """What a configuration file or the caller said. It means nothing here."""
        return self._resource_group

    @property
    def location(self) -> str:
        """``kluis``: a server of one's own has no region."""
        return _LOCATION

    @property
    def sku(self) -> str:
        """``Basic``: there is one edition."""
        return "Basic"

    @property
    def tags(self) -> dict[str, str]:
        """Empty: workspaces have no tags."""
        return {}

    @property
    def discovery_url(self) -> str:
        """The server's address."""
        return self._kluis_workspace.address

    @property
    def _scope(self) -> str:
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    @azure_errors
    def get_details(self) -> dict[str, Any]:
        """What is known of it, under Azure ML's names."""
        known = self._kluis_workspace.get_details()
        return {
            **known,
            "id": self._scope,
            "type": "Microsoft.MachineLearningServices/workspaces",
            "location": self.location,
            "sku": self.sku,
            "subscriptionId": self.subscription_id,
            "resourceGroup": self.resource_group,
        }

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> None:
        """Writes ``.azureml/config.json`` below ``path``, as Azure ML's client does. It holds names and no secret."""
        folder = os.path.join(os.path.abspath(path if path is not None else os.curdir), ".azureml")
        name = file_name or "config.json"
        if os.path.basename(name) != name or name in (os.curdir, os.pardir):
            raise ValueError(f"{name!r} is not a file's name; a folder is given as path")
        os.makedirs(folder, exist_ok=True)
        target = os.path.join(folder, name)
        with open(f"{target}.new", "w", encoding="utf-8") as file:
            json.dump({"Id": None, "Scope": self._scope}, file)
        os.replace(f"{target}.new", target)

    # ---- what it has -----------------------------------------------------------------------------------------------

    def get_default_keyvault(self) -> Keyvault:
        """The workspace's vault. Asks the server nothing yet."""
        return Keyvault(self)

    @property
    @azure_errors
    def experiments(self) -> dict[str, Experiment]:
        """Its experiments, by name."""
        from azureml.core.experiment import Experiment

        found = self._kluis_workspace.experiments
        return {name: Experiment._over(experiment, self) for name, experiment in found.items()}

    @property
    @azure_errors
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """The compute targets that one may see, by name."""
        from azureml.core.compute_target import ComputeTarget

        found = self._kluis_workspace.compute_targets
        return {name: ComputeTarget._over(self, target) for name, target in found.items()}

    def get_run(self, run_id: str) -> Run:
        """The run with this id."""
        from azureml.core.run import Run

        return Run.get(self, run_id)

    # ---- what is not here ------------------------------------------------------------------------------------------

    @property
    def datasets(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.datasets", unsupported.DATA)

    @property
    def datastores(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.datastores", unsupported.DATA)

    @property
    def environments(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.environments", "make the Environment in code, and name an interpreter that is there already")

    @property
    def images(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.images", unsupported.SERVING)

    @property
    def linked_services(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.linked_services", "a secret for the other service's login")

    @property
    def models(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.models", unsupported.MODEL)

    @property
    def private_endpoints(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.private_endpoints", unsupported.NETWORK)

    @property
    def service_context(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.service_context", "the native API, docs/api-design.md")

    @property
    def webservices(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.webservices", unsupported.SERVING)

    def get_default_datastore(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.get_default_datastore", unsupported.DATA)

    def set_default_datastore(self, name: str) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.set_default_datastore", unsupported.DATA)

    def get_default_compute_target(self, type: str) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.get_default_compute_target", "workspace.compute_targets[name], or `kluis compute use NAME`")

    def get_mlflow_tracking_uri(self, _with_auth: bool = False) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("workspace.get_mlflow_tracking_uri", "an MLflow server of your own, with a secret for its token")

    def delete(self, delete_dependent_resources: bool = False, no_wait: bool = False) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.delete", f"`kluis workspace delete {self.name}`, which asks first")

    def update(
        self,
        friendly_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        image_build_compute: Any = None,
        service_managed_resources_settings: Any = None,
        primary_user_assigned_identity: Any = None,
        allow_public_access_when_behind_vnet: bool | None = None,
        v1_legacy_mode: bool | None = None,
    ) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.update", "a workspace has a name and members, and no description")

    def update_dependencies(self, container_registry: Any = None, force: bool = False) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.update_dependencies", "nothing: a workspace depends on no other service")

    def sync_keys(self, no_wait: bool = False) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.sync_keys", _AUTHENTICATE)

    def list_keys(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.list_keys", _AUTHENTICATE)

    def diagnose_workspace(self, diagnose_parameters: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.diagnose_workspace", "`kluis admin doctor`")

    def add_private_endpoint(
        self,
        private_endpoint_config: Any,
        private_endpoint_auto_approval: bool = True,
        location: str | None = None,
        show_output: bool = True,
        tags: Mapping[str, str] | None = None,
    ) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.add_private_endpoint", unsupported.NETWORK)

    def delete_private_endpoint_connection(self, private_endpoint_connection_name: str) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.delete_private_endpoint_connection", unsupported.NETWORK)

    def get_connection(self, name: str) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.get_connection", "a secret for the other service's login")

    def set_connection(self, name: str, category: str, target: str, authType: str, value: str) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.set_connection", "a secret for the other service's login")

    def list_connections(self, category: str | None = None, target: str | None = None) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.list_connections", "a secret for the other service's login")

    def delete_connection(self, name: str) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Workspace.delete_connection", "a secret for the other service's login")

    def __repr__(self) -> str:
        return (
            f"Workspace.create(name={self.name!r}, subscription_id={self.subscription_id!r}, "
            f"resource_group={self.resource_group!r})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workspace) and self._kluis_workspace == other._kluis_workspace

    def __hash__(self) -> int:
        return hash(self._kluis_workspace)
