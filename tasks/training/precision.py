"""Number formats of a network's arithmetic."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def autocast(device: str, precision: Precision = "auto") -> contextlib.AbstractContextManager:
    """Return the autocast of a precision; "auto" is bfloat16 on a GPU, and single precision elsewhere."""
    kind = device.partition(":")[0]
    if precision == "auto":
        precision = "bfloat16" if kind == "cuda" else "float32"
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(kind, getattr(torch, precision))
