"""Requests whose settings name only what is other than in a preset, in the request itself or in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from data.files import read_regular
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
    preset = presets[_preset_of(values, presets)]
    return {**values, "settings": merged(preset().model_dump(), _settings_of(values))}


def over_file(values: Any, presets: Mapping[str, Callable[[], BaseModel]]) -> Any:
    """Return a request's values with the settings of its `SETTINGS_FILE` among them.

    The file lies over the preset, and what the request says itself over the file. Of settings that are a whole
    configuration, as the command line makes them, what differs from the preset was said.

    Raises:
        ValueError: There is no such preset, or the file cannot be read, or holds no settings.
    """
    file = values.get(SETTINGS_FILE) if isinstance(values, dict) else None
    if file is None:
        return values
    if not isinstance(file, (str, Path)):
        raise ValueError(f"{SETTINGS_FILE}: expected a path, found {type(file).__name__}")
    preset = presets[_preset_of(values, presets)]
    of_file, settings = _read(Path(file), preset()), _settings_of(values)
    if isinstance(settings, BaseModel):
        said = changed_values(settings.model_dump(), preset().model_dump())
        settings = type(settings).model_validate(merged(settings.model_dump(), merged(of_file, said)))
    else:
        settings = merged(of_file, settings)
    return {**values, "settings": settings, SETTINGS_FILE: None}


def _preset_of(values: dict[str, Any], presets: Mapping[str, Callable[[], BaseModel]]) -> str:
    name = values.get("preset", "quick")
    if not isinstance(name, str) or name not in presets:
        raise ValueError(f"preset {name!r}: expected one of {', '.join(presets)}")
    return name


def _settings_of(values: dict[str, Any]) -> Any:
    settings = values.get("settings") or {}
    if not isinstance(settings, (BaseModel, dict)):
        raise ValueError(f"settings: expected a table of settings, found {type(settings).__name__}")
    return settings


def _read(file: Path, base: BaseModel) -> dict[str, Any]:
    expected = "expected settings in JSON, such as best.json of pseudomask tune"
    try:
        tree = json.loads(read_regular(file))
    except OSError as error:
        raise ValueError(f"{file}: {expected}, but it cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{file}: {expected}, but it is not JSON") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{file}: {expected}, found {type(tree).__name__}")
    try:
        type(base).model_validate(merged(base.model_dump(), tree))
    except ValidationError as error:
        raise ValueError(f"{file}: {expected}, but {fault_of(error)}") from None
    return tree


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return values with others over them, group by group."""
    values = {**base, **over}
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            values[name] = merged(base[name], value)
    return values
