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
