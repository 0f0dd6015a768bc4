"""Every stage writes what `docs/architecture.md` says, for images of any size and for one without labels."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from data.dataset import Dataset
from data.formats.coco import decode_mask, read_detections
from data.formats.images import image_size, read_image
from data.formats.label_maps import read_ground_truth, read_label_map, write_label_map
from flows.labels.presets import voc12
from models.backbones.base import build_backbone
from models.irnet import IRNet
from tasks.engine.job import Job
from tasks.networks.maskrcnn import DetectionConfig
from tasks.networks.stages import detection as detector
from tasks.pipeline.fields import infer_fields
from tasks.pipeline.irnet import _measure_displacement, train_irnet
from tasks.pipeline.labels import instance_masks, semantic_rows, sure_labels, synthesize_labels
from tasks.pipeline.metrics import summarize
from tasks.pipeline.relations import confident_labels
from tasks.pipeline.score_maps import grid_size, save_maps, strongest, upsample
from tasks.pipeline.scores import _instance_predictions, score_shard
from tasks.pipeline.seeds.cams import class_attention
from tasks.pipeline.settings import FieldsConfig, IRNetConfig, LabelsConfig, RelationsConfig, ScoresConfig, WalkConfig
from tasks.pipeline.walk import sum_rows, walk_instances
from tasks.training import TrainingError
from tasks.training.inference import Pyramid
from tasks.training.saving import load_classifier, load_irnet


def labelled(dataset: Dataset) -> list:
    return [sample for sample in dataset.samples if sample.labels]


def test_cams_are_there_for_labelled_images_at_stride_4_in_half_precision(tiny_set, artifacts) -> None:
    maps = load_file(artifacts["cams"] / "cams.safetensors")
    assert set(maps) == {sample.id for sample in labelled(tiny_set)}
    for sample in labelled(tiny_set):
        cams = maps[sample.id]
        assert cams.dtype == torch.float16
        assert cams.shape == (len(sample.labels), *grid_size(image_size(sample.image)))
        assert 0 <= cams.min() <= cams.max() <= 1


def test_mirrored_scales_make_cams_that_mirror_with_the_image(tiny_set, artifacts) -> None:
    net = load_classifier(artifacts["classifier"])
    image = cv2.resize(read_image(tiny_set.samples[0].image), (64, 48))
    pyramids = [Pyramid.of(np.ascontiguousarray(view), (1.0,)) for view in (image, image[:, ::-1])]
    cams, flipped = class_attention(net, pyramids, [(0, 2), (0, 2)], "cpu")
    torch.testing.assert_close(flipped.flip(-1), cams, atol=1e-4, rtol=1e-4)


def test_a_batch_s_cams_are_those_of_its_images_one_by_one(tiny_set, artifacts) -> None:
    net = load_classifier(artifacts["classifier"])
    samples = tiny_set.samples[:3]
    pyramids = [Pyramid.of(cv2.resize(read_image(sample.image), (61, 47)), (1.0, 0.5)) for sample in samples]
    labels = [(1,), (0, 2), (2, 1, 0)]
    together = class_attention(net, pyramids, labels, "cpu")
    for one, pyramid, classes in zip(together, pyramids, labels, strict=True):
        assert one.shape == (len(classes), 12, 16)
        (alone,) = class_attention(net, [pyramid], [classes], "cpu")
        torch.testing.assert_close(one, alone, atol=1e-5, rtol=1e-5)


def test_relations_cover_the_image_with_its_own_classes(tiny_set, artifacts) -> None:
    for sample in tiny_set.samples:
        labels = read_label_map(artifacts["relations"] / f"{sample.id}.png")
        assert labels.shape == image_size(sample.image)
        assert set(np.unique(labels)) <= {0, 255, *(c + 1 for c in sample.labels)}
        if not sample.labels:
            assert (labels == 0).all()


def test_confident_labels_leave_the_middle_open() -> None:
    # Three flat areas, so that the CRF agrees with them but for their rims.
    image = np.repeat(np.repeat([[200, 128, 60]], 32, axis=1), 64, axis=0).astype(np.uint8)
    image = np.repeat(image[:, :, None], 3, axis=2)
    cams = torch.full((1, 16, 24), 0.15)
    cams[:, :, :8], cams[:, :, 16:] = 0.9, 0.0
    (labels,) = confident_labels([torch.from_numpy(image)], [cams], [(4,)], RelationsConfig(crf_confidence=0.9))
    assert (labels[24:40, 4:24] == 5).all()
    assert (labels[24:40, 40:56] == 255).all()
    assert (labels[24:40, 72:92] == 0).all()


def test_a_tag_without_evidence_is_not_taught_as_background() -> None:
    image = torch.full((64, 96, 3), 128, dtype=torch.uint8)
    cams = torch.zeros(2, 16, 24)
    config = RelationsConfig()
    (labels,) = confident_labels([image], [cams], [(4, 7)], config)
    assert (labels == 255).all()
    cams[0, :, :12] = 1
    (labels,) = confident_labels([image], [cams], [(4, 7)], config)
    assert set(labels.unique().tolist()) == {5, 255}
    (labels,) = confident_labels([image], [cams[:1]], [(4,)], config)
    assert set(labels.unique().tolist()) <= {0, 5, 255}
    assert (labels == 0).any()
    (labels,) = confident_labels([image], [cams], [(4, 7)], voc12().relations)
    assert (labels == 0).any()


def test_sure_labels_have_background_where_every_class_has_a_pixel() -> None:
    values = np.array([0, 5, 8], np.uint8)
    rows, others = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]])
    assert sure_labels(rows, others, values[:2]).tolist() == [[0, 255, 5, 5]]
    assert sure_labels(rows, others, values).tolist() == [[255, 255, 5, 5]]
    assert sure_labels(rows * 0, others * 0, values[:2]).tolist() == [[255] * 4]


def test_tags_without_a_sure_pixel_are_counted(tiny_set, tmp_path) -> None:
    sample = labelled(tiny_set)[0]
    empty = {sample.id: torch.zeros(len(sample.labels), *grid_size(image_size(sample.image)))}
    save_maps(tmp_path / "semantic.safetensors", empty)
    save_maps(tmp_path / "instances.safetensors", {sample.id: torch.zeros(0, *empty[sample.id].shape[1:])})
    (tmp_path / "instances.json").write_text(json.dumps({sample.id: []}))
    config = LabelsConfig(background_threshold=0.3, sure_thresholds=(0.1, 0.6))
    out = tmp_path / "out"
    job = Job((sample,), tiny_set.classes, config, out, tmp_path, inputs={"walk": (tmp_path,)})
    assert synthesize_labels(job)["unsure"] == dict.fromkeys(sample.labels, 1)
    assert (read_label_map(out / "SegmentationSure" / f"{sample.id}.png") == 255).all()


@pytest.mark.parametrize(("probability", "shrunk"), [(0.001, 1), (0.9, 0)])
def test_tags_that_the_second_round_shrinks_are_counted(tiny_set, tmp_path, probability: float, shrunk: int) -> None:
    sample = next(sample for sample in labelled(tiny_set) if len(sample.labels) == 1)
    walked = {sample.id: torch.ones(1, *grid_size(image_size(sample.image)))}
    judged = {sample.id: torch.full_like(walked[sample.id], probability)}
    judged[sample.id][:, :3, :3] = 0.9
    save_maps(tmp_path / "semantic.safetensors", walked)
    save_maps(tmp_path / "instances.safetensors", {sample.id: torch.zeros(0, *walked[sample.id].shape[1:])})
    save_maps(tmp_path / "pixels.safetensors", judged)
    (tmp_path / "instances.json").write_text(json.dumps({sample.id: []}))
    config = LabelsConfig(background_threshold=0.5, sure_thresholds=(0.3, 0.7), crf_iterations=0)
    inputs = {"walk": (tmp_path,), "pixel-scores": (tmp_path,)}
    job = Job((sample,), tiny_set.classes, config, tmp_path / "out", tmp_path, inputs=inputs)
    summary = synthesize_labels(job)
    assert (summary["shrunk"], summary["empty"]) == (dict.fromkeys(sample.labels * shrunk, 1), {})
    # Without a second round nothing is compared.
    alone = Job((sample,), tiny_set.classes, config, tmp_path / "alone", tmp_path, inputs={"walk": (tmp_path,)})
    assert synthesize_labels(alone)["shrunk"] == {}


def test_fields_have_the_grid_of_every_image(tiny_set, artifacts) -> None:
    boundary = load_file(artifacts["fields"] / "boundary.safetensors")
    displacement = load_file(artifacts["fields"] / "displacement.safetensors")
    for sample in tiny_set.samples:
        grid = grid_size(image_size(sample.image))
        assert boundary[sample.id].shape == grid
        assert displacement[sample.id].shape == (2, *grid)
        assert 0 <= boundary[sample.id].min() <= boundary[sample.id].max() <= 1


def test_irnet_stores_its_mean_and_says_whether_the_field_collapsed(artifacts) -> None:
    net = load_irnet(artifacts["irnet"])
    assert net.displacement.mean.abs().sum() > 0
    history = json.loads((artifacts["irnet"] / "history.json").read_text())
    assert {"loss", "fg_displacement", "bg_displacement"} <= set(history[0])


@pytest.mark.parametrize(("centres", "instances"), [((10, 30), 2), ((20, 20), 1)])
def test_what_a_displacement_field_separates_is_counted(tiny_set, monkeypatch, tmp_path, centres, instances) -> None:
    labels = np.zeros((80, 160), np.uint8)
    labels[16:64, 16:144] = 3
    write_label_map(tmp_path / "a.png", labels)
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(40.0), indexing="ij")
    # The mean of the field, which is taken off, is added once more.
    field = torch.stack([9.5 - y, torch.where(x < 20, *centres) - x]) + torch.tensor([3.0, 5.0])[:, None, None]
    field -= torch.tensor([0.0, float(field[1].mean()) - 5])[:, None, None]
    net = IRNet(build_backbone("resnet18"))
    monkeypatch.setattr(net, "infer", lambda x, mirror: (torch.zeros(1, 20, 40), field[None]))
    monkeypatch.setattr("tasks.pipeline.irnet.read_working_image", lambda *_: np.zeros((80, 160, 3), np.uint8))
    job = Job(tiny_set.samples[:1], tiny_set.classes, IRNetConfig(), tmp_path, tmp_path)
    found = _measure_displacement(net, IRNetConfig(), job, {job.samples[0].id: tmp_path / "a.png"})
    assert (found["components"], found["instances"]) == (1, instances)


def test_relations_that_leave_everything_open_fail_by_that_name(tiny_set, run_stage, artifacts, tmp_path) -> None:
    for sample in tiny_set.samples:
        write_label_map(tmp_path / f"{sample.id}.png", np.full(image_size(sample.image), 255, np.uint8))
    config = IRNetConfig(crop_size=64, radius_px=4, epochs=1, batch_size=3)
    with pytest.raises(TrainingError, match="no pair of pixels: in no crop of any of 6 images"):
        run_stage(train_irnet, config, classifier=artifacts["classifier"], relations=tmp_path)


def two_blobs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return CAM, boundary and displacement of one wide object area that is two instances side by side."""
    height, width = 20, 40
    cams = torch.zeros(1, height, width)
    cams[:, 4:16, 4:36] = 1
    displacement = torch.zeros(2, height, width)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    displacement[0] = 10 - y
    displacement[1] = torch.where(x < 20, 12, 28) - x
    return cams, torch.full((height, width), 0.2), displacement


def test_displacement_splits_what_touches_and_the_walk_of_a_class_is_the_sum_of_its_instances() -> None:
    cams, boundary, displacement = two_blobs()
    walked, rows = walk_instances(cams, boundary, displacement, WalkConfig(steps=16))
    assert rows == [0, 0]
    found = instance_masks(walked, rows, (80, 160), LabelsConfig())
    assert len(found.masks) == 2
    assert not (found.masks[0] & found.masks[1]).any()
    centres = sorted(float(np.nonzero(mask)[1].mean()) for mask in found.masks)
    assert centres == pytest.approx([40, 120], abs=6)
    from kernels.random_walk import propagate

    whole = propagate(cams, boundary, steps=16)
    torch.testing.assert_close(sum_rows(walked, rows, 1), whole, atol=1e-5, rtol=1e-4)


def test_a_field_of_zeros_makes_one_instance() -> None:
    cams, boundary, displacement = two_blobs()
    walked, rows = walk_instances(cams, boundary, torch.zeros_like(displacement), WalkConfig(steps=16))
    assert len(instance_masks(walked, rows, (80, 160), LabelsConfig()).masks) == 1


def test_small_components_are_dropped_and_scores_fall() -> None:
    maps = torch.zeros(2, 16, 16)
    maps[0, 2:8, 2:8], maps[1, 10:15, 10:15], maps[1, 2, 14] = 1.0, 0.6, 0.6
    kept = instance_masks(maps, [0, 1], (64, 64), LabelsConfig(min_area=0.02))
    assert kept.rows == [0, 1]
    assert kept.scores == pytest.approx([1.0, 0.6])
    assert len(instance_masks(maps, [0, 1], (64, 64), LabelsConfig(min_area=0)).masks) == 3


def test_images_of_small_objects_keep_them() -> None:
    maps = torch.zeros(1, 32, 32)
    maps[0, 4:6, 4:6], maps[0, 20:22, 20:22], maps[0, 4, 28] = 1.0, 1.0, 1.0
    # Two objects of about 64 of 16384 pixels, and a crumb.
    assert len(instance_masks(maps, [0], (128, 128), LabelsConfig(min_area=0.01)).masks) == 0
    kept = LabelsConfig(min_area=0.01, min_area_of_largest=0.5)
    assert len(instance_masks(maps, [0], (128, 128), kept).masks) == 2
    # Beside a large object they are crumbs.
    maps[0, 10:18, 10:32] = 1.0
    assert len(instance_masks(maps, [0], (128, 128), kept).masks) == 1


def test_the_background_threshold_is_relative_to_the_highest_score() -> None:
    maps = torch.zeros(1, 8, 8)
    maps[0, :4], maps[0, 4:] = 10.0, 3.0
    assert (semantic_rows(maps, (32, 32), 0.5)[20:] == 0).all()
    assert (semantic_rows(maps, (32, 32), 0.2)[20:] == 1).all()
    assert (semantic_rows(torch.zeros(1, 8, 8), (32, 32), 0.2) == 0).all()


def test_refined_labels_bound_the_instances_whatever_the_threshold() -> None:
    cams, boundary, displacement = two_blobs()
    walked, rows = walk_instances(cams, boundary, displacement, WalkConfig(steps=16))
    semantic = np.zeros((80, 160), np.int64)
    semantic[30:50, 20:140] = 1
    found = instance_masks(walked, rows, (80, 160), LabelsConfig(background_threshold=0.9), semantic)
    assert len(found.masks) == 2
    np.testing.assert_array_equal(found.masks.any(0), semantic > 0)
    assert len(instance_masks(walked, rows, (80, 160), LabelsConfig(), np.zeros_like(semantic)).masks) == 0


def test_the_crf_moves_labels_and_instances_to_the_image_s_edges(tiny_set, tmp_path) -> None:
    image = np.full((64, 96, 3), (40, 60, 50), np.uint8)
    image[:, 48:] = (210, 190, 60)
    Image.fromarray(image).save(tmp_path / "two.png")
    sample = replace(tiny_set.samples[0], image=tmp_path / "two.png", labels=(0,))
    scores = torch.zeros(1, 16, 24)
    scores[:, :, 11:] = 1  # one cell short of the edge, four pixels
    walk = tmp_path / "walk"
    walk.mkdir()
    for name in ("semantic", "instances"):
        save_maps(walk / f"{name}.safetensors", {sample.id: scores})
    (walk / "instances.json").write_text(json.dumps({sample.id: [0]}))
    left = {}
    for iterations in (0, 5):
        out = tmp_path / f"labels-{iterations}"
        job = Job(
            samples=(sample,),
            classes=tiny_set.classes,
            config=LabelsConfig(crf_iterations=iterations),
            out=out,
            scratch=tmp_path / "scratch",
            inputs={"walk": (walk,)},
        )
        synthesize_labels(job)
        maps = [read_label_map(out / kind / f"{sample.id}.png") for kind in ("SegmentationClass", "SegmentationObject")]
        np.testing.assert_array_equal(maps[0], maps[1])
        left[iterations] = np.nonzero(maps[0])[1].min()
    assert left[0] < 46
    assert left[5] == 48


@pytest.mark.parametrize("iterations", [0, 5])
def test_labels_are_unsure_between_two_thresholds(tiny_set, tmp_path, iterations) -> None:
    colors = np.repeat(np.uint8([(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 40)]), 32, axis=0)
    Image.fromarray(np.repeat(colors[None], 48, axis=0)).save(tmp_path / "four.png")
    sample = replace(tiny_set.samples[0], image=tmp_path / "four.png", labels=(1,))
    scores = torch.tensor([1.0, 0.4, 0.2, 0.01]).repeat_interleave(8).expand(1, 12, 32).contiguous()
    walk = tmp_path / "walk"
    walk.mkdir()
    for name in ("semantic", "instances"):
        save_maps(walk / f"{name}.safetensors", {sample.id: scores})
    (walk / "instances.json").write_text(json.dumps({sample.id: [0]}))
    config = LabelsConfig(background_threshold=0.3, crf_iterations=iterations, sure_thresholds=(0.1, 0.6))
    samples = (sample, replace(tiny_set.samples[1], image=tmp_path / "four.png", labels=()))
    folders = {"out": tmp_path / "out", "scratch": tmp_path / "scratch", "inputs": {"walk": (walk,)}}
    synthesize_labels(Job(samples=samples, classes=tiny_set.classes, config=config, **folders))
    maps = [
        read_label_map(tmp_path / "out" / kind / f"{sample.id}.png")
        for kind in ("SegmentationClass", "SegmentationSure")
    ]
    # In the middle of each stripe, where no upsampling and no CRF reaches.
    assert [list(found[24, 16::32]) for found in maps] == [[2, 2, 0, 0], [2, 255, 255, 0]]
    assert not read_label_map(tmp_path / "out/SegmentationSure" / f"{samples[1].id}.png").any()


def test_labels_have_the_image_s_size_and_classes_and_detections_fit_them(tiny_set, artifacts) -> None:
    folder = artifacts["labels"]
    detections = read_detections(folder / "instances.json")
    for sample in tiny_set.samples:
        labels = read_label_map(folder / "SegmentationClass" / f"{sample.id}.png")
        objects = read_label_map(folder / "SegmentationObject" / f"{sample.id}.png")
        assert labels.shape == objects.shape == image_size(sample.image)
        assert set(np.unique(labels)) <= {0, *(c + 1 for c in sample.labels)}
        own = [d for d in detections if d["image"] == sample.id]
        assert len(own) == len(np.unique(objects[objects > 0]))
        for number, detection in enumerate(own, start=1):
            assert detection["class"] in sample.labels
            assert np.array_equal(decode_mask(detection["segmentation"]).astype(bool), objects == number)


def test_upsampled_maps_are_cropped_to_the_image() -> None:
    assert upsample(torch.rand(2, 5, 4), (17, 14)).shape == (2, 17, 14)
    assert upsample(torch.rand(0, 5, 4), (17, 14)).shape == (0, 17, 14)


def test_no_class_means_background() -> None:
    rows, scores = strongest(torch.zeros(0, 3, 4), 0.1)
    assert rows.shape == (3, 4)
    assert not rows.any()
    assert not scores.any()


def perfect_labels(dataset: Dataset, folder: Path) -> None:
    """Write the ground truth as if the labels stage had found it."""
    from data.formats.coco import encode_mask, write_detections
    from data.formats.label_maps import write_label_map

    detections = []
    for sample in dataset.samples:
        truth = read_ground_truth(sample)
        assert truth.semantic is not None
        assert truth.instances is not None
        write_label_map(folder / "SegmentationClass" / f"{sample.id}.png", truth.semantic)
        sure = np.full_like(truth.semantic, 204)
        write_label_map(folder / "SegmentationConfidence" / f"{sample.id}.png", sure, grey=True)
        for number in np.unique(truth.instances[truth.instances > 0]):
            mask = truth.instances == number
            detections.append(
                {
                    "image": sample.id,
                    "class": int(truth.semantic[mask][0]) - 1,
                    "score": 0.9,
                    "segmentation": encode_mask(mask),
                }
            )
    write_detections(folder / "instances.json", detections)
    (folder / "settings.json").write_text(LabelsConfig().model_dump_json())


def test_perfect_labels_score_one_and_baselines_less(tiny_set, artifacts, run_stage, tmp_path, monkeypatch) -> None:
    known = replace(tiny_set, samples=tuple(s for s in tiny_set.samples if s.semantic and s.labels))
    perfect_labels(known, tmp_path)
    inputs = {**artifacts, "labels": tmp_path}

    def on_known(function):
        def call(job):
            return function(replace(job, samples=known.samples))

        call.__name__ = function.__name__
        return call

    config = ScoresConfig(cam_thresholds=(0.2, 0.4), crf_thresholds=(0.3,), component_thresholds=(0.3,))
    needed = {name: inputs[name] for name in ("cams", "walk", "labels")}
    scores = run_stage(on_known(score_shard), config, **needed)
    metrics_folder = run_stage(on_known(summarize), config, scores=scores)
    metrics = json.loads((metrics_folder / "metrics.json").read_text())
    assert metrics["semantic"]["labels"]["miou"] == 1
    assert metrics["confidence"]["accuracy"] == 1
    assert metrics["confidence"]["ece"] == pytest.approx(0.2)
    assert metrics["instances"]["labels"]["ap50"] == metrics["instances"]["labels"]["ap70"] == 1
    cam = metrics["semantic"]["cam"]
    assert cam["miou"] == max(cam["sweep"].values()) < 1
    assert cam["sweep"][str(cam["threshold"])] == cam["miou"]
    assert set(metrics["instances"]) >= {"cam_components", "boundary_components", "labels"}


def test_fields_of_images_that_are_padded_as_in_training_are_those_of_the_padded_image(
    tiny_set, run_stage, artifacts
) -> None:
    name, image = tiny_set.samples[0].id, read_image(tiny_set.samples[0].image)
    net = load_irnet(artifacts["irnet"])
    x = net.backbone.normalize(torch.tensor(image).permute(2, 0, 1)[None])
    found = {}
    for pad_to in (None, 96):
        folder = run_stage(infer_fields, FieldsConfig(pad_to=pad_to), irnet=artifacts["irnet"])
        found[pad_to] = load_file(folder / "displacement.safetensors")[name].float()
    expected = net.infer(x, pad_to=(96, 96))[1][0]
    torch.testing.assert_close(found[96], expected, atol=2e-2, rtol=1e-2)
    assert found[96].shape == found[None].shape == (2, *grid_size(image.shape[:2]))
    assert not torch.equal(found[96], found[None])


def test_baselines_of_instances_get_the_crf_where_the_labels_have_it() -> None:
    cams = torch.full((1, 16, 16), 0.1)
    cams[:, 4:12, 4:12] = 1
    moved = np.zeros((64, 64), np.int64)
    moved[20:60, 20:60] = 1
    asked = []

    def refine(maps, counts):
        asked.append((len(maps), list(counts)))
        return [moved] * len(maps)

    def found(refined):
        config = ScoresConfig(component_thresholds=(0.2, 0.4))
        predictions = _instance_predictions(cams, cams, refined, refine, (64, 64), LabelsConfig(), config)
        return {name: instances.masks for name, instances in predictions}

    assert all(np.array_equal(masks[0], moved == 1) for masks in found(moved).values())
    assert asked == [(2, [2, 2])]
    assert not any(np.array_equal(masks[0], moved == 1) for masks in found(None).values())
    assert len(asked) == 1


def test_label_maps_of_detections_show_the_sure_ones_alone(tiny_set, monkeypatch, tmp_path) -> None:
    sample = tiny_set.samples[0]
    size = image_size(sample.image)
    masks = np.zeros((3, *size), bool)
    masks[0, :8], masks[1, 4:16], masks[2, 20:] = True, True, True
    answer = (masks, np.array([0, 1, 2]), np.array([0.9, 0.5, 0.1], np.float32))
    monkeypatch.setattr(detector, "find_instances", lambda net, images, *_: [answer] * len(images))
    job = Job((sample,), tiny_set.classes, DetectionConfig(), tmp_path, tmp_path)
    assert detector.detect(None, job) == {"detections": 3}  # pyright: ignore[reportArgumentType]
    assert len(read_detections(tmp_path / "instances.json")) == 3
    for folder, values in (("SegmentationClass", {0, 1, 2}), ("SegmentationObject", {0, 1, 2})):
        labels = read_label_map(tmp_path / folder / f"{sample.id}.png")
        assert set(np.unique(labels)) == values
        assert (labels[:8] == labels[0, 0]).all()
        assert (labels[20:] == 0).all()
