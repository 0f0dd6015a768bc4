"""No numba version reads memory that it has not written: with all that it allocates full of NaN, they still agree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

POISON = """
import os
import numpy as np
import torch

def fill(shape, dtype=float):
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype)

def fill_tensor(*shape, dtype=torch.float32):
    return torch.full(torch.zeros(*shape).shape, float("nan"), dtype=dtype)

if os.environ["NUMBA_DISABLE_JIT"] == "1":
    np.empty = fill
torch.empty = fill_tensor
torch.empty_like = lambda given: fill_tensor(given.shape, dtype=given.dtype)
generator = torch.Generator().manual_seed(0)
"""
CHECKS = {
    "affinity": """
from kernels.affinity import boundary_to_affinity
for radius, shape in [(5, (11, 13)), (3, (1, 9)), (4, (7, 1))]:
    boundary = torch.rand(shape, generator=generator)
    found, expected = (boundary_to_affinity(boundary, radius, backend=name) for name in ("numba", "torch"))
    assert torch.equal(found, expected)
""",
    "walk": """
from kernels.random_walk import propagate
scores, boundary = torch.rand(5, 6, 9, generator=generator), torch.rand(6, 9, generator=generator)
for steps, tolerance in [(0, 0), (3, 0), (12, 1e-6)]:
    found, expected = (
        propagate(scores, boundary, radius=3, steps=steps, tolerance=tolerance, backend=name)
        for name in ("numba", "torch")
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
""",
    "pair losses": """
from kernels.pair_losses import pair_terms
boundary, displacement = torch.rand(2, 7, 11, generator=generator), torch.randn(2, 2, 7, 11, generator=generator)
labels = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)[torch.randint(4, (2, 7, 11), generator=generator)]
results = []
for backend in ("numba", "torch"):
    leaves = [given.clone().requires_grad_() for given in (boundary, displacement)]
    terms = pair_terms(*leaves, labels, radius=4, backend=backend)
    results.append([*terms, *torch.autograd.grad(sum(terms[3:]), leaves)])
assert sum(results[0][:3]) > 0
for found, expected in zip(*results, strict=True):
    torch.testing.assert_close(found, expected)
""",
    "convolution": """
from kernels.convolution import convolve, cpu
cpu.MIN_TILES, cpu.BLOCK_BYTES = 4, 1
for size, shape in [(3, (2, 3, 9, 5)), (3, (1, 2, 1, 7)), (1, (2, 3, 4, 5))]:
    x = torch.rand(shape, generator=generator)
    weight, bias = torch.rand(4, shape[1], size, size, generator=generator), torch.rand(4, generator=generator)
    for residual in (None, torch.rand(shape[0], 4, *shape[2:], generator=generator)):
        found, expected = (convolve(x, weight, bias, residual=residual, backend=name) for name in ("numba", "torch"))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
""",
    "displacement": """
from kernels.displacement import find_centroids, instance_map
field = 2 * torch.randn(2, 9, 14, generator=generator)
for find in (find_centroids, instance_map):
    found, expected = (find(field, iterations=20, backend=name) for name in ("numba", "torch"))
    assert torch.equal(found, expected)
""",
}


@pytest.mark.parametrize("kernel", CHECKS)
def test_a_numba_version_writes_all_that_it_allocates(kernel: str) -> None:
    # Uncompiled, so that the arrays within are seen too. The walk's instructions exist in compiled code alone.
    environment = os.environ | {"NUMBA_DISABLE_JIT": "0" if kernel == "walk" else "1", "OMP_NUM_THREADS": "1"}
    script = [sys.executable, "-c", POISON + CHECKS[kernel]]
    ran = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
