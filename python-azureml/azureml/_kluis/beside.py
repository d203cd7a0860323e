"""Two distributions that provide ``azureml``: only one of them can be meant, and which is said at import.

They share names of files: whichever was installed last is what gets imported, and removing either removes files of both.
:mod:`._overwritten <azureml._kluis.overwritten>` is for when the real one came last.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: A folder that the real azureml-core has and this distribution has not; ``azureml/__init__.py`` looks for it too.
_ONLY_THEIRS = "_base_sdk_common"

BOTH = (
    "azureml-core and kluis-azureml are both installed, and both provide the package `azureml`: keep one. They share files, "
    "so remove both first. "
    "For Kluis: pip uninstall -y azureml-core kluis-azureml && pip install kluis-azureml. "
    "For Azure ML: pip uninstall -y azureml-core kluis-azureml && pip install azureml-core."
)


def check(path: Iterable[str]) -> None:
    """Raises when the real package lies in the same folder as this one; warns when it lies in another that is searched."""
    for folder in path:
        if os.path.isdir(f"{folder}/{_ONLY_THEIRS}"):
            raise ImportError(BOTH)
    for entry in sys.path:
        if os.path.isdir(f"{entry or os.curdir}/azureml/{_ONLY_THEIRS}"):
            import warnings

            warnings.warn(
                f"kluis-azureml is used, and azureml-core is installed too, in {entry or os.curdir}: remove the one that is not "
                "meant (pip uninstall azureml-core, or pip uninstall kluis-azureml)",
                stacklevel=3,
            )
            return
