"""Settings are searched with what a person said of the images: each candidate's labels are those of the stage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated_run import make_walked_run
from safetensors.numpy import load_file, save_file

from data.dataset import Dataset, DatasetError, with_more
from data.formats.coco import decode_mask, read_detections
from data.formats.label_folder import KINDS, SEMANTIC
from data.formats.label_maps import read_label_map
from data.store import Store
from flows.commands.making.tune import TuneRequest, tune_run
from flows.labels.presets import quick
from flows.labels.request import RunRequest
from tasks.engine.artifact import ImageSet
from tasks.engine.image_list import write_images
from tasks.engine.plan import digest_samples
from tasks.engine.run_record import StageRecord, read_run
from tasks.evaluation.instance_metrics import InstanceRecords, add_records, average_precision, match_image
from tasks.evaluation.semantic_metrics import confusion, iou
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.score_maps import OBJECT_SCORES, PIXEL_SCORES
from tasks.pipeline.settings import LabelsConfig, PipelineConfig
from tasks.tuning.artifacts import RunArtifacts
from tasks.tuning.space import BACKGROUND, CRF, PIXEL

BOXES, STROKES = "rectangle", "linestrip"


def hinted(folder: Path, *, second_round: bool, hints: bool = True) -> Path:
    """Return a run with boxes or strokes in each of its images but one."""
    run = make_walked_run(folder)
    record = read_run(run)
    samples = []
    for place, sample in enumerate(record.dataset.samples):
        if not hints or not sample.labels or place == 1:
            samples.append(sample)
            continue
        truth, objects = (read_label_map(folder / "set" / kind / f"{sample.id}.png") for kind in KINDS)
        shapes = [{"label": "background", "shape_type": "point", "points": [[1, 1]]}]
        for number in np.unique(objects[objects > 0]):
            mask = objects == number
            rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
            name, kind = record.classes.names[int(truth[mask][0]) - 1], STROKES if place % 2 else BOXES
            corners = [[int(columns[0]), int(rows[0])], [int(columns[-1]) + 1, int(rows[-1]) + 1]]
            shapes.append({"label": name, "shape_type": kind, "points": corners})
        file = folder / "hints" / f"{sample.id}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"shapes": shapes}))
        samples.append(with_more(sample, hints=file))
    dataset = Dataset(record.root, record.classes, tuple(samples))
    images = write_images(run, ImageSet(dataset.samples, digest_samples(dataset)), record.root)
    stages = dict(record.stages)
    if second_round:
        store = Store(folder / "store")
        walked = load_file(store.path("walk", "w") / "semantic.safetensors")
        with store.create("pixel-scores", "p") as draft:
            # One image is not judged, and its walked scores decide.
            judged = {id: scores / (scores.sum(0) + 0.4) for id, scores in list(walked.items())[1:]}
            save_file(judged, draft.folder / PIXEL_SCORES)
            save_file({}, draft.folder / OBJECT_SCORES)
        stages["pixel-scores"] = StageRecord(keys={0: "p"})
    record.model_copy(update={"images": images, "stages": stages}).write(run)
    return run


def of_the_default_preset(folder: Path, background: float, sure: tuple[float, float]) -> tuple[Path, PipelineConfig]:
    """Return a run of preset quick, for whose set these thresholds of the walked scores were chosen, and its settings.

    The maps of the fabricated run are those of images at their own size.
    """
    run = hinted(folder, second_round=True, hints=False)
    settings = quick().model_copy(update={"backbone": "resnet18", "weights": None, "long_side": None})
    read_run(run).model_copy(update={"settings": settings.model_dump(mode="json")}).write(run)
    file = Store(folder / "store").path("labels", "d") / "settings.json"
    chosen = {"background_threshold": background, "sure_thresholds": sure}
    file.write_text(settings.labels.model_copy(update=chosen).model_dump_json())
    return run, settings


def test_a_run_of_the_default_preset_with_a_second_round_is_searched(tmp_path: Path) -> None:
    run, settings = of_the_default_preset(tmp_path, 0.3, (0.2, 0.5))
    asked = {"set": ((PIXEL, "0.3", "0.5", "0.7"), (CRF, "0", "5"))}
    result = tune_run(TuneRequest(run=run, out=tmp_path / "tune", **asked))
    assert result["candidates"] == 6
    # What is best goes on top of the preset.
    laid = json.loads((tmp_path / "tune" / "best.json").read_text())
    assert "pixels" not in laid
    wanted = settings.model_dump(mode="json")
    for section, values in laid.items():
        wanted[section] |= values
    PipelineConfig.model_validate(wanted)


def test_thresholds_of_the_walk_go_on_top_of_the_default_preset_and_are_told_to_act_on_more(tmp_path: Path) -> None:
    # The run's own threshold is so high that every other is better.
    run, _ = of_the_default_preset(tmp_path, 0.99, (0.9, 0.995))
    out = tmp_path / "tune"
    result = tune_run(TuneRequest(run=run, out=out, set=((BACKGROUND, "0.3", "0.5"), (CRF, "0"))))
    assert result["chosen"][BACKGROUND] < 0.99
    (remark,) = result["remarks"]
    assert "labels.background_threshold: what the walk teaches the pixel classifier was not taught again" in remark
    laid = RunRequest(data=tmp_path, out=tmp_path, preset="quick", settings_file=out / "best.json").settings
    assert laid.labels.background_threshold == result["chosen"][BACKGROUND]
    low, high = laid.labels.sure_thresholds
    assert low < laid.labels.background_threshold < high
    assert laid.pixels.taught_thresholds == (0.9, 0.995)


def test_what_changes_nothing_is_told_and_the_runs_own_settings_stay(tmp_path: Path) -> None:
    run = hinted(tmp_path, second_round=True, hints=False)
    # As good as one threshold.
    asked = ((PIXEL, "0.5", "0.5000000001"), (CRF, "0"))
    result = tune_run(TuneRequest(run=run, out=tmp_path / "tune", set=asked))
    assert result["remarks"] == ["all candidates score the same: what was tried changes nothing on these images"]
    assert result["best"] == {}


def labels_at(run: Path, out: Path, config: LabelsConfig) -> dict[str, float]:
    """Return the mIoU and the AP50 of the labels that the stage itself makes."""
    artifacts = RunArtifacts(run)
    names = artifacts.record.classes.names
    total = np.zeros((len(names) + 1, len(names) + 2), np.int64)
    found: list[InstanceRecords] = []
    for job in artifacts.jobs({sample.id: sample for sample in artifacts.samples}, config):
        job = replace(job, out=out)
        synthesize_labels(job)
        for sample in job.samples:
            truth, objects = (read_label_map(artifacts.record.root / kind / f"{sample.id}.png") for kind in KINDS)
            total += confusion(truth, read_label_map(out / SEMANTIC / f"{sample.id}.png"), len(names) + 1)
            if sample.labels:
                # Objects of images without tags are nobody's to find.
                found.append(_matched(out, sample.id, truth, objects, len(names)))
    return {"miou": float(np.nanmean(iou(total))), "ap50": average_precision(add_records(found), names)["ap50"] or 0.0}


def _matched(out: Path, id: str, truth: np.ndarray, objects: np.ndarray, num_classes: int) -> InstanceRecords:
    records = [record for record in read_detections(out / "instances.json") if record["image"] == id]
    masks = [decode_mask(record["segmentation"]) for record in records]
    stacked = np.stack(masks) if masks else np.zeros((0, *truth.shape), bool)
    classes = np.array([record["class"] for record in records], np.int64)
    scores = np.array([record["score"] for record in records], np.float64)
    return match_image(stacked, classes, scores, truth, objects, num_classes=num_classes)


@pytest.mark.parametrize("second_round", [False, True])
def test_every_candidate_is_what_the_stage_makes_of_the_hints(tmp_path: Path, second_round: bool) -> None:
    run, axis = hinted(tmp_path, second_round=second_round), PIXEL if second_round else BACKGROUND
    settings = ((axis, "0.2", "0.45", "0.6"), (CRF, "0", "2"))
    tune_run(TuneRequest(run=run, out=tmp_path / "tune", set=settings, workers=1))
    lines = (tmp_path / "tune/candidates.csv").read_text().splitlines()
    head = lines[0].split(",")
    base = RunArtifacts(run).labels
    assert len(lines) >= 7
    for number, line in enumerate(lines[1:]):
        row = dict(zip(head, line.split(","), strict=True))
        changed = {axis.partition(".")[2]: float(row[axis]), "crf_iterations": int(float(row[CRF]))}
        made = labels_at(run, tmp_path / f"labels-{number}", base.model_copy(update=changed))
        assert float(row["miou"]) == pytest.approx(made["miou"], abs=1e-6), row
    without = RunArtifacts(hinted(tmp_path / "without", second_round=second_round, hints=False))
    assert not without.hinted
    plain = labels_at(without.record.folder, tmp_path / "plain", base)
    assert plain["miou"] != pytest.approx(labels_at(run, tmp_path / "with", base)["miou"], abs=1e-3)


def test_instances_are_those_of_the_boxes(tmp_path: Path) -> None:
    run = hinted(tmp_path, second_round=True)
    result = tune_run(TuneRequest(run=run, out=tmp_path / "tune", set=(("labels.min_area", "0", "0.05"),), workers=1))
    base = RunArtifacts(run).labels
    for area, key in ((base.min_area, "default"), (result["instances"]["chosen"]["labels.min_area"], "chosen")):
        made = labels_at(run, tmp_path / key, base.model_copy(update={"min_area": area}))
        assert result["instances"][key]["ap50"] == pytest.approx(made["ap50"], abs=1e-6)


def test_hints_that_changed_since_the_run_are_refused(tmp_path: Path) -> None:
    run = hinted(tmp_path, second_round=False)
    file = next((tmp_path / "hints").iterdir())
    file.write_text(file.read_text().replace("[1, 1]", "[2, 1]"))
    with pytest.raises(DatasetError, match="its hints changed since the run"):
        tune_run(TuneRequest(run=run, out=tmp_path / "tune", set=((BACKGROUND, "0.3"),), workers=1))
