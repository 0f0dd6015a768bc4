"""Files beside corrections that never end, by themselves or once they are shown: refused at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data.dataset import DatasetError
from data.exchange.maps.png import names_by_value, read_names
from data.exchange.sets.huggingface import _names
from data.formats.yolo_names import read_yolo_names


def test_a_pipe_in_the_place_of_a_list_of_names_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.yaml")
    with pytest.raises(DatasetError, match=r"data\.yaml"):
        read_yolo_names(tmp_path)
    for read in (read_names, _names):
        with pytest.raises(DatasetError, match=r"data\.yaml"):
            read(tmp_path / "data.yaml")


def test_names_that_refer_to_each_other_are_not_written_out(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    (tmp_path / "data.yaml").write_text("\n".join([*lines, "names: *l"]))
    with pytest.raises(DatasetError, match="expected names by numbers from 0, found list"):
        read_yolo_names(tmp_path)
    with pytest.raises(ValueError, match="found list"):
        names_by_value([[]])
