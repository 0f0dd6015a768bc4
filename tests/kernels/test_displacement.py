"""Centroids and instance maps, against following single pixels by hand."""

import math

import numpy as np
import pytest
import torch

from kernels.displacement import find_centroids, instance_map, refine

BACKENDS = ["torch", "numba"]


def brute_follow(displacement, y, x, iterations):
    """Follow one pixel in double precision."""
    _, height, width = displacement.shape
    for _ in range(iterations):
        step = np.zeros(2)
        for row in {math.floor(y), math.ceil(y)}:
            for column in {math.floor(x), math.ceil(x)}:
                step += displacement[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
        y, x = min(max(y + step[0], 0), height - 1), min(max(x + step[1], 0), width - 1)
    return y, x


def discs(height, width, centres):
    """A field in which every pixel points at the nearest centre."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    to = torch.stack([torch.stack([cy - y, cx - x]) for cy, cx in centres]).float()
    nearest = to.norm(dim=1).argmin(0)
    return to.gather(0, nearest.expand(1, 2, height, width))[0], nearest


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(7, 9), (1, 8), (6, 1)])
@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_refinement_adds_the_field_at_the_place_reached(backend, shape, iterations):
    field = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    refined = refine(field, iterations, backend=backend)
    for y in range(shape[0]):
        for x in range(shape[1]):
            end = brute_follow(field.double().numpy(), y, x, iterations)
            np.testing.assert_allclose(refined[:, y, x].numpy(), (end[0] - y, end[1] - x), atol=1e-4)


@pytest.mark.parametrize("shape", [(31, 45), (1, 17), (13, 1)])
def test_numba_equals_torch_bit_for_bit(shape):
    field = 3 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(refine(field, 100, backend="numba"), refine(field, 100, backend="torch"))
    assert torch.equal(find_centroids(field, backend="numba"), find_centroids(field, backend="torch"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_perfect_field_gives_its_centres_and_one_instance_each(backend):
    centres = [(6, 7), (8, 25), (20, 12)]
    field, nearest = discs(28, 33, centres)
    centroids = find_centroids(field, backend=backend)
    assert torch.equal(centroids, torch.tensor(centres)[nearest].permute(2, 0, 1))
    assert torch.equal(instance_map(field, backend=backend), nearest)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_that_end_in_no_component_are_the_first_instance(backend):
    # Left: rest, one component. Right: pushed for ever against the right border, where nothing rests.
    field = torch.zeros(2, 8, 12)
    field[1, :, 6:] = 5
    expected = torch.ones(8, 12, dtype=torch.long)
    expected[:, 6:] = 0
    assert torch.equal(instance_map(field, backend=backend), expected)


def test_components_that_touch_at_a_corner_are_two_instances():
    field = torch.full((2, 4, 4), 9.0)
    field[:, :2, :2] = 0
    field[:, 2:, 2:] = 0
    ids = instance_map(field, iterations=0)
    assert ids[0, 0] != ids[3, 3]
    assert ids.unique().tolist() == [0, 1, 2]


def test_threshold_and_iterations_count():
    field, _ = discs(20, 30, [(10, 5), (10, 24)])
    assert instance_map(field, threshold=100).max() == 0
    assert not torch.equal(find_centroids(field / 4, 1), find_centroids(field / 4, 40))


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_and_views_are_accepted(backend):
    field = torch.randn(2, 16, 11, generator=torch.Generator().manual_seed(2)).half()
    view = field.transpose(1, 2).flip(0)[:, ::2]
    copy = view.float().contiguous()
    assert torch.equal(find_centroids(view, backend=backend), find_centroids(copy, backend=backend))
    assert torch.equal(instance_map(view, backend=backend), instance_map(copy, backend=backend))


def test_what_cannot_run_is_refused():
    for compute in (lambda field: refine(field, 3), find_centroids, instance_map):
        with pytest.raises(ValueError, match=r"must be \[2, H, W\], got \(3, 4, 4\)"):
            compute(torch.zeros(3, 4, 4))
        with pytest.raises(ValueError, match=r"got \(4, 4\)"):
            compute(torch.zeros(4, 4))
        with pytest.raises(ValueError, match="not finite"):
            compute(torch.full((2, 4, 4), torch.nan))
    with pytest.raises(ValueError, match="at least 0, got -1"):
        find_centroids(torch.zeros(2, 4, 4), -1)
    with pytest.raises(ValueError, match="got 'scipy'"):
        instance_map(torch.zeros(2, 4, 4), backend="scipy")
