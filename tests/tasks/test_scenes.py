"""Networks that see whole scenes: what they are shown, batch norm over the set, the best network, odd label maps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from data.dataset import ClassTable, DatasetError, Sample
from data.formats.label_maps import read_label_map
from tasks.engine.job import Job
from tasks.networks import NETWORKS
from tasks.networks.segnet import SceneConfig
from tasks.networks.stages import segmentation as segmenter
from tasks.networks.stages import segmentation_scores
from tasks.networks.stages.segmentation import class_probabilities
from tasks.networks.trainer import SegmentationConfig
from tasks.training.group import Group
from tasks.training.inference import Pyramid
from tasks.training.norms import recompute_norms
from tasks.training.saving import load_segmenter

CONFIG = SceneConfig(image_size=(32, 48), batch_size=2, epochs=2, validate_epochs=1, log_steps=0, learning_rate=0.05)
CLASSES = ClassTable(("road", "sky", "car"), has_background=False)
NAME = "segnet-basic-single-channel-decoder"
MODEL = NETWORKS[NAME].model


def scene(folder: Path, number: int, labels: np.ndarray | None = None) -> Sample:
    """Write a photograph whose lower half is road, and whose upper half is bright sky."""
    generator = np.random.default_rng(number)
    image = generator.integers(0, 90, (40, 60, 3)).astype(np.uint8)
    image[:20] += 150
    if labels is None:
        labels = np.zeros((40, 60), np.uint8)
        labels[:20] = 1
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"{number}.png"), image)
    cv2.imwrite(str(folder / f"{number}_labels.png"), labels)
    return Sample(str(number), folder / f"{number}.png", (), folder / f"{number}_labels.png", coding="camvid-values")


def job_of(folder: Path, samples: list[Sample], config: SceneConfig = CONFIG, **more) -> Job:
    (folder / "out").mkdir(parents=True)
    return Job(
        tuple(samples),
        CLASSES,
        config,
        folder / "out",
        folder / "scratch",
        stage=NAME,
        model=MODEL,
        **more,
    )


def test_a_network_learns_scenes_and_its_predictions_are_scored(tmp_path: Path) -> None:
    samples = [scene(tmp_path / "set", number) for number in range(6)]
    config = CONFIG.model_copy(update={"epochs": 6})
    job = job_of(tmp_path / "net", samples, config, validation=tuple(samples[:3]))
    assert segmenter.train(job)["accuracy"] > 0.9
    predicted = Job(
        tuple(samples),
        CLASSES,
        SegmentationConfig(scales=(1.0,), mirror=False),
        tmp_path / "predictions",
        tmp_path / "scratch",
        inputs={NAME: (job.out,)},
        stage=f"{NAME}-predictions",
        model=MODEL,
    )
    predicted.out.mkdir()
    segmenter.predict(predicted)
    labels = read_label_map(predicted.out / "SegmentationClass/0.png")
    assert labels.shape == (40, 60)
    assert set(np.unique(labels)) <= {0, 1, 2}
    (tmp_path / "scores").mkdir()
    (tmp_path / "metrics").mkdir()
    no_settings = SegmentationConfig()
    scored = Job(tuple(samples), CLASSES, no_settings, tmp_path / "scores", tmp_path, {"p": (predicted.out,)})
    segmentation_scores.score_shard(scored)
    whole = Job(tuple(samples), CLASSES, no_settings, tmp_path / "metrics", tmp_path, {"s": (scored.out,)})
    segmentation_scores.summarize(whole)
    text = (whole.out / "metrics.json").read_text()
    # A class that never occurs is left out, and said so.
    assert '"car": null' in text


def test_what_comes_out_is_the_network_of_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [scene(tmp_path / "set", number) for number in range(4)]
    accuracies, states = iter([0.3, 0.9, 0.5]), []

    def validate(net: nn.Module, job: Job) -> dict[str, float]:
        states.append({key: value.clone() for key, value in net.state_dict().items()})
        return {"accuracy": next(accuracies), "miou": 1 - len(states)}

    monkeypatch.setattr("tasks.networks.stages.segmentation.validate_segmenter", validate)
    job = job_of(tmp_path / "net", samples, CONFIG.model_copy(update={"epochs": 3}), validation=tuple(samples))
    segmenter.train(job)
    kept = load_segmenter(job.out, job.model).state_dict()
    assert all(torch.equal(kept[key], value) for key, value in states[1].items())
    assert any(not torch.equal(kept[key], value) for key, value in states[2].items())


def test_norms_have_the_statistics_of_the_whole_set(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    batches = [torch.randn(2, 3, 5, 5) * scale for scale in (1, 4, 9)]
    recompute_norms(net, (lambda x=x: net(x) for x in batches), Group(0, 1, "cpu"))
    outputs = [net[0](x).detach().transpose(0, 1).flatten(1) for x in batches]
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm2d)
    torch.testing.assert_close(norm.running_mean, torch.stack([one.mean(1) for one in outputs]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([one.var(1) for one in outputs]).mean(0))
    assert not any(module.training for module in net.modules())
    assert norm.momentum == 0.1


def test_norms_are_of_batches_that_are_shuffled_as_in_training(tmp_path: Path) -> None:
    """The images of a sequence lie side by side in a set: four by day, then four at night."""
    samples = [scene(tmp_path / "set", number) for number in range(8)]
    for sample in samples[4:]:
        cv2.imwrite(str(sample.image), np.zeros((40, 60, 3), np.uint8))
    config = CONFIG.model_copy(update={"input": "imagenet"})
    job = job_of(tmp_path / "net", samples, config)
    net, _ = segmenter.build_network(job)
    batches: list[list[bool]] = []
    net.register_forward_pre_hook(lambda _, inputs: batches.append([bool(image.max() < 0) for image in inputs[0]]))
    segmenter._recompute_norms(net, config, job)
    assert [len(batch) for batch in batches] == [2] * 4
    assert sum(sum(batch) for batch in batches) == 4
    assert [False, True] in map(sorted, batches)


@pytest.mark.parametrize("watched", [True, False])
def test_a_training_recomputes_norms_with_or_without_validation(tmp_path: Path, watched: bool) -> None:
    samples = [scene(tmp_path / "set", number) for number in range(4)]
    more = {"validation": tuple(samples)} if watched else {}
    counts = {}
    for recompute in (True, False):
        config = CONFIG.model_copy(update={"keep": "last", "recompute_norms": recompute, "epochs": 1})
        job = job_of(tmp_path / f"{recompute}", samples, config, **more)
        segmenter.train(job)
        state = load_segmenter(job.out, job.model).state_dict()
        counts[recompute] = state["decoders.0.1.running_mean"]
    assert not torch.equal(counts[True], counts[False])


def test_images_of_any_size_are_seen_at_the_networks(tmp_path: Path) -> None:
    samples = [scene(tmp_path / "set", number) for number in range(2)]
    job = job_of(tmp_path / "net", samples, CONFIG.model_copy(update={"keep": "last"}))
    segmenter.train(job)
    net = load_segmenter(job.out, job.model)
    assert net.image_size == (32, 48)
    pixels = torch.randint(256, (3, 32, 48), dtype=torch.uint8)
    assert class_probabilities(net, [Pyramid((100, 37), [pixels])], "cpu").shape == (1, 3, 100, 37)


def test_a_batch_of_void_trains_without_a_nan_and_other_values_are_refused_by_name(tmp_path: Path) -> None:
    void = scene(tmp_path / "set", 0, np.full((40, 60), 11, np.uint8))
    one_image = CONFIG.model_copy(update={"keep": "last", "batch_size": 1})
    job = job_of(tmp_path / "void", [void, scene(tmp_path / "set", 2)], one_image)
    assert segmenter.train(job)["loss"] > 0
    assert all(torch.isfinite(value).all() for value in load_segmenter(job.out, job.model).state_dict().values())
    strange = scene(tmp_path / "set", 1, np.full((40, 60), 7, np.uint8))
    with pytest.raises(DatasetError, match=r"1_labels\.png: expected values up to 2 and 255, found 7"):
        segmenter.train(job_of(tmp_path / "strange", [strange], CONFIG.model_copy(update={"keep": "last"})))


@pytest.mark.slow
@pytest.mark.parametrize(("num_images", "batch_size", "num_processes"), [(3, 2, 2), (5, 6, 3)])
def test_processes_train_what_one_does_and_agree_on_the_norms(
    tmp_path: Path, num_images: int, batch_size: int, num_processes: int
) -> None:
    samples = [scene(tmp_path / "set", number) for number in range(num_images)]
    config = CONFIG.model_copy(update={"batch_size": batch_size, "keep": "last", "epochs": 3})
    summaries, norms = [], []
    for name, processes in (("one", 1), ("several", num_processes)):
        job = job_of(tmp_path / name, samples, config, num_processes=processes, validation=tuple(samples))
        summaries.append(segmenter.train(job))
        norms.append(load_segmenter(job.out, job.model).state_dict()["decoders.3.1.running_var"])
    assert summaries[0]["loss"] == pytest.approx(summaries[1]["loss"], abs=1e-3)
    torch.testing.assert_close(*norms, rtol=0.05, atol=1e-4)
