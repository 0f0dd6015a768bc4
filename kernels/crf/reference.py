"""Dense CRF by pydensecrf (Krähenbühl and Koltun, NIPS 2011), the IRNet authors' choice and settings."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Integer, UInt8
from pydensecrf.densecrf import DenseCRF2D

# Standard deviations in pixels (sxy) and grey levels (srgb), weights (compat): the authors' code.
GAUSSIAN = {"sxy": 3, "compat": 3}
BILATERAL = {"sxy": 50, "srgb": 5, "compat": 10}


def label_marginals(
    image: UInt8[np.ndarray, "h w 3"],
    labels: Integer[np.ndarray, "h w"],
    num_labels: int,
    iterations: int,
    confidence: float,
) -> Float32[np.ndarray, "l h w"]:
    """Return each pixel's distribution over two or more labels after so many mean-field iterations.

    A pixel starts with probability `confidence` of its label and shares the rest among the others.
    """
    height, width = labels.shape
    probabilities = np.full((num_labels, height * width), (1 - confidence) / (num_labels - 1))
    probabilities[labels.ravel(), np.arange(height * width)] = confidence
    crf = DenseCRF2D(width, height, num_labels)
    crf.setUnaryEnergy((-np.log(probabilities)).astype(np.float32))
    crf.addPairwiseGaussian(**GAUSSIAN)
    # A copy, because pydensecrf takes neither strided nor read-only memory.
    crf.addPairwiseBilateral(**BILATERAL, rgbim=np.array(image, order="C"))
    return np.array(crf.inference(iterations), np.float32).reshape(num_labels, height, width)
