"""Pair losses, forward and backward, against the authors' way: all pairs gathered by tables of indices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.inputs import cells
from benchmarks.row import Part, Row
from kernels.affinity import paths
from kernels.pair_losses import IGNORE, PairTerms, pair_terms

RADIUS = 10


def rows() -> list[Row]:
    return [_row(128, 128, memory=True), _row(32, 32, memory=False)]


def _row(height: int, width: int, *, memory: bool) -> Row:
    crop = _make_crop(height, width)
    tables = _gather_tables(height, width)

    def fast() -> Found:
        terms = pair_terms(crop.boundary, crop.displacement, crop.labels, radius=RADIUS, backend="numba")
        return _differentiate(terms, crop)

    def slow() -> Found:
        return _differentiate(_gathered_terms(crop, *tables), crop)

    def measure_error() -> float:
        """Return the largest of the gradients' errors and ten times the loss's, which may be a tenth of theirs."""
        exact = _Crop(crop.boundary.double(), crop.displacement.double(), crop.labels)
        expected = _differentiate(_gathered_terms(exact, *tables), exact)
        errors = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(fast(), expected, strict=True)]
        return max(10 * errors[0], *errors[1:])

    return Row(
        f"pair losses, forward + backward, {height} x {width}",
        "gathered pairs",
        fast,
        [Part(slow)],
        measure_error,
        1e-5,
        "of the greatest gradient, or of a tenth of the loss",
        memory=memory,
    )


class _Crop(NamedTuple):
    boundary: Tensor
    displacement: Tensor
    labels: Tensor


# Loss, gradient by the boundary, gradient by the displacement.
Found = tuple[Tensor, Tensor, Tensor]


def _make_crop(height: int, width: int) -> _Crop:
    """Return a training crop of three classes, with ignored rims between them and the background."""
    scores, boundary = cells(height, width, 6)
    strength, owner = scores.max(0)
    labels = torch.where(strength > 0.4, owner % 3 + 1, 0)
    labels = torch.where((strength > 0.3) & (strength <= 0.4), IGNORE, labels).to(torch.uint8)
    generator = torch.Generator().manual_seed(0)
    # No two values are equal, so that a path has one greatest and one gradient.
    boundary = 0.01 + 0.9 * boundary + 0.08 * torch.rand(height, width, generator=generator)
    displacement = 4 * torch.randn(1, 2, height, width, generator=generator)
    return _Crop(boundary[None].requires_grad_(), displacement.requires_grad_(), labels[None])


def _differentiate(terms: PairTerms, crop: _Crop) -> Found:
    loss = terms.bg_affinity / terms.num_bg + terms.fg_affinity / terms.num_fg + terms.neg_affinity / terms.num_neg
    loss = loss + terms.fg_displacement / terms.num_fg + terms.bg_displacement / terms.num_bg
    gradients = torch.autograd.grad(loss, (crop.boundary, crop.displacement))
    return loss.detach(), gradients[0], gradients[1]


def _gather_tables(height: int, width: int) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return indices into a flat map, and the order of the offsets.

    Returns:
        The pairs' first pixels [P]; for each length of path the pixels of its paths [K', length, P]; the offsets
        (dy, dx) [K, 2] in the order of those paths.
    """
    reach = RADIUS - 1
    first = (torch.arange(height - reach)[:, None] * width + torch.arange(reach, width - reach)).flatten()
    by_length: dict[int, list[tuple[int, int]]] = {}
    for offset, path in paths(RADIUS).items():
        by_length.setdefault(len(path), []).append(offset)
    tables = [
        torch.tensor([[y * width + x for y, x in paths(RADIUS)[offset]] for offset in group])[:, :, None] + first
        for group in by_length.values()
    ]
    return first, tables, torch.tensor([offset for group in by_length.values() for offset in group])


def _gathered_terms(crop: _Crop, first: Tensor, tables: list[Tensor], steps_to: Tensor) -> PairTerms:
    width = crop.labels.shape[2]
    boundary, field, labels = crop.boundary.flatten(), crop.displacement[0].flatten(1), crop.labels.flatten()
    second = first + (steps_to @ torch.tensor([width, 1]))[:, None]
    affinity = torch.cat([1 - boundary[table].max(1).values for table in tables])
    difference = field[:, first][:, None] - field[:, second]
    one, other = labels[first].expand_as(second), labels[second]
    valid = (one != IGNORE) & (other != IGNORE)
    background, foreground = valid & (one == 0) & (other == 0), valid & (one == other) & (one > 0)
    negative = valid & (one != other)
    target = steps_to.T[:, :, None].to(field.dtype)
    positive = -(affinity + 1e-5).log()
    return PairTerms(
        num_bg=background.sum(),
        num_fg=foreground.sum(),
        num_neg=negative.sum(),
        bg_affinity=(positive * background).sum(),
        fg_affinity=(positive * foreground).sum(),
        neg_affinity=(-(1 + 1e-5 - affinity).log() * negative).sum(),
        fg_displacement=((difference - target).abs() * foreground).sum(),
        bg_displacement=(difference.abs() * background).sum(),
    )
