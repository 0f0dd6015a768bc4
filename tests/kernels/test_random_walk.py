"""The walk, against the dense transition matrix and against what Eq. 12 and 13 imply."""

import logging

import pytest
import torch

from kernels import backend as backends
from kernels.affinity import boundary_to_affinity, paths
from kernels.random_walk import propagate

BACKENDS = ["torch", "numba"]


def random_maps(channels, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(channels, height, width, generator=generator), torch.rand(height, width, generator=generator)


def dense_transition(boundary, radius, beta):
    """T as a matrix over all pairs of pixels."""
    height, width = boundary.shape
    matrix = torch.eye(height * width, dtype=torch.float64)
    affinity = boundary_to_affinity(boundary.double(), radius) ** beta
    for k, (dy, dx) in enumerate(paths(radius)):
        for y in range(height - dy):
            for x in range(max(-dx, 0), width - max(dx, 0)):
                i, j = y * width + x, (y + dy) * width + x + dx
                matrix[i, j] = matrix[j, i] = affinity[k, y, x]
    return matrix / matrix.sum(1, keepdim=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("shape", "radius", "beta"), [((5, 6), 5, 10), ((5, 6), 3, 2.5), ((1, 9), 4, 1), ((7, 1), 5, 6)]
)
def test_steps_are_powers_of_the_dense_matrix(backend, shape, radius, beta):
    scores, boundary = random_maps(3, *shape)
    matrix = dense_transition(boundary, radius, beta)
    torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64))
    for steps in (0, 1, 2, 7):
        walked = torch.linalg.matrix_power(matrix, steps) @ (scores * (1 - boundary)).double().flatten(1).T
        got = propagate(scores, boundary, radius=radius, beta=beta, steps=steps, backend=backend)
        torch.testing.assert_close(got, walked.T.float().view_as(scores), rtol=1e-5, atol=1e-6)


# (shape, channels): a map of one pixel; smaller than the radius; several blocks of the stencil with a rest.
@pytest.mark.parametrize(("tolerance", "agreement"), [(0, 3e-5), (5e-5, 1e-4)])
@pytest.mark.parametrize(("shape", "channels"), [((1, 1), 1), ((3, 2), 2), ((37, 53), 1), ((64, 33), 4)])
def test_numba_agrees_with_double_precision_torch(shape, channels, tolerance, agreement):
    scores, boundary = random_maps(channels, *shape, seed=1)
    boundary = boundary**3
    plain = propagate(scores, boundary, steps=64, backend="torch")
    fast = propagate(scores, boundary, steps=64, tolerance=tolerance, backend="numba")
    torch.testing.assert_close(fast, plain, rtol=0, atol=agreement * float(plain.max()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_constant_map_is_a_fixed_point_where_there_is_no_boundary(backend):
    scores = torch.full((1, 19, 23), 0.75)
    walked = propagate(scores, torch.zeros(19, 23), backend=backend)
    torch.testing.assert_close(walked, scores, rtol=1e-4, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_crosses_a_closed_boundary(backend):
    scores = torch.zeros(1, 12, 20)
    scores[:, :, :8] = 1
    boundary = torch.zeros(12, 20)
    boundary[:, 9] = 1
    walked = propagate(scores, boundary, backend=backend)
    assert (walked[:, :, 10:] == 0).all()
    assert walked[0, :, 8].min() > 0.5


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_map_at_all_and_half_precision_are_accepted(backend):
    scores, boundary = random_maps(2, 11, 13)
    assert propagate(scores[:0], boundary, backend=backend).shape == (0, 11, 13)
    half = propagate(scores.half(), boundary.half(), steps=8, backend=backend)
    assert half.dtype == torch.float32
    expected = propagate(scores.half().float(), boundary.half().float(), steps=8, backend=backend)
    assert torch.equal(half, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_give_the_result_of_their_copies_and_inputs_stay_as_they_were(backend):
    scores, boundary = random_maps(2, 24, 17)
    scores, boundary = scores.transpose(1, 2)[:, :, ::2], boundary.T[:, ::2]
    before = scores.clone(), boundary.clone()
    walked = propagate(scores, boundary, steps=5, backend=backend)
    assert torch.equal(walked, propagate(*before, steps=5, backend=backend))
    assert torch.equal(scores, before[0])
    assert torch.equal(boundary, before[1])


def test_maps_are_walked_independently_of_each_other():
    scores, boundary = random_maps(3, 15, 16)
    together = propagate(scores, boundary)
    alone = torch.cat([propagate(scores[c : c + 1], boundary) for c in range(3)])
    assert torch.equal(together, alone)


def test_auto_takes_numba_on_the_cpu_and_says_so_once(caplog):
    backends._log_choice.cache_clear()
    scores, boundary = random_maps(1, 10, 10)
    with caplog.at_level(logging.INFO, logger="kernels.backend"):
        first = propagate(scores, boundary, steps=3)
        propagate(scores, boundary, steps=3)
    assert [record.getMessage() for record in caplog.records] == ["random_walk: backend numba on cpu"]
    assert torch.equal(first, propagate(scores, boundary, steps=3, backend="numba"))


def test_what_cannot_run_is_refused():
    scores, boundary = random_maps(1, 6, 6)
    with pytest.raises(ValueError, match=r"\(1, 6, 6\), \(5, 6\)"):
        propagate(scores, boundary[:5])
    with pytest.raises(ValueError, match="got 'cuda_graph'"):
        propagate(scores, boundary, backend="cuda_graph")
    with pytest.raises(ValueError, match="needs a tensor on the CPU, got one on meta"):
        propagate(scores.to("meta"), boundary.to("meta"), backend="numba")
    for wrong in ({"radius": 1}, {"beta": 0}, {"steps": -1}):
        with pytest.raises(ValueError, match="need radius >= 2, beta > 0, steps >= 0"):
            propagate(scores, boundary, **wrong)
