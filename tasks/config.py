"""The base of every stage's settings."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from data.store import store_address

StoreAddress = Annotated[str, BeforeValidator(store_address)]
"""A folder, given as a path or a string, or `protocol://...` of any file system that fsspec knows."""


class Config(BaseModel):
    """Frozen settings that refuse unknown names; a stage's settings are part of its artifacts' key."""

    model_config = ConfigDict(frozen=True, extra="forbid")
