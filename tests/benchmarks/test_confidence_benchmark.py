"""The benchmark of confidence counts every pixel with ground truth, and orders images as `quality.csv` has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fabricated_run import make_walked_run

from benchmarks.confidence import WORST, figures_of, fits_of, pixels_of, ranking_of
from data.dataset import DatasetError
from data.formats.label_maps import read_label_map, write_label_map
from data.formats.quality import MEASURES, ImageQuality, quality_text
from tasks.engine.run_record import read_run


def test_pixels_are_judged_before_and_after_the_calibration_and_fitted(tmp_path: Path) -> None:
    run = make_walked_run(tmp_path)
    found = pixels_of(run)
    sizes = [read_label_map(s.semantic).size for s in read_run(run).dataset.samples if s.labels and s.semantic]
    assert found.before.sum() == found.after.sum() == sum(sizes)
    assert found.kind == (False, False)
    figures = figures_of(found)
    # Scores are .6 on objects and .3 off them, against a threshold of .25.
    assert figures["after"]["auc"] > 0.6
    fits = fits_of({"one": found, "two": found})
    (fit,) = fits.values()
    assert len(fit["fitted"]) == len(fit["now"]) == 4
    assert fit["ece_on_others"]["one"] < 0.1
    with pytest.raises(DatasetError, match="expected a run with ground truth"):
        pixels_of(make_walked_run(tmp_path / "blind", with_truth=False))


def test_images_are_ranked_against_their_true_iou(tmp_path: Path) -> None:
    run = make_walked_run(tmp_path)
    samples = [sample for sample in read_run(run).dataset.samples if sample.labels]
    rows = []
    for number, sample in enumerate(samples):
        file = run / "labels/SegmentationClass" / f"{sample.id}.png"
        labels = read_label_map(file)
        # More and more of the labels is lost.
        labels[: number * labels.shape[0] // len(samples)] = 0
        write_label_map(file, labels)
        rows.append(ImageQuality(sample.id, 0.9 - 0.1 * number, 0.9, 0.1 * number, 0.8, 0.3, 2, 2, 0))
    (run / "quality.csv").write_text(quality_text(rows))
    found = ranking_of(run)
    assert found["images"] == len(samples) < WORST
    assert found["spearman"]["quality"] == pytest.approx(found["spearman"]["unsure"])
    assert found["spearman"]["quality"] > 0.5
    assert set(found["worst_20_in_first_40"]) == {*MEASURES, "order of review"}
    assert set(found["worst_20_in_first_40"].values()) == {len(samples)}
    assert found["spearman"]["masks"] is None
