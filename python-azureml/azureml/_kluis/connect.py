"""From a configuration file and an authentication object to a workspace of Kluis."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import kluis
from azureml._kluis.calls import azure_errors
from azureml.core.authentication import AbstractAuthentication
from azureml.exceptions import AuthenticationException, UserErrorException, WorkspaceException
from kluis.exceptions import NotFound
from kluis.exceptions import UserErrorException as Unconfigured
from kluis.workspace import _connect

if TYPE_CHECKING:
    from kluis._native import Client

#: The login of a process that is part of a run: the run itself.
_THE_RUN: Mapping[str, str] = {"": ""}
_OURS = os.path.join(".kluis", "config.json")
#: Where Azure ML's client looks in each folder, and for which names.
_FOLDERS, _NAMES = (".azureml", "aml_config", ""), ("config.json", "project.json")
_SCOPE = re.compile(
    r"/subscriptions/(?P<subscription_id>[^/]+)/resourceGroups/(?P<resource_group>[^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/(?P<workspace_name>[^/]+)/?",
    re.IGNORECASE,
)


class AzureNames(NamedTuple):
    """Where a configuration file says that a workspace lies. For Kluis only the last of them means something."""

    subscription_id: str
    resource_group: str
    workspace_name: str


def find_config(path: str | os.PathLike[str] | None, file_name: str | None) -> AzureNames | str | None:
    """What the project says: Azure's names, or the path of a file of Kluis's own; ``None`` where there is neither.

    Kluis's own file wins, in the folder and all above it, unless the caller names a file.
    """
    start = os.path.abspath(path if path is not None else os.curdir)
    if os.path.isfile(start):
        return _read(start) or start
    if not os.path.isdir(start):
        raise UserErrorException(f"{start} is neither a folder nor a configuration file")
    if file_name is None:
        for folder in _upward(start):
            if os.path.isfile(ours := os.path.join(folder, _OURS)):
                return ours
    for folder in _upward(start):
        for inner in (".kluis", *_FOLDERS) if file_name is not None else _FOLDERS:
            for name in (file_name,) if file_name is not None else _NAMES:
                candidate = os.path.join(folder, inner, name)
                if os.path.isfile(candidate):
                    found = _read(candidate)
                    if found is not None:
                        return found
                    if file_name is not None:
                        return candidate
                    if inner:
                        raise UserErrorException(f"{candidate} has neither `workspace_name` nor `Scope`")
                    # A bare config.json is a name that many programs use.
    if file_name is not None:
        raise UserErrorException(
            f"The workspace configuration file {file_name}, could not be found in {start} or its parent directories."
        )
    return None


def _upward(folder: str) -> Iterator[str]:
    while True:
        yield folder
        above = os.path.dirname(folder)
        if above == folder:
            return
        folder = above


def _read(path: str) -> AzureNames | None:
    # Editors on Windows lead with a byte order mark.
    with open(path, encoding="utf-8-sig") as file:
        try:
            content = json.load(file)
        except ValueError as error:
            at = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "not UTF-8"
            if os.path.basename(os.path.dirname(path)) in (".azureml", "aml_config"):
                raise UserErrorException(f"{path} is not JSON ({at})") from None
            return None
    if not isinstance(content, dict):
        return None
    scope = content.get("Scope")
    if isinstance(scope, str):
        parts = _SCOPE.fullmatch(scope)
        if parts is None:
            raise UserErrorException(f"`Scope` in {path} is not the path of a workspace")
        return AzureNames(**parts.groupdict())
    name = content.get("workspace_name")
    if not isinstance(name, str):
        return None
    return AzureNames(str(content.get("subscription_id") or ""), str(content.get("resource_group") or ""), name)


def from_config(path: str | os.PathLike[str] | None, file_name: str | None, auth: object) -> tuple[kluis.Workspace, AzureNames | None]:
    """The workspace of the project, and what Azure's file says of it."""
    found = find_config(path, file_name)
    if isinstance(found, AzureNames):
        return open_workspace(os.environ.get("KLUIS_WORKSPACE") or found.workspace_name, auth), found
    return open_workspace(None, auth, found), None


@azure_errors
def open_workspace(name: str | None, auth: object, start: str | None = None) -> kluis.Workspace:
    """The workspace, by whatever way of signing in was given; ``None`` is what the configuration names."""
    login = _login(auth)
    if login is _THE_RUN:
        return _of_the_run(name)
    client, found = _client(auth, login, name, start)
    try:
        return kluis.Workspace._open(client, found)
    except NotFound as error:
        raise WorkspaceException(f"{found['workspace']}, asked of {client.address}: {error.message}") from error


@azure_errors
def connect(auth: object, name: str | None = None) -> tuple[Client, dict[str, Any]]:
    """A client of the server, signed in by the way that was given."""
    login = _login(auth)
    if login is _THE_RUN:
        raise UserErrorException("a run reaches its own workspace only, and makes and lists none")
    return _client(auth, login, name, None)


def _login(auth: object) -> Mapping[str, str] | None:
    if auth is None:
        return None
    if not isinstance(auth, AbstractAuthentication):
        raise UserErrorException(
            f"auth is a {type(auth).__name__}; it takes an object of azureml.core.authentication, or nothing for the default login"
        )
    login = auth._login()
    return _THE_RUN if login is None else login


def _client(
    auth: object, login: Mapping[str, str] | None, name: str | None, start: str | None
) -> tuple[Client, dict[str, Any]]:
    try:
        return _connect(start=start or _our_file(), workspace=name, login=login)
    except Unconfigured as error:
        if login is None or login:
            raise
        if isinstance(auth, AbstractAuthentication) and auth._sign_in():
            return _connect(start=start or _our_file(), workspace=name, login=login)
        # The stored login was asked for. Without one, or with no server known at all, this is what is missing.
        raise AuthenticationException(
            f"{type(auth).__name__} is the login that is stored on this machine: {error.message}. To sign in: `kluis login CODE` "
            "with an invitation, or `kluis login --device-code URL --ca-sha256 HEX`, which is approved on another machine"
        ) from error


def _our_file() -> str:
    """Kluis's own project file if there is one, for its address; else a place where no project's file lies."""
    for folder in _upward(os.getcwd()):
        if os.path.isfile(ours := os.path.join(folder, _OURS)):
            return ours
    return os.path.abspath(os.sep)


def _of_the_run(name: str | None) -> kluis.Workspace:
    from kluis._submitted import current

    workspace = current(os.environ["KLUIS_RUN_SOCKET"]).experiment.workspace
    if name is not None and name.lower() != workspace.name.lower():
        raise UserErrorException(f"a run reaches its own workspace {workspace.name} only, not {name}")
    return workspace
