"""The walk, against the dense transition matrix and against what Eq. 12 and 13 imply."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels import backend as backends
from kernels.affinity import boundary_to_affinity, paths
from kernels.random_walk import cpu, propagate, propagate_batch
from kernels.random_walk.chebyshev import schedule

BACKENDS = ["torch", "numba"]
ROOT = Path(__file__).resolve().parents[2]


def random_maps(channels, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(channels, height, width, generator=generator), torch.rand(height, width, generator=generator)


def row_sums(boundary, radius, beta):
    """S of T = S^-1 A^beta, as a map."""
    return affinity_matrix(boundary, radius, beta).sum(1).view_as(boundary)


def dense_transition(boundary, radius, beta):
    """T as a matrix over all pairs of pixels."""
    matrix = affinity_matrix(boundary, radius, beta)
    return matrix / matrix.sum(1, keepdim=True)


def affinity_matrix(boundary, radius, beta):
    """A^beta as a matrix over all pairs of pixels."""
    height, width = boundary.shape
    matrix = torch.eye(height * width, dtype=torch.float64)
    affinity = boundary_to_affinity(boundary.double(), radius) ** beta
    for k, (dy, dx) in enumerate(paths(radius)):
        for y in range(height - dy):
            for x in range(max(-dx, 0), width - max(dx, 0)):
                i, j = y * width + x, (y + dy) * width + x + dx
                matrix[i, j] = matrix[j, i] = affinity[k, y, x]
    return matrix


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


# (shape, channels): a map of one pixel; smaller than the radius; one column; more maps than share a register; columns
# that fill a strip exactly.
@pytest.mark.parametrize(
    ("shape", "channels"), [((1, 1), 1), ((3, 2), 2), ((40, 1), 1), ((37, 53), 1), ((64, 33), 7), ((9, 64), 2)]
)
@pytest.mark.parametrize("radius", [2, 5, 10])
def test_numba_agrees_with_double_precision_torch(shape, channels, radius):
    scores, boundary = random_maps(channels, *shape, seed=1)
    boundary = boundary**3
    plain = propagate(scores, boundary, radius=radius, steps=64, backend="torch")
    for tolerance in (0, 1e-5, 1e-3):
        fast = propagate(scores, boundary, radius=radius, steps=64, tolerance=tolerance, backend="numba")
        # Rounding grows with the number of neighbours: 68 at radius 5, 304 at radius 10.
        rounding = 3e-5 if radius <= 5 else 6e-5
        torch.testing.assert_close(fast, plain, rtol=0, atol=(rounding + tolerance) * float(plain.max()))


@pytest.mark.parametrize(("steps", "tolerance"), [(255, 1e-2), (256, 1e-2), (256, 1e-4), (1000, 1e-4)])
def test_fewer_products_stay_within_the_stated_error(steps, tolerance):
    scores, boundary = random_maps(2, 9, 11, seed=5)
    boundary = boundary**4
    norm = row_sums(boundary, 4, 3).sqrt()
    exact = propagate(scores.double(), boundary.double(), radius=4, beta=3, steps=steps, backend="torch")
    fast = propagate(scores, boundary, radius=4, beta=3, steps=steps, tolerance=tolerance)
    error = ((fast - exact) * norm).flatten(1).norm(dim=1) / (scores * (1 - boundary) * norm).flatten(1).norm(dim=1)
    assert error.max() <= tolerance + 3e-6
    assert len(schedule(steps, tolerance).products) < steps / 3


def test_bands_of_rows_give_the_whole_map(monkeypatch):
    scores, boundary = random_maps(2, 150, 20, seed=6)
    boundary = boundary**3
    arguments = {"radius": 3, "steps": 40}
    for tolerance in (0, 1e-4):
        whole = propagate(scores, boundary, tolerance=tolerance, **arguments)
        for rows in (30, 70, 149):
            with monkeypatch.context() as patch:
                patch.setattr(cpu, "MAX_WEIGHTS", rows * 12 * 32 * 4)
                banded = propagate(scores, boundary, tolerance=tolerance, **arguments)
            torch.testing.assert_close(banded, whole, rtol=0, atol=1e-6 + 2 * tolerance)


def test_a_batch_of_many_sizes_is_its_images_one_by_one():
    scores = [random_maps(channels, *shape)[0] for channels, shape in [(2, (9, 4)), (0, (3, 3)), (1, (5, 17))]]
    boundaries = [random_maps(0, *one.shape[1:], seed=7)[1] for one in scores]
    together = propagate_batch(scores, boundaries, steps=20)
    for walked, one, boundary in zip(together, scores, boundaries, strict=True):
        assert torch.equal(walked, propagate(one, boundary, steps=20))
    assert propagate_batch([], []) == []


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
    with pytest.raises(ValueError, match="got 1 and 2"):
        propagate_batch([scores, scores], [boundary])
    with pytest.raises(ValueError, match="one device, got cpu, meta"):
        propagate(scores, boundary.to("meta"))
    with pytest.raises(ValueError, match="got 'cuda_graph'"):
        propagate(scores, boundary, backend="cuda_graph")
    with pytest.raises(ValueError, match="needs a tensor on the CPU, got one on meta"):
        propagate(scores.to("meta"), boundary.to("meta"), backend="numba")
    for wrong in ({"radius": 1}, {"beta": 0}, {"steps": -1}, {"tolerance": -1e-4}):
        with pytest.raises(ValueError, match="need radius >= 2, beta > 0, steps >= 0"):
            propagate(scores, boundary, **wrong)


def test_a_photograph_of_12_million_pixels_walks_in_under_2_gb() -> None:
    script = """
import torch
from kernels.random_walk import propagate
walked = propagate(torch.rand(3, 750, 1000), torch.rand(750, 1000) / 4)
assert walked.isfinite().all() and walked.shape == (3, 750, 1000)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(answer.stdout) * 1024 < 2e9
