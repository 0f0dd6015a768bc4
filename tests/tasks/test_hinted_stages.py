"""Hints in the stages: seeds, what teaches the networks, and labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data.dataset import VOID, Sample, SampleWithMore, with_more
from data.formats.coco import decode_mask, read_detections
from data.formats.hints import Box, Hints
from data.formats.images import image_size
from data.formats.label_folder import DETECTIONS, SEMANTIC, SURE
from data.formats.label_maps import read_label_map
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.pixels import train_pixels
from tasks.pipeline.relations import mine_relations
from tasks.pipeline.seeds.hints import hint_cams, hint_scores, keep_known
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
    scores = hint_scores(torch.full((2, 4, 5), 0.4), (3, 7), hints, SIZE, by_pixels=True)
    assert scores[:, 0, 0].tolist() == [pytest.approx(0.999), 0]
    assert scores[:, 3, 4].tolist() == [0, 0]


def test_without_hints_nothing_changes() -> None:
    cams, values = torch.rand(2, 4, 5), np.full(SIZE, 7, np.uint8)
    assert hint_cams(cams, (3, 7), None, SIZE) is cams
    assert hint_scores(cams, (3, 7), None, SIZE, by_pixels=False) is cams
    assert keep_known(values, (3, 7), None) is values


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
