"""`pseudomask compare irnet`: the tables of the IRNet paper, of runs that share what is alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests_flows_support import TINY, pseudomask

from data.synthetic.dataset import write_synthetic
from flows.cli import main
from flows.comparison.refiner_tables import tables_of
from flows.comparison.refiners import INSTANCES, RUNS, SEMANTIC, CompareRefinersRequest, runs
from flows.labels.presets import PRESETS
from tasks.pipeline.settings import PixelsConfig

MORE = {
    "--affinitynet.crop-size": ("64",),
    "--affinitynet.steps": ("1", "1"),
    "--affinity-walk.steps": ("16",),
}


def options_of_tiny_runs() -> list[str]:
    """Return options of runs of seconds."""
    return [word for option, values in (TINY | MORE).items() for word in (option, *values)]


@pytest.mark.slow
def test_the_tables_have_a_row_per_method_and_runs_share_what_is_alike(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "set", num_images=8, seed=2, size=(64, 80), num_val=2)
    words = ["compare", "irnet", "--data", tmp_path / "set", "--out", tmp_path / "table", "--json"]
    answer = pseudomask(*words, *options_of_tiny_runs())
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert [row["row"] for row in result["semantic"]] == [row.title for row in SEMANTIC]
    assert [row["row"] for row in result["instances"]] == [row.title for row in INSTANCES]
    assert all(len(row["mIoU"]) == 1 for row in result["semantic"])
    made = {folder.name: len(list(folder.glob("*/manifest.json"))) for folder in (tmp_path / "store").glob("[a-z]*")}
    assert made["classifier"] == made["irnet"] == made["affinitynet"] == 1
    # Those of none, of AffinityNet, of IRNet, and of IRNet without steps.
    assert made["walk"] == 4 * made["cams"]
    text = (tmp_path / "table" / "irnet.md").read_text()
    assert "| IRNet | 66.5 |" in text
    assert "AffinityNet & 59.3 & " in (tmp_path / "table" / "irnet.tex").read_text()


@pytest.mark.parametrize("preset", PRESETS)
def test_runs_of_the_tables_are_the_preset_s_without_a_second_round(preset: str) -> None:
    request = CompareRefinersRequest(data=Path("set"), out=Path("out"), preset=preset, seeds=(3, 4))  # pyright: ignore
    made = list(runs(request))
    assert [(name, seed) for name, seed, _ in made] == [(name, seed) for seed in (3, 4) for name in RUNS]
    for name, seed, run in made:
        wanted = PRESETS[preset]().model_copy(update={"seed": seed, "pixels": PixelsConfig()})
        changed = {key for key in type(wanted).model_fields if getattr(run.settings, key) != getattr(wanted, key)}
        assert changed == {key for key in RUNS[name] if RUNS[name][key] != "irnet"}


def test_a_score_that_no_run_has_is_shown_as_none() -> None:
    row = {"row": "CAM", "paper": None, "mIoU": []}
    (table,) = tables_of({"seeds": [0], "preset": "quick", "semantic": [row]})
    assert [list(column.cells) for column in table.columns] == [["CAM"], ["-"], ["-"]]


def test_seeds_that_repeat_and_options_without_effect_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValidationError, match="seeds: expected each once"):
        CompareRefinersRequest(data=Path("set"), out=Path("out"), seeds=(1, 1))
    assert main(["compare", "irnet", "--data", "set", "--out", "out", "--rows", "cam"]) == 1
    assert "irnet has no use for --rows" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        main(["compare", "irnet", "--data", "set"])
    assert "--out" in capsys.readouterr().err
