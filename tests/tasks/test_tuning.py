"""Settings are searched on what a run has made: counted right, chosen right, and gone on with after a kill."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fabricated_run import make_training, make_walked_run
from pydantic import ValidationError

from data.dataset import VOID, DatasetError
from data.formats.images import image_size, read_image
from data.formats.label_maps import read_label_map
from data.store import ArtifactError, Store
from flows.cli import main
from flows.commands.making.tune import TuneRequest, tune_run
from flows.labels.request import RunRequest
from tasks.engine.job import Job
from tasks.engine.plan import digest_samples
from tasks.engine.run_record import read_run, write_run
from tasks.evaluation.semantic_metrics import confusion, iou, semantic_summary
from tasks.pipeline.labels import decide_rows
from tasks.pipeline.plan import plan_labels
from tasks.pipeline.settings import LabelsConfig, PipelineConfig, WalkConfig
from tasks.tuning import artifacts as tuning_artifacts
from tasks.tuning import tables
from tasks.tuning.artifacts import RunArtifacts
from tasks.tuning.choose import Candidate, best_of, make_candidate, mean_iou, uncertainty
from tasks.tuning.curves import CRITERIA, ImageScores, Measuring, count_at_thresholds, measure_image
from tasks.tuning.search import search
from tasks.tuning.space import BACKGROUND, CRF, PIXEL, Space, make_space, read_values, with_values
from tasks.tuning.tune import TuneOptions, choose_samples


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_walked_run(tmp_path_factory.mktemp("tuned"))


def request(run: Path, out: Path, **options: Any) -> TuneRequest:
    given = {"set": ((BACKGROUND, "0.2", "0.3", "0.4", "0.45", "0.5", "0.6"), (CRF, "0", "2")), "workers": 2}
    return TuneRequest(run=run, out=out, **{**given, **options})


def scores_at(run: Path, threshold: float, iterations: int) -> float:
    """Return the mIoU of a run's labels under other settings, image by image as stage `labels` makes them."""
    record = read_run(run)
    names = record.classes.values
    total = np.zeros((len(names), len(names) + 1), np.int64)
    artifacts = RunArtifacts(run)
    config = LabelsConfig(background_threshold=threshold, crf_iterations=iterations)
    samples = {sample.id: sample for sample in artifacts.samples}
    with tables.LabelScores(next(artifacts.jobs(samples, config)), config) as scores:
        for sample in samples.values():
            size = image_size(sample.image)
            labels = np.zeros(size, np.uint8)
            if sample.id in scores:
                maps, by_pixels = scores.deciding(sample.id)
                decided = decide_rows(maps, size, config, read_image(sample.image), by_pixels=by_pixels)
                labels = np.array([0, *(c + 1 for c in sample.labels)], np.uint8)[decided.rows[0]]
            total += confusion(read_label_map(sample.semantic or sample.image), labels, len(names))
    return float(np.nanmean(iou(total)))


@pytest.mark.parametrize("num_classes", [1, 3])
def test_one_histogram_counts_what_each_threshold_would(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    levels = torch.from_numpy(rng.random((num_classes, 20, 30)).astype(np.float32))
    levels[0, :3] = 0.5
    values = np.array([0, *rng.permutation(np.arange(1, 6))[:num_classes]])
    truth = rng.choice([0, *values[1:], 4, VOID], (20, 30)).astype(np.uint8)
    thresholds = (0.1, 0.5, 0.7, 0.99)
    hits, found, true = count_at_thresholds(levels, values, truth, thresholds, 6)
    for row, threshold in enumerate(thresholds):
        scores, best = levels.numpy().max(0), levels.numpy().argmax(0)
        labels = np.where(scores > np.float32(threshold), values[1 + best], 0)
        counted = confusion(truth, labels.astype(np.uint8), 6)
        assert hits[row].tolist() == np.diagonal(counted).tolist()
        assert found[row].tolist() == counted[:, :-1].sum(axis=0).tolist()
        assert true.tolist() == counted.sum(axis=1).tolist()
    nothing, all_found, none = count_at_thresholds(levels, values, None, thresholds, 6)
    assert not nothing.any()
    assert not none.any()
    assert (all_found.sum(axis=1) == 600).all()


@pytest.mark.parametrize("iterations", [0, 2])
def test_a_table_has_the_labels_of_the_stage_and_criteria_between_0_and_1(run: Path, iterations: int) -> None:
    artifacts = RunArtifacts(run)
    sample = artifacts.samples[0]
    job = next(artifacts.jobs({sample.id: sample}, artifacts.labels))
    config = LabelsConfig(background_threshold=0.45, crf_iterations=iterations)
    with tables.LabelScores(job, config) as scores:
        maps, by_pixels = scores.deciding(sample.id)
    how = Measuring((0.2, 0.45), iterations, None, 0.3, len(job.classes.values), None, judge=True)
    judged = measure_image(ImageScores(sample, maps, by_pixels, maps), how)
    quick = measure_image(ImageScores(sample, maps, by_pixels, None), replace(how, judge=False))
    assert ((judged.merits >= 0) & (judged.merits <= 1)).all()
    assert np.isnan(quick.merits).all()
    decided = decide_rows(maps, image_size(sample.image), config, read_image(sample.image), by_pixels=False)
    labels = np.array([0, *(c + 1 for c in sample.labels)], np.uint8)[decided.rows[0]]
    counted = confusion(read_label_map(sample.semantic or sample.image), labels, how.num_values)
    for found in (judged, quick):
        assert found.hits[1].tolist() == np.diagonal(counted).tolist()
        assert found.true.tolist() == counted.sum(axis=1).tolist()


def test_the_mean_iou_of_counts_is_that_of_a_confusion_matrix() -> None:
    rng = np.random.default_rng(0)
    gt, pred = (rng.integers(0, 4, (2, 9, 9)).astype(np.uint8) for _ in range(2))
    counted = [confusion(a, b, 6) for a, b in zip(gt, pred, strict=True)]
    counts = np.stack([[np.diagonal(each), each[:, :-1].sum(axis=0), each.sum(axis=1)] for each in counted], axis=1)
    expected = semantic_summary(sum(counted), "abcdef")["miou"]  # pyright: ignore[reportArgumentType]
    candidate = make_candidate({CRF: 0}, counts, np.array([[0.2, np.nan, 0.4, 1.0], [0.4, np.nan, 0.6, 0.0]]))
    assert candidate.score == pytest.approx(expected)
    assert candidate.merits == {"contrast": pytest.approx(0.3), "crf": pytest.approx(0.5), "tags": 0.5}
    assert candidate.judged_by("mean") == pytest.approx(1.3 / 3)
    # An image without ground truth adds no false alarm.
    unknown = np.stack([counts[0] * 0, counts[1], counts[2] * 0])
    both = make_candidate({CRF: 0}, np.concatenate([counts, unknown], axis=1), np.full((4, 4), np.nan))
    assert both.score == pytest.approx(expected)
    assert np.isnan(mean_iou(np.zeros((3, 1, 4), np.int64))).all()


def test_ground_truth_chooses_what_trying_each_would(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "tune"
    result = tune_run(request(run, out))
    assert (result["by"], result["candidates"], result["of"], result["images"]) == ("ground truth", 12, 12, 5)
    tried = {(t, c): scores_at(run, t, c) for t in (0.2, 0.3, 0.4, 0.45, 0.5, 0.6) for c in (0, 2)}
    rows = list(csv.DictReader((out / "candidates.csv").open()))
    assert len(rows) == 13
    for row in rows[:12]:
        assert float(row["miou"]) == pytest.approx(tried[float(row[BACKGROUND]), int(float(row[CRF]))], abs=1e-9)
    best = max(tried, key=lambda key: tried[key])
    assert (result["chosen"][BACKGROUND], result["chosen"][CRF]) == best
    assert result["default"]["miou"] == pytest.approx(scores_at(run, 0.25, 0))
    uncertain = result["uncertainty"]
    assert uncertain["gain"] == pytest.approx(tried[best] - result["default"]["miou"])
    assert uncertain["gain_interval"][0] <= uncertain["gain"] <= uncertain["gain_interval"][1]
    wanted = {"background_threshold": best[0]} | ({"crf_iterations": best[1]} if best[1] else {})
    assert json.loads((out / "best.json").read_text()) == {"labels": wanted}
    assert json.loads((out / "tune.json").read_text()) == json.loads(json.dumps(result))
    assert (out / "score.png").read_bytes().startswith(b"\x89PNG")
    settings = RunRequest(data=tmp_path, out=tmp_path, preset="voc12", settings_file=out / "best.json").settings
    assert settings.labels.background_threshold == best[0]


def test_what_was_tried_is_not_tried_again_after_a_kill(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    real = tables.measure_image

    def killed_at_the_seventh_image(scores: ImageScores, how: Measuring) -> Any:
        measured.append(scores.sample.id)
        if len(measured) > 7:
            raise KeyboardInterrupt
        return real(scores, how)

    monkeypatch.setattr(tables, "measure_image", killed_at_the_seventh_image)
    asked = request(run, tmp_path / "tune", workers=1)
    with pytest.raises(KeyboardInterrupt):
        tune_run(asked)
    monkeypatch.setattr(tables, "measure_image", lambda scores, how: (measured.append("again"), real(scores, how))[1])
    result = tune_run(asked)
    assert result["candidates"] == 12
    # The table of five images that was whole is not made again; the second, and that of the run's own settings, are.
    assert measured.count("again") == 10
    measured.clear()
    assert tune_run(asked) == {**result, "seconds": pytest.approx(0, abs=600)}
    assert measured == []


@pytest.mark.parametrize("part", ["JPEGImages/train_00000.jpg", "SegmentationClass/train_00000.png"])
def test_images_that_changed_since_the_run_are_refused_and_nothing_is_measured(tmp_path: Path, part: str) -> None:
    run = make_walked_run(tmp_path)
    with (tmp_path / "set" / part).open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(DatasetError, match=r"train_00000\.jpg: .*changed since the run"):
        tune_run(request(run, tmp_path / "out"))
    assert not (tmp_path / "out/tables").exists()


def test_without_ground_truth_a_criterion_decides_and_the_oracle_stands_beside(run: Path, tmp_path: Path) -> None:
    result = tune_run(request(run, tmp_path / "none", gt="none", criterion="contrast"))
    assert (result["by"], result["images"]) == ("contrast", 4)
    rows = list(csv.DictReader((tmp_path / "none/candidates.csv").open()))
    assert result["chosen"]["contrast"] == pytest.approx(max(float(row["contrast"]) for row in rows[:12]))
    assert result["oracle"]["miou"] == pytest.approx(max(float(row["miou"]) for row in rows[:12]))
    assert "uncertainty" not in result
    blind = tune_run(request(make_walked_run(tmp_path / "blind", with_truth=False), tmp_path / "out"))
    assert blind["by"] == "mean"
    assert "oracle" not in blind
    assert blind["chosen"]["miou"] is None


def test_a_list_names_the_images_whose_ground_truth_decides(run: Path, tmp_path: Path) -> None:
    ids = [sample.id for sample in read_run(run).dataset.samples]
    (tmp_path / "some.txt").write_text(f"{ids[0]}\n{ids[2]}\n")
    assert tune_run(request(run, tmp_path / "some", gt=str(tmp_path / "some.txt")))["images"] == 2
    assert tune_run(request(run, tmp_path / "few", images=3))["images"] == 3
    (tmp_path / "strange.txt").write_text("elsewhere\n")
    (tmp_path / "both.txt").write_text(f"{ids[0]}\nelsewhere\n{ids[0]}\n")
    with pytest.raises(DatasetError, match=rf"found '{ids[0]}' 2 times[\s\S]*both.txt: .*found 'elsewhere'"):
        tune_run(request(run, tmp_path / "both", gt=str(tmp_path / "both.txt")))
    with pytest.raises(DatasetError, match=r"strange.txt: expected images of the run"):
        tune_run(request(run, tmp_path / "strange", gt=str(tmp_path / "strange.txt")))
    blind = make_walked_run(tmp_path / "blind", with_truth=False)
    with pytest.raises(DatasetError, match="expected images with ground truth"):
        tune_run(request(blind, tmp_path / "no", gt=str(tmp_path / "some.txt")))


def test_images_of_a_list_that_have_no_ground_truth_are_told(run: Path, tmp_path: Path) -> None:
    artifacts = RunArtifacts(run)
    first, second, *_ = artifacts.samples
    artifacts.samples = (replace(first, semantic=None), second)
    (tmp_path / "two.txt").write_text(f"{first.id}\n{second.id}\n")
    options = TuneOptions(run, tmp_path / "tune", str(tmp_path / "two.txt"), {}, 1, 100, "mean", 1, "cpu")
    samples, by_truth, remarks = choose_samples(artifacts, options)
    assert (list(samples), by_truth) == ([second.id], True)
    assert remarks == [f"{tmp_path / 'two.txt'}: left out for want of ground truth: {first.id}"]


class InlinePool:
    """Runs stage functions in this process."""

    def __init__(self, num_slots: int) -> None:
        self.calls = num_slots

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def run(self, function: str, job: Job, label: str, *, exclusive: bool = False) -> dict[str, Any]:
        module, _, name = function.partition(":")
        return {**getattr(importlib.import_module(module), name)(job), "seconds": 0.0}


def make_recorded_run(folder: Path, config: PipelineConfig) -> tuple[Path, Any, dict[str, Any]]:
    """Return a run with the record of a real plan, its data set and digests; maps and labels are made up."""
    run = make_walked_run(folder)
    record, store = read_run(run), Store(folder / "store")
    dataset = record.dataset
    digests = digest_samples(dataset)
    plan = plan_labels(dataset, config, digests)
    write_run(run, plan, str(folder / "store"), preset="quick", request={})
    for stage, key in (("cams", "c"), ("fields", "f"), ("walk", "w"), ("labels", "d")):
        (artifact,) = plan.of(stage)
        store.path(stage, key).rename(store.path(stage, artifact.key))
    return run, dataset, digests


def test_another_walk_is_made_once_under_the_key_that_a_run_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_artifacts, "WorkerPool", InlinePool)
    config = PipelineConfig(backbone="resnet18", labels=LabelsConfig(background_threshold=0.25))
    run, dataset, digests = make_recorded_run(tmp_path, config)
    asked = {"set": (("walk.beta", "4"), ("walk.steps", "8"), (BACKGROUND, "0.3", "0.5"))}
    result = tune_run(request(run, tmp_path / "tune", **asked))
    other = config.model_copy(update={"walk": WalkConfig(beta=4, steps=8)})
    (expected,) = plan_labels(dataset, other, digests).of("walk")
    made = {path.name for path in (tmp_path / "store/walk").iterdir()}
    assert expected.key in made
    assert len(made) == 2
    rows = list(csv.DictReader((tmp_path / "tune/candidates.csv").open()))
    assert [float(row["walk.beta"]) for row in rows] == [4, 4, 10]
    # The run's own walk is better than the other at any of the thresholds.
    assert float(rows[-1]["miou"]) > max(float(row["miou"]) for row in rows[:-1])
    assert result["chosen"] == result["default"]
    assert result["best"] == {}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store/walk").rglob("*")}
    tune_run(request(run, tmp_path / "again", **asked))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store/walk").rglob("*")}


def test_settings_of_instances_are_chosen_on_the_labels_that_were(run: Path, tmp_path: Path) -> None:
    asked = {"set": ((BACKGROUND, "0.45"), ("labels.min_area", "0", "0.02", "0.9"))}
    result = tune_run(request(run, tmp_path / "tune", **asked))
    found = result["instances"]
    assert (found["candidates"], found["images"]) == (3, 5)
    assert found["chosen"]["ap50"] >= found["default"]["ap50"]
    assert found["chosen"]["labels.min_area"] != 0.9
    assert result["best"]["labels"]["background_threshold"] == 0.45
    only = tune_run(request(run, tmp_path / "only", set=(("labels.min_area", "0", "0.9"),)))
    assert "chosen" not in only
    # Neither gains anything, so that the run's own stays.
    assert only["instances"]["chosen"]["labels.min_area"] == 0.01
    assert only["best"] == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((("walk.gamma", "1"),), "--set walk.gamma: expected one of labels.background_threshold"),
        (((BACKGROUND,),), "expected the values that are to be tried"),
        (((BACKGROUND, "high"),), "expected numbers, got 'high'"),
        (((BACKGROUND, "0.2"), (BACKGROUND, "0.3")), "given more than once"),
        (((PIXEL, "0.2"),), "the run has no pixel classifier"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    run: Path, tmp_path: Path, words: tuple[tuple[str, ...], ...], message: str
) -> None:
    with pytest.raises(DatasetError, match=message.replace(".", r"\.")):
        tune_run(request(run, tmp_path / "tune", set=words))


def test_values_runs_and_folders_that_do_not_fit_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        tune_run(request(run, tmp_path / "tune", set=((BACKGROUND, "1.5"),)))
    with pytest.raises(DatasetError, match="chosen by ground truth of instances"):
        tune_run(request(run, tmp_path / "tune", gt="none", set=(("labels.min_area", "0.1"),)))
    with pytest.raises(ArtifactError, match="found a training"):
        tune_run(request(make_training(tmp_path / "t", "deeplabv2"), tmp_path / "tune"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="holds something else"):
        tune_run(request(run, tmp_path / "mine"))
    tune_run(request(run, tmp_path / "tune"))
    (tmp_path / "tune/study.sqlite").write_bytes(b"no database at all, for sure" * 99)
    with pytest.raises(ArtifactError, match=r"study.sqlite: cannot be used as the record of a search"):
        tune_run(request(run, tmp_path / "tune"))


def test_a_large_space_is_sampled_to_the_number_of_trials_and_goes_on(tmp_path: Path) -> None:
    space = Space(PipelineConfig(), {"walk.beta": tuple(range(1, 41)), BACKGROUND: tuple(k / 40 for k in range(1, 40))})
    asked: list[Mapping[str, float]] = []

    def evaluate(values: Mapping[str, float]) -> float:
        asked.append(values)
        return -abs(values["walk.beta"] - 20) / 40 - abs(values[BACKGROUND] - 0.5)

    first = search(space, evaluate, tmp_path / "s.sqlite", "one", trials=15, seed=0)
    assert len(first) == 15
    assert len({tuple(values.items()) for values in first}) == 15
    count = len(asked)
    more = search(space, evaluate, tmp_path / "s.sqlite", "one", trials=40, seed=0)
    assert more[:15] == first
    assert len(asked) - count <= 4 * 25
    best = max(map(evaluate, more))
    drawn = np.random.default_rng(0).integers(0, [40, 39], (40, 2))
    at_random = max(evaluate({"walk.beta": b + 1, BACKGROUND: (t + 1) / 40}) for b, t in drawn)
    assert best >= at_random - 0.05
    assert search(space, evaluate, tmp_path / "s.sqlite", "other", trials=1, seed=0) != []


def test_a_choice_between_equals_is_uncertain_and_one_between_unequals_is_not() -> None:
    rng = np.random.default_rng(0)
    good = np.stack([np.full((30, 2), 90), np.full((30, 2), 100), np.full((30, 2), 100)])
    bad = np.stack([rng.integers(20, 60, (30, 2)), np.full((30, 2), 100), np.full((30, 2), 100)])
    candidates = [make_candidate({CRF: n}, counts, np.full((30, 4), np.nan)) for n, counts in ((0, bad), (5, good))]
    chosen = best_of(candidates, None, 0)
    assert chosen == 1
    found = uncertainty([bad, good], candidates, chosen, 0)
    assert found["settings"] == {CRF: (5.0, 5.0)}
    assert found["gain_interval"][0] > 0.3
    assert found["gain_elsewhere"] == pytest.approx(found["gain"], abs=0.05)
    noise = [np.stack([rng.integers(40, 60, (30, 2)), *bad[1:]]) for _ in range(2)]
    equals = [make_candidate({CRF: n}, counts, np.full((30, 4), np.nan)) for n, counts in enumerate(noise)]
    unsure = uncertainty(noise, equals, best_of(equals, None, 0), 0)
    assert unsure["settings"][CRF] == (0.0, 1.0)
    assert best_of([Candidate({}, None, {"tags": 0.1}), Candidate({}, None, {"tags": 0.3})], "tags", 0) == 1
    equal = [Candidate({}, None, {"tags": 0.3}) for _ in range(3)]
    assert best_of(equal, "tags", 2) == 2


def test_thresholds_of_what_is_sure_stay_about_those_of_the_labels() -> None:
    base = PipelineConfig(labels=LabelsConfig(background_threshold=0.3, sure_thresholds=(0.2, 0.5)))
    found = with_values(base, {BACKGROUND: 0.6, PIXEL: 0.8}).labels
    assert (found.background_threshold, found.sure_thresholds) == (0.6, (0.2, 0.64))
    assert (found.pixel_threshold, found.sure_pixel_thresholds) == (0.8, (0.3, 0.82))
    assert with_values(base, {BACKGROUND: 0.1}).labels.sure_thresholds == (0.09, 0.5)
    assert with_values(PipelineConfig(), {BACKGROUND: 0.9}).labels.sure_thresholds is None


def test_without_settings_thresholds_and_iterations_are_searched() -> None:
    space = make_space(PipelineConfig(), {}, second_round=True, instances=False)
    assert list(space.values) == [CRF, PIXEL]
    assert space.size == 147
    assert next(iter(space.candidates())) == {CRF: 0, PIXEL: 0.02}
    assert BACKGROUND in make_space(PipelineConfig(), {}, second_round=False, instances=False).values
    assert read_values([("labels.crf-iterations", "0", "5")]) == {CRF: (0, 5)}


def test_the_command_prints_a_table_and_the_next_step(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", str(run), "--out", str(tmp_path / "tune"), "--set", BACKGROUND, "0.3", "0.45", "--workers", "1"]
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 candidates on 5 images, by ground truth" in shown
    assert "points of mIoU over the run's own settings" in shown
    assert "--settings" in shown
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chosen"][BACKGROUND] in (0.3, 0.45)
    assert CRITERIA == ("contrast", "cams", "crf", "tags")
