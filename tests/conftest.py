"""Where the tests find what is not in the repository."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT / default))
    if not folder.is_dir():
        pytest.skip(f"{variable} is not set and {default} does not exist")
    return folder


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Recorded inputs and outputs of the reference implementation."""
    return _folder("PSEUDOMASK_ORACLES", "../shared/oracles")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Small sets of real photographs, and ImageNet weights."""
    return _folder("PSEUDOMASK_REAL_DATA", "../shared/data")
