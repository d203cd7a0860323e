"""The workspace's vault, with Azure ML's signatures and answers. Over :class:`kluis.Keyvault`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azureml._kluis.batch import get_secrets
from azureml._kluis.calls import azure_errors
from azureml._kluis.errors import secret_error
from azureml._restclient.models.credential_enums import KeyVaultContentType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import kluis

    from azureml.core.workspace import Workspace


class Keyvault:
    """The secrets of a workspace. Take a value from the environment, a prompt or a file, never from code."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._vault: kluis.Keyvault = workspace._kluis_workspace.get_default_keyvault()

    @azure_errors
    def set_secret(
        self, name: str, value: Any, content_type: KeyVaultContentType | str = KeyVaultContentType.not_provided
    ) -> None:
        """Sets a secret, or gives an existing one a new value. A number becomes its digits; ``None`` is refused."""
        given = None if content_type == KeyVaultContentType.not_provided else content_type
        self._vault.set_secret(name, _text(value), given)

    @azure_errors
    def set_secrets(self, secrets_batch: Mapping[str, Any]) -> None:
        """Sets several: all of them or, when one is refused, none."""
        self._vault.set_secrets({name: _text(value, name) for name, value in secrets_batch.items()})

    def get_secret(self, name: str) -> str:
        """The value. A secret that does not exist is a ``ServiceException`` with ``status_code`` 404."""
        try:
            return self._vault.get_secret(name)
        except Exception as error:
            other = secret_error(error, name)
            if other is None:
                raise
            raise other from error

    @azure_errors
    def get_secrets(self, secrets: Sequence[str]) -> dict[str, str | None]:
        """Several values: name, as asked, to value; what does not exist is ``None``."""
        return get_secrets(secrets, self._vault.get_secrets, self._vault.get_secret)

    def get_secret_content_type(self, name: str) -> str:
        """The content type. Reads no value."""
        try:
            return self._vault.get_secret_content_type(name) or KeyVaultContentType.not_provided.value
        except Exception as error:
            other = secret_error(error, name)
            if other is None:
                raise
            raise other from error

    @azure_errors
    def list_secrets(self) -> list[dict[str, str]]:
        """The names, each as ``{"name": ...}``."""
        return self._vault.list_secrets()

    def delete_secret(self, name: str) -> None:
        """Deletes a secret. Kluis can recover it until the workspace's retention is over: ``kluis secret recover``."""
        try:
            self._vault.delete_secret(name)
        except Exception as error:
            other = secret_error(error, name)
            if other is None:
                raise
            raise other from error

    def delete_secrets(self, secrets: Sequence[str]) -> None:
        """Deletes one after the other and stops at the first that is refused."""
        for name in secrets:
            self.delete_secret(name)


def _text(value: object, name: str | None = None) -> str:
    if value is None:
        of = "" if name is None else f" of {name!r}"
        raise ValueError(f"value{of} is None; is the environment variable set?")
    if isinstance(value, (str, int, float)):
        return str(value)
    raise TypeError(f"a secret's value is text or a number, not a {type(value).__name__}")
