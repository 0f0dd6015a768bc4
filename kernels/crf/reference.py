"""The plain version: mean field with a Gaussian filter by splatting, blurring and slicing, line by line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from kernels.crf.lattice import Lattice, features
from kernels.crf.lattice import build as build_lattice
from kernels.crf.settings import BILATERAL, GAUSSIAN, Kernel

Filter = Callable[[Float32[Tensor, "n c"]], Float32[Tensor, "n c"]]


def build(image: UInt8[Tensor, "h w 3"]) -> list[Filter]:
    """Return the message of each kernel, as functions of the pixels' distributions."""
    return [_message(image, kernel) for kernel in (GAUSSIAN, BILATERAL)]


def _message(image: UInt8[Tensor, "h w 3"], kernel: Kernel) -> Filter:
    smooth = partial(_smooth, build_lattice(features(image, kernel)))
    norm = (smooth(torch.ones(image.shape[0] * image.shape[1], 1, device=image.device)) + 1e-20).rsqrt()
    return lambda field: kernel.weight * norm * smooth(norm * field)


def _smooth(lattice: Lattice, field: Float32[Tensor, "n c"]) -> Float32[Tensor, "n c"]:
    num_axes, num_vertices = lattice.after.shape
    # One vertex more, which stays 0: the neighbour where there is none.
    values = field.new_zeros(num_vertices + 1, field.shape[1])
    for corner, weight in zip(lattice.corners.T, lattice.barycentric.T, strict=True):
        values.index_add_(0, corner, weight[:, None] * field)
    for before, after in zip(lattice.before, lattice.after, strict=True):
        values[:-1] = values[:-1] + 0.5 * (values[before] + values[after])
    sliced = (lattice.barycentric[:, :, None] * values[lattice.corners]).sum(1)
    return sliced / (1 + 2.0 ** (1 - num_axes))


def marginals(
    messages: list[Filter], unaries: Sequence[Float32[Tensor, "l h w"]], iterations: int
) -> list[Float32[Tensor, "l h w"]]:
    """Return each map's distributions over its labels after so many mean-field iterations.

    Q_i(l) is proportional to exp(u_i(l) + sum over the kernels of their messages (K Q)_i(l)) (Krähenbühl and Koltun
    2011, Algorithm 1, with a Potts term). As in pydensecrf a pixel's own Q is part of its message.

    Args:
        messages: What `build` returns.
        unaries: Of each map of the image, log-probabilities u, up to a constant a pixel.
        iterations: Of mean field; with 0 what the unaries say by themselves is returned.
    """
    results = []
    for each in unaries:
        unary = each.flatten(1).T
        field = unary.softmax(1)
        for _ in range(iterations):
            field = torch.stack([unary, *(message(field) for message in messages)]).sum(0).softmax(1)
        results.append(field.T.reshape(each.shape))
    return results
