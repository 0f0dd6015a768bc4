"""Path affinities against the authors' way, gathering by a table of indices, and against one maximum a path pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.inputs import cells
from benchmarks.row import Part, Row
from kernels.affinity import boundary_to_affinity, paths, reference

SIZE = (94, 125)


def rows() -> list[Row]:
    return [row for radius in (5, 10) for row in _rows_of(radius, *SIZE)] + _rows_of(5, 32, 32)[:1]


def _rows_of(radius: int, height: int, width: int) -> list[Row]:
    _, boundary = cells(height, width, 0)
    tables = _gather_tables(radius, height, width)
    name = f"affinity, radius {radius}, {height} x {width}"

    def fast() -> Tensor:
        return boundary_to_affinity(boundary, radius, backend="numba")

    def gather() -> Tensor:
        reach = radius - 1
        padded = F.pad(boundary, (reach, reach, 0, reach), value=1.0).flatten()
        return torch.cat([1 - padded[table].amax(1) for table in tables]).view(-1, height, width)

    def shift() -> Tensor:
        return reference.boundary_to_affinity(boundary, radius)

    def measure_error() -> float:
        return max(float((fast() - slow()).abs().max()) for slow in (gather, shift))

    return [
        Row(name, "gathered paths", fast, [Part(gather)], measure_error, 0, "of affinity", memory=True),
        Row(name, "a shifted maximum a path pixel", fast, [Part(shift)], measure_error, 0, "of affinity"),
    ]


def _gather_tables(radius: int, height: int, width: int) -> list[Tensor]:
    """Return int64 [paths, pixels of each, H * W] for each length of path: indices into the flat padded map."""
    stride = width + 2 * (radius - 1)
    corners = (torch.arange(height)[:, None] * stride + torch.arange(width) + radius - 1).flatten()
    by_length: dict[int, list[list[int]]] = {}
    for path in paths(radius).values():
        by_length.setdefault(len(path), []).append([y * stride + x for y, x in path])
    return [torch.tensor(shifts)[:, :, None] + corners for shifts in by_length.values()]
