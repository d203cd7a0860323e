"""Kluis's errors in Azure ML's words. Scripts catch classes and compare ``status_code`` and ``message``; Kluis's own error,
which says what to do, stays visible as the cause.
"""

from __future__ import annotations

import json

from azureml.exceptions import (
    ActivityFailedException,
    AuthenticationException,
    RunEnvironmentException,
    ServiceException,
    UserErrorException,
)
from kluis import exceptions as kluis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

#: The code that Azure ML's services give for whatever the caller can put right.
_USER_ERROR, _SERVICE_ERROR = "UserError", "ServiceError"


def translated(error: BaseException) -> Optional[Exception]:
    """The error that Azure ML's client would have raised; ``None`` for one that is not Kluis's."""
    if isinstance(error, kluis.ActivityFailedException):
        known = error.error_details.get("error") or {"error": {"message": error.message}}
        return ActivityFailedException(error_details=json.dumps(known, indent=4))
    if isinstance(error, kluis.RunEnvironmentException):
        return RunEnvironmentException(message=error.message)
    if isinstance(error, (kluis.Unauthenticated, kluis.Untrusted)):
        return AuthenticationException(error.message)
    if isinstance(error, kluis.Forbidden):
        return UserErrorException(error.message)
    if isinstance(error, kluis.ServiceException):
        status = error.status_code or 500
        code = _USER_ERROR if status < 500 else _SERVICE_ERROR
        return ServiceException.made(status, code, error.message)
    if isinstance(error, kluis.KluisException):
        return UserErrorException(error.message)
    return None


def secret_error(error: BaseException, name: str) -> Optional[Exception]:
    """The same for a read of one secret: what is missing or deleted is not found, in the words that scripts compare."""
    if isinstance(error, (kluis.SecretNotFound, kluis.SecretDeleted)):
        return ServiceException.made(404, _USER_ERROR, f"Secret {name} not found.")
    return translated(error)
