"""Networks that learn label maps: their targets, weights, predictions, and what they refuse."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from data.dataset import ClassTable, DatasetError, Sample
from data.formats.label_maps import read_label_map, write_label_map
from models.backbones.base import build_backbone
from models.deeplabv2 import DeepLabV2
from tasks.engine.job import Job
from tasks.evaluation.truth import read_labels
from tasks.networks import NETWORKS
from tasks.networks.stages import saliency
from tasks.networks.stages.examples import view_of
from tasks.networks.stages.segmentation import (
    _recipe,
    build_network,
    class_probabilities,
    predict,
    predict_segments,
    summed_cross_entropy,
    train,
    validate_segmenter,
)
from tasks.networks.trainer import SegmentationConfig, SegmenterConfig
from tasks.training import precision
from tasks.training.class_weights import class_weights, count_pixels
from tasks.training.inference import Pyramid
from tasks.training.saving import load_segmenter

CONFIG = SegmenterConfig(crop_size=64, batch_size=2, epochs=1, log_steps=0)
SIZE = (48, 56)


def sample_of(folder: Path, name: str, labels: np.ndarray) -> Sample:
    """Write an image of noise and its label map, both of the map's size."""
    image = np.random.default_rng(len(name)).integers(0, 256, (*labels.shape, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / f"{name}.png"), image)
    write_label_map(folder / "labels" / f"{name}.png", labels.astype(np.uint8))
    return Sample(name, folder / f"{name}.png", (0,), semantic=folder / "labels" / f"{name}.png")


def job_of(folder: Path, samples: list[Sample], config=CONFIG, **more) -> Job:
    out = folder / "out"
    out.mkdir(parents=True)
    classes = ClassTable(("cat", "dog"))
    more = {"stage": "deeplabv2", **more}
    more = {"model": NETWORKS[more["stage"]].model, **more}
    return Job(tuple(samples), classes, config, out, folder / "scratch", backbone="resnet18", **more)


def halves() -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 28:] = 1
    return labels


def test_weights_of_classes_follow_their_definitions() -> None:
    # Class 0 fills half of two images, class 1 the other half of one, class 3 that of the other; class 2 is nowhere.
    counts = np.array([[50, 50, 0, 0], [100, 0, 0, 300]])
    frequencies = [150 / 500, 50 / 100, 300 / 400]
    median = class_weights(counts, "median_frequency")
    assert median.tolist() == pytest.approx([0.5 / frequencies[0], 1, 0, 0.5 / frequencies[2]])
    shares = [150 / 500, 50 / 500, 300 / 500]
    inverse = [1 / math.log(1.02 + share) for share in shares]
    assert class_weights(counts, "inverse_log").tolist() == pytest.approx([*inverse[:2], 0, inverse[2]])
    assert class_weights(counts, "none").tolist() == [1, 1, 0, 1]


def test_void_is_not_counted(tmp_path: Path) -> None:
    labels = halves()
    labels[:10] = 255
    counts = count_pixels([sample_of(tmp_path, "a", labels)], lambda sample: read_labels(sample, 3), 3)
    assert counts.tolist() == [[38 * 28, 38 * 28, 0]]


@pytest.mark.parametrize("network", ["deeplabv2", "saliency-deeplabv3plus"])
def test_sets_of_void_alone_are_refused_by_name(tmp_path: Path, network: str) -> None:
    (tmp_path / "void").mkdir()
    void, known = sample_of(tmp_path / "void", "a", np.full(SIZE, 255)), sample_of(tmp_path, "bb", halves())
    config = (
        NETWORKS[network]
        .settings.model_fields["training"]
        .annotation(batch_size=1, epochs=1, crop_size=64, image_size=None, log_steps=0)
    )
    fit = saliency.train if network.startswith("saliency") else train
    for purpose, samples, validation in (("training", [void], []), ("validation", [known], [void, void])):
        job = job_of(
            tmp_path / purpose,
            samples,
            config,
            stage=network,
            validation=tuple(validation),
        )
        with pytest.raises(DatasetError, match=rf"void/labels: expected {purpose} images with a pixel of a class"):
            fit(job)
    # One image of void among others is none of the set's.
    assert math.isfinite(fit(job_of(tmp_path / "mixed", [void, known], config, stage=network))["loss"])


def test_weighted_classes_train_to_other_weights(tmp_path: Path) -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:8, :8] = 1
    nets = []
    for weighting in ("none", "median_frequency"):
        config = CONFIG.model_copy(update={"class_weights": weighting})
        job = job_of(tmp_path / weighting, [sample_of(tmp_path, "a", labels)], config)
        train(job)
        nets.append(load_segmenter(job.out, job.model).classifiers[0].weight)
    assert not torch.equal(nets[0], nets[1])


def test_a_batch_of_a_common_class_counts_less_than_one_of_a_rare_class(tmp_path: Path) -> None:
    """The loss is the weighted sum over the pixels, by their number: weights hold within a batch of one class too."""
    torch.manual_seed(0)
    common, rare = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    rare[:4] = 1
    samples = [sample_of(tmp_path, name, labels) for name, labels in (("a", common), ("bb", rare), ("ccc", rare))]
    losses = {}
    for weighting in ("none", "median_frequency"):
        config = CONFIG.model_copy(update={"class_weights": weighting})
        job = job_of(tmp_path / weighting, samples, config)
        net, _ = build_network(job)
        # Of no augmentation: the whole image, which the crop holds.
        images = torch.from_numpy(np.stack([np.zeros((3, *SIZE), np.float32)] * 2))
        batch = [(image, torch.from_numpy(common)) for image in images]
        recipe = _recipe(net.eval(), config, job)
        losses[weighting] = recipe.step(net, batch, 0.0)[1]["loss"]
        assert recipe.weigh(batch) == 2 * common.size
    counts = count_pixels(samples, lambda sample: read_labels(sample, 3), 3)
    weight = float(class_weights(counts, "median_frequency")[0])
    assert weight < 0.9
    assert losses["median_frequency"] == pytest.approx(weight * losses["none"], rel=1e-4)


def test_labels_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    strange = halves()
    strange[0, 0] = 7
    with pytest.raises(DatasetError, match=r"a\.png: expected values up to 2 and 255, found 7"):
        read_labels(sample_of(tmp_path, "a", strange), 3)
    with pytest.raises(DatasetError, match="expected a label map, found none"):
        read_labels(Sample("b", tmp_path / "a.png", ()), 3)
    other = sample_of(tmp_path, "c", halves())
    write_label_map(tmp_path / "labels/c.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(DatasetError, match=r"labels/c\.png: expected the image's size \(48, 56\), found \(5, 6\)"):
        train(job_of(tmp_path / "run", [other]))


def test_the_best_network_takes_images_to_find_it_by(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"keep": "best"})
    sample = sample_of(tmp_path, "a", halves())
    with pytest.raises(ValueError, match="--val"):
        train(job_of(tmp_path / "without", [sample], config))
    watched = train(job_of(tmp_path / "with", [sample], config, validation=(sample,)))
    assert 0 <= watched["miou"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("network", ["deeplabv2", "cooperative-danet", "saliency-deeplabv3plus"])
def test_two_processes_train_what_one_does(tmp_path: Path, network: str) -> None:
    samples = [sample_of(tmp_path, name, halves()) for name in ("a", "bb", "ccc")]
    changed = {"batch_size": 3, "epochs": 3, "sync_norm": True, "rescale": (1.0, 1.0), "crop_size": 64, "log_steps": 0}
    config = NETWORKS[network].settings.model_fields["training"].annotation(**changed, image_size=None)
    summaries = []
    for name, num_processes in (("one", 1), ("two", 2)):
        job = job_of(tmp_path / name, samples, config, num_processes=num_processes, validation=tuple(samples))
        job = replace(job, stage=network, model=NETWORKS[network].model)
        summaries.append((saliency.train if network.startswith("saliency") else train)(job))
    one, two = summaries
    if network != "deeplabv2":
        # The processes draw their own dropout.
        assert one["loss"] == pytest.approx(two["loss"], rel=0.25)
        return
    assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)
    # Where inference is in bfloat16, a pixel or two of the validation images may fall to the other side.
    assert one["miou"] == pytest.approx(two["miou"], abs=2e-3)


def test_the_losses_of_networks_that_are_trained_together_add_up() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(2, 3, 4, 5, 6), torch.randint(4, (3, 5, 6)), torch.tensor([1.0, 2, 0, 1])
    labels[0, 0] = 255
    first, second = (summed_cross_entropy(one, labels, weights) for one in logits)
    torch.testing.assert_close(summed_cross_entropy(logits, labels, weights), first + second)
    known = labels != 255
    likelihoods = logits[0].log_softmax(1).movedim(1, -1)[known].gather(1, labels[known][:, None])[:, 0]
    torch.testing.assert_close(first, -(weights[labels[known]] * likelihoods).sum())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deeplabv3plus", {"dsc": True}),
        ("cooperative-danet", {"connections": "multi-layer", "prediction": None}),
        ("cooperative-deeplabv3plus", {"connections": "ensemble", "prediction": None}),
        ("cooperative-deeplabv3plus", {"connections": "single", "prediction": None, "dsc": True}),
    ],
)
def test_every_network_is_trained_saved_and_applied(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    sample = sample_of(tmp_path, "a", halves())
    size = {"image_size": (40, 64), "crop_size": (40, 64), "rescale": (1.0, 1.0)}
    kind = NETWORKS[name].settings.model_fields["training"].annotation
    config = kind.model_validate({"batch_size": 1, "epochs": 2, "log_steps": 0, **size, **options})
    job = job_of(tmp_path / "run", [sample], config, stage=name, validation=(sample,))
    assert math.isfinite(train(job)["loss"])
    net = load_segmenter(job.out, job.model)
    assert (net.name, net.options, net.image_size) == (name, options, (40, 64))
    testing = SegmentationConfig(scales=(1.0,))
    predicted = job_of(tmp_path / "test", [sample], testing, stage=name, inputs={name: (job.out,)})
    predict(predicted)
    labels = read_label_map(predicted.out / "SegmentationClass/a.png")
    assert labels.shape == SIZE
    # An ensemble is the mean of both networks, two that cooperate are the second.
    assert getattr(net, "prediction", None) == {"ensemble": "mean", "multi-layer": "second"}.get(
        options.get("connections", "single")
    )


def test_probabilities_mirror_with_the_image_and_sum_to_one() -> None:
    torch.manual_seed(0)
    net = DeepLabV2(build_backbone("resnet18", output_stride=8), 3).eval()
    image = np.random.default_rng(0).integers(0, 256, (41, 53, 3)).astype(np.uint8)
    views = [Pyramid.of(np.ascontiguousarray(view), (1.0, 0.5)) for view in (image, image[:, ::-1])]
    both = class_probabilities(net, views, "cpu")
    assert both.shape == (2, 3, 41, 53)
    assert torch.allclose(both.sum(1), torch.ones(2, 41, 53), atol=1e-5)
    assert torch.allclose(both[0], both[1].flip(-1), atol=1e-5)
    plain = class_probabilities(net, views, "cpu", mirror=False)
    assert not torch.allclose(plain[0], plain[1].flip(-1), atol=1e-5)


def test_images_are_enlarged_smoothly_and_shrunk_to_means() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = 200
    (enlarged,) = view_of((8, 12), (1.0,), image).scales
    # Half a pixel from the edge on either side: a quarter and three quarters of the way.
    assert enlarged[0, 0].tolist() == [0] * 5 + [50, 150] + [200] * 5
    (shrunk,) = view_of((2, 2), (1.0,), image).scales
    assert shrunk[0].tolist() == [[0, 200], [0, 200]]
    (shrunk,) = view_of((1, 1), (1.0,), image).scales
    assert shrunk.flatten().tolist() == [100, 100, 100]
    # Lines across a side that gets shorter stay grey, whatever the other side does.
    lines = np.zeros((8, 64, 3), np.uint8)
    lines[:, ::4] = 200
    (squeezed,) = view_of((16, 16), (1.0,), lines).scales
    assert squeezed.flatten().tolist() == [50] * (3 * 16 * 16)


@pytest.mark.parametrize(("asked", "dtype"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_validation_has_the_precision_of_the_training_whatever_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    sample = sample_of(tmp_path, "a", halves())
    job = job_of(tmp_path / "net", [sample], CONFIG.model_copy(update={"precision": asked}), validation=(sample,))
    net, _ = build_network(job)
    seen = []
    net.register_forward_hook(lambda _, inputs, logits: seen.append(logits.dtype))
    validate_segmenter(net.eval(), job)
    assert seen == [dtype]
    views = [Pyramid(SIZE, [torch.zeros(3, *SIZE, dtype=torch.uint8)])]
    for chosen, expected in (("fastest", torch.bfloat16), ("float32", torch.float32)):
        class_probabilities(net, views, "cpu", mirror=False, precision=chosen)  # pyright: ignore
        assert seen[-1] == expected


@pytest.mark.parametrize(("certainty", "moves"), [(1.0, True), (40.0, False)])
def test_a_crf_moves_borders_to_the_edges_of_the_image_where_the_network_is_not_sure(
    tmp_path: Path, certainty: float, moves: bool
) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, 28:] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    sample = Sample("a", tmp_path / "a.png", ())

    class Shifted(DeepLabV2):
        """Says class 2 from four columns before the edge on."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(x), 3, *x.shape[-2:])
            logits[:, 0, :, :24] = logits[:, 2, :, 24:] = 9
            logits[:, 2, :, 24:28] = certainty
            return logits

    net = Shifted(build_backbone("resnet18", output_stride=8), 3).eval()
    found = []
    for iterations in (0, 5):
        config = SegmentationConfig(scales=(1.0,), mirror=False, crf_iterations=iterations)
        job = job_of(tmp_path / str(iterations), [sample], config)
        predict_segments(net, replace(job, samples=(sample,)))
        found.append(read_label_map(job.out / "SegmentationClass/a.png"))
    expected = np.zeros(SIZE, np.uint8)
    expected[:, 24:] = 2
    assert np.array_equal(found[0], expected)
    expected[:, 24:28] = 0 if moves else 2
    assert np.array_equal(found[1], expected)
