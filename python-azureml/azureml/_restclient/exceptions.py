"""The errors of a service's answer. The same classes as in :mod:`azureml.exceptions`: scripts catch either."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ClientException(Exception):
    """The base of a client's errors."""


class HttpOperationError(ClientException):
    """A request that was answered with an error."""


class ErrorResponseException(HttpOperationError):
    """The same, with a body that says more."""


class AzureMLRestClientException(ErrorResponseException):
    """The same, raised by Azure ML's client."""


class ServiceException(AzureMLRestClientException):
    """The service refused or failed: ``status_code``, and ``message`` as ``(code) text``."""

    def __init__(self, error_response_exception: Any, **kwargs: Any) -> None:
        message = getattr(error_response_exception, "message", None) or str(error_response_exception)
        super().__init__(message)
        self.message: str = message
        self.inner_exception = error_response_exception
        self.response = getattr(error_response_exception, "response", None)
        self.error = getattr(error_response_exception, "error", None)
        self.details: list[Any] = []
        status = getattr(error_response_exception, "status_code", None)
        self.status_code: int = status if status is not None else getattr(self.response, "status_code", None) or 500

    @classmethod
    def made(cls, status_code: int, code: str, message: str) -> ServiceException:
        """From what Kluis knows of it."""
        error = cls(f"({code}) {message}")
        error.status_code = status_code
        return error

    def __str__(self) -> str:
        return f"{type(self).__name__}:\n\tCode: {self.status_code}\n\tMessage: {self.message}\n\tDetails:\n"

    def __repr__(self) -> str:
        return str(self)


__all__ = ["AzureMLRestClientException", "ErrorResponseException", "ServiceException"]
