"""What a run executes in. Kluis builds no environments: one that would have to be built is refused at submit, with the
alternative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import kluis
from azureml._kluis.unsupported import not_here
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.container_registry import ContainerRegistry

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

#: Names that scripts assign to ``docker.base_image``. Kluis runs no images.
DEFAULT_CPU_IMAGE = "default-cpu-image"
DEFAULT_GPU_IMAGE = "default-gpu-image"

_STORED = (
    "Kluis stores no environments: make the Environment in code, and name an interpreter that is there already, "
    "environment.python.interpreter_path = '/path/to/venv/bin/python'"
)


class PythonSection:
    """Which Python, and with which packages."""

    def __init__(self, **_unused: Any) -> None:
        #: ``python`` says as little as nothing: the target's own choice, for ``local`` the submitter's interpreter.
        self.interpreter_path = "python"
        #: With ``True`` the conda dependencies do not count.
        self.user_managed_dependencies = False
        #: Once changed, they would have to be built: submitting is refused.
        self.conda_dependencies: CondaDependencies | None = CondaDependencies()
        self.conda_dependencies_file: str | None = None


class DockerSection:
    """Which image. No engine runs containers yet: submitting with one is refused."""

    def __init__(self, **_unused: Any) -> None:
        self.enabled = False
        self.base_image: str | None = None
        self.base_dockerfile: str | None = None
        self.base_image_registry = ContainerRegistry()
        self.arguments: list[str] = []
        self.shm_size = "2g"
        self.shared_volumes = True


class Environment:
    """Variables, interpreter and image of a run. Variables are for settings, never for secrets."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        self.name = name
        self.version: str | None = None
        self.python = PythonSection()
        self.docker = DockerSection()
        self.inferencing_stack_version: str | None = None
        self._variables: dict[str, str] = {}
        self._conda_environment: str | None = None
        self._unbuilt: str | None = None

    @property
    def environment_variables(self) -> dict[str, str]:
        """The run's variables."""
        return self._variables

    @environment_variables.setter
    def environment_variables(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> Environment:
        """A conda environment that exists on the machine where the run executes: its path, or for ``local`` its name."""
        environment = Environment(name)
        environment.python.user_managed_dependencies = True
        environment._conda_environment = conda_environment_name
        return environment

    @staticmethod
    def from_docker_image(
        name: str,
        image: str,
        container_registry: ContainerRegistry | None = None,
        conda_specification: str | os.PathLike[str] | None = None,
        pip_requirements: str | os.PathLike[str] | None = None,
    ) -> Environment:
        """An image that exists. No engine runs containers yet: submitting with one is refused."""
        environment = Environment(name)
        environment.docker.base_image = image
        if conda_specification is not None or pip_requirements is not None:
            environment._unbuilt = "an image with packages to be added"
        return environment

    @staticmethod
    def from_pip_requirements(name: str, file_path: str | os.PathLike[str], pip_version: str | None = None) -> Environment:
        """Not built: submitting with it is refused."""
        return Environment._not_built(name, f"the pip requirements {file_path}")

    @staticmethod
    def from_conda_specification(name: str, file_path: str | os.PathLike[str]) -> Environment:
        """Not built: submitting with it is refused."""
        return Environment._not_built(name, f"the conda specification {file_path}")

    @staticmethod
    def from_dockerfile(
        name: str,
        dockerfile: str | os.PathLike[str],
        conda_specification: str | os.PathLike[str] | None = None,
        pip_requirements: str | os.PathLike[str] | None = None,
    ) -> Environment:
        """Not built: submitting with it is refused."""
        return Environment._not_built(name, "a Dockerfile")

    @staticmethod
    def from_docker_build_context(name: str, docker_build_context: Any) -> Environment:
        """Not built: submitting with it is refused."""
        return Environment._not_built(name, "a Docker build context")

    @staticmethod
    def _not_built(name: str, what: str) -> Environment:
        environment = Environment(name)
        environment._unbuilt = what
        return environment

    def clone(self, new_name: str) -> Environment:
        """A copy under another name, which can be changed on its own."""
        import copy

        made = copy.deepcopy(self)
        made.name = new_name
        return made

    # ---- what is not here ------------------------------------------------------------------------------------------

    @staticmethod
    def get(workspace: Any, name: str, version: str | None = None, label: str | None = None) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.get", _STORED)

    @staticmethod
    def list(workspace: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.list", _STORED)

    @staticmethod
    def label(workspace: Any, name: str, version: str, labels: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.label", _STORED)

    def register(self, workspace: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.register", _STORED)

    def build(self, workspace: Any, image_build_compute: Any = None) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.build", _STORED)

    def build_local(self, workspace: Any, platform: Any = None, **kwargs: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.build_local", _STORED)

    def get_image_details(self, workspace: Any) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.get_image_details", _STORED)

    @staticmethod
    def add_private_pip_wheel(workspace: Any, file_path: str, exist_ok: bool = False) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.add_private_pip_wheel", _STORED)

    @staticmethod
    def load_from_directory(path: str) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.load_from_directory", _STORED)

    def save_to_directory(self, path: str, overwrite: bool = False) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("Environment.save_to_directory", _STORED)

    def _for_kluis(self, variables: Mapping[str, str]) -> kluis.Environment:
        made = kluis.Environment(self.name)
        made.environment_variables = {**self._variables, **variables}
        made.python.interpreter_path = self.python.interpreter_path
        dependencies = self.python.conda_dependencies
        if not self.python.user_managed_dependencies and dependencies is not None and dependencies._changed:
            made.python.conda_dependencies = dependencies
        made.docker.enabled = self.docker.enabled
        made.docker.base_image, made.docker.base_dockerfile = self.docker.base_image, self.docker.base_dockerfile
        made._conda_environment, made._unbuilt = self._conda_environment, self._unbuilt
        return made

    def __repr__(self) -> str:
        return f"Environment(Name: {self.name},\nVersion: {self.version})"
