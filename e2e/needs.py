"""Dependencies whose absence is loud."""

import os

import pytest


def need(condition: bool, what: str) -> None:
    """A missing dependency fails in CI and is a loud skip elsewhere."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {what}")
    pytest.skip(f"SKIPPED FOR WANT OF {what}")
