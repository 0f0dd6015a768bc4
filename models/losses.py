"""Losses of IRNet's two branches (IRNet, Sec. 4.3 to 4.5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from kernels.pair_losses import pair_terms

# Makes the mean over no pair at all 0, as in the authors' code.
EPSILON = 1e-5


class PairLosses(NamedTuple):
    """Means over the pairs of a batch, their weighted total, and the numbers of pairs."""

    bg_affinity: Float[Tensor, ""]
    fg_affinity: Float[Tensor, ""]
    neg_affinity: Float[Tensor, ""]
    fg_displacement: Float[Tensor, ""]
    bg_displacement: Float[Tensor, ""]
    total: Float[Tensor, ""]
    num_bg: Int64[Tensor, ""]
    num_fg: Int64[Tensor, ""]
    num_neg: Int64[Tensor, ""]


def pair_losses(
    boundary_logits: Float[Tensor, "b 1 h w"],
    displacement: Float[Tensor, "b 2 h w"],
    labels: Integer[Tensor, "b h w"],
    *,
    radius: int = 10,
    backend: str = "auto",
) -> PairLosses:
    """Compute the losses of pairs of pixels under mined labels.

    IRNet (Ahn et al. 2019), Eq. 5, 6 and 8, with the weights of the authors' code:
    total = ((bg_affinity + fg_affinity) / 2 + neg_affinity) / 2 + (fg_displacement + bg_displacement) / 2.
    It differs from Eq. 9 in halving each branch and in averaging displacement over both coordinates. A batch
    without pairs of some kind has 0 for their mean, with zero gradients.

    Args:
        boundary_logits: Before the sigmoid; half precision is computed in float32.
        displacement: (dy, dx) in feature pixels.
        labels: On the feature grid: 0 background, 255 do not care, else a foreground class.
        radius: See `kernels.pair_losses.pair_terms`.
        backend: See `kernels.pair_losses.pair_terms`.

    Raises:
        ValueError: As `pair_terms`.
    """
    dtype = torch.promote_types(torch.promote_types(boundary_logits.dtype, displacement.dtype), torch.float32)
    boundary = boundary_logits.to(dtype).squeeze(1).sigmoid()
    terms = pair_terms(boundary, displacement.to(dtype), labels, radius=radius, backend=backend)
    # In the terms' precision: an integer tensor plus a float would be single.
    num_bg, num_fg, num_neg = (number.to(dtype) for number in (terms.num_bg, terms.num_fg, terms.num_neg))
    bg_affinity = terms.bg_affinity / (num_bg + EPSILON)
    fg_affinity = terms.fg_affinity / (num_fg + EPSILON)
    neg_affinity = terms.neg_affinity / (num_neg + EPSILON)
    fg_displacement = terms.fg_displacement / (2 * num_fg + EPSILON)
    bg_displacement = terms.bg_displacement / (2 * num_bg + EPSILON)
    total = ((bg_affinity + fg_affinity) / 2 + neg_affinity) / 2 + (fg_displacement + bg_displacement) / 2
    return PairLosses(
        bg_affinity,
        fg_affinity,
        neg_affinity,
        fg_displacement,
        bg_displacement,
        total,
        terms.num_bg,
        terms.num_fg,
        terms.num_neg,
    )


def centering_loss(displacement: Float[Tensor, "b 2 h w"], components: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Return how far each region's displacements are from adding up to nothing.

    IRNet (Ahn et al. 2019, Sec. 4.3) states two conditions of a displacement field. Eq. 5 encourages the first alone,
    and leaves the second, `sum over x of D(x) = 0` for each instance, to the initial weights. A network that can tell
    where in the image it looks then finds an easier answer: one centroid for all. This is the second condition, for
    connected regions of one class: a region of several instances meets it too when each of them does.

    Args:
        displacement: (dy, dx) in feature pixels.
        components: 0 where there is no region, else the region's number, counted through the batch.

    Returns:
        The mean over regions of |mean of dy| + |mean of dx|, halved; 0 where there is no region.
    """
    inside = components > 0
    if not inside.any():
        return displacement.sum() * 0
    _, region = torch.unique(components[inside], return_inverse=True)
    vectors = displacement.permute(0, 2, 3, 1)[inside].float()
    sums = vectors.new_zeros(int(region.max()) + 1, 2).index_add_(0, region, vectors)
    sizes = torch.bincount(region).unsqueeze(1)
    return (sums / sizes).abs().mean()
