"""The Triton version of the dense CRF against the plain one: on a GPU, and in Triton's interpreter without one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.crf import refine_batch, refine_labels

ROOT = Path(__file__).resolve().parents[2]


def noisy(height, width, num_labels, seed):
    """Make an image with a plain part and a noisy part, and labels."""
    generator = np.random.default_rng(seed)
    image = np.full((height, width, 3), 90, np.uint8)
    image[:, width // 2 :] = generator.integers(0, 256, (height, width - width // 2, 3))
    return torch.from_numpy(image), torch.from_numpy(generator.integers(0, num_labels, (height, width)))


def check_agreement(device):
    """Compare a batch of images of several sizes, with different numbers of maps and labels, to the reference."""
    from kernels.crf import gpu, reference

    # Memory that torch hands out uninitialised is NaN from here on.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    # In a small image too a vertex has several times more pixels than are added up in one go.
    gpu.SEGMENT = 8
    num_labels = [[3, 2], [2], [5, 1, 2], [4]]
    sizes = [(9, 14), (1, 1), (11, 7), (1, 13)]
    images = [noisy(*size, 2, seed)[0].to(device) for seed, size in enumerate(sizes)]
    labels = [[noisy(*size, n, n)[1].to(device) for n in some] for size, some in zip(sizes, num_labels, strict=True)]
    images[2] = images[2].transpose(0, 1).contiguous().transpose(0, 1)
    generator = torch.Generator().manual_seed(0)
    unaries = [
        [(3 * torch.randn(n, *size, generator=generator)).to(device) for n in some]
        for size, some in zip(sizes, num_labels, strict=True)
    ]
    for iterations in (0, 2):
        batch = gpu.marginals(gpu.build(images), unaries, iterations)
        for image, maps, found in zip(images, unaries, batch, strict=True):
            expected = reference.marginals(reference.build(image), maps, iterations)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=2e-5)
    maps = refine_batch(images, labels, num_labels, iterations=2, backend="triton")
    plain = refine_batch(images, labels, num_labels, iterations=2, backend="torch")
    for some, others in zip(maps, plain, strict=True):
        for one, other in zip(some, others, strict=True):
            assert one.device == other.device
            assert (one != other).float().mean() <= 0.01
    assert refine_batch([], [], [], backend="triton") == []


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
        ),
    ],
)
def test_a_batch_agrees_with_the_reference(device):
    pytest.importorskip("triton")
    # In a process of its own: Triton reads the variable when it is imported, and torch's settings stay.
    environment = os.environ | {"TRITON_INTERPRET": str(int(device == "cpu")), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__, device], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter takes tensors on the CPU")
def test_triton_asked_for_by_name_needs_a_gpu():
    image, labels = noisy(4, 5, 2, 0)
    with pytest.raises(ValueError, match="'triton' needs a tensor on a CUDA device, got one on cpu"):
        refine_labels(image, labels, 2, backend="triton")


if __name__ == "__main__":
    check_agreement(sys.argv[1])
