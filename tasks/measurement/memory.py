"""The memory of a process, as Linux tells it."""

from __future__ import annotations

import ctypes
from pathlib import Path


def forget_peak() -> None:
    """Give back to the system what was freed, and let the peak of this process's memory count from here."""
    ctypes.CDLL(None).malloc_trim(0)
    # "5": see proc(5).
    Path("/proc/self/clear_refs").write_text("5")


def status_bytes(field: str) -> int:
    """Return a size that Linux tells of this process: "VmRSS", or "VmHWM", the most that it was."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
