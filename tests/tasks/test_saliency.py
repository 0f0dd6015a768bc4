"""Segmentation and saliency from one network: where masks come from, the losses, the stages, the scores."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from data.dataset import ClassTable, DatasetError, Sample
from data.formats.label_maps import read_label_map, write_label_map
from models.backbones.base import BackboneChoice
from models.saliency import FixedLoss, Maps, SaliencyDeepLabV3Plus, UncertaintyLoss
from tasks.engine.job import Job
from tasks.evaluation.saliency_metric import add_saliency, saliency_summary, saliency_sums
from tasks.measurement import resources
from tasks.networks import NETWORKS
from tasks.networks.saliency import SaliencyConfig
from tasks.networks.stages import saliency, segmentation_scores
from tasks.networks.stages.saliency import task_losses
from tasks.networks.stages.saliency_targets import as_saliency_samples, derive_mask, read_mask, salient_values
from tasks.networks.stages.segmentation import validate_segmenter
from tasks.networks.trainer import SegmentationConfig
from tasks.training.saving import load_segmenter

NAME = "saliency-deeplabv3plus"
MODEL = NETWORKS[NAME].model
CONFIG = SaliencyConfig(image_size=(48, 64), crop_size=(48, 64), batch_size=2, epochs=2)
CLASSES = ClassTable(("road", "car"), has_background=False)
SIZE = (60, 80)


def scene(folder: Path, name: str) -> Sample:
    """Write an image with a bright car on a dark road, and its label map."""
    labels = np.zeros(SIZE, np.uint8)
    labels[15:45, 20:60] = 1
    labels[:2] = 255
    return written(folder, name, labels, Sample(name, folder / f"{name}.png", (0, 1), folder / f"{name}-labels.png"))


def masked(folder: Path, name: str) -> Sample:
    """Write an image with a bright object, and the mask of a set of salient objects."""
    mask = np.zeros(SIZE, np.uint8)
    mask[10:50, 10:40] = 1
    sample = Sample(name, folder / f"{name}.png", (0,), folder / f"{name}-mask.png", coding="saliency")
    written(folder, name, mask, sample)
    cv2.imwrite(str(folder / f"{name}-mask.png"), 255 * mask)
    return sample


def written(folder: Path, name: str, labels: np.ndarray, sample: Sample) -> Sample:
    noise = np.random.default_rng(len(name)).integers(0, 60, (*SIZE, 3))
    cv2.imwrite(str(folder / f"{name}.png"), (noise + 180 * (labels == 1)[..., None]).astype(np.uint8))
    assert sample.semantic is not None
    write_label_map(sample.semantic, labels)
    return sample


def job_of(folder: Path, samples: list[Sample], config=CONFIG, **more) -> Job:
    (folder / "out").mkdir(parents=True)
    return Job(
        tuple(samples),
        CLASSES,
        config,
        folder / "out",
        folder / "scratch",
        stage=NAME,
        model=MODEL,
        backbone="resnet18",
        **more,
    )


def test_which_classes_are_salient() -> None:
    assert salient_values(ClassTable(("cat", "dog"))) == (1, 2)
    assert salient_values(ClassTable(("cat", "dog")), ["dog"]) == (2,)
    assert salient_values(CLASSES) == (1,)
    assert salient_values(ClassTable(("Sky", "Sign Symbol", "traffic_light"), has_background=False)) == (1, 2)
    with pytest.raises(DatasetError, match="expected some of road, car, got bus"):
        salient_values(CLASSES, ["bus"])
    with pytest.raises(DatasetError, match="which of road, sky are salient objects has to be said"):
        salient_values(ClassTable(("road", "sky"), has_background=False))
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    assert derive_mask(labels, (1, 2)).tolist() == [[0, 1, 1, 255]]


def test_losses_are_means_over_the_images_and_0_without_the_label() -> None:
    torch.manual_seed(0)
    maps = Maps(torch.randn(3, 2, 4, 5), torch.randn(3, 4, 5))
    labels, masks = torch.randint(2, (3, 4, 5)), torch.randint(2, (3, 4, 5))
    labels[0, :2] = 255
    labels[2], masks[1] = 255, 255
    weights = torch.zeros(256)
    weights[0], weights[1] = 1, 3
    expected = []
    for image in (0, 1):
        sums, total = 0.0, 0.0
        for y in range(4):
            for x in range(5):
                label = int(labels[image, y, x])
                if label != 255:
                    weight = float(weights[label])
                    sums -= weight * float(maps.classes[image, :, y, x].log_softmax(0)[label])
                    total += weight
        expected.append(sums / total)
    found, shares = task_losses(maps, labels, masks, weights)
    assert shares.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert float(found[0]) == pytest.approx(np.sum(expected) / 3, rel=1e-5)
    probabilities = maps.saliency[[0, 2]].sigmoid()
    likelihoods = torch.where(masks[[0, 2]] == 1, probabilities, 1 - probabilities)
    assert float(found[1]) == pytest.approx(float(-likelihoods.log().sum()) / (3 * 20), rel=1e-5)
    # What is computed in parts is the whole batch's, whichever part has the labels.
    for joint in (UncertaintyLoss(start=0.7), FixedLoss((0.8, 0.2))):
        whole = joint(*task_losses(maps, labels, masks, weights))
        parts = [
            joint(*task_losses(Maps(maps.classes[k], maps.saliency[k]), labels[k], masks[k], weights))
            for k in (slice(0, 1), slice(1, 2), slice(2, 3))
        ]
        torch.testing.assert_close(whole, torch.stack(parts).mean())
    # No label of a task in the whole batch.
    losses, shares = task_losses(maps, torch.full_like(labels, 255), masks, weights)
    assert (float(losses[0]), shares.tolist()) == (0, pytest.approx([0, 2 / 3]))
    # A network that has diverged is not mistaken for one without data.
    for joint in (UncertaintyLoss(), FixedLoss((0.5, 0.5))):
        assert torch.isnan(joint(*task_losses(Maps(maps.classes * math.nan, maps.saliency), labels, masks, weights)))


def test_an_image_with_one_label_trains_its_branch_alone() -> None:
    torch.manual_seed(0)
    maps = Maps(torch.randn(2, 2, 4, 5, requires_grad=True), torch.randn(2, 4, 5, requires_grad=True))
    labels, masks = torch.randint(2, (2, 4, 5)), torch.randint(2, (2, 4, 5))
    labels[1], masks[0] = 255, 255
    task_losses(maps, labels, masks, torch.ones(256))[0].sum().backward()
    assert maps.classes.grad is not None
    assert maps.saliency.grad is not None
    assert maps.classes.grad[0].any()
    assert not maps.classes.grad[1].any()
    assert maps.saliency.grad[1].any()
    assert not maps.saliency.grad[0].any()


def test_masks_are_derived_and_both_tasks_are_predicted_and_scored(tmp_path: Path, caplog) -> None:
    samples = [scene(tmp_path, name) for name in ("a", "b", "c")]
    job = job_of(tmp_path / "train", samples, CONFIG.model_copy(update={"epochs": 24, "learning_rate": 1e-3}))
    summary = saliency.train(job)
    assert "derived from the label maps: car" in caplog.text
    assert {"segmentation", "saliency", "sigma_segmentation", "sigma_saliency"} <= summary.keys()
    predicted = job_of(tmp_path / "predict", samples, SegmentationConfig(scales=(1.0,)), inputs={NAME: (job.out,)})
    saliency.predict(predicted)
    found = read_label_map(predicted.out / "Saliency" / "a.png")
    assert found.shape == SIZE
    scored = replace(predicted, out=tmp_path / "scores", inputs={"predictions": (predicted.out,)})
    scored.out.mkdir()
    segmentation_scores.score_shard(scored)
    summarized = replace(scored, out=tmp_path / "metrics", inputs={"scores": (scored.out,)})
    summarized.out.mkdir()
    segmentation_scores.summarize(summarized)
    metrics = json.loads((summarized.out / "metrics.json").read_text())
    assert metrics["saliency"]["derived_from"] == ["car"]
    assert metrics["saliency"]["images"] == 3
    assert metrics["saliency"]["max_f"] > 0.8
    assert metrics["saliency"]["mae"] < 0.4
    assert metrics["miou"] > 0.6
    # In grey, for whoever reads them.
    assert Image.open(predicted.out / "Saliency" / "a.png").mode == "L"
    assert summary["masks_derived_from"] == ["car"]


def test_a_step_draws_from_both_sets_and_predictions_are_scored_by_masks(tmp_path: Path) -> None:
    scenes = [scene(tmp_path, name) for name in ("a", "b")]
    objects = as_saliency_samples([masked(tmp_path, name) for name in ("x", "yy", "zzz")])
    job = job_of(tmp_path / "train", [*scenes, *objects], CONFIG.model_copy(update={"task_weights": (0.8, 0.2)}))
    summary = saliency.train(job)
    assert summary["loss"] == pytest.approx(0.8 * summary["segmentation"] + 0.2 * summary["saliency"], rel=1e-5)
    assert json.loads((job.out / "saliency.json").read_text()) == {"derived_from": [], "images": 3}
    predicted = job_of(
        tmp_path / "p", [*scenes, *objects], SegmentationConfig(scales=(1.0,)), inputs={NAME: (job.out,)}
    )
    saliency.predict(predicted)
    scored = replace(predicted, out=tmp_path / "scores", inputs={"predictions": (predicted.out,)})
    scored.out.mkdir()
    segmentation_scores.score_shard(scored)
    with np.load(scored.out / "saliency.npz", allow_pickle=False) as arrays:
        # Scenes have no mask to be scored against where none was derived, and objects no label map.
        assert arrays["images"] == 3
    with np.load(scored.out / "scores.npz", allow_pickle=False) as arrays:
        assert arrays["confusion"].sum() == 2 * (SIZE[0] - 2) * SIZE[1]


def test_masks_of_no_weight_leave_nothing_in_the_network(tmp_path: Path) -> None:
    scenes = [scene(tmp_path, name) for name in ("a", "b")]
    objects = as_saliency_samples([masked(tmp_path, name) for name in ("x", "yy")])
    config = CONFIG.model_copy(update={"task_weights": (1.0, 0.0)})
    jobs = [job_of(tmp_path / name, [*scenes, *more], config) for name, more in (("with", objects), ("without", []))]
    for job in jobs:
        saliency.train(job)
    nets = [load_segmenter(job.out, job.model).state_dict() for job in jobs]
    # Nor in the running statistics of batch norms.
    torch.testing.assert_close(nets[0], nets[1], rtol=0, atol=0)


def test_what_shall_not_learn_saliency_has_no_branch_maps_or_scores_of_it(tmp_path: Path, caplog) -> None:
    samples = [scene(tmp_path, name) for name in ("a", "b")]
    job = job_of(tmp_path / "train", samples, CONFIG.model_copy(update={"task_weights": (0.5, 0.0)}))
    summary = saliency.train(job)
    assert "derived" not in caplog.text
    assert summary["loss"] == pytest.approx(0.5 * summary["segmentation"])
    assert not {"saliency", "masks_derived_from"} & summary.keys()
    plain = NETWORKS["deeplabv3plus"].build(2, BackboneChoice("resnet18"), {"dsc": True})
    assert load_segmenter(job.out, job.model).state_dict().keys() == plain.state_dict().keys()
    predicted = job_of(tmp_path / "p", samples, SegmentationConfig(scales=(1.0,)), inputs={NAME: (job.out,)})
    saliency.predict(predicted)
    assert [path.name for path in predicted.out.iterdir()] == ["SegmentationClass"]
    scored = replace(predicted, out=tmp_path / "scores", inputs={"predictions": (predicted.out,)})
    scored.out.mkdir()
    segmentation_scores.score_shard(scored)
    assert [path.name for path in scored.out.iterdir()] == ["scores.npz"]


def test_masks_of_one_value_are_told(tmp_path: Path, caplog) -> None:
    scenes = [scene(tmp_path, "a")]
    config = CONFIG.model_copy(update={"epochs": 1})
    for value, said in ((0, "are never salient"), (255, "are all salient")):
        objects = [masked(tmp_path, name) for name in ("x", "yy")]
        for sample in objects:
            cv2.imwrite(str(sample.semantic), np.full(SIZE, value, np.uint8))
        saliency.train(job_of(tmp_path / str(value), [*scenes, *as_saliency_samples(objects)], config))
        assert f"the pixels of all 2 masks {said}" in caplog.text
    caplog.clear()
    saliency.train(job_of(tmp_path / "both", [*scenes, *as_saliency_samples([masked(tmp_path, "x")])], config))
    assert "masks are" not in caplog.text


def test_label_maps_of_a_branch_that_would_not_learn_are_refused() -> None:
    for weights in ((0, 0), (0, 1)):
        with pytest.raises(ValidationError, match=r"a weight of segmentation, the first, above 0"):
            SaliencyConfig(task_weights=weights)


def test_the_summary_is_of_the_network_that_is_kept(tmp_path: Path) -> None:
    samples = [scene(tmp_path, name) for name in ("a", "b")]
    rates = {"learning_rate": 0.05, "epochs": 4, "keep": "best", "sigma_lr_factor": 1.0, "ema_decay": 0.5}
    job = job_of(tmp_path / "run", samples, CONFIG.model_copy(update=rates), validation=tuple(samples))
    summary = saliency.train(job)
    history = json.loads((job.out / "history.json").read_text())
    best = max(figures["miou"] for figures in history)
    kept = summary["kept"]
    assert kept["epoch"] < 4
    assert kept == {"epoch": [figures["miou"] for figures in history].index(best) + 1, "of": 4, "by": "miou"}
    assert summary["miou"] == best
    assert summary["loss"] == history[kept["epoch"] - 1]["loss"]
    net = load_segmenter(job.out, job.model)
    assert isinstance(net, SaliencyDeepLabV3Plus)
    assert isinstance(net.joint_loss, UncertaintyLoss)
    assert summary["sigma_saliency"] == pytest.approx(net.joint_loss.sigma[1].item())
    assert validate_segmenter(net, job)["miou"] == pytest.approx(best)


def test_of_a_network_without_saliency_masks_are_label_maps_of_one_class(tmp_path: Path) -> None:
    samples = [masked(tmp_path, name) for name in ("x", "yy")]
    predictions, classes = tmp_path / "predictions", ClassTable(("salient",))
    for sample in samples:
        write_label_map(predictions / f"SegmentationClass/{sample.id}.png", read_mask(sample, 2))
    job = replace(job_of(tmp_path / "scores", samples, inputs={"predictions": (predictions,)}), classes=classes)
    segmentation_scores.score_shard(job)
    summed = replace(job_of(tmp_path / "metrics", samples, inputs={"scores": (job.out,)}), classes=classes)
    segmentation_scores.summarize(summed)
    metrics = json.loads((summed.out / "metrics.json").read_text())
    assert metrics["iou"] == {"background": 1, "salient": 1}
    assert "saliency" not in metrics


def test_the_sigmas_have_a_learning_rate_of_their_own_and_nothing_pulls_at_them(tmp_path: Path) -> None:
    samples = [scene(tmp_path, name) for name in ("a", "b")]
    fast = CONFIG.model_copy(update={"sigma_lr_factor": 1e4, "epochs": 4, "optimizer": "adamw", "weight_decay": 0.1})
    summaries = [
        saliency.train(job_of(tmp_path / name, samples, config)) for name, config in (("a", CONFIG), ("b", fast))
    ]
    slow_sigma, fast_sigma = (summary["sigma_saliency"] for summary in summaries)
    assert slow_sigma == pytest.approx(1, abs=0.01)
    assert abs(fast_sigma - 1) > 0.2
    weighted = CONFIG.model_copy(update={"task_weights": (1.0, 0.0), "epochs": 1})
    summary = saliency.train(job_of(tmp_path / "fixed", samples, weighted))
    assert summary["loss"] == pytest.approx(summary["segmentation"])


def test_a_set_of_masks_alone_is_refused(tmp_path: Path) -> None:
    job = job_of(tmp_path / "run", as_saliency_samples([masked(tmp_path, "x")]))
    with pytest.raises(DatasetError, match="expected images with label maps of classes too"):
        saliency.train(job)


def test_the_network_is_built_again_as_it_was(tmp_path: Path) -> None:
    job = job_of(tmp_path / "run", [scene(tmp_path, "a")], CONFIG.model_copy(update={"dsc": False, "epochs": 1}))
    saliency.train(job)
    net = load_segmenter(job.out, job.model)
    assert (net.name, net.image_size) == (NAME, (48, 64))
    assert net.options == {"dsc": False, "task_weights": None}
    assert net.joint_loss.log_variance.shape == (2,)


def test_error_and_largest_f_by_hand() -> None:
    truth = np.array([[1, 1, 0, 0, 255]], np.uint8)
    predicted = np.array([[255, 102, 204, 0, 255]], np.uint8)
    summary = saliency_summary(saliency_sums(truth, predicted))
    assert summary["mae"] == pytest.approx((0 + 0.6 + 0.8 + 0) / 4)
    # At a threshold between 204 and 255: precision 1, recall 1/2; between 0 and 102: 2/3 and 1.
    candidates = [1.3 * p * r / (0.3 * p + r) for p, r in ((1, 0.5), (0.5, 0.5), (2 / 3, 1), (0.5, 1))]
    assert summary["max_f"] == pytest.approx(max(candidates))
    # Precision and recall are means over the images that have an object; errors are over all.
    nothing = saliency_sums(np.zeros((1, 5), np.uint8), predicted)
    both = saliency_summary(add_saliency([saliency_sums(truth, predicted), nothing]))
    assert both["max_f"] == pytest.approx(max(candidates))
    assert both["mae"] == pytest.approx((0.35 + (255 + 102 + 204 + 255) / 255 / 5) / 2)
    assert both["images"] == 2
    assert saliency_summary(saliency_sums(np.full((1, 5), 255, np.uint8), predicted)) == {
        "mae": None,
        "max_f": None,
        "images": 0,
    }
    with pytest.raises(ValueError, match="maps of one size"):
        saliency_sums(truth, predicted[:, :3])


def test_costs_are_those_of_both_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    both = SaliencyDeepLabV3Plus.both
    monkeypatch.setattr(SaliencyDeepLabV3Plus, "both", lambda net, x: calls.append(x.shape) or both(net, x))
    variant = resources.Variant(NAME, "resnet18")
    resources._measure_inference(variant, 2, (32, 48), device="cpu", num_threads=1, precision="float32")
    assert set(calls) == {(1, 3, 32, 48)}
