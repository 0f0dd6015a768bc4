"""`pseudomask compare irnet`: the tables of the IRNet paper, of runs that share what is alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests_flows_support import TINY, pseudomask

from data.dataset import DatasetError
from data.ownership import own
from data.synthetic.dataset import write_synthetic
from flows.cli import main
from flows.comparison.refiner_tables import rows_of, scores_of, tables_of, write_for_server
from flows.comparison.refiners import (
    FIRST_ROUND_PRESETS,
    PAPER_TABLES,
    RUNS,
    CompareRefinersRequest,
    check_lists,
    networks_of,
    predictions_of,
    runs,
)
from flows.labels.presets import PRESETS
from flows.labels.request import with_refiner_thresholds
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
    words = ["compare", "irnet", "--data", tmp_path / "set", "--out", tmp_path / "table", "--json", "--preset", "demo"]
    words += ["--train", "train", "--val", "val", "--test", "val"]
    answer = pseudomask(*words, *options_of_tiny_runs())
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    for kind, table in PAPER_TABLES.items():
        assert [row["row"] for row in result[kind]] == [row.title for row in table.rows]
        assert all(len(row[column]) == 1 for row in result[kind] for column in table.scores), kind
    for trained in result["segmentation"]:
        # One list twice.
        assert trained["val mIoU"] == trained["test mIoU"]
    made = {folder.name: len(list(folder.glob("*/manifest.json"))) for folder in (tmp_path / "store").glob("[a-z]*")}
    assert made["classifier"] == made["irnet"] == made["affinitynet"] == made["maskrcnn"] == 1
    assert made["deeplabv2"] == 2
    # Those of AffinityNet, of IRNet, and of IRNet without steps.
    assert made["walk"] == 3 * made["cams"]
    text = (tmp_path / "table" / "irnet.md").read_text()
    assert "| IRNet | 66.5 |" in text
    assert "AffinityNet & 59.3 & " in (tmp_path / "table" / "irnet.tex").read_text()


@pytest.mark.parametrize("preset", FIRST_ROUND_PRESETS)
def test_runs_of_the_tables_are_the_preset_s_without_a_second_round(preset: str) -> None:
    request = CompareRefinersRequest(data=Path("set"), out=Path("out"), preset=preset, seeds=(3, 4))  # pyright: ignore
    made = list(runs(request))
    assert [(name, seed) for name, seed, _ in made] == [(name, seed) for seed in (3, 4) for name in RUNS]
    for name, seed, run in made:
        wanted = PRESETS[preset]().model_copy(update={"seed": seed, "pixels": PixelsConfig()})
        changed = {key for key in type(wanted).model_fields if getattr(run.settings, key) != getattr(wanted, key)}
        assert changed == {key for key in RUNS[name] if RUNS[name][key] != "irnet"}


def test_refiners_are_compared_with_a_crf_of_the_same_steps_and_a_setting_of_one_counts_in_its_runs_alone() -> None:
    settings = {"walk": {"beta": 4.0}, "affinity_walk": {"beta": 6.0}, "labels": {"crf_iterations": 7}}
    request = CompareRefinersRequest(data=Path("set"), out=Path("out"), preset="voc12", settings=settings)  # pyright: ignore
    made = {name: run.settings for name, _, run in runs(request)}
    assert {name: each.walk.beta for name, each in made.items()} == {"affinitynet": 10, "irnet": 4, "displacement": 4}
    assert (made["affinitynet"].affinity_walk.beta, made["irnet"].affinity_walk.beta) == (6, 8)
    planned = {name: with_refiner_thresholds(each, "voc12").labels.crf_iterations for name, each in made.items()}
    assert set(planned.values()) == {7}


def test_a_score_that_no_run_has_is_shown_as_none() -> None:
    rows = [{"row": name, "paper": {"mIoU": figure}, "mIoU": []} for name, figure in (("CAM", None), ("IRNet", 66.5))]
    (table,) = tables_of({"seeds": [0], "preset": "quick", "semantic": rows})
    assert [list(column.cells) for column in table.columns] == [["CAM", "IRNet"], ["-", "66.5"], ["-", "-"]]


def test_a_column_has_the_paper_s_figures_where_the_paper_has_any() -> None:
    row = {"row": "IRNet", "paper": {"AP50": 37.7, "AP70": None}, "AP50": [0.2, 0.3], "AP70": [0.1, None]}
    (table,) = tables_of({"seeds": [0, 1], "preset": "quick", "instances": [row]})
    assert [str(column.header) for column in table.columns] == ["labels", "paper's AP50", "AP50", "AP70"]
    assert [next(iter(column.cells)) for column in table.columns] == ["IRNet", "37.7", "25.0 ± 7.1", "10.0"]


def test_scores_are_by_the_rule_of_the_paper_s_authors(tmp_path: Path) -> None:
    ap = {"ap50": 0.5, "ap70": 0.2}
    metrics = {
        ".": {
            "semantic": {"labels": {"miou": 0.6}},
            "instances": {"labels": {"ap50": 0.9}, "chainercv": {"labels": ap}},
        },
        "deeplabv2": {"validation": {"miou": 0.4}},
        "maskrcnn": {"validation": {"ap50": 0.9, "chainercv": ap}},
    }
    for folder, found in metrics.items():
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "metrics.json").write_text(json.dumps(found))
    scores = scores_of(tmp_path, ("deeplabv2", "maskrcnn"))
    assert scores["instances"] == {"labels": ap}
    assert scores["detection"] == {"maskrcnn": ap}
    assert scores["segmentation"] == {"deeplabv2": {"val": 0.4}}


def test_a_score_of_0_is_a_score_and_a_table_without_any_is_left_out() -> None:
    zero = {"miou": 0.0, "ap50": 0.0, "ap70": None}
    scores = {
        "semantic": {},
        "instances": {"labels": zero},
        "segmentation": {"deeplabv2": {"val": 0.0}},
        "detection": {},
    }
    rows = rows_of({name: [scores] for name in RUNS})
    assert set(rows) == {"instances", "segmentation"}
    assert rows["segmentation"][0] | {"test mIoU": []} == rows["segmentation"][0]
    assert rows["instances"][-1]["AP50"] == [0.0]


def test_networks_learn_irnet_s_labels_where_there_is_a_list_to_score_them_on(tmp_path: Path) -> None:
    data = tmp_path / "set"
    write_synthetic(data, num_images=6, seed=2, size=(64, 80), num_val=2)
    request = CompareRefinersRequest(data=data, split="train", val="val", test="val", out=tmp_path / "out")
    assert networks_of(request) == ("deeplabv2", "maskrcnn")
    trained = {name: (run.train, run.val) for name, _, run in runs(request)}
    assert trained == {
        "affinitynet": (("deeplabv2",), "val"),
        "irnet": (("deeplabv2", "maskrcnn"), "val"),
        "displacement": ((), None),
    }
    tested = predictions_of(request)
    assert {name: (test.network, test.evaluate) for (name, _), test in tested.items()} == {
        name: (tmp_path / f"out/{name}-0/deeplabv2", True) for name in ("affinitynet", "irnet")
    }
    assert len({test.out for test in tested.values()}) == 2
    shutil.rmtree(data / "SegmentationObject")
    assert networks_of(request) == ("deeplabv2",)
    first, second = (data / "ImageSets/Segmentation/val.txt").read_text().split()
    (data / f"SegmentationClass/{first}.png").unlink()
    with pytest.raises(DatasetError, match=rf"{first}\.jpg: expected ground truth, which 1 other images of val have"):
        check_lists(request.model_copy(update={"val": None}))
    (data / f"SegmentationClass/{second}.png").unlink()
    tested = predictions_of(request.model_copy(update={"val": "train"}))
    assert not any(test.evaluate for test in tested.values())
    with pytest.raises(ValidationError, match="a list to score them on"):
        CompareRefinersRequest(data=data, test="val", out=tmp_path / "out")


def test_label_maps_without_ground_truth_get_the_layout_of_the_server(tmp_path: Path) -> None:
    data, out = tmp_path / "set", tmp_path / "out"
    write_synthetic(data, num_images=6, seed=2, size=(64, 80), num_val=2)
    unknown = data / "ImageSets" / "Segmentation" / "server.txt"
    shutil.copyfile(next((data / "JPEGImages").iterdir()), data / "JPEGImages" / "alone.jpg")
    unknown.write_text("alone\n")
    test = predictions_of(CompareRefinersRequest(data=data, val="val", test="server", out=out))["irnet", 0]
    assert not test.evaluate
    (test.out / "SegmentationClass").mkdir(parents=True)
    (test.out / "SegmentationClass" / "alone.png").write_bytes(b"map")
    with own(out, "compare", besides=[test.out]) as output:
        write_for_server(test, out, "results-0", output)
    assert (out / "results-0/results/VOC2012/Segmentation/comp6_test_cls/alone.png").read_bytes() == b"map"


def test_seeds_that_repeat_and_options_without_effect_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValidationError, match="seeds: expected each once"):
        CompareRefinersRequest(data=Path("set"), out=Path("out"), seeds=(1, 1))
    assert main(["compare", "irnet", "--data", "set", "--out", "out", "--rows", "cam"]) == 1
    assert "irnet has no use for --rows" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        main(["compare", "irnet", "--data", "set"])
    assert "--out" in capsys.readouterr().err
