"""Which implementation of a kernel runs."""

from __future__ import annotations

import logging
from functools import cache

from torch import Tensor

logger = logging.getLogger(__name__)


@cache
def _log_choice(kernel: str, backend: str, device: str) -> None:
    logger.info("%s: backend %s on %s", kernel, backend, device)


def choose(kernel: str, backend: str, tensor: Tensor) -> str:
    """Return the backend for a kernel that has a plain "torch" version and a "numba" version for the CPU.

    "auto" is "numba" for a tensor in the CPU's memory and "torch" elsewhere; each choice is logged once.

    Raises:
        ValueError: The backend is unknown, or named but unable to run where the tensor is.
    """
    on_cpu = tensor.device.type == "cpu"
    if backend == "auto":
        backend = "numba" if on_cpu else "torch"
        _log_choice(kernel, backend, tensor.device.type)
    elif backend not in ("numba", "torch"):
        raise ValueError(f"{kernel}: backend must be 'auto', 'numba' or 'torch', got {backend!r}")
    elif backend == "numba" and not on_cpu:
        raise ValueError(f"{kernel}: backend 'numba' needs a tensor on the CPU, got one on {tensor.device}")
    return backend
