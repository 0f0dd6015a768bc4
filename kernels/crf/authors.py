"""Dense CRF by pydensecrf (Krähenbühl and Koltun, NIPS 2011), the IRNet authors' choice: the one to agree with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from pydensecrf.densecrf import DenseCRF2D
from torch import Tensor

from kernels.crf.settings import BILATERAL, GAUSSIAN


def build(image: UInt8[Tensor, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return the image as pydensecrf takes it; it builds its lattice anew for each map."""
    # A copy, because pydensecrf takes neither strided nor read-only memory.
    return np.array(image.cpu().numpy(), order="C")


def marginals(
    image: UInt8[np.ndarray, "h w 3"], unaries: Sequence[Float32[Tensor, "l h w"]], iterations: int
) -> list[Float32[Tensor, "l h w"]]:
    """See `kernels.crf.reference.marginals`."""
    return [_marginals(image, each.cpu(), iterations) for each in unaries]


def _marginals(image: UInt8[np.ndarray, "h w 3"], unary: Float32[Tensor, "l h w"], iterations: int) -> Tensor:
    num_labels, height, width = unary.shape
    crf = DenseCRF2D(width, height, num_labels)
    crf.setUnaryEnergy(-unary.flatten(1).contiguous().numpy())
    crf.addPairwiseGaussian(sxy=GAUSSIAN.sxy, compat=GAUSSIAN.weight)
    crf.addPairwiseBilateral(sxy=BILATERAL.sxy, srgb=BILATERAL.srgb, compat=BILATERAL.weight, rgbim=image)
    inferred = np.array(crf.inference(iterations), np.float32)
    return torch.from_numpy(inferred).reshape(unary.shape)
