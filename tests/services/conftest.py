"""Services for the tests of this folder, which are marked as such; stopped at their end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from services_support import Postgres, Prefect

from data.synthetic.dataset import write_synthetic


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.services)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def prefect(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """Return a server with everything deployed and a worker at work."""
    folder = tmp_path_factory.mktemp(request.param)
    postgres = None
    if request.param == "postgresql":
        if not shutil.which("postgres"):
            pytest.skip("PostgreSQL's server (postgres, initdb) is not on the PATH")
        postgres = Postgres(folder)
    service = Prefect(folder, postgres)
    try:
        deployed = service.command("flows", "deploy", "--json")
        assert deployed.returncode == 0, deployed.stderr
        service.start_worker()
        yield service
    finally:
        service.stop()
        if postgres:
            postgres.remove()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_synthetic(root, num_images=12, seed=3, size=(64, 80), num_val=4)
    return root
