"""What a network is shown of an image: pixels by the statistics of ImageNet, or by those of their surroundings."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import NORMALIZATIONS

Input = Literal["imagenet", "local_contrast"]
WINDOW = 9
# The Gaussian's standard deviation, so that the window holds nearly all of it.
SIGMA = 2.0
LEAST_CONTRAST = 1e-3


class ImageNetInput(nn.Module):
    """(pixel - mean) / std of ImageNet, per channel."""

    def __init__(self) -> None:
        super().__init__()
        statistics = NORMALIZATIONS["torchvision"]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(statistics.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(statistics.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the input for RGB pixels in [0, 255]."""
        return (pixels.float() - self.mean) / self.std


class LocalContrast(nn.Module):
    """Local contrast normalisation (Jarrett et al. 2009, Sec. 2.1), of all channels together.

    v = x - sum w x and y = v / max(c, sigma), with sigma^2 = sum w v^2: sums over a 9 x 9 window and the channels, w a
    Gaussian whose weights add up to 1, c the mean of sigma over the image. What lies beyond the border is as the pixel
    at it. An image of one grey becomes 0.
    """

    def __init__(self) -> None:
        super().__init__()
        line = torch.exp(-((torch.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
        self.line: Tensor
        self.register_buffer("line", line / line.sum(), persistent=False)

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the input for RGB pixels in [0, 255]."""
        x = pixels.float() / 255
        # Nothing depends on what is added to all pixels; without it a grey image is 0 to the last bit.
        x = x - x[:, :1, :1, :1]
        centred = x - self._blur(x.mean(1, keepdim=True))
        deviation = self._blur(centred.square().mean(1, keepdim=True)).sqrt()
        floor = deviation.mean((2, 3), keepdim=True)
        return centred / deviation.maximum(floor).clamp(min=LEAST_CONTRAST)

    def _blur(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        reach = WINDOW // 2
        padded = F.pad(x, (reach,) * 4, mode="replicate")
        return F.conv2d(F.conv2d(padded, self.line.view(1, 1, -1, 1)), self.line.view(1, 1, 1, -1))


INPUTS: dict[Input, type[nn.Module]] = {"imagenet": ImageNetInput, "local_contrast": LocalContrast}
