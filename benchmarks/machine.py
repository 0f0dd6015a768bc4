"""The machine that results hold for, and the file that they go to."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import numba
import torch

RESULTS = Path(__file__).parent / "results"


def describe_machine() -> dict[str, str | int | float | None]:
    """Return what a ratio depends on; `load` is the number of running processes over the last minute."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return {
        "cpu": found[1] if found else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
    }


def results_file(machine: dict[str, str | int | float | None], kind: str = "") -> Path:
    """Return the file of this machine's results: benchmarks/results/[KIND-]CPU-GPU.json."""
    name = f"{kind} {machine['cpu']} {machine['gpu'] or ''}".lower()
    return RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', name).strip('-')}.json"


def write_results(document: dict[str, Any], file: Path | None) -> None:
    """Write what there is so far, after every row: the whole takes a quarter of an hour."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=1) + "\n")
