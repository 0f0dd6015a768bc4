"""The Triton walk's memory is bounded: parts of a batch, and the bytes that they allocate."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from kernels.random_walk.parts import parts_of

# Counts the bytes of all tensors alive, by their storages, and holds the walk to its budget.
MEMORY = """
import gc, torch, weakref
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from kernels.affinity import offsets
from kernels.random_walk import gpu, propagate, propagate_batch
from kernels.random_walk.parts import parts_of

class Count(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.alive, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.known:
                    self.known.add(key)
                    self.alive += size
                    self.peak = max(self.peak, self.alive)
                    weakref.finalize(storage, self.free, key, size)
        return out

    def free(self, key, size):
        self.known.discard(key)
        self.alive -= size

build = gpu._Walk
# The interpreter's launches keep their tensors in cycles.
gpu._Walk = lambda *given: (gc.collect(), build(*given))[1]
generator = torch.Generator().manual_seed(0)
shapes = [(2, 14, 9), (3, 16, 16), (0, 4, 4), (1, 5, 7)]
scores = [torch.rand(shape, generator=generator) for shape in shapes]
boundaries = [torch.rand(shape[1:], generator=generator) ** 3 for shape in shapes]
outputs = sum(one.nbytes for one in scores)
arguments = {"radius": 2, "beta": 2.5, "steps": 3, "tolerance": 0.1}
num_pairs = len(offsets(2))
peaks = {}
for budget, error in ((22_000, 2e-6), (12_000, 2e-3)):
    gpu._kept.clear()
    gpu.BUDGET = budget
    with Count() as count:
        walked = propagate_batch(scores, boundaries, backend="triton", **arguments)
    peaks[budget] = count.peak
    for found, one, boundary in zip(walked, scores, boundaries, strict=True):
        expected = propagate(one, boundary, backend="numba", **arguments)
        torch.testing.assert_close(found, expected, rtol=0, atol=error)
    # Tables of offsets and paths, and what the interpreter copies, are beside the buffers.
    assert count.peak <= budget + outputs + 4_000, (budget, count.peak)
    assert sum(walk.num_bytes for walk in gpu._kept.values()) <= budget
    parts = list(parts_of(shapes, num_pairs, budget))
    assert any(part.half for part in parts) == (budget == 12_000)
assert peaks[12_000] < peaks[22_000], peaks
print(peaks)
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_a_walk_allocates_no_more_than_its_budget() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", MEMORY], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    print(ran.stdout)


def test_every_map_of_every_image_is_in_one_part() -> None:
    shapes = [(3, 40, 50), (0, 5, 5), (9, 400, 300), (1, 20, 20), (2, 40, 50)]
    for budget in (1, 10**6, 10**7, 10**9):
        found = [
            (k, each)
            for part in parts_of(shapes, 34, budget)
            for k in part.images
            for each in range(part.first_map, min(part.first_map + part.num_maps, shapes[k][0]))
        ]
        assert sorted(found) == [(k, each) for k, shape in enumerate(shapes) for each in range(shape[0])]


def test_parts_keep_to_the_budget_and_halve_the_weights_last() -> None:
    # The worst that was counted: 32 images of 64 pieces, and a photograph of 600 million pixels.
    budget = 2 << 30
    parts = list(parts_of([(64, 256, 256)] * 32, 34, budget))
    assert max(part.num_bytes for part in parts) <= budget
    assert not any(part.half for part in parts)
    (small,) = parts_of([(4, 96, 128)] * 32, 34, budget)
    assert small.images == tuple(range(32))
    huge = list(parts_of([(3, 5_000, 7_500)], 34, budget))
    assert all(part.half and part.shape[1] == 1 for part in huge)
    assert [part.first_map for part in huge] == [0, 1, 2]
