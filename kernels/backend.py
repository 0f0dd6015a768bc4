"""Which implementation of a kernel runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

from torch import Tensor

logger = logging.getLogger(__name__)

FASTEST_FIRST = ("numba", "triton", "torch")


@cache
def _log_choice(kernel: str, backend: str, device: str) -> None:
    logger.info("%s: backend %s on %s", kernel, backend, device)


def choose(
    kernel: str,
    backend: str,
    tensor: Tensor,
    *,
    backends: Sequence[str] = ("numba", "torch"),
    needs_gradient: bool = False,
) -> str:
    """Return the backend that runs: "numba" (CPU), "triton" (CUDA) or plain "torch" (anywhere).

    "auto" is "numba" for a tensor in the CPU's memory, "triton" for one on a CUDA device where the kernel has
    such a version and triton is installed, else "torch"; each choice is logged once. Under triton's interpreter
    (TRITON_INTERPRET=1) the backend "triton" takes tensors on the CPU too, if named.

    Args:
        kernel: Its name, for messages.
        backend: "auto" or one of `backends`.
        tensor: The input whose device decides.
        backends: Those that the kernel has.
        needs_gradient: The result will be differentiated, and only the version in torch can be.

    Raises:
        ValueError: The backend is unknown, or named but unable to run where the tensor is.
    """
    if backend == "auto":
        able = [name for name in FASTEST_FIRST if name in backends and _obstacle(name, tensor, needs_gradient) is None]
        if not tensor.is_meta:
            _log_choice(kernel, able[0], tensor.device.type)
        return able[0]
    if backend not in backends:
        *names, last = map(repr, ("auto", *backends))
        raise ValueError(f"{kernel}: backend must be {', '.join(names)} or {last}, got {backend!r}")
    obstacle = _obstacle(backend, tensor, needs_gradient)
    if obstacle is not None:
        raise ValueError(f"{kernel}: backend {backend!r} {obstacle}")
    return backend


def _obstacle(backend: str, tensor: Tensor, needs_gradient: bool) -> str | None:
    """Return why a backend cannot run, None if it can."""
    if backend == "torch":
        return None
    if needs_gradient:
        return "gives no gradient, and the input requires one"
    if backend == "numba":
        return None if tensor.device.type == "cpu" else f"needs a tensor on the CPU, got one on {tensor.device}"
    if find_spec("triton") is None:
        return "needs the package triton"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if tensor.is_cuda or (interpreted and tensor.device.type == "cpu"):
        return None
    return f"needs a tensor on a CUDA device, got one on {tensor.device}"
