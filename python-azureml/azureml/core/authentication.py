"""Azure ML's authentication classes, each a way to be somebody for Kluis.

They decide which credential a :class:`Workspace <azureml.core.Workspace>` is opened with; none is ever sent to another server
than the one that it was made for. Making one of these objects asks nobody anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from azureml._kluis.unsupported import not_here
from azureml.exceptions import AuthenticationException, UserErrorException

if TYPE_CHECKING:
    from datetime import datetime

#: What Azure ML's client asks a TokenAuthentication's function for. Functions that look at it find what they know.
_RESOURCE = "https://management.core.windows.net/"
_NO_TOKEN = (
    "requests to a Kluis server are signed in by its client. Where a program needs a token of its own, make one with `kluis "
    "admin client-secret create` and use TokenAuthentication or ServicePrincipalAuthentication"
)


class Audience(Enum):
    """What a token is for. For Kluis it makes no difference."""

    ARM = "ARM"
    AZUREML = "AZUREML"


class AccessToken(NamedTuple):
    """A token, and when it ends, in seconds since 1970; 0 when that is not known."""

    token: str
    expires_on: int


class AbstractAuthentication:
    """The base of all."""

    def __init__(self, cloud: str | None = None) -> None:
        self._cloud = cloud

    def get_authentication_header(self) -> dict[str, str]:
        """``{"Authorization": "Bearer ..."}``, where this way has a token of its own."""
        return {"Authorization": f"Bearer {self._token()}"}

    def get_token(self, *scopes: Any, **kwargs: Any) -> AccessToken:
        """The token, where this way has one of its own."""
        return AccessToken(self._token(), 0)

    def signed_session(self, session: Any = None) -> Any:
        """The session, with the header set."""
        if session is None:
            raise not_here("a session of its own", "signed_session(requests.Session())")
        session.headers.update(self.get_authentication_header())
        return session

    def _token(self) -> str:
        raise not_here(f"the token of {type(self).__name__}", _NO_TOKEN)

    def _login(self) -> Mapping[str, str] | None:
        """The variables that stand for this credential; an empty mapping is the stored login, ``None`` the run itself."""
        raise not_here(type(self).__name__, "one of the classes of azureml.core.authentication")

    def _sign_in(self) -> bool:
        """Makes the login that is missing, where this credential can. Whether there is one now."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class InteractiveLoginAuthentication(AbstractAuthentication):
    """The login that ``kluis login`` stored on this machine. Where there is none and somebody is there to read it (a
    terminal, a notebook), a code is shown, which is approved where that person is signed in already; it waits for that for
    ten minutes, and the login is stored. Elsewhere it raises and says how to make one.

    ``tenant_id`` is ignored. ``force=True`` does not sign in anew: ``kluis login`` does.
    """

    def __init__(self, force: bool = False, tenant_id: str | None = None, cloud: str | None = None) -> None:
        super().__init__(cloud)

    def _login(self) -> Mapping[str, str]:
        return {}

    def _sign_in(self) -> bool:
        if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
            return False
        import subprocess

        from kluis._local_agent import executable

        command = [executable(), "login", "--device-code"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as login:
            # A notebook shows what is written here, and not what a program of ours writes.
            for line in login.stderr or ():
                sys.stderr.write(line)
                sys.stderr.flush()
        return login.returncode == 0


class AzureCliAuthentication(AbstractAuthentication):
    """The login that ``kluis login`` stored on this machine, as that of ``az login`` was."""

    def __init__(self, cloud: str | None = None) -> None:
        super().__init__(cloud)

    def _login(self) -> Mapping[str, str]:
        return {}


class ServicePrincipalAuthentication(AbstractAuthentication):
    """A service principal: its id (``kluis admin principal create``) and client secret. The tenant is ignored."""

    def __init__(
        self,
        tenant_id: str | None,
        service_principal_id: str,
        service_principal_password: str,
        cloud: str = "AzureCloud",
        _enable_caching: bool = True,
    ) -> None:
        super().__init__(cloud)
        self._id, self._password = service_principal_id, service_principal_password

    def _login(self) -> Mapping[str, str]:
        for what, value in (("service_principal_id", self._id), ("service_principal_password", self._password)):
            if not isinstance(value, str) or not value:
                raise AuthenticationException(f"{what} is empty; is the environment variable set?")
        return {"KLUIS_CLIENT_ID": self._id, "KLUIS_CLIENT_SECRET": self._password}


class _Token(AbstractAuthentication):
    def _login(self) -> Mapping[str, str]:
        token = self._token()
        if not isinstance(token, str) or not token:
            raise AuthenticationException(f"{type(self).__name__} has no token; it takes a Kluis token")
        return {"KLUIS_TOKEN": token}


class TokenAuthentication(_Token):
    """A function that gives a Kluis token. It is asked when a workspace is opened."""

    def __init__(self, get_token_for_audience: Callable[[str], str], cloud: str | None = None) -> None:
        super().__init__(cloud)
        if not callable(get_token_for_audience):
            raise UserErrorException("get_token_for_audience must be a function that takes an audience and returns a token")
        self._get_token_for_audience = get_token_for_audience

    def get_token(self, audience: Any = Audience.ARM) -> str:  # type: ignore[override]
        """The token, as text."""
        if audience not in (Audience.ARM, Audience.AZUREML):
            raise ValueError(f"Unsupported audience {audience}. Supported values are : {Audience.ARM} and {Audience.AZUREML}")
        return self._token()

    def _token(self) -> str:
        return self._get_token_for_audience(_RESOURCE)


class ArmTokenAuthentication(_Token):
    """A Kluis token."""

    def __init__(self, arm_access_token: str, cloud: str = "None") -> None:
        super().__init__(cloud)
        self._arm_access_token = arm_access_token

    def update_arm_access_token(self, new_arm_access_token: str) -> None:
        """Uses another token for workspaces that are opened from now on."""
        self._arm_access_token = new_arm_access_token

    def _token(self) -> str:
        return self._arm_access_token


class MsiAuthentication(AbstractAuthentication):
    """Who this process is without anybody signing in: in a run the run; elsewhere the workload's identity that its
    environment gives it, ``KLUIS_CLIENT_ID`` and ``KLUIS_CLIENT_SECRET`` or ``KLUIS_TOKEN``.
    """

    def __init__(self, cloud: str | None = None, **kwargs: Any) -> None:
        super().__init__(cloud)

    def _login(self) -> Mapping[str, str] | None:
        if os.environ.get("KLUIS_RUN_SOCKET"):
            return None
        names = ("KLUIS_TOKEN", "KLUIS_CLIENT_ID", "KLUIS_CLIENT_SECRET")
        given = {name: os.environ[name] for name in names if os.environ.get(name)}
        if "KLUIS_TOKEN" in given or len(given) == 2:
            return given
        raise AuthenticationException(
            "MsiAuthentication: this process is not part of a run, and neither KLUIS_CLIENT_ID and KLUIS_CLIENT_SECRET nor "
            "KLUIS_TOKEN give it an identity"
        )


class AzureMLTokenAuthentication(AbstractAuthentication):
    """In a run: the run itself, whatever the token. Elsewhere a Kluis token."""

    def __init__(
        self,
        azureml_access_token: str,
        expiry_time: datetime | None = None,
        host: str | None = None,
        subscription_id: str | None = None,
        resource_group_name: str | None = None,
        workspace_name: str | None = None,
        experiment_name: str | None = None,
        run_id: str | None = None,
        user_email: str | None = None,
        experiment_id: str | None = None,
        cloud: str = "AzureCloud",
    ) -> None:
        super().__init__(cloud)
        self._azureml_access_token, self._expiry_time = azureml_access_token, expiry_time

    @classmethod
    def create(
        cls,
        azureml_access_token: str,
        expiry_time: datetime | None,
        host: str | None,
        subscription_id: str | None,
        resource_group_name: str | None,
        workspace_name: str | None,
        experiment_name: str | None,
        run_id: str | None,
        user_email: str | None = None,
        experiment_id: str | None = None,
    ) -> AzureMLTokenAuthentication:
        """The same as making one."""
        return cls(azureml_access_token, expiry_time, host)

    @property
    def token(self) -> str:
        """The token."""
        return self._azureml_access_token

    @property
    def expiry_time(self) -> datetime | None:
        """When it ends, if that was said."""
        return self._expiry_time

    def set_token(self, token: str, expiry_time: datetime | None) -> None:
        """Uses another token."""
        self._azureml_access_token, self._expiry_time = token, expiry_time

    def get_authentication_header(self) -> dict[str, str]:
        """``{"Authorization": "Bearer ..."}``."""
        return super().get_authentication_header()

    def _token(self) -> str:
        return self._azureml_access_token

    def _login(self) -> Mapping[str, str] | None:
        return None if os.environ.get("KLUIS_RUN_SOCKET") else {"KLUIS_TOKEN": self._azureml_access_token}


__all__ = [
    "AbstractAuthentication",
    "AccessToken",
    "ArmTokenAuthentication",
    "Audience",
    "AuthenticationException",
    "AzureCliAuthentication",
    "AzureMLTokenAuthentication",
    "InteractiveLoginAuthentication",
    "MsiAuthentication",
    "ServicePrincipalAuthentication",
    "TokenAuthentication",
    "UserErrorException",
]
