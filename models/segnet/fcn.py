"""FCN-8s on VGG16 (Long et al. 2015), with batch norm as the paper benchmarks it (Sec. 4)."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import conv_norm
from models.segnet.encoders import VGG16, SceneNetwork, load_layer
from models.segnet.inputs import Input
from models.segnet.parts import Upsampling, start_as_he, upsample

FULLY_CONNECTED = 4096
# Name in torchvision's VGG16 -> place in `FCN.connected`.
OF_VGG16 = {"classifier.0": 0, "classifier.3": 4}
# Of the upsamplings, from stride 32 on.
FACTORS = (2, 2, 8)


class FCN(SceneNetwork):
    """The classes' scores at strides 32, 16 and 8, added up on the way back to the image's size.

    Args:
        learned: Upsampling is learned, from bilinear interpolation on; otherwise it is that.
        dropout: Behind the three deepest encoders, and behind the two layers that were fully connected.
    """

    def __init__(
        self, num_classes: int, *, learned: bool = True, dropout: float = 0.5, input: Input = "imagenet"
    ) -> None:
        super().__init__(VGG16(input, dropout), num_classes)
        self.connected = nn.Sequential(
            *conv_norm(512, FULLY_CONNECTED, 7),
            nn.Dropout(dropout),
            *conv_norm(FULLY_CONNECTED, FULLY_CONNECTED, 1),
            nn.Dropout(dropout),
        )
        self.scores = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in (FULLY_CONNECTED, 512, 256))
        self.upsamplings = nn.ModuleList(Upsampling(num_classes, factor) for factor in FACTORS if learned)
        start_as_he(self)

    def load(self, weights: str | Path) -> None:
        """Start from VGG16's weights, those of its fully connected layers too where the file has them.

        Raises:
            ValueError: The file's keys or shapes are not those of VGG16.
        """
        assert isinstance(self.backbone, VGG16)
        state = self.backbone.load(weights)
        for name, place in OF_VGG16.items():
            if any(key.startswith(f"{name}.") for key in state):
                load_layer(self.connected[place], state, name, weights)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the classes' logits for normalised input."""
        size, levels = x.shape[2:], []
        for encoder, dropout in zip(self.backbone.encoders, self.backbone.dropouts, strict=True):
            x = dropout(F.max_pool2d(encoder(x), 2, ceil_mode=True))
            levels.append(x)
        x = self.scores[0](self.connected(levels[4]))
        for number, level in enumerate((levels[3], levels[2]), start=1):
            x = self._upsampled(x, number - 1, level.shape[2:]) + self.scores[number](level)
        return self._upsampled(x, 2, size)

    def _upsampled(self, x: Tensor, number: int, size: tuple[int, ...]) -> Tensor:
        return self.upsamplings[number](x, size) if self.upsamplings else upsample(x, FACTORS[number], size)
