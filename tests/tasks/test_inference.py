"""Batches of images of one size, decoded ahead, and reduced precision."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data.dataset import DatasetError, Sample
from tasks.networks.maskrcnn import DetectionConfig
from tasks.networks.trainer import SegmentationConfig
from tasks.pipeline.fields import infer_fields
from tasks.pipeline.seeds.cams import class_attention, infer_cams
from tasks.pipeline.settings import CamConfig, FieldsConfig
from tasks.training import inference, precision
from tasks.training.inference import Pyramid, batches, inference_autocast
from tasks.training.precision import Precision
from tasks.training.saving import load_classifier

SIZES = [(20, 30), (30, 20), (20, 30), (20, 30), (30, 20), (8, 8)]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Six images whose grey value is their number."""
    made = []
    for number, size in enumerate(SIZES):
        file = tmp_path / f"{number}.png"
        cv2.imwrite(str(file), np.full((*size, 3), number, np.uint8))
        made.append(Sample(str(number), file, labels=()))
    return made


def test_on_a_cpu_every_image_is_alone_and_none_is_lost(samples: list[Sample]) -> None:
    found = {batch[0].id: pixels[0] for batch, pixels in batches(samples, lambda image: image, "cpu")}
    assert {name: pixels.shape[:2] for name, pixels in found.items()} == dict(zip("012345", SIZES, strict=True))
    assert all((pixels == int(name)).all() for name, pixels in found.items())


def test_on_a_gpu_a_batch_holds_images_of_one_size_up_to_a_number_of_pixels(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "BATCH_PIXELS", 1300)
    found = [[sample.id for sample in batch] for batch, _ in batches(samples, lambda image: image, "cuda")]
    assert found == [["0", "2"], ["3"], ["1", "4"], ["5"]]
    monkeypatch.setattr(inference, "BATCH_PIXELS", 1)
    assert len(list(batches(samples, lambda image: image, "cuda"))) == len(SIZES)


def test_an_image_that_cannot_be_read_is_named(samples: list[Sample]) -> None:
    data = samples[2].image.read_bytes()
    samples[2].image.write_bytes(data[: len(data) - 40])
    with pytest.raises(DatasetError, match=r"2\.png"):
        list(batches(samples, lambda image: image, "cpu"))


def test_nothing_is_decoded_far_ahead(samples: list[Sample]) -> None:
    decoded = []
    running = batches(samples, decoded.append, "cpu")
    next(running)
    running.close()
    assert len(decoded) <= 1 + inference.AHEAD


def test_bfloat16_is_taken_on_a_cpu_that_has_it_and_leaves_the_classes_as_they_are(
    artifacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = load_classifier(artifacts["classifier"])
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    pyramids = [Pyramid.of(cv2.GaussianBlur(image, (0, 0), 5), (1.0, 0.5))]
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    (exact,) = class_attention(net, pyramids, [(0, 1, 2)], "cpu")
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    with inference_autocast("cpu"):
        assert torch.ones(2, 2).matmul(torch.ones(2, 2)).dtype == torch.bfloat16
    (rounded,) = class_attention(net, pyramids, [(0, 1, 2)], "cpu")
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0)


def test_no_stage_takes_bfloat16_unless_its_settings_say_so(
    run_stage, artifacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(stage: Precision) -> tuple[bytes, bytes]:
        cams = run_stage(infer_cams, CamConfig(scales=(1.0,), precision=stage), classifier=artifacts["classifier"])
        fields = run_stage(infer_fields, FieldsConfig(precision=stage), irnet=artifacts["irnet"])
        return (cams / "cams.safetensors").read_bytes(), (fields / "boundary.safetensors").read_bytes()

    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    without, fastest_without = made("float32"), made("fastest")
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    assert made(CamConfig().precision) == without == fastest_without
    assert all(rounded != exact for rounded, exact in zip(made("fastest"), without, strict=True))
    assert SegmentationConfig().precision == DetectionConfig().precision == FieldsConfig().precision == "float32"
