"""What both versions compute, and the cost of one pair."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int64
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
