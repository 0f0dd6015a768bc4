"""Affinity and walk against the authors' dense squarings, and against 256 products with a sparse matrix."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from benchmarks.inputs import cells
from benchmarks.row import Part, Row, synchronised
from kernels.affinity import boundary_to_affinity, offsets
from kernels.random_walk import propagate, propagate_batch

RADIUS, BETA, STEPS = 5, 10, 256
# Of T, to make T^256.
SQUARINGS = 8


def rows() -> list[Row]:
    """Return the rows; the baselines' matrices are made beforehand and not timed, the kernel's affinities are.

    The dense baseline is one squaring of the transition matrix, eight of which make 256 steps; its last product with
    the maps is left out.
    """
    return [
        *(_against_csr(num_maps, 94, 125) for num_maps in (1, 3)),
        *(_against_csr(num_maps, 32, 32) for num_maps in (1, 3)),
        *(_against_dense(num_maps, 94, 125) for num_maps in (1, 3)),
        *([_on_gpu(32, 94, 125)] if torch.cuda.is_available() else []),
    ]


def _against_csr(num_maps: int, height: int, width: int) -> Row:
    walk = _Walk(num_maps, height, width)
    # One column a map: the layout in which scipy multiplies several at once.
    columns = np.ascontiguousarray((walk.scores * (1 - walk.boundary)).flatten(1).T.numpy())

    def slow() -> np.ndarray:
        matrix, walked = _transition(height, width), columns
        for _ in range(STEPS):
            walked = matrix @ walked
        return walked

    return Row(
        walk.name, f"scipy CSR, {STEPS} steps", walk.run, [Part(slow)], walk.measure_error, 1e-4, walk.unit, memory=True
    )


def _against_dense(num_maps: int, height: int, width: int) -> Row:
    walk = _Walk(num_maps, height, width)

    baseline = f"dense matrix, {SQUARINGS} squarings"
    slow = [Part(partial(square_transition, height, width), SQUARINGS)]
    return Row(walk.name, baseline, walk.run, slow, walk.measure_error, 1e-4, walk.unit, memory=True)


def _on_gpu(batch: int, height: int, width: int) -> Row:
    """Return a row of a batch of images; one squaring is timed, and counted for all of theirs."""
    walk = _Walk(3, height, width, "cuda")
    fast = synchronised(lambda: walk.run_batch(batch))
    slow = [Part(synchronised(partial(square_transition, height, width, "cuda")), SQUARINGS * batch)]
    name, baseline = f"GPU, {batch} images: {walk.name}", f"dense matrix there, {SQUARINGS} squarings an image"
    return Row(name, baseline, fast, slow, partial(walk.measure_error, "triton"), 1e-3, walk.unit)


def square_transition(height: int, width: int, device: str = "cpu") -> Tensor:
    """Square the dense transition matrix of the cells' boundary, which is made once, by the first call."""
    matrix = _dense_transition(height, width, device)
    return matrix @ matrix


class _Walk:
    """The kernel's side of a row."""

    unit = "of the maximum and of the labels"

    def __init__(self, num_maps: int, height: int, width: int, device: str = "cpu") -> None:
        self.name = f"affinity + walk, {num_maps} map{'s' * (num_maps > 1)}, {height} x {width}"
        self.scores, self.boundary = (each.to(device) for each in cells(height, width, num_maps))

    def run(self, backend: str = "numba") -> Tensor:
        return propagate(self.scores, self.boundary, radius=RADIUS, beta=BETA, steps=STEPS, backend=backend)

    def run_batch(self, batch: int) -> list[Tensor]:
        settings = {"radius": RADIUS, "beta": BETA, "steps": STEPS}
        return propagate_batch([self.scores] * batch, [self.boundary] * batch, **settings, backend="triton")

    def measure_error(self, backend: str = "numba") -> float:
        """Return the larger of the greatest error, by the maximum, and the share of pixels with another label."""
        fast, exact = self.run(backend), self.run("torch")
        error = float((fast - exact).abs().max() / exact.max())
        threshold = torch.full_like(exact[:1], 0.25 * float(exact.max()))
        labels, others = (torch.cat([threshold, walked]).argmax(0) for walked in (exact, fast))
        return max(error, float((labels != others).float().mean()))


@cache
def _transition(height: int, width: int) -> scipy.sparse.csr_array:
    """Return T = S^-1 A^beta, float32."""
    _, boundary = cells(height, width, 0)
    weights = boundary_to_affinity(boundary, RADIUS).pow(BETA)
    pixels = torch.arange(height * width).view(height, width)
    entries = []
    for weight, (dy, dx) in zip(weights, offsets(RADIUS).tolist(), strict=True):
        inner = (slice(0, height - dy), slice(max(-dx, 0), width - max(dx, 0)))
        one = pixels[inner].flatten()
        entries.append(torch.stack([weight[inner].flatten().double(), one.double(), one.double() + dy * width + dx]))
    weight, one, other = torch.cat(entries, dim=1).numpy()
    half = scipy.sparse.coo_array((weight, (one.astype(int), other.astype(int))), (height * width, height * width))
    matrix = (half + half.T + scipy.sparse.eye_array(height * width)).tocsr()
    return (scipy.sparse.diags_array(1 / matrix.sum(axis=1)) @ matrix).tocsr().astype(np.float32)


@cache
def _dense_transition(height: int, width: int, device: str) -> Tensor:
    return torch.from_numpy(_transition(height, width).toarray()).to(device)
