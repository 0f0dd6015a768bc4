"""The plain version: the table of all pairs, by shifted slices; gradients by autograd."""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from kernels.affinity import paths
from kernels.pair_losses.terms import IGNORE, PairTerms, negative_cost, positive_cost


def pair_terms(
    boundary: Float[Tensor, "b h w"],
    displacement: Float[Tensor, "b 2 h w"],
    labels: Integer[Tensor, "b h w"],
    radius: int,
) -> PairTerms:
    """See `kernels.pair_losses.pair_terms`."""
    _, height, width = labels.shape
    reach = radius - 1
    rows, columns = max(height - reach, 0), max(width - 2 * reach, 0)

    def seen_from_sources(field: Tensor, dy: int, dx: int) -> Tensor:
        """Give each source the field's value at its own place plus (dy, dx)."""
        return field[..., dy : dy + rows, reach + dx : reach + dx + columns]

    affinity, difference, partner = [], [], []
    for (dy, dx), path in paths(radius).items():
        on_path = torch.stack([seen_from_sources(boundary, *pixel) for pixel in path])
        # `max` along an axis hands its gradient to the first of equal values, `amax` would share it out.
        affinity.append(1 - on_path.max(0).values)
        difference.append(seen_from_sources(displacement, 0, 0) - seen_from_sources(displacement, dy, dx))
        partner.append(seen_from_sources(labels, dy, dx))
    affinity, difference, partner = (torch.stack(table, 1) for table in (affinity, difference, partner))
    source = seen_from_sources(labels, 0, 0)[:, None].expand_as(partner)
    valid = (source != IGNORE) & (partner != IGNORE)
    background = valid & (source == 0) & (partner == 0)
    foreground = valid & (source == partner) & (source != 0)
    negative = valid & (source != partner)

    offset = displacement.new_tensor(list(paths(radius)))[:, :, None, None]
    return PairTerms(
        num_bg=background.sum(),
        num_fg=foreground.sum(),
        num_neg=negative.sum(),
        bg_affinity=(positive_cost(affinity) * background).sum(),
        fg_affinity=(positive_cost(affinity) * foreground).sum(),
        neg_affinity=(negative_cost(affinity) * negative).sum(),
        fg_displacement=((difference - offset).abs() * foreground[:, :, None]).sum(),
        bg_displacement=(difference.abs() * background[:, :, None]).sum(),
    )
