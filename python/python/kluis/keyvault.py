"""The workspace's vault: set once, read by name. Values are plain ``str`` going in and coming out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .exceptions import SecretNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from .workspace import Workspace


class Keyvault:
    """The secrets of a workspace, as the signed-in user may see them.

    Take a value from the environment, a prompt or a file, never from code: what stands in a script ends up in its
    repository and in the snapshot of every run.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def _client(self) -> Any:
        return self._workspace._client

    # ---- setting ---------------------------------------------------------------------------------------------------

    def set_secret(
        self,
        name: str,
        value: str,
        content_type: str | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        not_before: datetime | None = None,
        expires: datetime | None = None,
    ) -> None:
        """Sets a secret, or gives an existing one a new version.

        The value is text of at most 25,600 bytes; ``content_type`` is a hint for readers. ``not_before`` and ``expires``
        inform; they refuse a read only where the workspace says so.
        """
        _check(value)
        attributes = _attributes(content_type, tags, not_before, expires)
        self._client.secret_set(self._workspace.name, name, value, attributes)

    def set_secrets(self, secrets_batch: Mapping[str, str]) -> None:
        """Sets several: all of them or, when one is refused, none."""
        for name, value in secrets_batch.items():
            _check(value, name)
        self._client.secrets_set(self._workspace.name, list(secrets_batch.items()))

    # ---- reading ---------------------------------------------------------------------------------------------------

    def get_secret(self, name: str, version: str | None = None) -> str:
        """The value: the current version's, or that of the version named."""
        value: str = self._client.secret_get(self._workspace.name, name, version)
        return value

    def get_secrets(self, secrets: Sequence[str]) -> dict[str, str | None]:
        """Several values in one go: name, as asked, to value; a secret that does not exist is ``None``."""
        if isinstance(secrets, str):
            raise TypeError("get_secrets takes a list of names; for one secret use get_secret")
        values: dict[str, str | None] = self._client.secrets_get(self._workspace.name, list(secrets))
        return values

    def get_secret_content_type(self, name: str) -> str | None:
        """The current version's content type. Reads no value."""
        for version in self.list_secret_versions(name):
            if version["current"]:
                content_type: str | None = version["content_type"]
                return content_type
        raise SecretNotFound(f"there is no secret `{name}` in the workspace {self._workspace.name}")

    async def aget_secret(self, name: str, version: str | None = None) -> str:
        """:meth:`get_secret` without blocking the event loop. Cancelling it ends the read within a moment."""
        from ._async import call

        return await call(self.get_secret, name, version)

    async def aget_secrets(self, secrets: Sequence[str]) -> dict[str, str | None]:
        """:meth:`get_secrets` without blocking the event loop."""
        from ._async import call

        return await call(self.get_secrets, secrets)

    async def aget_secret_content_type(self, name: str) -> str | None:
        """:meth:`get_secret_content_type` without blocking the event loop."""
        from ._async import call

        return await call(self.get_secret_content_type, name)

    async def alist_secrets(self) -> list[dict[str, str]]:
        """:meth:`list_secrets` without blocking the event loop."""
        from ._async import call

        return await call(self.list_secrets)

    async def alist_secret_versions(self, name: str) -> list[dict[str, Any]]:
        """:meth:`list_secret_versions` without blocking the event loop."""
        from ._async import call

        return await call(self.list_secret_versions, name)

    def list_secrets(self) -> list[dict[str, str]]:
        """The names, each as ``{"name": ...}``; :meth:`list_secret_versions` has more."""
        return [{"name": view["name"]} for view in self._client.secret_list(self._workspace.name)]

    def list_secret_versions(self, name: str) -> list[dict[str, Any]]:
        """The versions of a secret, newest first, without values.

        Each has ``name``, ``version``, ``current``, ``enabled``, ``content_type``, ``tags``, ``not_before``, ``expires``,
        ``created`` and ``updated``; times are RFC 3339.
        """
        views = self._client.secret_versions(self._workspace.name, name)
        return [_summary(view) for view in views]

    # ---- deleting --------------------------------------------------------------------------------------------------

    def delete_secret(self, name: str) -> None:
        """Deletes a secret. It can be recovered until the workspace's retention is over; its name stays taken."""
        self._client.secret_delete(self._workspace.name, name)

    def delete_secrets(self, secrets: Sequence[str]) -> None:
        """Deletes one after the other and stops at the first that is refused."""
        if isinstance(secrets, str):
            raise TypeError("delete_secrets takes a list of names; for one secret use delete_secret")
        for name in secrets:
            self.delete_secret(name)

    def recover_secret(self, name: str) -> None:
        """Brings a deleted secret back."""
        self._client.secret_recover(self._workspace.name, name)

    def purge_secret(self, name: str) -> None:
        """Ends a deleted secret for good; its name is free again."""
        self._client.secret_purge(self._workspace.name, name)

    def __repr__(self) -> str:
        return f"Keyvault(workspace={self._workspace.name!r})"


def _check(value: object, name: str | None = None) -> None:
    of = "" if name is None else f" of {name!r}"
    if value is None:
        raise ValueError(f"value{of} is None; is the environment variable set?")
    if not isinstance(value, str):
        raise TypeError(f"value{of} must be a str, not {type(value).__name__}")


def _attributes(
    content_type: str | None, tags: Mapping[str, str] | None, not_before: datetime | None, expires: datetime | None
) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if content_type is not None:
        # Azure ML's callers give members of an enumeration here.
        attributes["content_type"] = str(getattr(content_type, "value", content_type))
    if tags:
        attributes["tags"] = dict(tags)
    for key, moment in (("not_before", not_before), ("expires", expires)):
        if moment is not None:
            if moment.tzinfo is None:
                raise ValueError(f"{key} needs a time zone: datetime.now(timezone.utc) + timedelta(...)")
            attributes[key] = moment.isoformat()
    return attributes


def _summary(view: dict[str, Any]) -> dict[str, Any]:
    attributes = view["attributes"]
    return {
        "name": view["name"],
        "version": view["version"],
        "current": view["current"],
        "enabled": attributes["enabled"],
        "content_type": attributes.get("content_type"),
        "tags": dict(attributes.get("tags") or {}),
        "not_before": attributes.get("not_before"),
        "expires": attributes.get("expires"),
        "created": view["created"],
        "updated": view["updated"],
    }
