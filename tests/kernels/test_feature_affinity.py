"""Affinities of features and the walk by them, against loops over pairs and dense matrices."""

import math

import pytest
import torch

from kernels.affinity import offsets
from kernels.feature_affinity import feature_affinity
from kernels.random_walk import propagate_affinities

BACKENDS = ["torch", "numba"]
SHAPES = [(1, 3, 5, 7), (2, 4, 1, 9), (1, 2, 8, 1), (1, 1, 2, 2), (2, 5, 11, 13)]


def random_features(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def brute_affinities(features, radius):
    """Eq. 3 and 4 of AffinityNet, one pair after another."""
    batch, _, height, width = features.shape
    found = torch.zeros(batch, len(offsets(radius)), height, width)
    for b in range(batch):
        for k, (dy, dx) in enumerate(offsets(radius).tolist()):
            for y in range(height):
                for x in range(width):
                    if y + dy < height and 0 <= x + dx < width:
                        one, other = features[b, :, y, x].tolist(), features[b, :, y + dy, x + dx].tolist()
                        distance = sum(abs(p - q) for p, q in zip(one, other, strict=True)) / len(one)
                        found[b, k, y, x] = math.exp(-distance)
    return found


def dense_matrix(affinity, radius, beta):
    """T of Eq. 11 over all pairs of pixels."""
    _, height, width = affinity.shape
    matrix = torch.eye(height * width, dtype=torch.float64)
    for k, (dy, dx) in enumerate(offsets(radius).tolist()):
        for y in range(height - dy):
            for x in range(max(-dx, 0), width - max(dx, 0)):
                i, j = y * width + x, (y + dy) * width + x + dx
                matrix[i, j] = matrix[j, i] = float(affinity[k, y, x]) ** beta
    return matrix / matrix.sum(1, keepdim=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [2, 5])
def test_affinities_are_those_of_a_loop_over_pairs(backend, shape, radius):
    features = random_features(shape)
    wanted = brute_affinities(features, radius)
    torch.testing.assert_close(feature_affinity(features, radius, backend=backend), wanted, rtol=1e-5, atol=1e-5)
    strided = features.repeat_interleave(2, -1)[..., ::2].transpose(-1, -2).contiguous().transpose(-1, -2)
    torch.testing.assert_close(feature_affinity(strided, radius, backend=backend), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_numba_are_those_of_torch_s_and_of_finite_differences(shape):
    features = random_features(shape, seed=1)
    features[..., 0] = 0.5
    weights = torch.rand(brute_affinities(features, 3).shape, generator=torch.Generator().manual_seed(2))
    gradients = []
    for backend in BACKENDS:
        leaf = features.clone().requires_grad_()
        (feature_affinity(leaf, 3, backend=backend) * weights).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    leaf = random_features(shape).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: feature_affinity(x, 3, backend="torch"), (leaf,))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("shape", "radius", "beta"), [((5, 6), 5, 8), ((1, 9), 4, 1), ((7, 1), 5, 6), ((6, 40), 2, 3)])
def test_the_walk_by_affinities_is_a_power_of_the_dense_matrix(backend, shape, radius, beta):
    affinity = feature_affinity(random_features((1, 3, *shape), seed=3), radius)[0]
    scores = torch.rand(5, *shape, generator=torch.Generator().manual_seed(4))
    matrix = dense_matrix(affinity, radius, beta)
    for steps in (0, 1, 2, 256):
        walked = (torch.linalg.matrix_power(matrix, steps) @ scores.double().flatten(1).T).T.view_as(scores)
        found = propagate_affinities(scores, affinity, radius=radius, beta=beta, steps=steps, backend=backend)
        torch.testing.assert_close(found, walked.float(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_constant_map_stays_as_it_is_when_it_walks_by_affinities(backend):
    affinity = feature_affinity(random_features((1, 3, 9, 12)), 5)[0]
    walked = propagate_affinities(torch.full((1, 9, 12), 0.7), affinity, backend=backend)
    torch.testing.assert_close(walked, torch.full((1, 9, 12), 0.7), rtol=1e-5, atol=1e-5)
    assert propagate_affinities(torch.zeros(0, 9, 12), affinity, backend=backend).shape == (0, 9, 12)


def test_wrong_shapes_and_numbers_are_refused_by_name():
    with pytest.raises(ValueError, match=r"features must be \[B, D, H, W\]"):
        feature_affinity(torch.zeros(3, 4, 4), 5)
    with pytest.raises(ValueError, match="radius must be at least 2"):
        feature_affinity(torch.zeros(1, 3, 4, 4), 1)
    with pytest.raises(ValueError, match=r"K = 34 at radius 5, got \(1, 4, 4\), \(33, 4, 4\)"):
        propagate_affinities(torch.zeros(1, 4, 4), torch.zeros(33, 4, 4))
    with pytest.raises(ValueError, match="beta > 0"):
        propagate_affinities(torch.zeros(1, 4, 4), torch.zeros(34, 4, 4), beta=0)
    with pytest.raises(ValueError, match="backend"):
        feature_affinity(torch.zeros(1, 3, 4, 4).double(), 5, backend="numba")
