"""Where runs run: a named queue, served by an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from azureml._kluis.unsupported import COMPUTE, absent_function, not_here
from azureml.exceptions import ComputeTargetException

if TYPE_CHECKING:
    from typing import List

    import kluis

    from azureml.core.workspace import Workspace


class ComputeTarget:
    """A compute target that exists. ``ComputeTarget(workspace, name)`` raises ``ComputeTargetException`` where it does not."""

    _target: kluis.ComputeTarget

    def __init__(self, workspace: Workspace, name: str) -> None:
        for known, target in workspace._kluis_workspace.compute_targets.items():
            if known.lower() == name.lower():
                self.workspace, self.name, self._target = workspace, known, target
                return
        raise ComputeTargetException(f"ComputeTargetNotFound: there is no compute target {name}; {COMPUTE}")

    @classmethod
    def _over(cls, workspace: Workspace, target: kluis.ComputeTarget) -> ComputeTarget:
        made = object.__new__(cls)
        made.workspace, made.name, made._target = workspace, target.name, target
        return made

    @property
    def type(self) -> str:
        """``Kluis``: the agent decides what is behind it."""
        return "Kluis"

    @property
    def provisioning_state(self) -> str:
        """``Succeeded``: a queue is there as soon as it has a name."""
        return "Succeeded"

    @staticmethod
    def create(workspace: Workspace, name: str, provisioning_configuration: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("ComputeTarget.create", COMPUTE)

    @staticmethod
    def attach(workspace: Workspace, name: str, attach_configuration: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("ComputeTarget.attach", COMPUTE)

    @staticmethod
    def list(workspace: Workspace) -> List[ComputeTarget]:
        """The compute targets that one may see."""
        return [*workspace.compute_targets.values()]

    def get_status(self) -> dict[str, Any]:
        """How many runs wait for it, and when an agent last asked for work."""
        return {"queued": self._target.queued, "lastSeen": self._target.last_seen}

    def wait_for_completion(self, show_output: bool = False, *_: Any, **__: Any) -> None:
        """Nothing: it is there."""

    def refresh_state(self) -> None:
        """Asks anew."""
        self._target = ComputeTarget(self.workspace, self.name)._target

    def delete(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("ComputeTarget.delete", f"`kluis compute delete {self.name}`")

    def detach(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("ComputeTarget.detach", f"`kluis compute delete {self.name}`")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace.name}, name={self.name})"


attach_legacy_compute_target = absent_function(__name__, "attach_legacy_compute_target", COMPUTE)
is_compute_target_prepared = absent_function(__name__, "is_compute_target_prepared", COMPUTE)
prepare_compute_target = absent_function(__name__, "prepare_compute_target", COMPUTE)
remove_legacy_compute_target = absent_function(__name__, "remove_legacy_compute_target", COMPUTE)
