"""Layers that are computed in another way than torch's have the same values and gradients."""

import pytest
import torch
from torch import nn

from models.backbones.base import build_backbone
from models.layers import DilatedDepthwise


@pytest.mark.parametrize("dilation", [(2, 2), (4, 4), (2, 3)])
@pytest.mark.parametrize("size", [(15, 20), (7, 9), (1, 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_dilated_depthwise_convolution_is_torchs(
    size: tuple[int, int], dilation: tuple[int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, 3, padding=dilation, dilation=dilation, groups=6, bias=bias).double()
    ours = DilatedDepthwise.of(plain)
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    results = []
    for conv in (plain, ours):
        y = conv(x)
        results.append(
            (y, *torch.autograd.grad((y * torch.arange(y.numel()).view_as(y)).sum(), [x, *conv.parameters()]))
        )
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-10)


def test_the_dilated_mobilenet_learns_by_it() -> None:
    backbone = build_backbone("mobilenet_v2", output_stride=8)
    depthwise = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.groups > 1 and m.dilation != (1, 1)]
    assert depthwise
    assert all(isinstance(conv, DilatedDepthwise) for conv in depthwise)
    x = torch.randn(2, 3, 50, 70)
    backbone.eval()
    learned = backbone(x)[-1]
    with torch.no_grad():
        torch.testing.assert_close(backbone(x)[-1], learned, rtol=1e-4, atol=1e-5)
