"""The two Gaussian kernels of the pairwise term: the settings of the IRNet authors' code."""

from __future__ import annotations

from typing import NamedTuple


class Kernel(NamedTuple):
    """One weighted Gaussian kernel between the pixels of an image.

    Attributes:
        weight: Of the Potts term (pydensecrf's `compat`).
        sxy: Standard deviation over positions, in pixels.
        srgb: Standard deviation over colours, in grey levels; None where the colour does not matter.
    """

    weight: float
    sxy: float
    srgb: float | None


GAUSSIAN = Kernel(weight=3, sxy=3, srgb=None)
BILATERAL = Kernel(weight=10, sxy=50, srgb=5)
