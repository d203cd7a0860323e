"""The kinds of compute that Azure ML knows. For Kluis each is a named queue, and none can be made from here."""

from __future__ import annotations

from typing import Any, NoReturn

from azureml._kluis.unsupported import COMPUTE, absent, not_here
from azureml.core.compute_target import ComputeTarget

_ABSENT = (
    "AdlaCompute",
    "AksCompute",
    "BatchCompute",
    "DataFactoryCompute",
    "DatabricksCompute",
    "DsvmCompute",
    "HDInsightCompute",
    "KubernetesCompute",
    "KustoCompute",
    "RemoteCompute",
    "SynapseCompute",
)


class AmlCompute(ComputeTarget):
    """A compute target that exists."""

    @staticmethod
    def provisioning_configuration(*args: Any, **kwargs: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("AmlCompute.provisioning_configuration", COMPUTE)


class ComputeInstance(ComputeTarget):
    """A compute target that exists."""

    @staticmethod
    def provisioning_configuration(*args: Any, **kwargs: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("ComputeInstance.provisioning_configuration", COMPUTE)


def __getattr__(name: str) -> Any:
    if name in _ABSENT:
        globals()[name] = absent(__name__, name, COMPUTE)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
