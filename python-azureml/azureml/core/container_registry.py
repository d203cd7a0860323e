"""Where an image comes from. Kluis pulls no images, so it is only carried."""

from __future__ import annotations


class ContainerRegistry:
    """Address and login of a registry. Carried and not used."""

    def __init__(self) -> None:
        self.address: str | None = None
        self.username: str | None = None
        self.password: str | None = None
        self.registry_identity: object = None
