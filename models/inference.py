"""Networks made ready for inference: norms folded, and what follows a convolution done in one pass with it."""

from __future__ import annotations

import itertools
import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck

from kernels.convolution import convolve, finish, spectrum_of

Net = TypeVar("Net", bound=nn.Module)
# Of narrower layers the transforms take longer than the products that they save.
WINOGRAD_CHANNELS = 128
RECTIFIERS: dict[type[nn.Module], tuple[float, float]] = {nn.ReLU: (0, math.inf), nn.ReLU6: (0, 6)}


def prepare_inference(net: Net) -> Net:
    """Fold frozen batch norms, fuse sums and rectifiers into the convolutions before them, and order channels last.

    In place. The network's outputs are equal up to rounding; it is for inference alone, and its state dict is no
    longer the network's own.
    """
    fold_norms(net).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for parent in list(net.modules()):
        if isinstance(parent, nn.Sequential):
            _fuse_sequence(parent)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BasicBlock | Bottleneck) or (
                isinstance(child, InvertedResidual) and child.use_res_connect
            ):
                setattr(parent, name, _Residual(child))
    return net


def fold_norms(net: Net) -> Net:
    """Replace each frozen batch norm behind a convolution by a convolution that does both, in place."""
    for parent in list(net.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return net


class FusedConv(nn.Module):
    """A convolution, the sum with a residual, and the clipping to [low, high].

    In single precision and on one thread of a CPU, as the workers of a run have it, by `kernels.convolution`; elsewhere
    by torch.
    """

    def __init__(self, conv: nn.Conv2d, low: float = -math.inf, high: float = math.inf) -> None:
        super().__init__()
        self.conv = conv.requires_grad_(False)
        self.low, self.high = low, high
        on_cpu = conv.weight.device.type == "cpu"
        dense = conv.dilation == (1, 1) and conv.groups == 1 and conv.bias is not None
        self.pointwise = dense and conv.kernel_size == (1, 1) and conv.padding == (0, 0)
        fits = conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == (1, 1)
        self.winograd = dense and fits and min(conv.in_channels, conv.out_channels) >= WINOGRAD_CHANNELS
        if self.pointwise and on_cpu:
            # Laid out as the product's right side: [C, O] in memory.
            conv.weight.data = conv.weight.flatten(1).t().contiguous().t()[..., None, None]
        # Four times the size of the weights, and made when it is needed first.
        self.spectrum: Tensor | None
        self.register_buffer("spectrum", None, persistent=False)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        plain = x.device.type != "cpu" or torch.get_num_threads() > 1 or torch.is_autocast_enabled("cpu")
        if plain or x.dtype != torch.float32:
            y = self.conv(x)
            y = y if residual is None else y.add_(residual)
            return y if self.low == -math.inf else y.clamp_(self.low, self.high)
        options = {"residual": residual, "low": self.low, "high": self.high}
        if self.pointwise or self.winograd:
            (down, right), weight, bias = self.conv.stride, self.conv.weight, self.conv.bias
            assert bias is not None
            if self.winograd and self.spectrum is None:
                self.spectrum = spectrum_of(weight)
            return convolve(x[:, :, ::down, ::right], weight, bias, spectrum=self.spectrum, **options)
        y = self.conv(x).contiguous(memory_format=torch.channels_last)
        finish(y, torch.zeros(y.shape[1]), **options)
        return y


class _Residual(nn.Module):
    """A block whose last convolution adds the block's input, or its shortcut's output."""

    def __init__(self, block: BasicBlock | Bottleneck | InvertedResidual) -> None:
        super().__init__()
        if isinstance(block, InvertedResidual):
            *body, last, _ = block.conv
            assert isinstance(last, nn.Conv2d)
            self.body, self.last, self.shortcut = nn.Sequential(*body), FusedConv(last), nn.Identity()
            return
        convolutions = [child for child in block.children() if isinstance(child, nn.Conv2d)]
        *body, last = [FusedConv(conv, 0) for conv in convolutions]
        self.body, self.last = nn.Sequential(*body), last
        shortcut = block.downsample
        # Of a convolution and a norm, which is folded.
        conv = next(shortcut.children()) if shortcut else None
        self.shortcut = FusedConv(conv) if isinstance(conv, nn.Conv2d) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x), self.shortcut(x))


def _fuse_sequence(sequence: nn.Sequential) -> None:
    """Fuse the rectifiers behind convolutions, where nothing but folded norms is between."""
    before: tuple[str, nn.Conv2d] | None = None
    for name, module in list(sequence.named_children()):
        if isinstance(module, nn.Conv2d):
            before = name, module
        elif type(module) in RECTIFIERS and before is not None:
            setattr(sequence, before[0], FusedConv(before[1], *RECTIFIERS[type(module)]))
            setattr(sequence, name, nn.Identity())
        elif not isinstance(module, nn.Identity):
            before = None
