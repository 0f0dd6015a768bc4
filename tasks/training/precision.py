"""Number formats of a network's arithmetic."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Literal

import torch

Precision = Literal["auto", "fastest", "float32", "bfloat16", "float16"]


def autocast(device: str, precision: Precision = "auto") -> contextlib.AbstractContextManager:
    """Return the autocast of a precision.

    "auto" is bfloat16 on a GPU and single precision elsewhere; "fastest" is bfloat16 on a CPU that has instructions for
    it too.
    """
    kind = device.partition(":")[0]
    if precision in ("auto", "fastest"):
        fast = kind == "cuda" or (precision == "fastest" and kind == "cpu" and cpu_has_bfloat16())
        precision = "bfloat16" if fast else "float32"
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(kind, getattr(torch, precision))


@cache
def cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for products of bfloat16 (AMX or AVX-512 BF16), not mere emulation."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
