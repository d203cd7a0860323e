"""Azure ML's exceptions, by the names, bases and texts that scripts know."""

from __future__ import annotations

from azureml._restclient.exceptions import ServiceException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: Which azureml-core the classes are compared with.
VERSION = "1.61.0"


class AzureMLException(Exception):
    """The base of nearly all: ``message``, and ``inner_exception`` when there was one."""

    _error_code = ""

    def __init__(
        self,
        exception_message: str,
        inner_exception: BaseException | None = None,
        target: Any = None,
        details: Any = None,
        message_format: Any = None,
        message_parameters: Any = None,
        reference_code: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(exception_message)
        self._message, self._inner = exception_message, inner_exception

    @property
    def message(self) -> str:
        """What happened."""
        return self._message

    @message.setter
    def message(self, value: str) -> None:
        self._message = value

    @property
    def inner_exception(self) -> BaseException | None:
        """The error behind this one, if there is one."""
        return self._inner

    def print_stacktrace(self) -> None:
        """Prints where it was raised."""
        import traceback

        traceback.print_exception(type(self), self, self.__traceback__)

    def __str__(self) -> str:
        import json

        error = {"code": self._error_code, "message": self._message} if self._error_code else {"message": self._message}
        body = json.dumps({"error": error}, indent=4)
        return f"{type(self).__name__}:\n\tMessage: {self._message}\n\tInnerException {self._inner}\n\tErrorResponse \n{body}"

    def __repr__(self) -> str:
        return str(self)


class UserErrorException(AzureMLException):
    """Something to be put right by the caller."""

    _error_code = "UserError"

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class AuthenticationException(UserErrorException):
    """Nobody is signed in, or not by the way that was asked for."""


class RunEnvironmentException(AzureMLException):
    """This process is not part of a run."""

    def __init__(self, **kwargs: Any) -> None:
        message = kwargs.pop("message", None) or (
            "Could not load a submitted run, if outside of an execution context, use experiment.start_logging to initialize an "
            "azureml.core.Run."
        )
        super().__init__(message, **kwargs)


class ActivityFailedException(AzureMLException):
    """A run ended otherwise than by success."""

    def __init__(self, error_details: Any, **kwargs: Any) -> None:
        super().__init__(f"Activity Failed:\n{error_details}", **kwargs)


class AzureMLAggregatedException(AzureMLException):
    """Several at once."""

    def __init__(self, exceptions_list: Sequence[Any], **kwargs: Any) -> None:
        super().__init__("\n".join(str(error) for error in exceptions_list), **kwargs)


class ComputeTargetException(AzureMLException):
    """A compute target that does not exist or can not be used."""


class DatasetTimestampMissingError(AzureMLException):
    """Never raised here."""

    def __init__(self, error_details: Any, **kwargs: Any) -> None:
        super().__init__(str(error_details), **kwargs)


class DiscoveryUrlNotFoundException(AzureMLException):
    """Never raised here."""

    def __init__(self, discovery_key: Any, **kwargs: Any) -> None:
        super().__init__(str(discovery_key), **kwargs)


class ExperimentExecutionException(AzureMLException):
    """A submission that could not be made."""


class ModelNotFoundException(AzureMLException):
    """Never raised here."""

    def __init__(self, exception_message: str, logger: Any = None, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class ModelPathNotFoundException(AzureMLException):
    """Never raised here."""

    def __init__(self, exception_message: str, logger: Any = None, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class ParallelRunException(AzureMLException):
    """Never raised here."""

    def __init__(self, exception_message: str, code: str | None = None, delay_seconds: float = 0, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class ProjectSystemException(AzureMLException):
    """A workspace that can not be used."""


class RunConfigurationException(AzureMLException):
    """A configuration that can not be run."""


class SnapshotException(AzureMLException):
    """A source tree that can not be stored."""


class TrainingException(AzureMLException):
    """Never raised here."""


class WebserviceException(AzureMLException):
    """Never raised here."""

    def __init__(self, exception_message: str, status_code: int | None = None, logger: Any = None, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)
        self.status_code = status_code


class WorkspaceException(AzureMLException):
    """A workspace that was not found, or more than one."""

    def __init__(self, exception_message: str, found_multiple: bool = False, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class WorkspacePrivateEndpointException(AzureMLException):
    """Never raised here."""

    def __init__(self, exception_message: str, found_multiple: bool = False, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


__all__ = [
    "ActivityFailedException",
    "AuthenticationException",
    "AzureMLAggregatedException",
    "AzureMLException",
    "ComputeTargetException",
    "DatasetTimestampMissingError",
    "DiscoveryUrlNotFoundException",
    "ExperimentExecutionException",
    "ModelNotFoundException",
    "ModelPathNotFoundException",
    "ParallelRunException",
    "ProjectSystemException",
    "RunConfigurationException",
    "RunEnvironmentException",
    "ServiceException",
    "SnapshotException",
    "TrainingException",
    "UserErrorException",
    "VERSION",
    "WebserviceException",
    "WorkspaceException",
    "WorkspacePrivateEndpointException",
]
