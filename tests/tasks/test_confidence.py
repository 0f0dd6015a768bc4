"""How sure labels are, what is made of it, and how it is judged."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricated_run import make_run
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from data.dataset import VOID, ClassTable, DatasetError, Sample
from data.formats.coco import as_detections, write_detections
from data.formats.label_maps import read_label_map, write_label_map
from data.formats.quality import ImageQuality, quality_text, read_quality
from data.store import ArtifactError
from flows.training.request import TrainRequest, read_training_sets
from tasks.engine.image_list import read_images
from tasks.engine.job import Job
from tasks.engine.plan import digest_samples
from tasks.engine.run_record import read_run
from tasks.evaluation.calibration import calibration_summary, confidence_counts, fit_odds
from tasks.evaluation.health import check_stage
from tasks.networks.deeplabv2 import DeepLabV2Settings
from tasks.networks.stages.examples import load_example, split_labels, with_confidence
from tasks.networks.stages.saliency import task_losses
from tasks.networks.stages.segmentation import summed_cross_entropy
from tasks.networks.trainer import SegmenterConfig
from tasks.pipeline.confidence.odds import (
    CALIBRATIONS,
    LIMIT,
    MISSING,
    Calibration,
    as_bytes,
    calibrated,
    expected_iou,
    expected_ious,
    features_of,
    log_odds,
    score_odds,
)
from tasks.pipeline.confidence.quality import cam_agreement, count_components, measure_quality
from tasks.pipeline.labels import decide_rows, synthesize_labels
from tasks.pipeline.score_maps import save_maps
from tasks.pipeline.settings import LabelsConfig, QualityConfig
from tasks.reporting.report import build_report
from tasks.reporting.review import rank, worst_images


def rows_of(*values: int) -> NDArray[np.int64]:
    return np.array([values], np.int64)


def test_odds_are_those_of_the_label_among_classes_and_background() -> None:
    levels = torch.tensor([[[0.6, 0.1, 0.2]], [[0.1, 0.1, 0.7]]])
    found = score_odds(levels, rows_of(1, 0, 2), 0.3, by_pixels=False)
    np.testing.assert_allclose(found, np.log([[0.6 / 0.4, 0.3 / 0.2, 0.7 / 0.5]]), rtol=1e-5)
    # A probability at its threshold is even, as a score at its own is.
    even = torch.tensor([[[0.7]]])
    assert score_odds(even, rows_of(1), 0.7, by_pixels=True) == pytest.approx(0, abs=1e-6)
    assert score_odds(even, rows_of(1), 0.7, by_pixels=False) == pytest.approx(0, abs=1e-6)
    assert score_odds(torch.tensor([[[0.9]]]), rows_of(1), 0.5, by_pixels=True) == pytest.approx(np.log(9), rel=1e-4)
    assert score_odds(torch.zeros(1, 1, 1), rows_of(0), 0.3, by_pixels=False) == LIMIT
    np.testing.assert_allclose(log_odds(torch.tensor([[0.5, 0.8, 1.0]])), [[0, np.log(4), LIMIT]], atol=1e-5)


def test_confidence_grows_with_both_kinds_of_odds_and_background_is_unsure_where_a_tag_is_missing() -> None:
    calibration = Calibration(1.0, 0.5, 0.0, -1.0, 0.25)
    scores, crf, rows = np.array([[0, 2, 2.0]]), np.array([[1, 1, 3.0]]), rows_of(0, 1, 0)
    found = calibrated(features_of(scores, crf, rows), calibration)
    np.testing.assert_allclose(found, 1 / (1 + np.exp([[0.5, -2.75, -2.5]])), rtol=1e-6)
    lacking = calibrated(features_of(scores, crf, rows), calibration, lacks_a_tag=True)
    np.testing.assert_allclose(lacking, [[found[0, 0], found[0, 1], MISSING]], rtol=1e-6)
    without = calibrated(features_of(scores, None, rows), calibration)
    np.testing.assert_allclose(without[0, 1], 1 / (1 + np.exp(-2.25)), rtol=1e-6)
    assert as_bytes(np.array([0, 0.5, 1])).tolist() == [0, 128, 255]


def test_a_pixel_knows_how_far_the_border_of_the_labels_is() -> None:
    rows = np.zeros((20, 50), np.int64)
    rows[:, 40:] = 1
    scores = np.where(rows == 0, 3.0, 1.0).astype(np.float32)
    features = features_of(scores, None, rows)
    assert features.shape == (20, 50, 5)
    assert features.dtype == np.float32
    # The border is the column 40; distances are percents of the long side.
    np.testing.assert_allclose(features[5, [30, 40, 45], 2], np.log1p([20, 0, 10]), rtol=0.02)
    assert features[5, 0, [0, 1, 3, 4]].tolist() == [3, 0, 1, 0]
    assert features[5, 45, [0, 1, 3, 4]].tolist() == [1, 0, 0, 1]
    # Labels of one value have no border.
    np.testing.assert_allclose(features_of(scores, None, np.ones_like(rows))[..., 2], np.log1p(100))


def test_weights_are_those_that_were_fitted() -> None:
    records = sorted(Path(__file__).parents[2].glob("benchmarks/results/calibration-*.json"))
    assert len(records) == 1, "the weights come from one record"
    kinds = json.loads(records[0].read_text())["kinds"]
    names = {
        (True, True): "pixel classifier, CRF",
        (True, False): "pixel classifier",
        (False, True): "walk, CRF",
        (False, False): "walk",
    }
    for kind, calibration in CALIBRATIONS.items():
        assert astuple(calibration) == tuple(kinds[names[kind]]["weights"]), names[kind]
        assert calibration.scores > 0, names[kind]
        assert (calibration.crf == 0) == (not kind[1]), names[kind]


def test_the_expected_overlap_is_that_of_labels_which_are_right_as_often_as_said() -> None:
    labels = np.array([[0, 0, 0, 1]], np.uint8)
    sure = np.full((1, 4), 255, np.uint8)
    assert expected_iou(labels, sure, 2) == 1
    # A tag without a pixel overlaps nothing.
    assert expected_iou(labels, sure, 3) == pytest.approx(2 / 3)
    # Of background 2.4 of 3 pixels are right, and 0.2 of the other may be it; of the other class 0.8 of 1, and 0.6.
    doubtful = np.full((1, 4), 204, np.uint8)
    assert expected_iou(labels, doubtful, 2) == pytest.approx((2.4 / 3.2 + 0.8 / 1.6) / 2)
    # What is missed may be of either of two other classes.
    assert expected_iou(labels, doubtful, 3) == pytest.approx((2.4 / 3.1 + 0.8 / 1.3) / 3)


@pytest.mark.parametrize("iterations", [0, 3])
@pytest.mark.parametrize("by_pixels", [False, True])
def test_labels_and_their_confidence_are_those_of_the_maps(iterations: int, by_pixels: bool) -> None:
    maps = torch.zeros(1, 10, 16)
    maps[0, :, :4], maps[0, :, 4:8], maps[0, :, 8:] = 0.95, 0.55, 0.05
    image = np.repeat(np.repeat(np.uint8([[200, 130, 60, 60]]), 16, axis=1), 40, axis=0)[..., None].repeat(3, axis=2)
    config = LabelsConfig(background_threshold=0.5, pixel_threshold=0.5, crf_iterations=iterations)
    found = decide_rows(maps, (40, 64), config, image if iterations else None, by_pixels=by_pixels)
    assert len(found.rows) == (3 if by_pixels else 1)
    middle, sure = found.rows[0][20], found.confidence[20]
    assert middle[[8, 24, 48]].tolist() == [1, 1, 0]
    assert sure[24] < sure[8]
    assert sure[24] < sure[48]
    assert found.confidence.shape == (40, 64)
    weights = astuple(CALIBRATIONS[by_pixels, iterations > 0])
    np.testing.assert_allclose(found.confidence, 1 / (1 + np.exp(-found.features @ np.array(weights))), rtol=1e-5)


def test_stage_labels_writes_confidence_for_every_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.fromarray(np.full((22, 30, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    samples = (Sample("a", tmp_path / "a.png", (1,)), Sample("b", tmp_path / "b.png", ()))
    walked = torch.zeros(1, 16, 20)
    walked[0, :, :10] = 1
    for name in ("semantic", "instances"):
        save_maps(tmp_path / f"{name}.safetensors", {"a": walked})
    (tmp_path / "instances.json").write_text(json.dumps({"a": [0]}))
    # The walk saw the images at twice their size or more.
    job = Job(samples, ClassTable(("cat", "dog")), LabelsConfig(), tmp_path / "out", tmp_path)
    synthesize_labels(replace(job, inputs={"walk": (tmp_path,)}, long_side=(80, 80)))
    first, second = (tmp_path / "out/SegmentationConfidence" / f"{name}.png" for name in "ab")
    with Image.open(first) as stored:
        assert (stored.mode, stored.size) == ("L", (30, 22))
    sure = read_label_map(first)
    labels = read_label_map(tmp_path / "out/SegmentationClass/a.png")
    assert sure[:, 0].min() > sure[:, 14].min()
    assert labels[0, 0] == 2
    assert (read_label_map(second) == 255).all()


def test_a_perfect_confidence_has_no_error_and_an_overconfident_one_its_excess() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.integers(0, 256, 200_000).astype(np.uint8)
    right = rng.random(200_000) < confidence / 255
    everywhere = np.ones_like(right)
    perfect = calibration_summary(confidence_counts(confidence, right, everywhere))
    assert perfect["ece"] is not None
    assert perfect["ece"] < 0.01
    sure = np.full(1000, 230, np.uint8)
    over = calibration_summary(confidence_counts(sure, np.arange(1000) < 600, np.ones(1000, bool)))
    assert over["ece"] == pytest.approx(230 / 255 - 0.6)
    assert over["auc"] == 0.5
    assert [one["pixels"] for one in over["bins"]] == [1000]


def test_the_order_of_right_and_wrong_is_counted_pair_by_pair_and_void_left_out() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.integers(0, 20, 300).astype(np.uint8)
    right = rng.random(300) < 0.3 + confidence / 40
    counted = rng.random(300) < 0.7
    found = calibration_summary(confidence_counts(confidence, right, counted))
    good, bad = (confidence[counted & (right == kind)].astype(int) for kind in (True, False))
    pairs = (good[:, None] > bad) + 0.5 * (good[:, None] == bad)
    assert found["auc"] == pytest.approx(pairs.mean())
    assert found["pixels"] == counted.sum()
    assert found["accuracy"] == pytest.approx(right[counted].mean())
    empty = calibration_summary(np.zeros((2, 256), np.int64))
    assert (empty["ece"], empty["auc"], empty["bins"]) == (None, None, [])


def test_the_fit_finds_the_weights_that_made_the_labels() -> None:
    rng = np.random.default_rng(2)
    features = np.column_stack([rng.normal(0, 2, (40_000, 2)), np.ones(40_000)])
    weights = np.array([0.7, -0.4, 0.3])
    right = rng.random(40_000) < 1 / (1 + np.exp(-features @ weights))
    np.testing.assert_allclose(fit_odds(features, right), weights, atol=0.03)
    assert np.isfinite(fit_odds(features, features[:, 0] > 0)).all()


def test_attention_maps_agree_where_their_highest_cells_are_the_labels() -> None:
    cams = torch.zeros(2, 4, 4)
    cams[0, :2, :2], cams[1, 2:, 2:], cams[1, 0, 3] = 0.9, 0.8, 0.85
    labels = np.zeros((16, 16), np.uint8)
    labels[:8, :8], labels[8:, 8:] = 6, 3
    # Eight cells are labelled; the one above them that is not takes the place of one of the last four.
    assert cam_agreement(cams, labels, (5, 2)) == pytest.approx(7 / 8)
    assert cam_agreement(cams.flip(0), labels, (5, 2)) == 0
    assert cam_agreement(cams, np.zeros_like(labels), (5, 2)) == 0
    assert cam_agreement(torch.zeros(0, 1, 1), labels, ()) == 1
    assert count_components(labels) == 2
    labels[12, 2], labels[7, 7] = 6, 3
    assert count_components(labels) == 4


def test_the_quality_of_images_is_measured_and_lost_tags_are_told(tmp_path: Path) -> None:
    samples = tuple(Sample(name, tmp_path / name, labels) for name, labels in (("a", (0, 1)), ("b", ())))
    labels, sure = np.zeros((16, 16), np.uint8), np.full((16, 16), 250, np.uint8)
    labels[:8], sure[:4] = 1, 50
    for name, maps in (("a", (labels, sure)), ("b", (labels * 0, sure * 0 + 255))):
        for kind, each in zip(("SegmentationClass", "SegmentationConfidence"), maps, strict=True):
            write_label_map(tmp_path / kind / f"{name}.png", each, grey=True)
    write_detections(tmp_path / "instances.json", as_detections("a", [labels > 0], [0], [0.9]))
    cams = torch.zeros(2, 4, 4)
    cams[0, :2], cams[1, 3] = 1, 1
    save_maps(tmp_path / "cams.safetensors", {"a": cams})
    out = tmp_path / "out"
    out.mkdir()
    job = Job(samples, ClassTable(("cat", "dog")), QualityConfig(), out, tmp_path)
    summary = measure_quality(replace(job, inputs={"labels": (tmp_path,), "cams": (tmp_path,)}))
    first, second = read_quality(out / "quality.csv")
    assert (first.unsure, first.foreground, first.masks, first.components) == (0.25, 0.5, 1, 1)
    assert first.tags_without_a_pixel == 1
    assert first.quality == pytest.approx(expected_iou(labels, sure, 3), abs=1e-4)
    assert first.quality < 0.7
    assert (first.weakest, first.weakest_quality) == ("cat", pytest.approx(expected_ious(labels, sure, 3)[1], abs=1e-4))
    assert second == ImageQuality("b", 1.0, 1.0, 0.0, 1.0, 0.0, 0, 0, 0)
    assert summary == {"tags": {0: 1, 1: 1}, "lost": {1: 1}}
    health = check_stage("quality", [json.loads(json.dumps(summary))], samples, job.classes)
    assert "1 of 2 tags that the maps show have no labelled pixel, most of dog" in health.warnings[0]
    assert not check_stage("quality", [{"tags": {"0": 60}, "lost": {"0": 1}}], samples, job.classes).warnings


def image_quality(image: str, quality: float, **other: float) -> ImageQuality:
    return ImageQuality(image, quality, 0.9, 0.1, 0.8, 0.3, 2, 2, 0)._replace(**other)


def test_the_least_sure_images_come_first_with_what_is_wrong() -> None:
    rows = [image_quality(f"i{number:02d}", 0.5 + number / 100) for number in range(30)]
    rows += [image_quality("empty", 0.1, tags_without_a_pixel=2), image_quality("full", 0.2, foreground=0.99)]
    rows += [image_quality("vague", 0.3, unsure=0.8, components=40), image_quality("other", 0.05, cam_agreement=0.1)]
    found = rank(rows)
    assert [row.image for row in found[:5]] == ["other", "empty", "full", "vague", "i00"]
    why = [row.why for row in found]
    assert why[0] == "labels and attention maps agree on 10% of the labelled area (80%)"
    assert why[1] == "2 of its tags have no pixel"
    assert why[2] == "99% of it is labelled"
    assert why[3] == "80% of its pixels are unsure (median image 10%); 40 separate areas (2)"
    assert why[4] == "its least sure pixels are less sure than others'"
    assert rank([]) == []


def test_the_class_is_named_that_is_least_sure() -> None:
    rows = [image_quality(f"i{number:02d}", 0.5, weakest="cat", weakest_quality=0.9) for number in range(28)]
    rows += [image_quality("dog", 0.4, weakest="dog", weakest_quality=0.2)]
    rows += [image_quality("both", 0.3, weakest="dog", weakest_quality=0.25, unsure=0.8)]
    why = {row.image: row.why for row in rank(rows)}
    assert why["dog"] == "of dog 20% may be expected to be right (90%)"
    assert why["both"].endswith("80% of its pixels are unsure (median image 10%); " + why["dog"].replace("20%", "25%"))
    # Where nothing else is known, too.
    assert why["i00"] == "of cat 90% may be expected to be right (90%)"


def test_the_expected_overlap_of_each_value_is_that_of_its_pixels() -> None:
    labels, confidence = np.repeat([0, 3], 50)[None], np.repeat([255, 102], 50)[None].astype(np.uint8)
    # All of background is right, and 0.6 of the 50 pixels beside it may be background too, or a third value.
    found = expected_ious(labels, confidence, 3)
    assert found == {0: pytest.approx(50 / 65), 3: pytest.approx(20 / 50)}
    assert expected_iou(labels, confidence, 3) == pytest.approx((50 / 65 + 20 / 50) / 3)


def test_a_damaged_table_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "quality.csv"
    file.write_text(quality_text([image_quality("a, b", 0.5)]))
    assert read_quality(file) == [image_quality("a, b", 0.5)]
    file.write_text(quality_text([image_quality("a", 0.5, weakest="cat, dog", weakest_quality=0.25)]))
    assert read_quality(file) == [image_quality("a", 0.5, weakest="cat, dog", weakest_quality=0.25)]
    # Older versions wrote fewer columns.
    older = [line.rsplit(",", 2)[0] for line in quality_text([image_quality("a", 0.5)]).splitlines()]
    file.write_text("\n".join(older))
    assert read_quality(file) == [image_quality("a", 0.5)]
    file.write_text(file.read_text().replace("0.9", "much"))
    with pytest.raises(DatasetError, match=r"quality.csv: line 2: expected image, quality"):
        read_quality(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"quality.csv: cannot be read"):
        read_quality(file)


def test_the_report_lists_images_to_look_at_and_draws_the_reliability(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert worst_images(run) == []
    assert "Images to look at first" not in build_report(run)
    rows = [image_quality(f"i{number:02d}", 0.9 - number / 100) for number in range(30)]
    (run / "quality.csv").write_text(quality_text(rows))
    metrics = json.loads((run / "metrics.json").read_text())
    counts = confidence_counts(np.uint8([200, 220, 30]), np.array([True, False, True]), np.ones(3, bool))
    (run / "metrics.json").write_text(json.dumps(metrics | {"confidence": calibration_summary(counts)}))
    page = build_report(run)
    assert page.count("<td>i") == 20
    assert "<td>i29</td><td>0.610</td>" in page
    assert page.count("<rect") == 4
    assert "Expected calibration error" in page


def weighted_sample(folder: Path, confidence: NDArray[np.uint8]) -> Sample:
    size = confidence.shape
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / "a.png")
    labels = np.arange(confidence.size).reshape(size) % 3
    write_label_map(folder / "labels.png", labels.astype(np.uint8))
    write_label_map(folder / "sure.png", confidence, grey=True)
    return Sample("a", folder / "a.png", (0,), semantic=folder / "labels.png", confidence=folder / "sure.png")


def test_labels_carry_their_confidence_through_what_crops_and_mirrors_them(tmp_path: Path) -> None:
    confidence = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
    sample = weighted_sample(tmp_path, confidence)
    read = with_confidence(lambda sample: read_label_map(sample.semantic or sample.image))

    def mirrored(image: NDArray, labels: NDArray, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        padded = np.full((6, 8), VOID, labels.dtype)
        padded[1:5, 1:7] = labels[:, ::-1]
        return torch.tensor(image), torch.from_numpy(padded)

    _, packed = load_example(sample, read, mirrored, np.random.default_rng(0))
    labels, sure = split_labels(packed[None], 2.0)
    assert sure is not None
    expected = read_label_map(tmp_path / "labels.png")[:, ::-1].astype(np.int64)
    assert (labels[0, 1:5, 1:7].numpy() == expected).all()
    np.testing.assert_allclose(sure[0, 1:5, 1:7], (confidence[:, ::-1] / 255) ** 2, rtol=1e-5)
    assert (labels[0, 0] == VOID).all()
    assert split_labels(torch.full((1, 2, 2), 7, dtype=torch.uint8), 0.0)[1] is None
    with pytest.raises(DatasetError, match="expected labels with their confidence"):
        read(replace(sample, confidence=None))
    write_label_map(tmp_path / "sure.png", confidence[:2], grey=True)
    with pytest.raises(DatasetError, match=r"sure.png: expected the size of the labels"):
        read(sample)


def test_each_pixel_s_loss_has_its_weight() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    labels[0, 0] = VOID
    weights, sure = torch.tensor([1.0, 2.0, 0.5]), torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(2))
    plain = F.cross_entropy(logits, labels, weights, ignore_index=VOID, reduction="none")
    found = summed_cross_entropy(logits, labels, weights, sure=sure)
    torch.testing.assert_close(found, (plain * sure).sum())
    torch.testing.assert_close(summed_cross_entropy(logits, labels, weights, sure=torch.ones_like(sure)), plain.sum())
    both = torch.stack([logits, logits])
    torch.testing.assert_close(summed_cross_entropy(both, labels, weights, [1.0, 0.5], sure), 1.5 * found)


def test_saliency_s_segmentation_loss_has_the_weights_too() -> None:
    from models.saliency import Maps

    maps = Maps(torch.randn(1, 3, 4, 5), torch.randn(1, 4, 5))
    labels, masks = torch.zeros(1, 4, 5, dtype=torch.long), torch.ones(1, 4, 5, dtype=torch.long)
    weights, sure = torch.ones(256), torch.zeros(1, 4, 5)
    sure[0, :2] = 1
    half, _ = task_losses(maps, labels, masks, weights, sure)
    expected, _ = task_losses(Maps(maps.classes[:, :, :2], maps.saliency), labels[:, :2], masks, weights)
    torch.testing.assert_close(half[0], expected[0])
    torch.testing.assert_close(half[1], expected[1])


def test_a_training_takes_the_confidence_of_a_run_s_labels_and_its_bytes_are_part_of_the_key(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    settings = DeepLabV2Settings(backbone="resnet18", training=SegmenterConfig(confidence_weight=1.0))
    request = TrainRequest(data=tmp_path / "set", labels=run, out=tmp_path / "net", preset="demo", settings=settings)
    with pytest.raises(ArtifactError, match="expected the confidence of the run's labels"):
        read_training_sets(request)
    record = read_run(run)
    for sample in record.dataset.samples:
        labels = read_label_map(run / "labels/SegmentationClass" / f"{sample.id}.png")
        write_label_map(
            run / "labels/SegmentationConfidence" / f"{sample.id}.png", np.full_like(labels, 200), grey=True
        )
    dataset, _, _ = read_training_sets(request)
    first = dataset.samples[0]
    assert first.confidence == run / "labels/SegmentationConfidence" / f"{first.id}.png"
    before = digest_samples(dataset)[first.id].truth
    write_label_map(first.confidence, np.full_like(labels, 100), grey=True)
    assert digest_samples(dataset)[first.id].truth != before
    plain = settings.model_copy(update={"training": SegmenterConfig()})
    without = read_training_sets(request.model_copy(update={"settings": plain}))[0]
    assert {sample.confidence for sample in without.samples} == {None}
    with pytest.raises(ValueError, match="confidence_weight is of the labels of a run"):
        TrainRequest(data=tmp_path, out=tmp_path / "net", preset="demo", settings=settings)


def test_lists_of_images_keep_where_the_confidence_is(tmp_path: Path) -> None:
    from tasks.engine.artifact import ImageSet, SampleDigest
    from tasks.engine.image_list import write_images

    sample = Sample("a", tmp_path / "a.png", (0,), confidence=tmp_path / "sure/a.png")
    listed = write_images(tmp_path, ImageSet((sample,), {"a": SampleDigest("0" * 64)}), tmp_path)
    assert [each for each, _ in read_images(tmp_path, listed, tmp_path)] == [sample]
