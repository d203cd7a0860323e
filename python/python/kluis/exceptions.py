"""Errors, each with what was attempted and what to do.

Every code of the server's API has a class here, named after it, with the status that the server answers it with
(`crates/server/src/error.rs`; a test holds the two together). The native module picks the class by the code, so a new
code needs a class and nothing else. Scripts written for Azure ML find their names too: :class:`ServiceException` with
``status_code`` and ``message``, :class:`UserErrorException`, :class:`RunEnvironmentException` and
:class:`ActivityFailedException`. No error ever holds a secret's value.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class KluisException(Exception):
    """The base of every error of this package.

    ``code`` is stable and made for programs; ``message`` is for people; ``status_code`` is the HTTP status that the
    server answered (or would have), where there is one; ``request_id`` finds the request in the server's log.
    """

    code: str = "error"
    status_code: int | None = None

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status_code: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        if code is not None:
            self.code = code
        if status_code is not None:
            self.status_code = status_code


class UserErrorException(KluisException):
    """Something to be put right in the caller's code or configuration."""

    code = "user_error"


class RunEnvironmentException(KluisException):
    """This process is not part of a run, and ``allow_offline=False`` was given."""

    code = "not_in_a_run"


class ActivityFailedException(KluisException):
    """A run ended otherwise than by success.

    ``error_details`` is what :meth:`kluis.Run.get_details` says of it, with who is to blame and why.
    """

    code = "run_failed"

    def __init__(self, message: str = "", *, error_details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.error_details: dict[str, Any] = error_details or {}


class ServiceException(KluisException):
    """The server (or, in a run, its launcher) refused or failed."""

    code = "service_error"


class BadRequest(ServiceException, UserErrorException):
    """The request is not well-formed."""

    code, status_code = "bad_request", 400


class InvalidName(ServiceException, UserErrorException, ValueError):
    """A text is not a name of the kind that is needed."""

    code, status_code = "invalid_name", 400


class InvalidValue(ServiceException, UserErrorException, ValueError):
    """A value is too long, not text, or not allowed in its place."""

    code, status_code = "invalid_value", 400


class TooLarge(ServiceException, UserErrorException):
    """A request, a batch or a snapshot is larger than allowed."""

    code, status_code = "too_large", 413


class Unauthenticated(ServiceException, UserErrorException):
    """Nobody is signed in, or the login is not accepted any more: ``kluis login``."""

    code, status_code = "unauthenticated", 401


class ClockSkew(Unauthenticated):
    """A launcher's request was refused for its clock; it takes the server's time and asks again."""

    code = "clock_skew"


class Forbidden(ServiceException, UserErrorException):
    """The caller is known and may not do this."""

    code, status_code = "forbidden", 403


class SecretDisabled(Forbidden):
    """The version is disabled."""

    code = "secret_disabled"


class SecretUndeclared(Forbidden):
    """The run declared its secrets and this is none of them."""

    code = "secret_undeclared"


class NotFound(ServiceException):
    """What was named does not exist, or the caller may not know of it."""

    code, status_code = "not_found", 404


class SecretNotFound(NotFound):
    """No secret of this name."""

    code = "secret_not_found"


class MethodNotAllowed(ServiceException):
    """The server knows the place and not the method: most often another version."""

    code, status_code = "method_not_allowed", 405


class Conflict(ServiceException):
    """It does not fit the state of things, such as a name that is taken."""

    code, status_code = "conflict", 409


class SecretDeleted(Conflict):
    """The secret is deleted; recover it, or purge it and set it anew."""

    code = "secret_deleted"


class RevisionConflict(Conflict):
    """Somebody changed it in between."""

    code = "revision_conflict"


class TicketNotConfirmed(Conflict):
    """The ticket's agent has not confirmed the job yet."""

    code = "ticket_not_confirmed"


class TicketRefused(Forbidden):
    """The ticket is void."""

    code = "ticket_refused"


class RunCompromised(Forbidden):
    """The run's ticket was used by two parties; the run is stopped."""

    code = "compromised"


class RunEnded(Conflict):
    """The run has ended and reads nothing any more."""

    code = "run_ended"


class RunCanceled(RunEnded):
    """The run was canceled and reads nothing any more."""

    code = "run_canceled"


class RunUnresponsive(Conflict):
    """The run's launcher has been silent; reads wait for its next sign of life."""

    code = "run_unresponsive"


class RunLimit(Conflict):
    """The run has made as many metrics, child runs or changes as a run may."""

    code = "run_limit"


class QuotaExceeded(Conflict):
    """The workspace's share of the server's disk is used up."""

    code = "quota_exceeded"


class Throttled(ServiceException):
    """Too many requests or failures; try again later."""

    code, status_code = "throttled", 429


class StorageFull(ServiceException):
    """The server's disk is full."""

    code, status_code = "storage_full", 507


class Inconsistent(ServiceException):
    """The server's data contradicts itself and was not used."""

    code, status_code = "inconsistent", 409


class InternalError(ServiceException):
    """The server failed; its log has the request's id."""

    code, status_code = "internal", 500


class VaultUnavailable(ServiceException):
    """The server could not be reached in time."""

    code, status_code = "unavailable", 503


class Untrusted(ServiceException):
    """The other end is not the server that was meant; nothing was sent to it."""

    code = "untrusted"


class UnexpectedAnswer(ServiceException):
    """The other end is no Kluis server, or one of another time."""

    code = "unexpected_answer"


class VersionSkew(ServiceException):
    """Client and server are more than one minor version apart."""

    code, status_code = "version_skew", 400


def _subclasses(of: type[ServiceException]) -> list[type[ServiceException]]:
    return [of, *(c for direct in of.__subclasses__() for c in _subclasses(direct))]


_BY_CODE = {c.code: c for c in _subclasses(ServiceException)}


def _from_problem(code: str, message: str, status_code: int | None, request_id: str | None) -> KluisException:
    """Called by the native module: the one place where a code becomes a class."""
    if code == UserErrorException.code:
        return UserErrorException(message, request_id=request_id)
    kind = _BY_CODE.get(code, ServiceException)
    return kind(message, code=code, status_code=status_code, request_id=request_id)
