"""A tiny run through the command line, shared by the tests that look at what it left."""

import json
import shutil
from pathlib import Path

import pytest
from tests_flows_support import OWN_SERVER, pseudomask, run_words

from data.synthetic.dataset import write_synthetic


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny_data")
    write_synthetic(root, num_images=12, seed=3, size=(64, 80), num_val=4)
    return root


@pytest.fixture(scope="session")
def first_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Return the folder with `run` and `store`, and what `run --json` said."""
    folder = tmp_path_factory.mktemp("first_run")
    answer = pseudomask(*run_words(tiny_data, folder), "--json", server=OWN_SERVER)
    assert answer.returncode == 0, answer.stderr
    return folder, json.loads(answer.stdout)


@pytest.fixture
def run_copy(first_run: tuple[Path, dict], tmp_path: Path) -> Path:
    """Return a copy of the run and its store, to be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(first_run[0], folder)
    record = folder / "run" / "run.json"
    record.write_text(record.read_text().replace(str(first_run[0]), str(folder)))
    return folder
