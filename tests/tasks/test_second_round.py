"""The second round's probabilities, with the walk's scores as evidence."""

import math

import numpy as np
import torch

from tasks.pipeline.labels import decide_rows, score_levels
from tasks.pipeline.second_round import of_objects, ratio, with_evidence
from tasks.pipeline.settings import LabelsConfig


def test_odds_are_multiplied_by_the_evidence() -> None:
    probabilities = torch.tensor([0.2, 0.3])[:, None, None]
    evidence = torch.tensor([3.0, 0.5])[:, None, None]
    found = with_evidence(probabilities, evidence).flatten()
    odds = torch.tensor([0.2 / 0.5 * 3, 0.3 / 0.5 * 0.5])
    torch.testing.assert_close(found, odds / (1 + odds.sum()))


def test_evidence_of_1_changes_nothing_and_certainty_stays_finite() -> None:
    probabilities = torch.tensor([[0.0, 0.4, 1.0]])[:, None]
    found = with_evidence(probabilities, torch.ones_like(probabilities))
    torch.testing.assert_close(found, probabilities, atol=2e-4, rtol=0)
    assert with_evidence(probabilities, torch.full_like(probabilities, 1e4)).isfinite().all()


def test_a_score_at_the_threshold_is_no_evidence() -> None:
    assert ratio(torch.tensor([[[0.3]]]), 0.3).item() == 1
    assert math.isclose(ratio(torch.tensor([[[0.15]]]), 0.3).item(), 0.5, rel_tol=1e-6)
    assert ratio(torch.tensor([[[0.0]]]), 0.3).item() > 0
    assert ratio(torch.tensor([[[0.5]]]), 0.0).isfinite().all()


def test_an_object_has_the_class_with_the_most_evidence() -> None:
    objects = torch.tensor([[[0.5, 0.9, 0.1]]])
    evidence = torch.tensor([[[2.0, 0.2, 2.0]], [[1.0, 0.1, 4.0]]])
    found = of_objects(objects, evidence)
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([2.0, 1.0]) / 4)
    torch.testing.assert_close(found[:, 0, 1], torch.tensor([1.8, 0.9]) / 3.7)
    assert found[1, 0, 2] > found[0, 0, 2]


def test_a_pixel_that_two_classes_claim_is_not_background() -> None:
    maps = torch.zeros(2, 4, 4)
    # Background has 0.2 on the left, 0.5 in the third column, and 0.8 on the right.
    maps[0], maps[1] = torch.tensor([0.42, 0.42, 0.3, 0.15]), torch.tensor([0.38, 0.38, 0.2, 0.05])
    config = LabelsConfig(crf_iterations=0, pixel_threshold=0.5)
    found = decide_rows(maps, (16, 16), config, None, by_pixels=True)
    assert found.rows[0][8, [1, 5, 14]].tolist() == [1, 1, 0]
    np.testing.assert_allclose(
        score_levels(torch.tensor([[[0.3]], [[0.2]]]), by_pixels=True).ravel(), [0.375, 0.2 / 0.7], rtol=1e-6
    )
    # One class alone has its probability.
    np.testing.assert_allclose(score_levels(torch.tensor([[[0.3]]]), by_pixels=True).ravel(), [0.3], rtol=1e-6)
