"""The benchmark of a budget: corrections by ground truth make labels right, and the rest is scored apart."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.published_labels import make_publication

from benchmarks.budget import choose_images, correct_by_truth, matrices, renamed, scores, tabulate, truths_of
from data.dataset import VOID, ClassTable
from data.formats.label_folder import value_names
from data.formats.label_maps import read_label_map, write_label_map
from data.readers import open_dataset
from data.store.corrections import Corrections
from tasks.review.session import Session
from tasks.review.spans import decode_spans
from tasks.review.subject import open_subject


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels that are the ground truth but for a bar in each image."""
    labels = make_publication(tmp_path_factory.mktemp("published"))
    for file in (labels / "latest/SegmentationClass").glob("*.png"):
        wrong = read_label_map(file)
        wrong[:9] = 1
        file.unlink()
        write_label_map(file, wrong)
    return labels


def test_corrected_images_have_the_ground_truth_and_others_stay(published: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    shutil.copytree(published, labels, symlinks=True)
    dataset, _ = open_dataset(published.parent / "set")
    truths = dict(truths_of(dataset, value_names(labels / "latest")))
    chosen = choose_images(labels, "random", 2, seed=1)
    assert len(set(chosen)) == 2
    assert chosen == choose_images(labels, "random", 2, seed=1)
    changed = correct_by_truth(labels, {id: truths[id] for id in chosen})
    assert 0 < changed <= 9 / 66
    assert Corrections(labels / "corrections").images == sorted(chosen)
    session = Session(open_subject(labels), "Ada")
    for id, truth in truths.items():
        found = decode_spans(session.state(id)["labels"], truth.shape)
        known = truth != VOID
        assert (found[known] == truth[known]).all() == (id in chosen)
    with_record = [record.verdict for id in chosen for record in session.subject.corrections.records(id)]
    assert with_record == ["accepted", "accepted"]


def test_scores_are_of_all_images_and_of_those_that_nobody_corrected() -> None:
    right, wrong = np.array([[9, 0, 0], [0, 1, 0]]), np.array([[0, 9, 0], [1, 0, 0]])
    before, after = {"a": wrong, "b": wrong, "c": right}, {"a": right, "b": wrong, "c": right}
    found = scores(before, after, ["a"])
    assert (found["images"], found["corrected"]) == (3, 1)
    assert found["rest"] == found["rest_before"]
    assert found["all"] > found["all_before"]
    table = tabulate({"set 0 budget 1": found | {"changed": 0.5}, "set 1 budget 1": found | {"changed": 0.5}})
    assert table.splitlines()[2].endswith("| +0.0 | 2 |")
    assert "| 50.0 |" in table


def test_classes_are_compared_by_name(tmp_path: Path) -> None:
    truth = np.array([[0, 1, 2, VOID]], np.uint8)
    found = renamed(truth, ClassTable(("sofa", "dog")), ["background", "cat", "dog"])
    assert found.tolist() == [[0, 0, 2, VOID]]
    assert not matrices(tmp_path, {"a": found})
