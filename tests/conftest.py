"""Where the tests find what is not in the repository."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Threads of torch in this process sleep where they wait, as those of the product's own do.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

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


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of an empty bucket of an S3 server on loopback; this process and its children are pointed to it."""
    # Only who asks for it needs the server's packages.
    from s3_server import s3_server

    with pytest.MonkeyPatch.context() as environment, s3_server(environment) as address:
        yield address
