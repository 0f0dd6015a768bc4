"""Which implementation of a kernel runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

from torch import Tensor

logger = logging.getLogger(__name__)


@cache
def _log_choice(kernel: str, backend: str, device: str) -> None:
    logger.info("%s: backend %s on %s", kernel, backend, device)


def choose(kernel: str, backend: str, tensor: Tensor, versions: Sequence[str] = ("numba", "torch")) -> str:
    """Return the backend for a kernel that has these versions: a plain "torch" one, "numba" for the CPU, "triton".

    "auto" is "numba" for a tensor in the CPU's memory, "triton" for one on a CUDA device if the kernel has that
    version and the package is installed, and "torch" elsewhere; each choice is logged once.

    Raises:
        ValueError: The backend is unknown, or named but unable to run where the tensor is.
    """
    on_cpu = tensor.device.type == "cpu"
    # The interpreter runs the same kernels on the CPU.
    takes_triton = tensor.is_cuda or (on_cpu and os.environ.get("TRITON_INTERPRET") == "1")
    if backend == "auto":
        on_gpu = "triton" if tensor.is_cuda and "triton" in versions and find_spec("triton") else "torch"
        backend = "numba" if on_cpu else on_gpu
        _log_choice(kernel, backend, tensor.device.type)
    elif backend not in versions:
        raise ValueError(f"{kernel}: backend must be one of {['auto', *versions]}, got {backend!r}")
    elif backend == "numba" and not on_cpu:
        raise ValueError(f"{kernel}: backend 'numba' needs a tensor on the CPU, got one on {tensor.device}")
    elif backend == "triton" and not takes_triton:
        raise ValueError(f"{kernel}: backend 'triton' needs a tensor on a CUDA device, got one on {tensor.device}")
    elif backend == "triton" and not find_spec("triton"):
        raise ValueError(f"{kernel}: backend 'triton' needs the package triton, which is not installed")
    return backend
