"""The table of label quality, and the list of its images."""

import csv
from pathlib import Path

from fabricated_run import make_run

from benchmarks.label_quality import tabulate, write_images


def test_a_row_is_the_mean_over_the_seeds() -> None:
    done = {"exit_code": 0, "seconds": 10, "cam": 0.5, "cam_crf": 0.6, "labels": 0.7}
    runs = {
        "a / default / 0": done,
        "a / default / 1": done | {"labels": 0.8, "seconds": 20},
        "a / walk alone / 0": {"exit_code": 1, "seconds": 3},
    }
    rows = tabulate(runs).splitlines()[2:]
    assert rows[0] == "| a | default | 50.0 | 60.0 | **75.0** ± 5.0 |  | 15 | 2 |"
    assert "exit code 1" in rows[1]
    assert {row.count("|") for row in tabulate(runs).splitlines()} == {9}


def test_labels_that_are_the_truth_score_1_in_every_image(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_images(tmp_path / "images.csv", "a / default / 0", tmp_path / "set", run)
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 5
    assert {row[2] for row in rows} == {"1.0000"}
