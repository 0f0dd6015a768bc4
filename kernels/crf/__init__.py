"""Dense CRF refinement of a label map against its photograph (IRNet, Sec. 4.2)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from kernels.crf.reference import label_marginals

__all__ = ["label_marginals", "refine_labels"]

ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)


def refine_labels(
    image: ArrayT,
    labels: ArrayT,
    num_labels: int,
    *,
    iterations: int = 10,
    confidence: float = 0.7,
    backend: str = "auto",
) -> ArrayT:
    """Move the borders of a label map to the edges of its image by a dense CRF.

    Two pairwise terms: a Gaussian over positions, a bilateral one over positions and colours; their widths
    and weights are those of the IRNet authors' code. A map of one value comes back as it is, since every
    message supports that value.

    Args:
        image: RGB, uint8 [H, W, 3], numpy or torch.
        labels: Integers [H, W] in [0, num_labels).
        num_labels: Number of labels that compete; a label that no pixel has may still win.
        iterations: Of mean-field inference.
        confidence: Probability that a pixel's label is right, in (0, 1).
        backend: "auto" or "pydensecrf", on the CPU.

    Returns:
        A new map of the labels' kind, data type and device.

    Raises:
        ValueError: A shape, type or value other than above, or an unknown backend.
    """
    if backend not in ("auto", "pydensecrf"):
        raise ValueError(f"crf: backend must be 'auto' or 'pydensecrf', got {backend!r}")
    pixels, initial = _to_numpy(image), _to_numpy(labels)
    _check(pixels, initial, num_labels, iterations, confidence)
    if (initial == initial[0, 0]).all():
        refined = initial
    else:
        marginals = label_marginals(pixels, initial, num_labels, iterations, confidence)
        refined = marginals.argmax(0).astype(initial.dtype)
    if isinstance(labels, Tensor):
        return torch.from_numpy(refined.copy()).to(labels.device)
    return refined.copy()


def _to_numpy(array: np.ndarray | Tensor) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else array


def _check(image: np.ndarray, labels: np.ndarray, num_labels: int, iterations: int, confidence: float) -> None:
    if image.dtype != np.uint8 or labels.size == 0 or image.shape != (*labels.shape, 3):
        raise ValueError(
            f"image must be uint8 [H, W, 3] and labels [H, W], not empty, "
            f"got {image.dtype} {image.shape} and {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= num_labels:
        raise ValueError(
            f"labels must be integers in [0, {num_labels}), got {labels.dtype} in [{labels.min()}, {labels.max()}]"
        )
    if iterations < 0 or not 0 < confidence < 1:
        raise ValueError(f"need iterations >= 0 and 0 < confidence < 1, got {iterations=}, {confidence=}")
