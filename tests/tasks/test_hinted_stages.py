"""Hints in the stages: seeds, what teaches the networks, and labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data.dataset import VOID, Sample, SampleWithMore, relabelled, with_more
from data.formats.coco import decode_mask, read_detections
from data.formats.hints import Box, Hints
from data.formats.images import image_size
from data.formats.label_folder import DETECTIONS, SEMANTIC, SURE
from data.formats.label_maps import read_label_map
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.pixels import train_pixels
from tasks.pipeline.relations import mine_relations
from tasks.pipeline.seeds.hints import hint_cams, hinted_probabilities, hints_of, keep_known
from tasks.pipeline.settings import LabelsConfig, PixelsConfig, RelationsConfig

SIZE = (15, 20)


def no_hints(*boxes: Box) -> Hints:
    return Hints(np.full(SIZE, VOID, np.uint8), boxes)


def test_a_class_is_nowhere_outside_of_its_boxes_and_reaches_1_within() -> None:
    cams = torch.full((2, 4, 5), 0.5)
    cams[0, 3, 4] = 1
    found = hint_cams(cams, (3, 7), no_hints(Box(4, 0, 0, 8, 8)), SIZE)
    assert found[0].max() == 1
    assert (found[0] > 0).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert (found[1] == cams[1]).all()
    empty = hint_cams(torch.zeros(1, 4, 5), (3,), no_hints(Box(4, 9, 13, 11, 15)), SIZE)
    assert empty[0].nonzero().tolist() == [[3, 2]]


def test_known_pixels_are_seeds_of_their_class_alone() -> None:
    hints = no_hints()
    hints.known[0, 0], hints.known[14, 19], hints.known[5, 5] = 4, 0, 8
    found = hint_cams(torch.full((2, 4, 5), 0.5), (3, 7), hints, SIZE)
    assert (found[:, 0, 0].tolist(), found[:, 3, 4].tolist(), found[:, 1, 1].tolist()) == ([1, 0], [0, 0], [0, 1])
    assert found[:, 2, 2].tolist() == [0.5, 0.5]


def test_what_was_said_of_pixels_is_sure_and_grows_to_the_boundaries() -> None:
    hints = Hints(np.full((24, 40), VOID, np.uint8))
    hints.known[12, 4], hints.known[12, 36] = 4, 0
    scores, walls = torch.full((2, 6, 10), 0.2), torch.zeros(6, 10)
    walls[:, 5] = 1
    alone = hinted_probabilities(scores, (3, 7), hints, (24, 40))
    torch.testing.assert_close(alone[0, 0], torch.full((10,), 0.2))
    grown = hinted_probabilities(scores, (3, 7), hints, (24, 40), boundary=walls)
    for found in (alone, grown):
        assert found[:, 3, 1].tolist() == [pytest.approx(0.999), 0]
        assert found[:, 3, 9].tolist() == [0, 0]
    assert (grown[0, :, :5] > 0.7).all()
    assert (grown[0, :, 6:] < 0.05).all()
    assert (grown[1] < 0.2).all()
    # Walked maps have their odds by the threshold.
    walked = hinted_probabilities(torch.full((1, 6, 10), 0.5), (3,), Hints(hints.known), (24, 40), threshold=0.25)
    torch.testing.assert_close(walked[0, 0], torch.full((10,), 0.8))


def test_in_a_box_its_class_is_likelier_and_outside_it_is_not() -> None:
    hints = no_hints(Box(4, 0, 0, 8, 8))
    found = hinted_probabilities(torch.full((2, 4, 5), 0.05), (3, 7), hints, SIZE)
    assert (found[0] > 0).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert float(found[0, 0, 0]) == pytest.approx(0.61, abs=0.01)
    assert (found[1] > 0).all()


def test_a_class_does_not_leave_its_boxes_whatever_the_crf_says(tiny_set) -> None:
    sample = with_more(tiny_set.samples[0], labels=(3, 7))
    values = np.full(SIZE, 4, np.uint8)
    hints = no_hints(Box(4, 0, 0, 8, 8))
    for outside in (0, VOID):
        found = keep_known(values, sample, hints, outside=outside)
        assert (found[:8, :8] == 4).all()
        assert (found[8:] == outside).all()
    # The other class may be anywhere, unless it has boxes too.
    both = no_hints(Box(4, 0, 0, 8, 8), Box(8, 10, 10, 12, 12))
    assert keep_known(values, sample, both, outside=VOID)[14, 0] == 0
    # Where a class may have gone unnamed, what lies outside of all boxes is not background.
    assert keep_known(values, with_more(sample, unknown=(1,)), both)[14, 0] == VOID


def test_hints_of_classes_that_an_image_has_no_more_are_left_out(tiny_set, hinted) -> None:
    sample, _ = hinted
    found = hints_of(relabelled(sample, ()), tiny_set.classes)
    assert found is not None
    assert found.values == set()
    assert (found.known == 0).any()


def test_without_hints_nothing_changes() -> None:
    cams, values = torch.rand(2, 4, 5), np.full(SIZE, 7, np.uint8)
    assert hint_cams(cams, (3, 7), None, SIZE) is cams
    assert keep_known(values, Sample("a", Path(), (3, 7)), None) is values


@pytest.fixture
def hinted(tiny_set, tmp_path: Path) -> tuple[SampleWithMore, np.ndarray]:
    """An image of the tiny set with one class, and a map that says what some of its pixels are."""
    sample: Sample = next(s for s in tiny_set.samples if len(s.labels) == 1)
    height, width = image_size(sample.image)
    points = [[2, 2], [width / 2, 2], [width / 2, height - 2], [2, height - 2]]
    shapes = [
        {"label": tiny_set.classes.names[sample.labels[0]], "shape_type": "polygon", "points": points},
        {"label": "background", "shape_type": "linestrip", "points": [[width - 4, 2], [width - 4, height - 2]]},
    ]
    file = tmp_path / "hint.json"
    file.write_text(json.dumps({"shapes": shapes}))
    known = np.full((height, width), VOID, np.int64)
    known[4 : height - 4, 4 : width // 2 - 2], known[4 : height - 4, width - 4] = sample.labels[0] + 1, 0
    return with_more(sample, hints=file), known


def test_relations_and_labels_have_what_was_said(tiny_set, artifacts, run_stage, hinted) -> None:
    sample, known = hinted
    said = known != VOID
    with_hint = tuple(sample if each.id == sample.id else each for each in tiny_set.samples)
    relations = run_stage(mine_relations, RelationsConfig(), samples=with_hint, cams=artifacts["cams"])
    assert (read_label_map(relations / f"{sample.id}.png")[said] == known[said]).all()
    config = LabelsConfig(sure_thresholds=(0.1, 0.4), crf_iterations=2)
    labels = run_stage(synthesize_labels, config, samples=with_hint, walk=artifacts["walk"])
    for kind in (SEMANTIC, SURE):
        assert (read_label_map(labels / kind / f"{sample.id}.png")[said] == known[said]).all()
    other = next(each for each in tiny_set.samples if each.id != sample.id and each.labels)
    plain = run_stage(synthesize_labels, config, walk=artifacts["walk"])
    name = f"{SEMANTIC}/{other.id}.png"
    assert (labels / name).read_bytes() == (plain / name).read_bytes()


def test_each_box_is_an_instance_of_its_own(tiny_set, artifacts, run_stage, tmp_path: Path) -> None:
    sample = next(s for s in tiny_set.samples if len(s.labels) == 1)
    height, width = image_size(sample.image)
    name = tiny_set.classes.names[sample.labels[0]]
    middle = width // 2
    # The points give each box some pixels of the class.
    corners = [
        ("rectangle", [[0, 0], [middle, height]]),
        ("rectangle", [[middle, 0], [width, height]]),
        ("point", [[middle / 2, height / 2]]),
        ("point", [[middle * 1.5, height / 2]]),
    ]
    shapes = [{"label": name, "shape_type": kind, "points": points} for kind, points in corners]
    file = tmp_path / "hint.json"
    file.write_text(json.dumps({"shapes": shapes}))
    samples = (with_more(sample, hints=file),)
    config = LabelsConfig(background_threshold=0.3, min_area=0)
    labels = run_stage(synthesize_labels, config, samples=samples, walk=artifacts["walk"])
    masks = [decode_mask(found["segmentation"]) for found in read_detections(labels / DETECTIONS)]
    assert len(masks) == 2
    left, right = sorted(masks, key=lambda mask: mask.nonzero()[1].mean())
    assert not left[:, middle:].any()
    assert not right[:, :middle].any()
    # Instances have the pixels of their labels.
    semantic = read_label_map(labels / SEMANTIC / f"{sample.id}.png")
    assert (semantic[left | right] == sample.labels[0] + 1).all()


def test_known_pixels_teach_the_pixel_classifier_more(tiny_set, artifacts, run_stage, hinted) -> None:
    sample, _ = hinted
    changed = tuple(sample if s.id == sample.id else s for s in tiny_set.samples)
    settings = {"folds": 2, "least_images": 0, "taught_thresholds": (0.1, 0.4), "steps": 5, "cells": 20}
    inputs = {"irnet": artifacts["irnet"], "walk": artifacts["walk"]}

    def cells(samples: tuple[Sample, ...], weight: int) -> int:
        folder = run_stage(train_pixels, PixelsConfig(**settings, hint_weight=weight), samples=samples, **inputs)
        assert load_file(folder / "classifier.safetensors")
        return json.loads((folder.parent / "summary.json").read_text())["cells"]

    plain = cells(tiny_set.samples, 1)
    assert cells(tiny_set.samples, 5) == plain
    assert cells(changed, 5) > cells(changed, 1) > plain - 40
