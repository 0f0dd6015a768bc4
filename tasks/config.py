"""The base of every stage's settings."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Frozen settings that refuse unknown names; a stage's settings are part of its artifacts' key."""

    model_config = ConfigDict(frozen=True, extra="forbid")
