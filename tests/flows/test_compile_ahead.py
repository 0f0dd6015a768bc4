"""`python -m kernels` leaves nothing for a run to compile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def test_a_run_after_it_compiles_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "numba"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}

    def call(*words: str) -> set[Path]:
        subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=environment, check=True, capture_output=True)
        return {file for file in cache.rglob("*") if file.is_file()}

    compiled = call("kernels")
    assert compiled
    run = ("--out", str(tmp_path / "run"), "--images", "8", "--classifier.epochs", "1", "--irnet.epochs", "1")
    assert call("flows", "demo", *run) == compiled
