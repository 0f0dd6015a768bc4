"""Losses of AffinityNet (Ahn and Kwak 2018, Sec. 3.2.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor
from torch.nn import functional as F

from kernels.affinity import offsets

IGNORE = 255
# In the logarithms, and in the number of pairs: as in the authors' code.
EPSILON = 1e-5


class AffinityLosses(NamedTuple):
    """Means over the pairs of a batch, their weighted total, and the numbers of pairs."""

    bg_affinity: Float[Tensor, ""]
    fg_affinity: Float[Tensor, ""]
    neg_affinity: Float[Tensor, ""]
    total: Float[Tensor, ""]
    num_bg: Int64[Tensor, ""]
    num_fg: Int64[Tensor, ""]
    num_neg: Int64[Tensor, ""]


def affinity_losses(
    affinity: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"], radius: int
) -> AffinityLosses:
    """Compute the cross-entropies of affinities under relation labels.

    AffinityNet, Eq. 7 to 10: bg_affinity and fg_affinity are the mean of -log W over pairs of background and of one
    class, neg_affinity that of -log(1 - W) over pairs of different labels, and
    total = bg_affinity / 4 + fg_affinity / 4 + neg_affinity / 2, which is a quarter of Eq. 10, as in the authors' code.
    A batch without pairs of some kind has 0 for their mean.

    Args:
        affinity: W of the pairs of `kernels.feature_affinity`, in [0, 1].
        labels: On the same grid: 0 background, 255 do not care, else a class.
        radius: Of the pairs, in pixels of the grid.

    Raises:
        ValueError: The affinities are not those of pairs of that radius on the labels' grid.
    """
    wanted = (len(labels), len(offsets(radius)), *labels.shape[1:])
    if affinity.shape != wanted:
        raise ValueError(f"affinity must be {list(wanted)} at radius {radius}, got {list(affinity.shape)}")
    background, foreground, different = pair_kinds(labels, radius)
    alike, unlike = -torch.log(affinity + EPSILON), -torch.log(1 + EPSILON - affinity)

    def mean(costs: Tensor, pairs: Tensor) -> Tensor:
        return torch.where(pairs, costs, 0).sum() / (pairs.sum() + EPSILON)

    bg, fg, neg = mean(alike, background), mean(alike, foreground), mean(unlike, different)
    return AffinityLosses(bg, fg, neg, bg / 4 + fg / 4 + neg / 2, background.sum(), foreground.sum(), different.sum())


def pair_kinds(
    labels: Integer[Tensor, "b h w"], radius: int
) -> tuple[Bool[Tensor, "b k h w"], Bool[Tensor, "b k h w"], Bool[Tensor, "b k h w"]]:
    """Return which pairs are of background, of one class, and of different labels (P+ bg, P+ fg and P- of the paper).

    The pairs are those of `kernels.affinity.offsets`; one with an end at 255, or outside the map, is of no kind.
    """
    height, width = labels.shape[1:]
    reach = radius - 1
    padded = F.pad(labels.int(), (reach, reach, 0, reach), value=IGNORE)
    others = torch.stack(
        [padded[:, dy : dy + height, reach + dx : reach + dx + width] for dy, dx in offsets(radius).tolist()], dim=1
    )
    own = labels.int()[:, None]
    known, alike = (own != IGNORE) & (others != IGNORE), own == others
    return known & alike & (own == 0), known & alike & (own > 0), known & ~alike
