"""What a run needs, as people write it: ``"16GiB"``, ``"2h"``. The wire has bytes and seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .exceptions import UserErrorException

_BYTES = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    _BYTES.update({f"{_letter}I": 1024**_power, f"{_letter}IB": 1024**_power, f"{_letter}B": 1000**_power})
_SECONDS = {"": 1, "S": 1, "M": 60, "H": 3600, "D": 86400}
_KNOWN = ("gpus", "cpus", "memory", "time")


def on_the_wire(resources: Mapping[str, int | str] | None, max_run_duration_seconds: float | None) -> dict[str, int]:
    """The wire's form. A finite duration wins over ``time``."""
    wire: dict[str, int] = {}
    for key, value in (resources or {}).items():
        if key not in _KNOWN:
            raise UserErrorException(f"resources has no {key!r}; it knows {', '.join(_KNOWN)}")
        if key == "memory":
            wire["memory_bytes"] = _quantity(key, value, _BYTES, "16GiB")
        elif key == "time":
            wire["time_seconds"] = _quantity(key, value, _SECONDS, "2h")
        else:
            wire[key] = _quantity(key, value, {"": 1}, "4")
    if max_run_duration_seconds is not None and max_run_duration_seconds != float("inf"):
        if max_run_duration_seconds <= 0:
            raise UserErrorException("max_run_duration_seconds must be more than 0")
        wire["time_seconds"] = int(max_run_duration_seconds)
    return wire


def _quantity(key: str, value: int | str, units: Mapping[str, int], example: str) -> int:
    matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    unit = units.get(matched.group(2).upper()) if matched else None
    if matched is None or unit is None or isinstance(value, bool):
        raise UserErrorException(f"resources[{key!r}] is not understood; write it like {example}")
    exact = float(matched.group(1)) * unit
    if exact != int(exact) or exact < 1:
        raise UserErrorException(f"resources[{key!r}] must be a whole number of at least 1; write it like {example}")
    return int(exact)
