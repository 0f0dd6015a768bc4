"""The page on any set says what was measured: its first table is that of the record."""

import json

from benchmarks.any_set import ROOT, tabulate

RECORD, PAGE = "any-set-amd-epyc.json", "docs/any_set.md"


def test_the_table_of_the_page_is_that_of_the_record() -> None:
    runs = json.loads((ROOT / "benchmarks/results" / RECORD).read_text())["runs"]
    measured = [row for row in tabulate(runs).splitlines() if "exit code" not in row]
    page = (ROOT / PAGE).read_text().splitlines()
    first = page.index(measured[0])
    shown = page[first : first + len(measured)]
    assert sorted(shown) == sorted(measured)


OF_README = {
    "257 photographs of VOC": "voc_small renamed",
    "201 photographs of MSRC": "msrc_small",
    "229 white blood cells": "wbc_small",
    "46 photographs of COCO": "coco_small",
    "480 drawn emblems": "generated, 80",
}
"""The beginning of a row of README's first table -> the set."""


def test_the_table_of_the_readme_is_that_of_the_record() -> None:
    runs = json.loads((ROOT / "benchmarks/results" / RECORD).read_text())["runs"]
    rows = {cells[0]: cells for cells in map(_cells, tabulate(runs).splitlines()[2:])}
    shown = [_cells(line) for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    for begin, name in OF_README.items():
        (found,) = [cells for cells in shown if cells[0].startswith(begin)]
        measured = rows[name]
        # Classes, seeds, CAM, CAM + CRF, labels.
        assert found[1:] == [measured[1], measured[10], measured[4], measured[5], measured[7]]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_is_the_mean_over_the_seeds_with_its_spread() -> None:
    done = {"exit_code": 0, "classes": 2, "images": 9, "seconds": 60, "ap": {"a": 1.0, "b": 0.5}}
    done |= {"share": {"a": 0.5, "b": 0.25}, "cam": 0.5, "cam_crf": 0.6, "walk": 0.65, "tags_without_a_pixel": 0.0}
    runs = {
        "set 0": done | {"labels": 0.7},
        "set 1": done | {"labels": 0.8},
        "other 0": {"exit_code": 1, "seconds": 3, "said": ["at chance"]},
    }
    first, second = tabulate(runs).splitlines()[2:]
    assert "**75.0** ± 5.0" in first
    assert first.endswith("| 1.0 | 2 |")
    assert "exit code 1" in second
