"""One class for every code of the server's, and Azure ML's names among their bases."""

import copy
import pathlib
import pickle
import re

import pytest

from kluis import exceptions
from kluis.exceptions import ActivityFailedException, KluisException, ServiceException, UserErrorException

CODES = pathlib.Path(__file__).parents[2] / "crates" / "core" / "src" / "api" / "mod.rs"


def test_every_code_of_the_server_has_a_class_of_its_own():
    codes = re.findall(r'pub const [A-Z_]+: &str = "([a-z_]+)"', CODES.read_text())
    assert len(codes) > 20
    classes = [type(exceptions._from_problem(code, "m", None, None)) for code in codes]
    assert all(c is not ServiceException for c in classes)
    assert len(set(classes)) == len(codes)


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
    assert isinstance(exceptions._from_problem(code, "m", None, None), (UserErrorException, ServiceException))
    assert isinstance(exceptions._from_problem(code, "m", None, None), UserErrorException)


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
