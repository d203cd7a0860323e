"""Reading several secrets at once, as Azure ML answers: what can not be had is ``None``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def get_secrets(
    names: Sequence[str],
    read_all: Callable[[list[str]], dict[str, str | None]],
    read_one: Callable[[str], str],
) -> dict[str, str | None]:
    """Name, as asked, to value. A secret that a run did not declare is ``None`` and a warning: Kluis refuses the whole batch
    for it, so then they are asked for one by one.
    """
    try:
        return read_all(list(names))
    except Exception as error:
        from kluis.exceptions import SecretDeleted, SecretUndeclared

        if not isinstance(error, (SecretUndeclared, SecretDeleted)):
            raise
    return {name: _one(name, read_one) for name in names}


def _one(name: str, read_one: Callable[[str], str]) -> str | None:
    from kluis.exceptions import SecretDeleted, SecretNotFound, SecretUndeclared

    try:
        return read_one(name)
    except (SecretNotFound, SecretDeleted):
        return None
    except SecretUndeclared:
        import logging

        logging.getLogger("kluis").warning(
            "kluis: this run did not declare the secret %s, so it is None here; ScriptRunConfig(secrets=[...]) or `kluis run "
            "submit --secret NAME` declares it",
            name,
        )
        return None
