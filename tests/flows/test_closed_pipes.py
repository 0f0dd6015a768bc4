"""Who reads no further than the first lines (`| head`) gets no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("words", [["--help"], ["regenerate", "--help"]])
def test_a_reader_that_went_away_is_no_fault(words: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(), said) == (0, "")
