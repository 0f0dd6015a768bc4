"""DANet: attention between positions, and between channels, added up (Fu et al. 2019)."""

from __future__ import annotations

import contextlib
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import Backbone
from models.layers import conv_norm
from models.segmenter import BackboneFactory, Segmenter

OUTPUT_STRIDE = 8
# Of the last features' channels that the attention modules see, and of theirs that queries and keys have.
REDUCTION, QUERY_REDUCTION = 4, 8
# Heads that the values are dealt to: as many as make a head as wide as a query.
NUM_HEADS = QUERY_REDUCTION
# Torch's fused attention on a GPU takes heads whose width is a multiple of this, whatever the precision.
ALIGNMENT = 8


def _widened(features: Float[Tensor, "b n c"], width: int) -> Float[Tensor, "b n d"]:
    """Return features with channels of zeros behind theirs."""
    missing = width - features.shape[2]
    return F.pad(features, (0, missing)) if missing else features


class PositionAttention(nn.Module):
    """Each position gets the mean of all positions' values, weighted by how alike they are (Fu et al., Sec. 3.2).

    E_j = alpha sum_i s_ji D_i + A_j with s_ji = softmax_i(B_i C_j). The matrix of all pairs of positions is never
    built: the values are split into heads as wide as queries and keys, all with the same weights, so that torch's fused
    attention takes them. It wants one width, on a GPU a multiple of 8: all three are padded with zeros, which change no
    product. So queries and keys are multiplied once per head: for N positions N^2 2C multiply-adds in place of
    N^2 (C + C/8), where C is a multiple of 64.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // QUERY_REDUCTION, 1)
        self.key = nn.Conv2d(channels, channels // QUERY_REDUCTION, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the maps with what they attend to."""
        # Torch falls back to the whole matrix where the channels do not lie side by side.
        query, key, value = (
            conv(x).flatten(2).transpose(1, 2).contiguous() for conv in (self.query, self.key, self.value)
        )
        # A head is at least as wide as the queries: C // 8 rounded up to a multiple of 8 is no less than theirs.
        width = ALIGNMENT * math.ceil(value.shape[2] / (NUM_HEADS * ALIGNMENT))
        heads = _widened(value, NUM_HEADS * width).unflatten(2, (NUM_HEADS, width)).transpose(1, 2)
        query, key = (_widened(part, width)[:, None].expand(-1, NUM_HEADS, -1, -1) for part in (query, key))
        # The authors divide by nothing, so that the scale does not depend on the width.
        attended = F.scaled_dot_product_attention(query, key, heads, scale=1.0)
        return self.alpha * attended.transpose(2, 3).flatten(1, 2)[:, : x.shape[1]].reshape(x.shape) + x


class ChannelAttention(nn.Module):
    """Each channel gets the sum of all channels, weighted by how unlike they are (Fu et al., Sec. 3.3).

    E_j = beta sum_i x_ji A_i + A_j with x_ji = softmax_i(max_i A_i A_j - A_i A_j), as in the authors' code. The
    products A_i A_j are sums over all positions, and exponentials are taken of them: they are in single precision
    under autocast too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the maps with what they attend to."""
        maps = x.flatten(2)
        # Where shapes alone are computed there is no autocast.
        with contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            exact = maps if maps.dtype == torch.float64 else maps.float()
            energy = exact @ exact.transpose(1, 2)
            weights = (energy.amax(-1, keepdim=True) - energy).softmax(-1)
        return self.beta * (weights.to(maps.dtype) @ maps).view_as(x) + x


class Stream(nn.Module):
    """A convolution, an attention module, and a convolution."""

    def __init__(self, in_channels: int, channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.before = conv_norm(in_channels, channels, 3, bias=False)
        self.attention = attention
        self.after = conv_norm(channels, channels, 3, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return the stream's maps."""
        return self.after(self.attention(self.before(x)))


class DANet(Segmenter):
    """A backbone at output stride 8, and two streams of attention, whose sum is classified.

    Args:
        backbone: At output stride 8.
        num_classes: Of the logits.
        stream_losses: In training each stream is classified by itself too, as in the authors' code. The
            three outputs' losses add up.

    Raises:
        ValueError: The backbone has another output stride.
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, stream_losses: bool = False) -> None:
        super().__init__()
        if backbone.strides[-1] != OUTPUT_STRIDE:
            raise ValueError(f"DANet needs a backbone at output stride 8, got {backbone.strides[-1]}")
        self.backbone = backbone
        self.num_classes = num_classes
        width = backbone.channels[-1] // REDUCTION
        self.position = Stream(backbone.channels[-1], width, PositionAttention(width))
        self.channel = Stream(backbone.channels[-1], width, ChannelAttention())
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        num_streams = 2 if stream_losses else 0
        self.stream_classifiers = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for _ in range(num_streams))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"] | Float[Tensor, "3 b c h w"]:
        """Return the classes' logits for normalised input, upsampled to its size.

        With stream losses, in training: those of the sum, of the position stream and of the channel stream.
        """
        outputs = self._outputs(x)
        logits = [F.interpolate(maps, x.shape[-2:], mode="bilinear", align_corners=False) for maps in outputs]
        return logits[0] if len(logits) == 1 else torch.stack(logits)

    def coarse(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """Return the classes' logits for normalised input at stride 8."""
        return self._outputs(x)[0]

    def _outputs(self, x: Tensor) -> list[Tensor]:
        """Return what the classifiers say at stride 8: of the sum, and in training of each stream that has one."""
        features = self.backbone(x)[-1]
        streams = [self.position(features), self.channel(features)]
        outputs = [self.classifier(self.dropout(streams[0] + streams[1]))]
        if self.training:
            pairs = zip(self.stream_classifiers, streams, strict=False)
            outputs += [classifier(self.dropout(maps)) for classifier, maps in pairs]
        return outputs


def build(backbone: BackboneFactory, num_classes: int, *, stream_losses: bool = False) -> DANet:
    """Build the network at its output stride."""
    return DANet(backbone(output_stride=OUTPUT_STRIDE), num_classes, stream_losses=stream_losses)
