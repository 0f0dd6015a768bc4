"""The Triton versions agree with plain torch: under Triton's interpreter anywhere, on a GPU where there is one."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from kernels.affinity import boundary_to_affinity
from kernels.displacement import instance_map, instance_maps
from kernels.pair_losses import pair_terms
from kernels.pooling import max_pool, max_unpool
from kernels.random_walk import propagate, propagate_batch

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

# The variable must be set before triton is imported, so each check is a process of its own.
AFFINITY = """
import torch
from kernels.affinity import boundary_to_affinity
for radius, shape in [(5, (7, 9)), (3, (1, 11)), (4, (6, 1)), (5, (1, 1)), (2, (17, 19))]:
    boundary = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for given in (boundary, boundary.half(), boundary.double(), boundary.T):
        found, expected = (boundary_to_affinity(given, radius, backend=name) for name in ("triton", "torch"))
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected), (radius, shape)
"""
WALK = """
import torch
from kernels.random_walk import propagate, propagate_batch
empty_like = torch.empty_like
torch.empty_like = lambda *given, **named: empty_like(*given, **named).fill_(float("nan"))
generator = torch.Generator().manual_seed(0)
shapes = [(2, 6, 9), (5, 7, 3), (0, 1, 8)]
scores = [torch.rand(shape, generator=generator) for shape in shapes]
scores[1] = scores[1].half()
boundaries = [torch.rand(shape[1:], generator=generator) ** 3 for shape in shapes]
scores[0], boundaries[0] = scores[0].transpose(1, 2), boundaries[0].T
for radius, steps, tolerance in [(2, 0, 0), (3, 2, 0), (2, 12, 0.1)]:
    arguments = {"radius": radius, "beta": 2.5, "steps": steps, "tolerance": tolerance}
    batch = propagate_batch(scores, boundaries, backend="triton", **arguments)
    for walked, one, boundary in zip(batch, scores, boundaries, strict=True):
        # The same polynomial of T, since "numba" keeps to the tolerance in the same way.
        expected = propagate(one, boundary, backend="numba" if tolerance else "torch", **arguments)
        torch.testing.assert_close(walked, expected, rtol=0, atol=2e-6)
"""
PAIRS = """
import torch
from kernels.pair_losses import pair_terms
generator = torch.Generator().manual_seed(0)
cases = [(3, (2, 7, 9), torch.float32), (2, (1, 4, 5), torch.float64), (4, (1, 5, 6), torch.float32)]
for radius, shape, dtype in cases:
    # Few values, so that the greatest of a path are often equal.
    boundary = torch.randint(1, 6, shape, generator=generator).to(dtype) / 8
    displacement = torch.randn(shape[0], 2, *shape[1:], generator=generator).to(dtype)
    labels = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)[torch.randint(4, shape, generator=generator)]
    results = []
    for backend in ("triton", "torch"):
        leaves = [given.clone().requires_grad_() for given in (boundary, displacement)]
        terms = pair_terms(*leaves, labels, radius=radius, backend=backend)
        total = sum((k + 1) * term for k, term in enumerate(terms[3:]))
        results.append([*terms, *torch.autograd.grad(total, leaves, materialize_grads=True)])
    assert radius == 4 or sum(results[0][:3]) > 0
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
"""
DISPLACEMENT = """
import torch
from kernels.displacement import find_centroids, instance_map, instance_maps, refine
empty_like = torch.empty_like
torch.empty_like = lambda *given, **named: empty_like(*given, **named).fill_(float("nan"))
generator = torch.Generator().manual_seed(0)
fields = [2 * torch.randn(2, *shape, generator=generator) for shape in [(9, 14), (1, 11), (6, 1), (1, 1)]]
for field in [*fields, fields[0].half(), fields[0].transpose(1, 2)]:
    found, expected = (find_centroids(field, 20, backend=backend) for backend in ("triton", "torch"))
    assert torch.equal(found, expected)
assert torch.equal(refine(fields[0], 7, backend="triton"), refine(fields[0], 7, backend="torch"))
for field, ids in zip(fields, instance_maps(fields, iterations=20, backend="triton"), strict=True):
    assert torch.equal(ids, instance_map(field, iterations=20, backend="torch"))
"""
POOLING = """
import torch
from kernels.pooling import max_pool, max_unpool
empty = torch.empty
torch.empty = lambda *given, **named: empty(*given, **named).fill_(99)
generator = torch.Generator().manual_seed(0)
for shape in [(2, 3, 8, 12), (1, 5, 7, 19), (2, 1, 1, 6), (1, 2, 3, 3)]:
    for dtype in (torch.float32, torch.float16):
        for order in (torch.contiguous_format, torch.channels_last):
            maps = (torch.randint(-4, 5, shape, generator=generator).to(dtype) / 2).contiguous(memory_format=order)
            results = []
            for backend in ("triton", "torch"):
                leaf = maps.clone().requires_grad_()
                maxima, indices = max_pool(leaf, backend=backend)
                spread = max_unpool(maxima.square(), indices, shape[2:], backend=backend)
                (spread * torch.arange(spread.numel()).view(shape)).sum().backward()
                results.append([maxima, indices, spread, leaf.grad])
            for found, expected in zip(*results, strict=True):
                assert torch.equal(found, expected), (shape, dtype, order)
"""
CHECKS = {"affinity": AFFINITY, "walk": WALK, "pairs": PAIRS, "displacement": DISPLACEMENT, "pooling": POOLING}


@needs_triton
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_triton_agrees_with_torch_in_the_interpreter(check):
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_triton_by_name_needs_a_gpu_or_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="backend 'triton' needs"):
        boundary_to_affinity(torch.rand(3, 3), 2, backend="triton")
    with pytest.raises(ValueError, match="backend 'triton' needs"):
        propagate(torch.rand(1, 3, 3), torch.rand(3, 3), backend="triton")


def test_the_kernels_are_imported_without_triton():
    code = (
        "import sys; sys.modules['triton'] = None; import kernels.affinity, kernels.displacement, kernels.pair_losses"
    )
    code += ", kernels.pooling, kernels.random_walk"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
@needs_triton
def test_a_batch_on_a_gpu_agrees_with_torch_and_its_graph_can_be_used_again():
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        shapes = [(3, 94, 125), (1, 90, 120), (2, 1, 7)]
        scores = [torch.rand(shape, generator=generator) for shape in shapes]
        boundaries = [torch.rand(shape[1:], generator=generator) ** 3 for shape in shapes]
        walked = propagate_batch([one.cuda() for one in scores], [one.cuda() for one in boundaries], backend="triton")
        for found, one, boundary in zip(walked, scores, boundaries, strict=True):
            expected = propagate(one, boundary, backend="torch")
            torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4 * float(expected.max()))
    boundary = boundaries[0].cuda()
    for radius in (2, 5, 10):
        found, expected = (boundary_to_affinity(boundary, radius, backend=name) for name in ("triton", "torch"))
        assert torch.equal(found, expected)


@pytest.mark.gpu
@needs_triton
def test_pair_losses_and_displacement_on_a_gpu_agree_with_torch():
    generator = torch.Generator().manual_seed(0)
    boundary = torch.rand(4, 64, 80, generator=generator)
    displacement = 3 * torch.randn(4, 2, 64, 80, generator=generator)
    labels = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)[torch.randint(4, (4, 8, 10), generator=generator)]
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    results = []
    for device, backend in (("cuda", "triton"), ("cpu", "torch")):
        leaves = [given.double().to(device).requires_grad_() for given in (boundary, displacement)]
        terms = pair_terms(*leaves, labels.to(device), backend=backend)
        total = sum((k + 1) * term for k, term in enumerate(terms[3:]))
        results.append([one.cpu() for one in (*terms, *torch.autograd.grad(total, leaves))])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
    fields = [0.1 * displacement[0], displacement[1, :, :17]]
    for ids, field in zip(instance_maps([field.cuda() for field in fields]), fields, strict=True):
        assert torch.equal(ids.cpu(), instance_map(field, backend="torch"))


@pytest.mark.gpu
@needs_triton
def test_pooling_on_a_gpu_agrees_with_torch():
    maps = torch.randn(2, 16, 45, 61, generator=torch.Generator().manual_seed(0)).relu()
    for order in (torch.contiguous_format, torch.channels_last):
        results = []
        for device, backend in (("cuda", "triton"), ("cpu", "torch")):
            leaf = maps.to(device).contiguous(memory_format=order).requires_grad_()
            maxima, indices = max_pool(leaf, backend=backend)
            spread = max_unpool(maxima.square(), indices, (45, 61), backend=backend)
            spread.square().sum().backward()
            results.append([one.cpu() for one in (maxima, indices, spread, leaf.grad)])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected)
