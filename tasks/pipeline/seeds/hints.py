"""What a person said of some pixels, in the maps and labels of the stages.

A box says where its class may lie, so its maps are 0 elsewhere. A point, a stroke or an outline says what its pixels
are: they are seeds of the class, teach the networks, keep their class in the labels, and grow there by a random walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import VOID, ClassTable, Sample, SampleWithMore, unknown_classes
from data.formats.hints import Hints, read_hints
from kernels.random_walk.absorbing import absorb
from tasks.pipeline.second_round import from_odds, ratio, with_evidence

Value = TypeVar("Value", bound=np.integer)
SURE = 0.999
"""Probability of what a person said."""
BOX_ODDS = 30.0
"""How much likelier a class is within its boxes than its scores say."""
LEAST_GROWN = 0.05
"""Bounds what grows from a stroke: where no walk ends at background, the odds are 21 times as high."""
WALK_RADIUS, WALK_BETA = 3, 10.0


def hints_of(sample: Sample, classes: ClassTable) -> Hints | None:
    """Read the hints of an image's classes at its own size; None where it has none.

    Those of other classes are left out: networks of an earlier run may know fewer than the set has.

    Raises:
        DatasetError: They cannot be used.
    """
    if not isinstance(sample, SampleWithMore) or not sample.hints:
        return None
    return read_hints(sample, classes).of([label + 1 for label in sample.labels])


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


def hinted_probabilities(
    scores: Float[Tensor, "k h w"],
    labels: Sequence[int],
    hints: Hints,
    size: tuple[int, int],
    *,
    threshold: float | None = None,
    boundary: Float[Tensor, "h w"] | None = None,
) -> Float[Tensor, "k h w"]:
    """Return probabilities of an image's classes with what a person said.

    A class is nowhere outside of its boxes; inside, its odds against background are `BOX_ODDS` times as high. What was
    said of single pixels grows as far as the boundaries let it: with the probabilities g that a random walk from a
    pixel ends at what is known of a class or of background, the odds of a class are multiplied by
    (g_class + `LEAST_GROWN`) / (g_background + `LEAST_GROWN`).

    Args:
        scores: Walked maps at stride 4, or without a threshold probabilities.
        labels: The class of each map.
        hints: Of the image, at its own size.
        size: (H, W) of the image as the maps see it.
        threshold: The background threshold of walked maps, relative to their highest value.
        boundary: Probabilities of a class boundary at stride 4; without, what is known does not grow.
    """
    found = scores
    if threshold is not None:
        found = from_odds(ratio(scores / scores.max().clamp(min=1e-12), threshold))
    known, spaces = _on_grid(hints, labels, size, scores)
    evidence = torch.ones_like(scores)
    for row, space in enumerate(spaces):
        if space is not None:
            evidence[row] = torch.where(space, BOX_ODDS, 0)
    if boundary is not None and (known != VOID).any():
        nothing, *grown = _grow(known, labels, boundary[: known.shape[0], : known.shape[1]])
        evidence = evidence * (torch.stack(grown) + LEAST_GROWN) / (nothing + LEAST_GROWN)
    found = torch.where(known == VOID, with_evidence(found, evidence), 0)
    return torch.stack([torch.where(known == label + 1, SURE, each) for each, label in zip(found, labels, strict=True)])


def _grow(
    known: Int[Tensor, "h w"], labels: Sequence[int], boundary: Float[Tensor, "h w"]
) -> Float[Tensor, "values h w"]:
    """Return the probabilities that a walk from a cell ends at background, and at each class; where nobody said what
    background is, it is the rim of the image."""
    nothing = known == 0
    if not nothing.any():
        rim = torch.ones_like(nothing)
        rim[1:-1, 1:-1] = False
        nothing = rim & (known == VOID)
    sources = torch.stack([nothing, *(known == label + 1 for label in labels)]).float().cpu()
    found = absorb(sources, boundary.float().cpu(), radius=WALK_RADIUS, beta=WALK_BETA)
    return torch.from_numpy(found.astype(np.float32)).to(known.device)


def keep_known(values: NDArray[Value], sample: Sample, hints: Hints | None, *, outside: int = VOID) -> NDArray[Value]:
    """Return a map of class values [H, W] that says nothing else than a person did.

    Args:
        values: At the image's own size, or at another.
        sample: The image.
        hints: Of the image, at its own size; None leaves the map as it is.
        outside: The value of a class's pixels outside of its boxes.
    """
    if hints is None:
        return values
    seen, found = hints.at_size((values.shape[0], values.shape[1])), values.copy()
    classes = [label + 1 for label in sample.labels]
    for value in classes:
        space = seen.space(value)
        if space is not None:
            found[(found == value) & ~space] = outside
    # What lies outside of all boxes may be a class that nobody has named.
    truth = seen.known if unknown_classes(sample) else seen.truth(classes)
    return np.where(truth == VOID, found, truth).astype(values.dtype)


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
