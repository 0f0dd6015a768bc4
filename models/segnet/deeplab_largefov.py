"""DeepLab-LargeFOV on VGG16 (Chen et al. 2015), with batch norm as the paper benchmarks it (Sec. 4)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import conv_norm
from models.segnet.encoders import VGG16, SceneNetwork
from models.segnet.inputs import Input
from models.segnet.parts import start_as_he, upsample

RATE = 12
FULLY_CONNECTED = 1024
# Of stride 2.
NUM_POOLINGS = 3


class DeepLabLargeFOV(SceneNetwork):
    """Three poolings, so that the scores are at an eighth of the image; what follows is dilated.

    Args:
        dropout: Behind the three deepest encoders, and behind the two layers that were fully connected.
    """

    def __init__(self, num_classes: int, *, dropout: float = 0.5, input: Input = "imagenet") -> None:
        super().__init__(VGG16(input, dropout, dilation=2), num_classes, NUM_POOLINGS)
        self.head = nn.Sequential(
            *conv_norm(512, FULLY_CONNECTED, 3, dilation=RATE),
            nn.Dropout(dropout),
            *conv_norm(FULLY_CONNECTED, FULLY_CONNECTED, 1),
            nn.Dropout(dropout),
            nn.Conv2d(FULLY_CONNECTED, num_classes, 1),
        )
        start_as_he(self)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the classes' logits for normalised input, upsampled to its size."""
        size = x.shape[2:]
        for number, (encoder, dropout) in enumerate(zip(self.backbone.encoders, self.backbone.dropouts, strict=True)):
            x = encoder(x)
            pooled = F.max_pool2d(x, 2, ceil_mode=True) if number < NUM_POOLINGS else F.max_pool2d(x, 3, 1, padding=1)
            x = dropout(pooled)
        return upsample(self.head(x), 2**NUM_POOLINGS, size)
