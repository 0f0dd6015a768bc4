"""The background score of CAMs, (1 - the strongest class) ** power (Ahn and Kwak 2018, Eq. 2)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tasks.pipeline.thresholds import FILE

# Of thresholds that are made powers: outside, a power would be no number, or next to none.
LEAST, MOST = 0.01, 0.95


def with_background(cams: Float[Tensor, "k h w"], power: float) -> Float[Tensor, "k1 h w"]:
    """Return the maps of an image's classes, in [0, 1], with that of the background before them."""
    strongest = cams.amax(dim=0, keepdim=True) if len(cams) else cams.new_zeros(1, *cams.shape[1:])
    return torch.cat([(1 - strongest).clamp(min=0) ** power, cams])


def power_at(threshold: float) -> float:
    """Return the power whose background equals a score at a threshold: (1 - t) ** power = t.

    The paper's 4, 16 and 24 are those at 0.28, 0.12 and 0.09.
    """
    t = min(max(threshold, LEAST), MOST)
    return math.log(t) / math.log(1 - t)


def chosen_power(power: float | str, folder: Path | None, name: str) -> float:
    """Return a power of the settings, or for "auto" that of a threshold which stage `thresholds` wrote.

    Args:
        power: A number or "auto".
        folder: Of the stage's artifact; needed for "auto".
        name: "foreground", "background", or "threshold" for the set's own.
    """
    if not isinstance(power, str):
        return power
    assert folder is not None
    return power_at(float(json.loads((folder / FILE).read_text())[name]))
