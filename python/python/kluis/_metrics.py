"""Putting a run's logged metrics together by name, the way Azure ML's ``get_metrics`` does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: JSON has no such numbers; the run's side writes them as these texts.
_NOT_JSON = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def gather(logged: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Name to value, for metrics in the order logged."""
    metrics: dict[str, Any] = {}
    count: dict[str, int] = {}
    for entry in logged:
        name, value, kind = entry["name"], _numbers(entry["value"]), entry["kind"]
        times = count[name] = count.get(name, 0) + 1
        if times == 1:
            metrics[name] = value
        elif kind == "list":
            metrics[name] = _many(metrics[name]) + _many(value)
        elif kind in ("row", "table") and isinstance(metrics[name], dict) and isinstance(value, dict):
            metrics[name] = _joined(metrics[name], value)
        elif times == 2:
            metrics[name] = [metrics[name], value]
        else:
            metrics[name].append(value)
    return metrics


def _joined(table: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    # A list of rows becomes columns. A column that one of the rows lacks is shorter: nothing marks the place.
    return {
        column: (_many(table[column]) if column in table else []) + (_many(row[column]) if column in row else [])
        for column in {**table, **row}
    }


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _numbers(value: Any) -> Any:
    if isinstance(value, str):
        return _NOT_JSON.get(value, value)
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return value
