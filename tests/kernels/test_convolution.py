"""Convolutions with what follows them, against torch in double precision."""

import math

import pytest
import torch
from torch.nn import functional as F

from kernels.convolution import convolve, cpu, finish, spectrum_of

BACKENDS = ["torch", "numba"]


def inputs(batch, channels, features, height, width, size):
    generator = torch.Generator().manual_seed(height * width)
    x = torch.randn(batch, channels, height, width, generator=generator)
    weight = torch.randn(features, channels, size, size, generator=generator) / (channels * size**2) ** 0.5
    return x, weight, torch.randn(features, generator=generator)


def expected(x, weight, bias, residual=None, low=-math.inf, high=math.inf):
    y = F.conv2d(x.double(), weight.double(), bias.double(), padding=weight.shape[2] // 2)
    return (y if residual is None else y + residual.double()).clamp(low, high)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 1, 1), (2, 3, 5, 1, 9), (1, 4, 2, 7, 1), (3, 16, 8, 9, 14), (1, 8, 8, 8, 4), (2, 70, 33, 13, 11)],
)
def test_every_version_is_the_convolution(backend, size, shape):
    x, weight, bias = inputs(*shape, size)
    found = convolve(x, weight, bias, backend=backend)
    torch.testing.assert_close(found.double(), expected(x, weight, bias), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("low", "high"), [(0, math.inf), (0, 0.5), (-math.inf, math.inf)])
def test_residual_and_clipping_follow(backend, size, low, high):
    x, weight, bias = inputs(2, 6, 6, 10, 7, size)
    before = x.clone()
    found = convolve(x, weight, bias, residual=x, low=low, high=high, backend=backend)
    torch.testing.assert_close(found.double(), expected(x, weight, bias, x, low, high), rtol=1e-4, atol=2e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize("size", [1, 3])
def test_order_in_memory_does_not_matter_and_the_result_has_channels_last(size):
    x, weight, bias = inputs(2, 8, 4, 9, 12, size)
    plain = convolve(x, weight, bias, residual=x[:, :4], backend="numba")
    for other in (x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(convolve(other, weight, bias, residual=other[:, :4], backend="numba"), plain)
    assert plain.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("min_tiles", [1, 5, 1000])
def test_blocks_of_tiles_meet_across_images(monkeypatch, min_tiles):
    x, weight, bias = inputs(3, 5, 7, 11, 10, 3)
    monkeypatch.setattr(cpu, "BLOCK_BYTES", 1)
    monkeypatch.setattr(cpu, "MIN_TILES", min_tiles)
    found = convolve(x, weight, bias, backend="numba")
    torch.testing.assert_close(found.double(), expected(x, weight, bias), rtol=1e-4, atol=2e-5)


def test_a_spectrum_made_before_is_used():
    x, weight, bias = inputs(1, 4, 4, 8, 8, 3)
    spectrum = spectrum_of(weight)
    assert torch.equal(convolve(x, weight, bias, spectrum=spectrum), convolve(x, weight, bias))
    assert torch.equal(convolve(x, weight, bias, spectrum=2 * spectrum), convolve(x, 2 * weight, bias))


def test_an_image_alone_is_as_in_a_batch():
    x, weight, bias = inputs(3, 32, 16, 21, 18, 3)
    together = convolve(x, weight, bias)
    for image in range(3):
        torch.testing.assert_close(convolve(x[image : image + 1], weight, bias)[0], together[image])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_left_to_torch(dtype):
    x, weight, bias = (given.to(dtype) for given in inputs(1, 4, 4, 6, 6, 3))
    assert convolve(x, weight, bias).dtype == dtype
    with pytest.raises(ValueError, match="single precision"):
        convolve(x, weight, bias, backend="numba")


def test_finishing_works_in_place():
    y = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    bias, residual = torch.randn(3), torch.randn(2, 3, 4, 5)
    want = (y + bias.view(1, 3, 1, 1) + residual).clamp(0, 1)
    finish(y, bias, residual, 0, 1)
    torch.testing.assert_close(y, want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(4, 4, 5, 5)}, "weight must be"),
        ({"weight": torch.zeros(4, 3, 3, 3)}, r"x must be \[B, 3, H, W\]"),
        ({"x": torch.zeros(1, 4, 0, 6)}, "x must be"),
        ({"bias": torch.zeros(3)}, "bias must be"),
        ({"residual": torch.zeros(1, 4, 6, 5)}, "residual must be"),
        ({"backend": "cuda"}, "backend must be"),
        ({"backend": "triton"}, "backend must be"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    x, weight, bias = inputs(1, 4, 4, 6, 6, 3)
    with pytest.raises(ValueError, match=message):
        convolve(**{"x": x, "weight": weight, "bias": bias, **change})
