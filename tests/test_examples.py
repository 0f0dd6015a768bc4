"""The examples run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def _run(script: Path, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return done.stdout


def test_there_are_examples_of_all_that_the_door_offers() -> None:
    assert [script.stem for script in SCRIPTS] == ["refine_cams", "train_on_labels"]


@pytest.mark.slow
def test_refined_cams_are_better_than_the_cams(tmp_path: Path) -> None:
    before, after = map(float, re.findall(r"\d\.\d+", _run(ROOT / "examples" / "refine_cams.py", tmp_path)))
    assert after > before + 0.05


@pytest.mark.slow
def test_a_network_is_trained_and_applied(tmp_path: Path) -> None:
    printed = _run(ROOT / "examples" / "train_on_labels.py", tmp_path)
    assert re.search(r"^mIoU on the images of val: 0\.\d+$", printed, re.MULTILINE)
    assert len(re.findall(r"of val_00000$", printed, re.MULTILINE)) == 6


def test_the_notebook_labels_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDOMASK_EXAMPLE_IMAGES", "12")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(ROOT / "examples" / "label_your_photographs.ipynb", as_version=4)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert "'labels': 0." in "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")


def test_the_notebook_shows_what_it_printed() -> None:
    notebook = nbformat.read(ROOT / "examples" / "label_your_photographs.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert not [output for output in outputs if output["output_type"] == "error"]
