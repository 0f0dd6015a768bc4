"""The schedule of products, against binomial coefficients in whole numbers and powers of numbers."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
import torch

from kernels.random_walk import propagate
from kernels.random_walk.chebyshev import schedule


def apply(walk, x):
    """The schedule's polynomial at numbers x, in place of T."""
    here, before, total = np.ones_like(x), np.zeros_like(x), np.full_like(x, walk.first)
    for scale, keep, share in walk.products.astype(float):
        here, before = scale * x * here - keep * before, here
        total += share * here
    return total


def tail(steps, degree):
    """P(|walk_n| > m), exactly."""
    far = sum(comb(steps, up) for up in range(steps + 1) if abs(2 * up - steps) > degree)
    return Fraction(far, 2**steps)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 16, 63, 256, 1001])
@pytest.mark.parametrize("tolerance", [0, 1e-6, 1e-4, 1e-2])
def test_the_polynomial_is_the_power_within_the_tolerance_on_all_eigenvalues(steps, tolerance):
    x = np.linspace(-1, 1, 2001)
    walk = schedule(steps, tolerance)
    assert np.abs(apply(walk, x) - x**steps).max() <= tolerance + 1e-7
    np.testing.assert_allclose(apply(walk, np.array([1.0, -1.0])), [1, (-1) ** steps], atol=1e-7)


@pytest.mark.parametrize("steps", [9, 64, 257])
@pytest.mark.parametrize("tolerance", [1e-7, 1e-4, 1e-2, 0.3])
def test_the_degree_is_the_smallest_that_the_exact_tail_allows(steps, tolerance):
    allowed = [degree for degree in range(steps % 2, steps + 1, 2) if 2 * tail(steps, degree) <= tolerance]
    assert len(schedule(steps, tolerance).products) == allowed[0]


@pytest.mark.parametrize("tolerance", [-1e-3, 1.0, 2.0, float("inf"), float("nan")])
def test_a_tolerance_that_no_series_is_of_is_refused(tolerance):
    maps = torch.ones(1, 4, 4), torch.zeros(4, 4)
    propagate(*maps, steps=256, tolerance=0.999)
    with pytest.raises(ValueError, match=r"tolerance in \[0, 1\)"):
        propagate(*maps, steps=256, tolerance=tolerance)


def test_no_tolerance_is_one_product_a_step():
    walk = schedule(5, 0)
    assert walk.first == 0
    assert walk.products.tolist() == [[1, 0, 0]] * 4 + [[1, 0, 1]]


def test_degrees_grow_like_the_root_of_the_steps_up_to_millions():
    degrees = [len(schedule(steps, 1e-4).products) for steps in (10**4, 10**6)]
    assert 9.9 < degrees[1] / degrees[0] < 10.1
