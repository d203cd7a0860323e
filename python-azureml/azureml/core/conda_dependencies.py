"""The packages that a script asks for. Kluis builds no environments, so they are only carried: a run that has any, and does
not say that the user manages them, is refused at submit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from azureml._kluis.unsupported import not_here

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FILE = "make the environment where the run executes, and name its interpreter: environment.python.interpreter_path"


class CondaDependencies:
    """conda and pip packages by name."""

    def __init__(self, conda_dependencies_file_path: str | None = None, _underlying_structure: Any = None) -> None:
        if conda_dependencies_file_path is not None:
            raise not_here("a file of conda dependencies", _FILE)
        self._conda: list[str] = []
        self._pip: list[str] = []
        self._channels: list[str] = []
        self._options: list[str] = []
        self._python: str | None = None

    @property
    def _changed(self) -> bool:
        return bool(self._conda or self._pip or self._channels or self._options or self._python)

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Sequence[str] | None = None,
        conda_packages: Sequence[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """One with these packages."""
        made = CondaDependencies()
        made._pip.extend(pip_packages or ())
        made._conda.extend(conda_packages or ())
        made._python = python_version
        if pip_indexurl is not None:
            made.set_pip_index_url(pip_indexurl)
        return made

    def add_conda_package(self, conda_package: str) -> None:
        """Adds a conda package."""
        self._conda.append(conda_package)

    def add_pip_package(self, pip_package: str) -> None:
        """Adds a pip package."""
        self._pip.append(pip_package)

    def add_channel(self, channel: str) -> None:
        """Adds a conda channel."""
        self._channels.append(channel)

    def remove_conda_package(self, conda_package: str) -> None:
        """Removes a conda package."""
        _remove(self._conda, conda_package)

    def remove_pip_package(self, pip_package: str) -> None:
        """Removes a pip package."""
        _remove(self._pip, pip_package)

    def remove_channel(self, channel: str) -> None:
        """Removes a conda channel."""
        _remove(self._channels, channel)

    def set_python_version(self, version: str) -> None:
        """Asks for a version of Python."""
        self._python = version

    def get_python_version(self) -> str | None:
        """The version that was asked for."""
        return self._python

    def set_pip_index_url(self, index_url: str) -> None:
        """Asks for a package index."""
        self.set_pip_option(f"--index-url {index_url}")

    def set_pip_option(self, pip_option: str) -> None:
        """Adds an option of pip's."""
        self._options.append(pip_option)

    def remove_pip_option(self, pip_option: str) -> None:
        """Removes an option of pip's."""
        _remove(self._options, pip_option)

    def set_pip_requirements(self, pip_requirements: Sequence[str]) -> None:
        """Asks for these pip packages and no others."""
        self._pip = list(pip_requirements)

    @property
    def conda_packages(self) -> Iterator[str]:
        """The conda packages."""
        return iter(list(self._conda))

    @property
    def pip_packages(self) -> Iterator[str]:
        """The pip packages."""
        return iter(list(self._pip))

    @property
    def conda_channels(self) -> Iterator[str]:
        """The conda channels."""
        return iter(list(self._channels))

    def as_dict(self) -> dict[str, Any]:
        """As a conda specification."""
        dependencies: list[Any] = [f"python={self._python}"] if self._python else []
        dependencies.extend(self._conda)
        if self._pip or self._options:
            dependencies.append({"pip": [*self._options, *self._pip]})
        return {"name": "project_environment", "dependencies": dependencies, "channels": list(self._channels)}

    def save(self, path: str | None = None) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("CondaDependencies.save", _FILE)

    def save_to_file(self, base_directory: str, conda_file_path: str | None = None) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("CondaDependencies.save_to_file", _FILE)

    def serialize_to_string(self) -> NoReturn:
        """Not part of Kluis."""
        raise not_here("CondaDependencies.serialize_to_string", _FILE)


def _remove(packages: list[str], package: str) -> None:
    if package in packages:
        packages.remove(package)
