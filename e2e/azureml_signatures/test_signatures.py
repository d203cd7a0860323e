"""Every public signature of the classes that kluis-azureml provides, compared with azureml-core's.

`azureml-core-1.61.0.txt` holds theirs; `differences.txt` what differs here, each with a reason. Neither may say more or less
than what is found.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import re
import typing

import pytest

HERE = pathlib.Path(__file__).parent
_CLASS = re.compile(r"## (?P<module>[\w.]+)\.(?P<name>\w+) bases")
_MEMBER = re.compile(r"  (?:(?P<kind>property|static|class) )?(?P<name>\w+)(?P<signature>\(.*\))?$")


class Member(typing.NamedTuple):
    of: str
    name: str
    kind: str
    signature: str

    @property
    def id(self) -> str:
        return f"{self.of.rpartition('.')[2]}.{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.signature}".strip()


def listed() -> tuple[list[Member], dict[str, list[str]]]:
    """The members of every class, and the lists of names."""
    members, names, of = [], {}, ""
    for line in (HERE / "azureml-core-1.61.0.txt").read_text().splitlines():
        if found := _CLASS.match(line):
            of = f"{found['module']}.{found['name']}"
        elif line.startswith("## "):
            module, _, rest = line[3:].partition(" ")
            names[module.removesuffix(".__all__")] = ast.literal_eval(rest[: rest.index("]") + 1])
        elif found := _MEMBER.match(line):
            members.append(Member(of, found["name"], found["kind"] or "method", found["signature"] or ""))
    return members, names


def differences() -> dict[str, tuple[str, str]]:
    """Member to how it is here and why, from lines `MEMBER | HERE | REASON`."""
    lines = (HERE / "differences.txt").read_text().splitlines()
    rows = [[part.strip() for part in line.split(" | ")] for line in lines if line and not line.startswith("#")]
    return {member: (here, reason) for member, here, reason in rows}


MEMBERS, NAMES = listed()
DIFFERENCES = differences()


def here(member: Member) -> str:
    """The same member of ours, written as theirs is."""
    module, _, name = member.of.rpartition(".")
    owner = getattr(importlib.import_module(module), name)
    raw = inspect.getattr_static(owner, member.name, None)
    if raw is None:
        return "absent"
    if isinstance(raw, property):
        return "property"
    kind = "static" if isinstance(raw, staticmethod) else "class" if isinstance(raw, classmethod) else "method"
    signature = inspect.signature(raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return f"{kind} {signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)}"


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.id)
def test_signature(member):
    ours, theirs = here(member), str(member)
    if member.id in DIFFERENCES:
        assert ours == DIFFERENCES[member.id][0], "differs from what the list of differences says"
        assert ours != theirs, "is no difference any more: take it off the list"
    else:
        assert ours == theirs


def test_each_difference_is_of_a_listed_member_and_has_a_reason():
    assert set(DIFFERENCES) <= {m.id for m in MEMBERS}
    assert all(len(reason) > 20 for _, reason in DIFFERENCES.values())


def test_the_facts_were_read_whole():
    lines = (HERE / "azureml-core-1.61.0.txt").read_text().splitlines()
    assert len(MEMBERS) == sum(line.startswith("  ") for line in lines) == 209
    assert len({m.of for m in MEMBERS}) == 17


@pytest.mark.parametrize("module", NAMES)
def test_names(module):
    imported = importlib.import_module(module)
    assert set(NAMES[module]) == set(imported.__all__)
    assert all(hasattr(imported, name) for name in NAMES[module])


def test_exceptions_have_their_bases():
    import azureml._restclient.exceptions as restclient
    from azureml import exceptions

    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        if not isinstance(kind, type):
            continue
        bases = [base.__name__ for base in kind.__mro__][1:-3]
        if name == "AuthenticationException":
            assert bases == ["UserErrorException", "AzureMLException"]
        elif name == "ServiceException":
            assert bases == ["AzureMLRestClientException", "ErrorResponseException", "HttpOperationError", "ClientException"]
        elif name != "AzureMLException":
            assert bases == ["AzureMLException"], name
    assert restclient.ServiceException is exceptions.ServiceException
