"""The base of every stage's settings, and of what files of a run are checked against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from data.store import store_address
from data.text import one_line


def _address(value: Any) -> str:
    if not isinstance(value, str | Path):
        raise ValueError(f"expected a folder or an address, found {value!r:.80}")
    return store_address(value)


StoreAddress = Annotated[str, BeforeValidator(_address)]
"""A folder, given as a path or a string, or `protocol://...` of any file system that fsspec knows."""


class Config(BaseModel):
    """Frozen settings that refuse unknown names; a stage's settings are part of its artifacts' key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def fault_of(error: ValidationError, within: str = "") -> str:
    """Return the first thing that is wrong with a file, in one line: "walk.steps: Input should be a valid integer".

    Args:
        within: The part of the file that was checked, where that is not all of it.
    """
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, ([within] if within else []) + list(first["loc"]))) or "the file"
    return one_line(f"{where}: {first['msg'].removeprefix('Value error, ')}")
