"""Requests whose settings name only what is other than in a preset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel


def over_preset(values: Any, presets: Mapping[str, Callable[[], BaseModel]]) -> Any:
    """Return a request's values with its settings complete: what they do not name is as in its preset.

    Settings that are a whole configuration already stay as they are. To be called before the values are validated.

    Raises:
        ValueError: There is no such preset.
    """
    if not isinstance(values, dict) or isinstance(values.get("settings"), BaseModel):
        return values
    name = values.get("preset", "quick")
    if name not in presets:
        raise ValueError(f"preset {name!r}: expected one of {', '.join(presets)}")
    return {**values, "settings": _merged(presets[name]().model_dump(), values.get("settings") or {})}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    values = {**base, **over}
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            values[name] = _merged(base[name], value)
    return values
