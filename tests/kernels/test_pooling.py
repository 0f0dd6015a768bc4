"""Max-pooling with packed indices: torch's own pooling and unpooling, to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from kernels.pooling import max_pool, max_unpool

BACKENDS = ("numba", "torch")
SHAPES = [(2, 5, 8, 12), (2, 5, 7, 9), (1, 3, 2, 2), (1, 2, 3, 17)]


def _maps(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return values of which many in a window are equal, as behind a rectifier."""
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(0)).clamp(min=-1).to(dtype) / 2


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_and_gradients_are_those_of_torchs_pooling_and_unpooling(backend, shape, order) -> None:
    maps = _maps(shape).contiguous(memory_format=order)
    cotangent = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    results = []
    for own in (True, False):
        leaf = maps.clone().requires_grad_()
        if own:
            maxima, indices = max_pool(leaf, backend=backend)
            spread = max_unpool(maxima.square(), indices, shape[2:], backend=backend)
        else:
            maxima, indices = F.max_pool2d(leaf, 2, return_indices=True)
            spread = F.max_unpool2d(maxima.square(), indices, 2, output_size=shape[2:])
        (spread * cotangent).sum().backward()
        results.append((maxima, spread, leaf.grad))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_precision_is_pooled_as_single_precision_is(backend, dtype) -> None:
    maps = _maps((2, 6, 7, 11))
    expected, places = max_pool(maps, backend="torch")
    maxima, indices = max_pool(maps.to(dtype), backend=backend)
    assert maxima.dtype == dtype
    assert torch.equal(maxima.float(), expected)
    assert torch.equal(indices, places)
    spread = max_unpool(maxima, indices, (7, 11), backend=backend)
    assert torch.equal(spread.float(), max_unpool(expected, places, (7, 11), backend="torch"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_zeros_of_either_sign_are_equal_and_nan_is_the_maximum(backend, dtype) -> None:
    nan, inf = float("nan"), float("inf")
    windows = [[-0.0, 0.0, -1, -2], [-1, nan, inf, 3], [-nan, 0, 0, 0], [-inf, -5, -4, -6]]
    maps = torch.tensor(windows).view(4, 1, 2, 2).to(dtype)
    maxima, indices = max_pool(maps, backend=backend)
    assert maxima[[0, 3]].flatten().tolist() == [0, -4]
    assert maxima[1:3].isnan().all()
    assert indices.flatten().tolist() == [0, 1, 0, 2]


def test_indices_take_two_bits_a_window() -> None:
    _, indices = max_pool(torch.rand(1, 64, 180, 240))
    # The paper's figures: 0.17 MB for the maps of 64 channels and 180 x 240 pixels, which take 11 MB.
    assert indices.nbytes == 64 * 90 * 120 / 4 == 172_800
    assert 64 * indices.nbytes == 64 * 180 * 240 * 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_maps_without_a_window_pool_to_nothing(backend) -> None:
    maxima, indices = max_pool(torch.ones(2, 3, 1, 4), backend=backend)
    assert maxima.shape == (*indices.shape[:2], 0, 2)
    assert torch.equal(max_unpool(maxima, indices, (1, 4), backend=backend), torch.zeros(2, 3, 1, 4))


def test_what_does_not_fit_together_is_refused() -> None:
    maxima, indices = max_pool(torch.rand(1, 2, 8, 9))
    with pytest.raises(ValueError, match="expected floats"):
        max_pool(torch.ones(1, 2, 8, 9, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected maps of 4 x 5 for 8 x 10"):
        max_unpool(maxima, indices, (8, 10))
    with pytest.raises(ValueError, match="expected indices"):
        max_unpool(maxima, indices[..., :0], (8, 9))


def test_threads_change_nothing() -> None:
    maps, before = _maps((2, 4, 33, 18)), torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            maxima, indices = max_pool(maps, backend="numba")
            results.append((maxima, indices, max_unpool(maxima, indices, (33, 18), backend="numba")))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
