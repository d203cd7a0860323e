"""What a run executes in: an interpreter that is there already, and plain variables. Kluis builds no environment.

What would have to be built is accepted here, so that an old script gets as far as submitting, and refused there with the
alternative named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


class PythonSection:
    """Which Python."""

    def __init__(self) -> None:
        #: The interpreter's path; the compute target's own choice when ``None``, for ``local`` the submitter's interpreter.
        self.interpreter_path: str | None = None
        #: Whether the packages are the user's business. Here they always are.
        self.user_managed_dependencies = True
        #: Not built: submitting with it is refused.
        self.conda_dependencies: object = None


class DockerSection:
    """Which image. No engine runs containers yet: submitting with one is refused, with the alternative."""

    def __init__(self) -> None:
        self.enabled = False
        self.use_docker = False
        self.base_image: str | None = None
        #: Not built: submitting with it is refused.
        self.base_dockerfile: str | None = None


class Environment:
    """Variables, interpreter and image of a run.

    Variables are for settings. A secret comes by ``get_secret``, or by ``ScriptRunConfig(secret_env=...)``.
    """

    def __init__(self, name: str, **_unused: Any) -> None:
        self.name = name
        self.environment_variables: dict[str, str] = {}
        self.python = PythonSection()
        self.docker = DockerSection()
        self._conda_environment: str | None = None
        self._unbuilt: str | None = None

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> Environment:
        """A conda environment that exists on the machine where the run executes: its path, or for ``local`` its name."""
        environment = Environment(name)
        environment._conda_environment = conda_environment_name
        return environment

    @staticmethod
    def from_docker_image(
        name: str,
        image: str,
        container_registry: object = None,
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
        return Environment._not_built(name, f"the pip requirements {os.fspath(file_path)}")

    @staticmethod
    def from_conda_specification(name: str, file_path: str | os.PathLike[str]) -> Environment:
        """Not built: submitting with it is refused."""
        return Environment._not_built(name, f"the conda specification {os.fspath(file_path)}")

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
    def from_docker_build_context(name: str, docker_build_context: object) -> Environment:
        """Not built: submitting with it is refused."""
        return Environment._not_built(name, "a Docker build context")

    def clone(self, new_name: str) -> Environment:
        """A copy under another name, which can be changed on its own."""
        copy = Environment(new_name)
        copy.environment_variables = dict(self.environment_variables)
        copy.python.__dict__.update(self.python.__dict__)
        copy.docker.__dict__.update(self.docker.__dict__)
        copy._conda_environment, copy._unbuilt = self._conda_environment, self._unbuilt
        return copy

    @staticmethod
    def _not_built(name: str, what: str) -> Environment:
        environment = Environment(name)
        environment._unbuilt = what
        return environment

    def _what_is_unbuilt(self) -> str | None:
        if self.python.conda_dependencies is not None:
            return "python.conda_dependencies"
        if self.docker.base_dockerfile is not None:
            return "docker.base_dockerfile"
        return self._unbuilt

    def __repr__(self) -> str:
        return f"Environment(name={self.name!r})"


def text_variables(variables: Mapping[str, object]) -> dict[str, str]:
    """Environment variables as text; a number becomes its digits."""
    return {str(name): str(value) for name, value in variables.items()}
