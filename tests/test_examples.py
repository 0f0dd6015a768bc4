"""The examples run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert [script.stem for script in SCRIPTS] == ["label_your_photographs", "refine_cams", "train_on_labels"]


@pytest.mark.slow
def test_refined_cams_are_better_than_the_cams(tmp_path: Path) -> None:
    before, after = map(float, re.findall(r"\d\.\d+", _run(ROOT / "examples" / "refine_cams.py", tmp_path)))
    assert after > before + 0.05


@pytest.mark.slow
def test_a_network_is_trained_and_applied(tmp_path: Path) -> None:
    printed = _run(ROOT / "examples" / "train_on_labels.py", tmp_path)
    assert re.search(r"^mIoU on the images of val: 0\.\d+$", printed, re.MULTILINE)
    assert len(re.findall(r"of val_00000$", printed, re.MULTILINE)) == 6


@pytest.mark.slow
def test_photographs_are_labelled(tmp_path: Path) -> None:
    printed = _run(ROOT / "examples" / "label_your_photographs.py", tmp_path)
    assert "train_00000: 80 x 64 pixels" in printed
    assert re.search(r"mIoU against the ground truth: 0\.\d+", printed)
