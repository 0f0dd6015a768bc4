"""Scribbles refined by the random walk: what a person marks spreads as far as the class boundaries let it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kernels.random_walk.absorbing import absorb

REACH, LEAST_REACH_PX = 0.75, 48
"""How far around its scribbles a walk may go: as a share of their longer side, and at least."""
MOST_CELLS = 8000
"""Cells that a walk is made on: a larger window is walked on a coarser grid."""


def refine_scribbles(
    scribbles: NDArray[np.uint16], boundary: Float[Tensor, "h w"], *, radius: int = 3, beta: float = 10
) -> NDArray[np.uint16]:
    """Return the scribbles grown to the regions that they mark.

    A random walk from each pixel, held back by class boundaries, ends at one of the scribbles, as in Grady's random
    walker (2006), or at the rim of the window, which stands for what stays as it was. A pixel gets the most probable.

    Args:
        scribbles: [H, W] of the photograph; 0 where nothing was drawn.
        boundary: Probabilities of a class boundary in [0, 1], on any grid over the photograph.

    Returns:
        [H, W]: a value of the scribbles, or 0 where a pixel stays as it was.
    """
    result = scribbles.copy()
    kinds = np.unique(scribbles[scribbles > 0])
    if not len(kinds):
        return result
    cells, pixels = _window(scribbles, (int(boundary.shape[0]), int(boundary.shape[1])))
    drawn = scribbles[pixels]
    walls = _reduce(boundary[cells].float())
    grid = (int(walls.shape[0]), int(walls.shape[1]))
    shares = torch.stack([_cells_of(drawn == kind, grid) for kind in kinds])
    # A cell with several goes to the one with most of its pixels, to the first of those that have as many.
    seeds = F.one_hot(shares.argmax(0), len(kinds)).movedim(-1, 0).bool() & (shares > 0)
    sources = torch.cat([(_rim(cells, boundary.shape, grid, len(kinds) == 1) & ~seeds.any(0))[None], seeds]).float()
    scores = absorb(sources, walls, radius=radius, beta=beta)
    size = (drawn.shape[1], drawn.shape[0])
    best, *others = (cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in scores.astype(np.float32))
    found = np.zeros_like(drawn)
    for kind, each in zip(kinds, others, strict=True):
        found[each > best] = kind
        best = np.maximum(best, each)
    result[pixels] = np.where(drawn > 0, drawn, found)
    return result


def _window(scribbles: NDArray[np.uint16], grid: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a walk goes: in cells of the boundary's grid, and in pixels."""
    places = [np.flatnonzero((scribbles > 0).any(axis)) for axis in (1, 0)]
    reach = max(LEAST_REACH_PX, REACH * max(place[-1] - place[0] for place in places))
    cells, pixels = [], []
    for place, count, side in zip(places, grid, scribbles.shape, strict=True):
        first = max(int((place[0] - reach) * count / side), 0)
        last = min(int((place[-1] + reach) * count / side) + 2, count)
        cells.append(slice(first, last))
        pixels.append(slice(round(first * side / count), round(last * side / count)))
    return (cells[0], cells[1]), (pixels[0], pixels[1])


def _reduce(boundary: Float[Tensor, "h w"]) -> Float[Tensor, "a b"]:
    """Return a window's boundaries on a grid that is coarse enough; a wall stays one."""
    factor = max(1, int(np.ceil((boundary.numel() / MOST_CELLS) ** 0.5)))
    return F.max_pool2d(boundary[None], factor, ceil_mode=True)[0] if factor > 1 else boundary


def _cells_of(drawn: NDArray[np.bool_], grid: tuple[int, int]) -> Float[Tensor, "h w"]:
    """Return the share of each cell that was drawn on."""
    return torch.from_numpy(cv2.resize(drawn.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA))


def _rim(cells: tuple[slice, slice], whole: torch.Size, grid: tuple[int, int], everywhere: bool) -> Tensor:
    """Mark the rim of a window; at the border of the photograph only where nothing else holds a scribble back."""
    rim = torch.zeros(grid, dtype=torch.bool)
    for axis, (side, count) in enumerate(zip(cells, whole, strict=True)):
        if everywhere or side.start > 0:
            rim.select(axis, 0)[:] = True
        if everywhere or side.stop < count:
            rim.select(axis, -1)[:] = True
    return rim
