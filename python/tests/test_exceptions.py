"""One class for every code of the server's, and Azure ML's names among their bases."""

import copy
import pathlib
import pickle
import re

import pytest

from kluis import exceptions
from kluis.exceptions import ActivityFailedException, KluisException, ServiceException, UserErrorException

CRATES = pathlib.Path(__file__).parents[2] / "crates"
CODES = CRATES / "core" / "src" / "api" / "mod.rs"
SERVER = CRATES / "server" / "src" / "error.rs"

#: As the crate `http` calls them.
STATUSES = {
    "BAD_REQUEST": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CONFLICT": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "TOO_MANY_REQUESTS": 429,
    "INTERNAL_SERVER_ERROR": 500,
    "SERVICE_UNAVAILABLE": 503,
    "INSUFFICIENT_STORAGE": 507,
}


def test_every_code_of_the_server_has_a_class_of_its_own():
    codes = re.findall(r'pub const [A-Z_]+: &str = "([a-z_]+)"', CODES.read_text())
    assert len(codes) > 20
    classes = [type(exceptions._from_problem(code, "m", None, None)) for code in codes]
    assert all(c is not ServiceException for c in classes)
    assert len(set(classes)) == len(codes)


def arms(source: str, function: str, word: str) -> list:
    """Each variant of the server's error, and what one of its two tables gives it."""
    body = source.split(f"pub fn {function}(")[1].split("\n    }\n")[0]
    table: list = []
    waiting: list = []
    for variant, result in re.findall(rf"Self::(\w+)|\b{word}::(\w+)", body):
        if variant:
            waiting.append(variant)
        else:
            # One variant stands for several errors; each of them stands in the table by itself too.
            table.extend((v, result) for v in waiting if v != "SecretsUnreadable")
            waiting = []
    return table


def test_the_status_of_every_code_is_the_one_that_the_server_answers():
    source = SERVER.read_text()
    codes, statuses = arms(source, "code", "code"), dict(arms(source, "status", "StatusCode"))
    assert {variant for variant, _ in codes} == set(statuses) and len(statuses) > 20
    texts = dict(re.findall(r'pub const ([A-Z_]+): &str = "([a-z_]+)"', CODES.read_text()))
    served = {texts[code]: STATUSES[statuses[variant]] for variant, code in codes}
    assert {code: exceptions._BY_CODE[code].status_code for code in served} == served
    assert set(served) == set(texts.values())


def test_a_class_by_status_is_what_its_status_says():
    for kind, base in ((404, exceptions.NotFound), (403, exceptions.Forbidden)):
        assert all(issubclass(c, base) for c in exceptions._BY_CODE.values() if c.status_code == kind)


def test_a_problem_keeps_code_status_and_request_id():
    error = exceptions._from_problem("secret_not_found", "no secret", 404, "r-1")
    assert isinstance(error, ServiceException)
    assert (error.code, error.status_code, error.message, error.request_id) == ("secret_not_found", 404, "no secret", "r-1")
    assert str(error) == "no secret"
    other = exceptions._from_problem("of_tomorrow", "m", 499, None)
    assert (type(other), other.code, other.status_code) == (ServiceException, "of_tomorrow", 499)
    assert type(exceptions._from_problem("user_error", "m", None, None)) is UserErrorException


@pytest.mark.parametrize("code", ["bad_request", "invalid_name", "forbidden", "unauthenticated"])
def test_what_azures_client_calls_a_user_error_is_one(code):
    error = exceptions._from_problem(code, "m", None, None)
    assert isinstance(error, UserErrorException) and isinstance(error, ServiceException)


def test_errors_cross_process_borders():
    errors = [
        exceptions._from_problem("throttled", "m", 429, "r"),
        UserErrorException("m"),
        ActivityFailedException("m", error_details={"reason": "x"}),
    ]
    for error in errors:
        for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(copied) is type(error)
            assert copied.__dict__ == error.__dict__ and str(copied) == "m"


def test_everything_has_one_base():
    for value in vars(exceptions).values():
        if isinstance(value, type) and issubclass(value, BaseException):
            assert issubclass(value, KluisException)
