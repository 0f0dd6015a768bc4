"""What a person said of some pixels, in the maps and labels of the stages.

A box says where its class may lie, so its maps are 0 elsewhere. A point, a stroke or an outline says what its pixels
are: they are seeds of the class, teach the networks, and keep their class in the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import VOID, ClassTable, Sample, SampleWithMore
from data.formats.hints import Hints, read_hints

SURE = 0.999
"""Probability of what a person said."""


def hints_of(sample: Sample, classes: ClassTable) -> Hints | None:
    """Read the hints of an image at its own size; None where it has none.

    Raises:
        DatasetError: They cannot be used.
    """
    return read_hints(sample, classes) if isinstance(sample, SampleWithMore) and sample.hints else None


def hint_cams(
    cams: Float[Tensor, "k h w"], labels: Sequence[int], hints: Hints | None, size: tuple[int, int]
) -> Float[Tensor, "k h w"]:
    """Return class attention maps with hints: 0 where a class cannot be, 1 where it is.

    A map's highest value within its boxes becomes 1. Where there is none above 0, the boxes themselves are the map.

    Args:
        cams: At stride 4, values in [0, 1].
        labels: The class of each map.
        hints: Of the image, at its own size; None leaves the maps as they are.
        size: (H, W) of the image as the maps see it.
    """
    if hints is None:
        return cams
    known, spaces = _on_grid(hints, labels, size, cams)
    maps = []
    for each, label, space in zip(cams, labels, spaces, strict=True):
        if space is not None:
            inside = torch.where(space, each, 0)
            each = inside / inside.max() if inside.max() > 0 else space.to(each.dtype)
        each = torch.where(known == VOID, each, 0)
        maps.append(torch.where(known == label + 1, 1, each))
    return torch.stack(maps)


def hint_scores(
    scores: Float[Tensor, "k h w"],
    labels: Sequence[int],
    hints: Hints | None,
    size: tuple[int, int],
    *,
    by_pixels: bool,
) -> Float[Tensor, "k h w"]:
    """Return the scores that decide labels, with hints: the least where a class cannot be, the most where it is.

    Args:
        scores: Walked maps at stride 4, or where `by_pixels` probabilities.
        labels: The class of each map.
        hints: Of the image, at its own size; None leaves the scores as they are.
        size: (H, W) of the image as the maps see it.
        by_pixels: Whether the scores are probabilities.
    """
    if hints is None:
        return scores
    known, spaces = _on_grid(hints, labels, size, scores)
    top = SURE if by_pixels else float(scores.max())
    maps = []
    for each, label, space in zip(scores, labels, spaces, strict=True):
        each = each if space is None else torch.where(space, each, 0)
        each = torch.where(known == VOID, each, 0)
        maps.append(torch.where(known == label + 1, top, each))
    return torch.stack(maps)


def keep_known(values: NDArray[np.integer], labels: Sequence[int], hints: Hints | None) -> NDArray[np.integer]:
    """Return a map of class values [H, W] in which pixels have what a person said of them.

    Args:
        values: At the image's own size, or at another.
        labels: The image's classes.
        hints: Of the image, at its own size; None leaves the map as it is.
    """
    if hints is None:
        return values
    truth = hints.at_size((values.shape[0], values.shape[1])).truth([label + 1 for label in labels])
    return np.where(truth == VOID, values, truth).astype(values.dtype)


def _on_grid(
    hints: Hints, labels: Sequence[int], size: tuple[int, int], like: Tensor
) -> tuple[Int[Tensor, "h w"], list[Bool[Tensor, "h w"] | None]]:
    """Return what is known of each cell, and where each class may lie; the last cells may reach beyond the image."""
    rows, columns = like.shape[1:]
    # In two steps: a cell is four pixels of the image as the maps see it, not a part of its side.
    seen = hints.at_size(size)
    whole = Hints(
        np.pad(seen.known, ((0, 4 * rows - size[0]), (0, 4 * columns - size[1])), constant_values=VOID), seen.boxes
    )
    cells = whole.at_size((rows, columns))
    spaces = [cells.space(label + 1) for label in labels]
    known = torch.from_numpy(cells.known.astype(np.int64)).to(like.device)
    return known, [None if space is None else torch.from_numpy(space).to(like.device) for space in spaces]
