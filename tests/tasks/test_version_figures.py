"""The score of a version of published labels, and the plot of its figures over versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.dataset import ClassTable, Dataset, Sample
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import write_label_map
from data.store.publication import Entry, Publication
from tasks.publishing import score
from tasks.publishing.score import score_labels
from tasks.reporting.history import draw_history, read_history


def published(root: Path, **more: object) -> Publication:
    """Make three versions, the last of which is held, with a share of background of 0.5, 0.6 and 0.7."""
    publication = Publication(root / "labels")
    for number, background in enumerate((0.5, 0.6, 0.7), start=1):
        with publication.lock(), publication.draft() as draft:
            (draft / "classes.txt").write_text("cat\n")
            means = {"version": {"background": background, "classes": 1.0, "instances": 2.0}, "new": None}
            record = {"created": "2026-01-01", "reasons": [], "held": [], "means": means}
            entries = [Entry("a", "ab" * 32, (), "k", background, 1, 1)]
            publication.publish(draft, record | (more if number > 1 else {}), entries, hold=number == 3)
    return publication


def test_labels_are_scored_against_the_truth_of_images_that_have_it(tmp_path: Path) -> None:
    truth = np.zeros((4, 4), np.uint8)
    truth[:2] = 1
    labels = truth.copy()
    labels[0, 0] = 0
    (tmp_path / "version" / SEMANTIC).mkdir(parents=True)
    write_label_map(tmp_path / "truth.png", truth)
    for id in ("a", "b"):
        write_label_map(tmp_path / "version" / SEMANTIC / f"{id}.png", labels)
    samples = (Sample("a", tmp_path / "a.jpg", (0,), tmp_path / "truth.png"), Sample("b", tmp_path / "b.jpg", (0,)))
    found = score_labels(Dataset(tmp_path, ClassTable(("cat",)), samples), tmp_path / "version")
    # Of cat 7 of 8 pixels, of background 8 of 9.
    assert found == {"miou": round((7 / 8 + 8 / 9) / 2, 4), "accuracy": round(15 / 16, 4), "images": 1}
    assert score_labels(Dataset(tmp_path, ClassTable(("cat",)), samples[1:]), tmp_path / "version") is None


def test_a_large_set_is_scored_on_the_same_few_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "MOST_SCORED", 2)
    (tmp_path / SEMANTIC).mkdir()
    for number in range(6):
        write_label_map(tmp_path / SEMANTIC / f"{number}.png", np.full((2, 2), number % 2, np.uint8))
    samples = tuple(
        Sample(str(number), tmp_path / "x.jpg", (0,), tmp_path / SEMANTIC / f"{number}.png") for number in range(6)
    )
    chosen = []
    monkeypatch.setattr(score, "read_labels", lambda sample, _: chosen.append(sample.id) or np.zeros((2, 2), np.uint8))
    for order in (samples, samples[::-1]):
        found = score_labels(Dataset(tmp_path, ClassTable(("cat",)), order), tmp_path)
        assert found is not None
        assert found["images"] == 2
    assert sorted(chosen[:2]) == sorted(chosen[2:])


def test_the_history_has_what_each_version_measured(tmp_path: Path) -> None:
    publication = published(tmp_path, agreement=0.9, scores={"miou": 0.25, "accuracy": None, "images": 4})
    points = read_history(publication)
    assert [(point.number, point.held, point.figures["background"]) for point in points] == [
        (1, False, 0.5),
        (2, False, 0.6),
        (3, True, 0.7),
    ]
    assert "mIoU" not in points[0].figures
    assert (points[1].figures["mIoU"], points[1].figures["agreement"]) == (0.25, 0.9)


def test_the_plot_has_a_panel_per_figure_and_marks_the_latest(tmp_path: Path) -> None:
    few = draw_history(read_history(published(tmp_path / "few")), 2)
    points = read_history(published(tmp_path / "more", agreement=0.9))
    more = draw_history(points, 2)
    assert few.dtype == np.uint8
    assert few.shape[1:] == (700, 3)
    assert more.shape[0] > few.shape[0]
    assert (draw_history(points, 2) != draw_history(points, 1)).any()
    # A single version, and one that measured nothing, are drawn too.
    assert draw_history(points[:1], None).any()


def test_records_without_figures_are_no_points(tmp_path: Path) -> None:
    publication = published(tmp_path)
    file = publication.folder(1) / "version.json"
    file.chmod(0o644)
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "means": {}}))
    assert read_history(publication)[0].figures == {}
    assert draw_history(read_history(publication)[:1], 1).any()
