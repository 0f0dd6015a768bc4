"""Scribbles refined by the random walk: what a person marks spreads as far as the class boundaries let it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg
from torch import Tensor
from torch.nn import functional as F

from kernels.affinity import boundary_to_affinity, offsets

REACH, LEAST_REACH_PX = 0.75, 48
"""How far around its scribbles a walk may go: as a share of their longer side, and at least."""
MOST_CELLS = 8000
"""Cells that a walk is made on: a larger window is walked on a coarser grid."""
LOST, WALL = 1e-6, 1e-4
"""The weight with which a walk is lost at every step, and the sum of weights under which a cell is a wall."""
TOLERANCE, MOST_STEPS = 1e-3, 300
LEAST_SCORE = 0.02


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
    seeds = torch.stack([_cells_of(drawn == kind, grid) for kind in kinds])
    # A cell with several goes to the one with most of its pixels.
    seeds = (seeds == seeds.amax(0)) & (seeds > 0)
    sources = torch.cat([(_rim(cells, boundary.shape, grid, len(kinds) == 1) & ~seeds.any(0))[None], seeds]).float()
    scores = absorb(sources, walls, radius=radius, beta=beta)
    size = (drawn.shape[1], drawn.shape[0])
    fine = np.stack([cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in scores])
    found = np.concatenate([[0], kinds]).astype(np.uint16)[fine.argmax(0)]
    found[fine.max(0) < LEAST_SCORE] = 0
    result[pixels] = np.where(drawn > 0, drawn, found)
    return result


def absorb(
    sources: Float[Tensor, "k h w"], boundary: Float[Tensor, "h w"], *, radius: int, beta: float
) -> NDArray[np.float64]:
    """Return for each source the probability [K, H, W] that a random walk from a pixel ends at it.

    The walk is that of `kernels.random_walk`, T = S^-1 A^beta, and ends where it meets a source. It is lost before with
    a chance that matters only where boundaries enclose a pixel. The probabilities x are what a step leaves as they
    are, x = T x off the sources: a sparse system, solved by conjugate gradients.

    Args:
        sources: 1 where a source is, each pixel of one source at most; elsewhere 0.
    """
    held = sources.any(0).numpy().ravel()
    weights = _weights(boundary, radius, beta)
    degrees = np.asarray(weights.sum(1)).ravel() + LOST
    free, fixed = np.flatnonzero(~held), np.flatnonzero(held)
    found = sources.numpy().reshape(len(sources), -1).astype(np.float64)
    off = weights[free]
    system = (sparse.diags(degrees[free]) - off[:, free]).tocsr()
    given, scale = off[:, fixed], sparse.diags(1 / degrees[free])
    for row in found:
        row[free], _ = cg(system, given @ row[fixed], rtol=TOLERANCE, maxiter=MOST_STEPS, M=scale)
    found = found.reshape(sources.shape)
    # A pixel of a wall, which nothing reaches, lies between its neighbours.
    inside = (degrees > WALL).reshape(boundary.shape) | held.reshape(boundary.shape)
    sums = np.stack([cv2.blur(each * inside, (3, 3), borderType=cv2.BORDER_CONSTANT) for each in found])
    counts = cv2.blur(inside.astype(np.float64), (3, 3), borderType=cv2.BORDER_CONSTANT)
    return np.where(inside, found, sums / np.maximum(counts, 1e-9))


def _weights(boundary: Float[Tensor, "h w"], radius: int, beta: float) -> sparse.csr_array:
    """Return A^beta without its diagonal, [H * W, H * W]."""
    height, width = boundary.shape
    affinity = boundary_to_affinity(boundary, radius).pow(beta).numpy()
    places = np.arange(height * width, dtype=np.int32).reshape(height, width)
    parts = []
    for values, (dy, dx) in zip(affinity, offsets(radius).tolist(), strict=True):
        # The second pixel is below, or right of, the first.
        first = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        second = (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        parts.append((places[first].ravel(), places[second].ravel(), values[first].ravel()))
    rows, columns, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    half = sparse.coo_array((values, (rows, columns)), shape=(places.size, places.size)).tocsr()
    return half + half.T


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
