"""Thresholds follow the data: the area of the objects, whatever share of the scores' range it takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.pipeline.settings import LabelsConfig, RelationsConfig
from tasks.pipeline.thresholds import (
    CANDIDATES,
    FILE,
    Curves,
    _contrast,
    agreement_curves,
    choose_label_thresholds,
    contrast_curves,
    ends_weigh_less,
    label_thresholds,
    relation_thresholds,
    steadied,
)


@pytest.mark.parametrize(
    ("threshold", "num_images", "expected"),
    # (3 * 0.8 + 7.25 * 0.45) / 10.25 = 0.552; (16 * 0.8 + 4 * 0.45) / 20 = 0.73.
    [(0.8, 3, 0.55), (0.1, 1, 0.4), (0.8, 16, 0.75), (0.8, 32, 0.8), (0.05, 48, 0.05), (0.45, 5, 0.45), (0.9, 0, 0.45)],
)
def test_a_threshold_of_few_images_is_drawn_towards_the_usual_one(
    threshold: float, num_images: int, expected: float
) -> None:
    assert steadied(threshold, num_images) == expected


def test_the_labels_of_few_images_take_that_threshold(run_stage, artifacts) -> None:
    config = LabelsConfig(background_threshold="auto", sure_thresholds="auto", crf_iterations=1)
    folder = run_stage(choose_label_thresholds, config, cams=artifacts["cams"], walk=artifacts["walk"])
    found = json.loads((folder / FILE).read_text())
    alone = Curves(tuple(found["merit"]), tuple(found["area"])).threshold
    # Of six images one has no tag.
    assert found["background"] == steadied(alone, 5)
    low, high = found["sure"]
    assert low < found["background"] < high


def scene(rng: np.random.Generator, radius: float) -> tuple[np.ndarray, torch.Tensor]:
    """Return an image of a disc on a ground of another colour, and the cells' depth in the disc, 1 in the middle."""
    y, x = np.mgrid[:96, :128]
    centre = rng.uniform((40, 50), (56, 78))
    distance = radius - np.hypot(y - centre[0], x - centre[1])
    ground, paint = np.array([90, 110, 90.0]), np.array([190, 120, 60.0])
    image = np.where((distance > 0)[..., None], paint, ground) + rng.normal(0, 6, (96, 128, 3))
    return image.clip(0, 255).astype(np.uint8), torch.from_numpy(distance[2::4, 2::4] / radius).float()


@pytest.mark.parametrize(("ground", "rim"), [(0.0, 0.1), (0.1, 0.3), (0.5, 0.65)])
def test_the_threshold_lies_between_the_scores_of_ground_and_objects(ground: float, rim: float) -> None:
    rng = np.random.default_rng(0)
    scenes = [scene(rng, radius) for radius in (18, 24, 30, 26)]
    scores = [torch.where(distance > 0, rim + distance * (1 - rim), ground)[None] for _, distance in scenes]
    curves = contrast_curves([lambda image=image: image for image, _ in scenes], scores, iterations=1)
    assert ground <= curves.threshold < rim + 0.6 * (1 - rim)
    assert curves.at_area(1.6) <= curves.threshold <= curves.at_area(0.8)


@pytest.mark.parametrize(
    ("contrast", "expected"),
    [({0.3: 1.0}, 0.3), ({0.05: 1.0}, 0.05), ({0.8: 1.0}, 0.8), ({0.2: 0.98, 0.25: 1.0, 0.3: 0.99, 0.6: 0.3}, 0.25)],
)
def test_of_thresholds_nearly_as_good_the_middle_is_taken(contrast: dict[float, float], expected: float) -> None:
    values = tuple(contrast.get(candidate, 0.1) for candidate in CANDIDATES)
    assert Curves(values, tuple(1 - c for c in CANDIDATES)).threshold == expected
    assert Curves((0.2,) * len(CANDIDATES), (0.5,) * len(CANDIDATES)).threshold == 0.5


def test_areas_fall_and_their_thresholds_stay_among_the_candidates() -> None:
    curves = Curves(tuple(float(c == 0.3) for c in CANDIDATES), tuple(1 - c for c in CANDIDATES))
    assert curves.threshold == 0.3
    assert curves.at_area(0.5) == pytest.approx(0.65)
    assert curves.at_area(9) == CANDIDATES[0]
    assert curves.at_area(0) == CANDIDATES[-1]


def test_images_of_one_colour_or_without_scores_say_nothing() -> None:
    flat = np.full((32, 32, 3), 128, np.uint8)
    curves = contrast_curves([lambda: flat] * 2, [torch.zeros(1, 8, 8), torch.rand(1, 8, 8)], iterations=1)
    assert set(curves.merit) == {0.0}
    assert curves.threshold in CANDIDATES


def test_numbers_of_the_settings_stay_and_what_is_sure_lies_about_them(tmp_path: Path) -> None:
    curves = {"merit": [1.0] * len(CANDIDATES), "area": [1 - c for c in CANDIDATES]}
    (tmp_path / FILE).write_text(json.dumps({"background": 0.6, "sure": [0.4, 0.8], **curves}))
    chosen = label_thresholds(LabelsConfig(background_threshold="auto", sure_thresholds="auto"), tmp_path)
    assert chosen.background_threshold == 0.6
    assert 0 < chosen.sure_thresholds[0] < 0.6 < chosen.sure_thresholds[1] <= 1
    for number in (0.01, 0.3, 0.99):
        fixed = label_thresholds(LabelsConfig(background_threshold=number, sure_thresholds="auto"), tmp_path)
        assert fixed.background_threshold == number
        # As it is written beside the labels and read again.
        assert LabelsConfig.model_validate_json(fixed.model_dump_json()) == fixed
    assert label_thresholds(LabelsConfig(background_threshold=0.3), tmp_path).sure_thresholds is None
    (tmp_path / FILE).write_text(json.dumps({"foreground": 0.5, "background": 0.2}))
    kept = relation_thresholds(RelationsConfig(foreground_threshold=0.7, background_threshold="auto"), tmp_path)
    assert (kept.foreground_threshold, kept.background_threshold) == (0.7, 0.2)


def test_contrast_is_the_share_of_the_variance_between_foreground_and_background() -> None:
    colours = np.zeros((8, 8, 3), np.float32)
    colours[:, :2] = 100
    exact = np.zeros((32, 32), np.int64)
    exact[:, :8] = 1
    assert _contrast(colours, exact) == pytest.approx(1)
    assert _contrast(colours, 1 - exact) == pytest.approx(1)
    wider = np.zeros((32, 32), np.int64)
    wider[:, :16] = 1
    # Half of the mask is 100, the rest of the image 0: 50^2 / 4 of a variance of 100^2 * 3 / 16.
    assert _contrast(colours, wider) == pytest.approx(1 / 3)
    assert _contrast(colours, np.ones((32, 32), np.int64)) == 0


def test_walked_scores_are_cut_where_their_masks_are_those_of_the_cams() -> None:
    rng = np.random.default_rng(0)
    scenes = [scene(rng, radius) for radius in (18, 24, 30, 26)]
    images = [lambda image=image: image for image, _ in scenes]
    cams = [distance.clamp(min=0)[None] ** 0.5 for _, distance in scenes]
    # A walk that has gone beyond the objects: 0.4 at their rim, of any scale.
    walked = [7 * (0.4 + 0.6 * distance).clamp(min=0)[None] for _, distance in scenes]
    curves = agreement_curves(images, walked, cams, 0.1, iterations=1)
    assert curves.threshold == pytest.approx(0.4, abs=0.051)
    assert max(curves.merit) > 0.9
    # CAMs that are cut higher want labels of the same size.
    assert agreement_curves(images, walked, cams, 0.7, iterations=0).threshold > curves.threshold
    nothing = agreement_curves(images[:1], [torch.zeros(1, 24, 32)], [torch.zeros(1, 24, 32)], 0.1, iterations=1)
    assert set(nothing.merit) == {1.0}


def test_of_contrasts_that_are_alike_the_middle_is_taken_but_a_clear_one_at_an_end_stays() -> None:
    area = tuple(1 - c for c in CANDIDATES)
    # As maps that find little give it: best at 0.15 by a hair, alike to 0.4, and nothing above.
    flat = np.array([0.97, 0.99, 1, 0.96, 0.91, 0.88, 0.89, 0.87, 0.8, 0.71, 0.56, *np.linspace(0.48, 0, 8)])
    assert Curves(tuple(flat), area).threshold <= 0.2
    assert 0.25 <= Curves(ends_weigh_less(flat), area).threshold <= 0.5
    clear = np.where(np.array(CANDIDATES) > 0.7, 1.3, 1.0)
    assert Curves(ends_weigh_less(clear), area).threshold >= 0.75
