"""Requests whose settings name only what is other than in a preset, in the request itself or in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.config import changed_values, fault_of

SETTINGS_FILE = "settings_file"


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


def over_file(values: Any, presets: Mapping[str, Callable[[], BaseModel]]) -> Any:
    """Return a request's values with the settings of its `SETTINGS_FILE` among them.

    The file lies over the preset, and what the request says itself over the file. Of settings that are a whole
    configuration, as the command line makes them, what differs from the preset was said.

    Raises:
        ValueError: The file cannot be read, or holds no settings.
    """
    file = values.get(SETTINGS_FILE) if isinstance(values, dict) else None
    if file is None:
        return values
    preset = presets.get(values.get("preset", "quick"))
    if preset is None:
        return values
    of_file, settings = _read(Path(file), preset()), values.get("settings") or {}
    if isinstance(settings, BaseModel):
        said = changed_values(settings.model_dump(), preset().model_dump())
        settings = type(settings).model_validate(_merged(settings.model_dump(), _merged(of_file, said)))
    else:
        settings = _merged(of_file, settings)
    return {**values, "settings": settings, SETTINGS_FILE: None}


def _read(file: Path, base: BaseModel) -> dict[str, Any]:
    expected = "expected settings in JSON, such as best.json of pseudomask tune"
    try:
        tree = json.loads(file.read_bytes())
    except OSError as error:
        raise ValueError(f"{file}: {expected}, but it cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{file}: {expected}, but it is not JSON") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{file}: {expected}, found {type(tree).__name__}")
    try:
        type(base).model_validate(_merged(base.model_dump(), tree))
    except ValidationError as error:
        raise ValueError(f"{file}: {expected}, but {fault_of(error)}") from None
    return tree


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    values = {**base, **over}
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            values[name] = _merged(base[name], value)
    return values
