"""The base of every settings class, the number types of their fields, and the settings that every run has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from data.store import store_address
from data.store.credentials import PATTERN as ADDRESS_PATTERN
from data.text import one_line
from models.backbones import BACKBONES, TIMM, is_timm
from models.pretrained import ImageNetWeights, imagenet_version


def _address(value: Any) -> str:
    if not isinstance(value, str | Path):
        raise ValueError(f"expected a folder or an address, found {value!r:.80}")
    return store_address(value)


StoreAddress = Annotated[str, BeforeValidator(_address), WithJsonSchema({"type": "string", "pattern": ADDRESS_PATTERN})]
"""A folder, given as a path or a string, or `protocol://...` of any file system that fsspec knows; without keys."""


Model = TypeVar("Model", bound=BaseModel)


class Config(BaseModel):
    """Frozen settings that refuse unknown names; a stage's settings are part of its artifacts' key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_backbone(name: str) -> str:
    if name not in BACKBONES and not (is_timm(name) and name.isascii() and name.isprintable() and " " not in name):
        raise ValueError(f"expected one of {', '.join(BACKBONES)}, or {TIMM}NAME for a network of timm")
    return name


BackboneName: TypeAlias = Annotated[Literal[tuple(BACKBONES)] | str, AfterValidator(_known_backbone)]  # pyright: ignore
"""One of ours, or "timm:NAME": whether timm has it, a request checks, not the settings, which are read without timm."""
Fraction = Annotated[float, Field(ge=0, le=1)]
OptimizerName = Literal["sgd", "adam", "adamw"]
ClassWeights = Literal["none", "median_frequency", "inverse_log"]
PositiveInt = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# A rate times a factor stays a number of single precision.
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
RateFactor = Annotated[float, Field(gt=0, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def ascending(pair: tuple[float, float]) -> tuple[float, float]:
    """Return a range as it is, where it is one."""
    if pair[0] > pair[1]:
        raise ValueError(f"expected a range that ascends, got {pair}")
    return pair


Range = Annotated[tuple[Positive, Positive], AfterValidator(ascending)]
PixelRange = Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(ascending)]
Steps = Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(ascending)]
Precision = Literal["fastest", "float32", "bfloat16"]
"""Of a network's arithmetic: "fastest" is bfloat16 on a GPU and on a CPU that has instructions for it, so machines
differ in what they compute under one key."""


class RunConfig(Config):
    """What the settings of every run have, beside those of its stages.

    Attributes:
        seed: Everything random derives from it.
        backbone: The network that all others of a run are built on: one of ours, or timm:NAME for one of timm's, such
            as timm:convnext_tiny.fb_in22k (`pip install 'pseudomask[timm]'`).
        weights: ImageNet weights: a file in torchvision's key layout; "imagenet-v1" or "imagenet-v2" for torchvision's
            download, of its first training, which older papers start from, or its second; "imagenet" for the newest
            of the backbone; or None to train from random weights. Of timm:NAME a file of timm's, or "imagenet" for
            timm's download.
        shard_size: Images a task of a sharded stage takes; about, since shards are hashed buckets.
    """

    seed: Seed = 0
    backbone: BackboneName = "resnet50"
    weights: Path | ImageNetWeights | None = None
    shard_size: PositiveInt = 32

    @model_validator(mode="after")
    def _weights_are_to_be_had(self) -> Self:
        if isinstance(self.weights, str) and is_timm(self.backbone):
            if self.weights != "imagenet":
                raise ValueError(
                    f"weights {self.weights!r}: expected imagenet, for timm's download of what the name's tag says, or "
                    "a file"
                )
        elif isinstance(self.weights, str):
            imagenet_version(self.backbone, self.weights)
        return self


def changed_values(ours: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what nested settings have that is other than in a base, nested as it is."""
    found: dict[str, Any] = {}
    for name, value in ours.items():
        if isinstance(value, Mapping) and isinstance(base.get(name), Mapping):
            if inner := changed_values(value, base[name]):
                found[name] = inner
        elif value != base.get(name):
            found[name] = value
    return found


def read_recorded(model: type[Model], recorded: Any) -> Model:
    """Validate settings or a request that another version may have written: names that are gone since are left out.

    Raises:
        ValidationError: What is left does not fit.
    """
    try:
        return model.model_validate(recorded)
    except ValidationError as error:
        gone = [fault["loc"] for fault in error.errors(include_url=False) if fault["type"] == "extra_forbidden"]
        if not gone:
            raise
    return model.model_validate(_without(recorded, gone))


def _without(values: Mapping[str, Any], gone: Sequence[tuple[int | str, ...]]) -> dict[str, Any]:
    """Return nested values without those at some places, which are in mappings."""
    below = {first: [place[1:] for place in gone if place[0] == first and len(place) > 1] for first, *_ in gone}
    kept = {name: value for name, value in values.items() if (name,) not in gone}
    return kept | {name: _without(kept[name], places) for name, places in below.items() if name in kept and places}


def fault_of(error: ValidationError, within: str = "") -> str:
    """Return the first thing that is wrong with a file, in one line: "walk.steps: Input should be a valid integer".

    Args:
        within: The part of the file that was checked, where that is not all of it.
    """
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, ([within] if within else []) + list(first["loc"]))) or "the file"
    return one_line(f"{where}: {first['msg'].removeprefix('Value error, ')}")
