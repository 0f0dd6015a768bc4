"""DeepLab v3+: dilated features, atrous spatial pyramid pooling, a decoder that adds detail (Chen et al. 2018)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import Backbone
from models.layers import SeparableConv2d, conv_norm
from models.segmenter import BackboneFactory, Segmenter

OUTPUT_STRIDE = 16
RATES = (6, 12, 18)
WIDTH = 256
DETAIL_WIDTH = 48


def separable(in_channels: int, out_channels: int, rate: int) -> nn.Sequential:
    """Return a dilated 3 x 3 convolution of each map by itself, then one over the maps (Sima et al. 2023, Sec. 3.2)."""
    own = nn.Conv2d(in_channels, in_channels, 3, padding=rate, dilation=rate, groups=in_channels, bias=False)
    return nn.Sequential(own, *conv_norm(in_channels, out_channels, 1, bias=False))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: the features at several rates and their mean over the image, made one.

    Args:
        dsc: The dilated convolutions are depthwise separable (DSC-ASPP).
    """

    def __init__(self, in_channels: int, *, dsc: bool = False) -> None:
        super().__init__()
        dilated = (
            separable(in_channels, WIDTH, r) if dsc else conv_norm(in_channels, WIDTH, 3, bias=False, dilation=r)
            for r in RATES
        )
        self.branches = nn.ModuleList([conv_norm(in_channels, WIDTH, 1, bias=False), *dilated])
        # Without batch norm: of one image there is one value.
        self.pooled = nn.Sequential(nn.Conv2d(in_channels, WIDTH, 1), nn.ReLU(inplace=True))
        self.project = conv_norm(WIDTH * (len(RATES) + 2), WIDTH, 1, bias=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return x_mid."""
        mean = self.pooled(x.mean((2, 3), keepdim=True))
        parts = [*(branch(x) for branch in self.branches), mean.expand(-1, -1, *x.shape[2:])]
        return self.dropout(self.project(torch.cat(parts, dim=1)))


class Decoder(nn.Module):
    """From x_mid and features at stride 4 to maps at stride 4: up4(x_mid) beside x_R1, two convolutions, classes.

    Args:
        separable: The two convolutions are depthwise separable (Chen et al. 2018, Sec. 4.3).
    """

    def __init__(self, detail_channels: int, num_classes: int, *, separable: bool = False) -> None:
        super().__init__()
        self.detail = conv_norm(detail_channels, DETAIL_WIDTH, 1, bias=False)
        first, second = (conv_norm(width, WIDTH, 3, bias=False) for width in (WIDTH + DETAIL_WIDTH, WIDTH))
        if separable:
            first[0], second[0] = SeparableConv2d(WIDTH + DETAIL_WIDTH, WIDTH, 3), SeparableConv2d(WIDTH, WIDTH, 3)
        self.fuse = nn.Sequential(*first, nn.Dropout(0.5), *second, nn.Dropout(0.1))
        self.classifier = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(self, mid: Float[Tensor, "b d h w"], detail: Float[Tensor, "b e p q"]) -> Float[Tensor, "b c p q"]:
        """Return the classes' maps."""
        up = F.interpolate(mid, detail.shape[2:], mode="bilinear", align_corners=False)
        return self.classifier(self.fuse(torch.cat([up, self.detail(detail)], dim=1)))


class DeepLabV3Plus(Segmenter):
    """A backbone at output stride 16, ASPP, and a decoder.

    Args:
        backbone: At output stride 16.
        num_classes: Of the logits.
        dsc: Take DSC-ASPP.
        separable_decoder: The decoder's 3 x 3 convolutions are depthwise separable too.

    Raises:
        ValueError: The backbone has another output stride.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, *, dsc: bool = False, separable_decoder: bool = False
    ) -> None:
        super().__init__()
        if backbone.strides[-1] != OUTPUT_STRIDE:
            raise ValueError(f"DeepLab v3+ needs a backbone at output stride 16, got {backbone.strides[-1]}")
        self.backbone = backbone
        self.num_classes = num_classes
        self.dsc = dsc
        self.aspp = ASPP(backbone.channels[-1], dsc=dsc)
        self.decoder = Decoder(backbone.channels[1], num_classes, separable=separable_decoder)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the classes' logits for normalised input, upsampled to its size."""
        return F.interpolate(self.coarse(x), x.shape[-2:], mode="bilinear", align_corners=False)

    def coarse(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """Return the classes' logits for normalised input at stride 4."""
        levels = self.backbone(x)
        return self.decoder(self.aspp(levels[-1]), levels[1])


def build(
    backbone: BackboneFactory, num_classes: int, *, dsc: bool = False, separable_decoder: bool = False
) -> DeepLabV3Plus:
    """Build the network at its output stride, the backbone's last level dilated."""
    dilated = backbone(output_stride=OUTPUT_STRIDE, dilated=True)
    return DeepLabV3Plus(dilated, num_classes, dsc=dsc, separable_decoder=separable_decoder)
