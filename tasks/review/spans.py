"""Label maps on their way between server and page: spans of one value along the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def encode_spans(values: NDArray[np.integer]) -> list[int]:
    """Return start, length and value of every span of a map [H, W] that is not 0, one after another."""
    flat = values.ravel()
    if not flat.size:
        return []
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    spans = np.stack([starts, lengths, flat[starts]], axis=1)
    return spans[spans[:, 2] != 0].ravel().tolist()


def decode_spans(spans: Sequence[int], shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Return the map [H, W] of spans, 0 elsewhere.

    Raises:
        ValueError: They are not three numbers each, do not ascend, leave the map, or have values that are none.
    """
    if len(spans) % 3:
        raise ValueError(f"expected start, length and value of each span, found {len(spans)} numbers")
    found = np.array(spans, np.int64).reshape(-1, 3)
    starts, lengths, values = found.T
    ends = starts + lengths
    if len(found) and (
        starts[0] < 0 or (lengths < 1).any() or (starts[1:] < ends[:-1]).any() or ends[-1] > shape[0] * shape[1]
    ):
        raise ValueError(f"expected ascending spans within {shape[1]} x {shape[0]} pixels")
    if (values < 1).any() or (values > np.iinfo(np.uint16).max).any():
        raise ValueError(f"expected values of 1 to {np.iinfo(np.uint16).max}")
    flat = np.zeros(shape[0] * shape[1], np.uint16)
    for start, end, value in zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True):
        flat[start:end] = value
    return flat.reshape(shape)
