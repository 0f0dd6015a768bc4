"""What all versions compute, the cost of one pair, and terms from counts of pairs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

IGNORE = 255
# Keeps the logarithms finite, as in the authors' code.
EPSILON = 1e-5


class PairTerms(NamedTuple):
    """Numbers of pairs and sums over pairs, of a whole batch; the sums are differentiable.

    Background and foreground pairs have one label, negative pairs two; a displacement sum runs over the pairs
    and both coordinates.
    """

    num_bg: Int64[Tensor, ""]
    num_fg: Int64[Tensor, ""]
    num_neg: Int64[Tensor, ""]
    bg_affinity: Float[Tensor, ""]
    fg_affinity: Float[Tensor, ""]
    neg_affinity: Float[Tensor, ""]
    fg_displacement: Float[Tensor, ""]
    bg_displacement: Float[Tensor, ""]


def positive_cost(affinity: Tensor) -> Tensor:
    """Return the cost of an affinity between pixels of one label."""
    return -(affinity + EPSILON).log()


def negative_cost(affinity: Tensor) -> Tensor:
    """Return the cost of an affinity between pixels of two labels."""
    return -(1 + EPSILON - affinity).log()


def from_counts(
    boundary: Float[Tensor, "b h w"],
    displacement: Float[Tensor, "b 2 h w"],
    decided: Int[Tensor, "3 b h w"],
    displacement_sums: Float[Tensor, " 2"],
    slopes: Int[Tensor, "b 2 2 h w"],
) -> PairTerms:
    """Return the terms, differentiable, from what one pass over the pairs has counted.

    Args:
        boundary: As given.
        displacement: As given.
        decided: For each pixel the background, foreground and negative pairs whose strongest boundary it is.
        displacement_sums: Background and foreground sums of displacement errors.
        slopes: Derivatives of these two sums by the displacement: by image, sum, coordinate and pixel.
    """
    background, foreground, negative = decided
    affinity = 1 - boundary
    # In double precision: a sum of a million costs in single precision would depend on how it is split.
    positive = positive_cost(affinity).double()
    bg_displacement, fg_displacement = _Sloped.apply(displacement, displacement_sums, slopes)
    num_bg, num_fg, num_neg = decided.long().sum((1, 2, 3))
    return PairTerms(
        num_bg=num_bg,
        num_fg=num_fg,
        num_neg=num_neg,
        bg_affinity=(positive * background).sum().to(boundary.dtype),
        fg_affinity=(positive * foreground).sum().to(boundary.dtype),
        neg_affinity=(negative_cost(affinity).double() * negative).sum().to(boundary.dtype),
        fg_displacement=fg_displacement,
        bg_displacement=bg_displacement,
    )


class _Sloped(torch.autograd.Function):
    """Numbers that were computed from a displacement, with their derivatives by it."""

    @staticmethod
    def forward(ctx: Any, displacement: Tensor, sums: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(slopes)
        return sums.to(displacement.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return torch.einsum("t,btahw->bahw", grads[0], slopes.to(grads[0].dtype)), None, None
