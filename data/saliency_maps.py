"""Maps of saliency on disk: how much each pixel of a photograph draws the eye, in [0, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.dataset import Sample
from data.formats.unit_maps import read_unit_map

NETWORK_SUFFIX = ".onnx"
"""Of a network that finds saliency, in the place of a map."""


def is_network(file: Path) -> bool:
    """Return whether a source of saliency is a network, not a map."""
    return file.suffix.lower() == NETWORK_SUFFIX


def read_saliency(sample: Sample) -> NDArray[np.float32]:
    """Read the map of a sample; result and errors are those of `data.formats.unit_maps.read_unit_map`."""
    assert sample.saliency is not None
    return read_unit_map(sample.saliency, sample.image, "a map of saliency")
