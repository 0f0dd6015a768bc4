"""Instance targets from both kinds of labels, through augmentation, to what the network is trained with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset import CocoSource, DatasetError, Sample
from data.formats import coco
from data.formats.images import read_image
from data.formats.label_maps import write_label_map
from tasks.networks.stages.detection import _refuse_without_objects
from tasks.networks.stages.instance_targets import Instances, jitter, read_instances, target

SIZE = (10, 12)


def rectangle(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def coco_sample(root: Path, annotations: list[dict], size: tuple[int, int] = SIZE, orientation: int = 1) -> Sample:
    """One image of 12 x 10 stored pixels, its entry of `size` (H, W); category 18 is class 0, 17 class 1."""
    stored = np.zeros((*SIZE, 3), np.uint8)
    stored[:3, :4] = 255
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(stored).save(root / "a.png", exif=tags)
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "annotations": [{"id": id, "image_id": 7, **record} for id, record in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": str(number)} for number in (17, 18, 99)],
    }
    (root / "set.json").write_text(json.dumps(content))
    return Sample("a", root / "a.png", (0,), coco=CocoSource(root / "set.json", 7, (18, 17)))


def record(category: int, mask: np.ndarray, **more: object) -> dict:
    return {"category_id": category, "segmentation": coco.encode_mask(mask), **more}


def map_sample(root: Path, semantic: np.ndarray, instances: np.ndarray) -> Sample:
    Image.new("RGB", SIZE[::-1]).save(root / "a.png")
    write_label_map(root / "a_class.png", semantic)
    write_label_map(root / "a_object.png", instances)
    return Sample("a", root / "a.png", (0,), root / "a_class.png", root / "a_object.png")


def test_detections_under_the_score_crowds_and_other_categories_are_ignored(tmp_path: Path) -> None:
    masks = [rectangle(0, k, 5, k + 4) for k in range(6)]
    annotations = [
        record(17, masks[0], score=0.5),
        record(18, masks[1], score=0.4),
        record(18, masks[2]),
        record(18, masks[3], iscrowd=1),
        record(99, masks[4], score=0.9),
        record(18, np.zeros(SIZE, bool)),
        record(99, np.zeros(SIZE, bool)),
    ]
    sample = coco_sample(tmp_path, annotations)
    found = read_instances(sample, 2, min_score=0.5)
    # They overlap, and each is whole.
    np.testing.assert_array_equal(found.masks, [masks[0], masks[2]])
    np.testing.assert_array_equal(found.ignored, [masks[1], masks[3], masks[4]])
    assert found.classes.tolist() == [1, 0]
    assert read_instances(sample, 2).classes.tolist() == [1, 0, 0]


@pytest.mark.parametrize("orientation", [6, 5])
def test_masks_of_a_photograph_on_its_side_are_turned_with_it(tmp_path: Path, orientation: int) -> None:
    sample = coco_sample(tmp_path, [record(17, rectangle(0, 0, 3, 4))], orientation=orientation)
    (mask,) = read_instances(sample, 2).masks
    np.testing.assert_array_equal(mask, read_image(sample.image)[..., 0] == 255)


def test_objects_of_maps_have_the_class_of_most_of_their_pixels_and_void_is_none(tmp_path: Path) -> None:
    instances = np.zeros(SIZE, np.uint8)
    instances[1:5, 1:5], instances[6:9, 2:8], instances[0], instances[:, 11] = 3, 1, 255, 255
    semantic = np.where(instances == 3, 2, instances).astype(np.uint8)
    semantic[1, 1:5] = 1
    found = read_instances(map_sample(tmp_path, semantic, instances), 2)
    np.testing.assert_array_equal(found.masks, [instances == 1, instances == 3])
    assert found.classes.tolist() == [0, 1]
    assert found.ignored.shape == (0, *SIZE)


def test_an_image_without_labels_has_no_objects_and_one_with_labels_needs_masks(tmp_path: Path) -> None:
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    untagged = replace(coco_sample(tmp_path, []), labels=())
    for found in (read_instances(Sample("a", tmp_path / "a.png", ()), 2), read_instances(untagged, 2)):
        assert found.masks.shape == found.ignored.shape == (0, *SIZE)
        assert target(found)["boxes"].shape == (0, 4)
    with pytest.raises(DatasetError, match=r"a\.png: expected maps of classes and of instances"):
        read_instances(Sample("a", tmp_path / "a.png", (1,)), 2)


@pytest.mark.parametrize("annotations", [[], [record(18, np.zeros(SIZE, bool))]])
def test_an_image_whose_tags_have_no_instance_is_not_taught_as_background(tmp_path: Path, annotations: list) -> None:
    found = read_instances(coco_sample(tmp_path, annotations), 2)
    assert not len(found.classes)
    assert target(found)["ignored"].tolist() == [[0, 0, SIZE[1], SIZE[0]]]


def test_masks_of_another_size_than_their_image_are_named_with_both_sizes(tmp_path: Path) -> None:
    sample = coco_sample(tmp_path, [record(17, rectangle(0, 0, 2, 2, (9, 12)))])
    with pytest.raises(
        DatasetError, match=r"set\.json: .* image 7 \(a\.png\), but annotation 1: a mask is \[9, 12\], .* \[10, 12\]"
    ):
        read_instances(sample, 2)
    sample = coco_sample(tmp_path, [record(17, rectangle(0, 0, 2, 2, (9, 12)))], size=(9, 12))
    with pytest.raises(DatasetError, match=r"a\.png: its entry in set\.json is 12 x 9, the image is 12 x 10"):
        read_instances(sample, 2)
    one = np.ones(SIZE, np.uint8)
    for maps, name in (((one, one[1:]), "a_object"), ((one[:, 1:], one), "a_class")):
        with pytest.raises(DatasetError, match=rf"{name}\.png: expected the size of a\.png, 12 x 10, found 1[12] x"):
            read_instances(map_sample(tmp_path, *maps), 2)


@pytest.mark.parametrize(("value", "message"), [(3, "expected values 0 to 2 and 255, found 3"), (0, "no|none")])
def test_a_class_outside_the_table_and_an_object_without_one_are_named(
    tmp_path: Path, value: int, message: str
) -> None:
    instances = rectangle(0, 0, 4, 4).astype(np.uint8)
    with pytest.raises(DatasetError, match=rf"a_(class|object)\.png: .*{message}"):
        read_instances(map_sample(tmp_path, instances * np.uint8(value), instances), 2)


def scene(size: tuple[int, int]) -> tuple[np.ndarray, Instances]:
    """Two objects and an ignored region that the image shows in colours of their own."""
    height, width = size
    masks = np.stack(
        [
            rectangle(0, 0, height // 2, width // 3, size),
            rectangle(height // 2, width // 2, height, width, size),
            rectangle(0, 2 * width // 3, height // 3, width, size),
        ]
    )
    image = np.full((*size, 3), 20, np.uint8)
    image[masks[0], 0] = image[masks[1], 1] = image[masks[2], 2] = 220
    return image, Instances(masks[:2], np.array([4, 9]), masks[2:])


@pytest.mark.parametrize("size", [(40, 60), (20, 30), (70, 24)])
def test_image_and_masks_are_jittered_alike_and_what_vanishes_is_dropped(size: tuple[int, int]) -> None:
    image, instances = scene(size)
    numbers, areas, is_mirrored = set(), set(), set()
    for seed in range(24):
        crop, found = jitter(image, instances, (0.5, 2.0), 32, np.random.default_rng(seed))
        assert crop.shape == (32, 32, 3)
        assert found.masks.shape[1:] == found.ignored.shape[1:] == (32, 32)
        channels = [{4: 0, 9: 1}[number] for number in found.classes.tolist()] + [2] * len(found.ignored)
        for mask, channel in zip([*found.masks, *found.ignored], channels, strict=True):
            assert mask.any()
            # Cubic resizing mixes the pixels next to an edge; nearest does not.
            assert ((crop[..., channel] > 120) != mask).mean() < 0.06
        for channel in {0, 1, 2} - set(channels):
            assert (crop[..., channel] > 120).mean() < 0.06
        numbers.add(len(channels))
        areas.add(int(found.masks.sum()))
        if found.classes.tolist() == [4, 9]:
            first, second = (mask.any(axis=0).argmax() for mask in found.masks)
            is_mirrored.add(bool(first > second))
    assert len(areas) > 12
    assert is_mirrored == {False, True}
    if min(size) > 32:
        assert len(numbers) > 1


def test_jitter_repeats_with_the_generator_and_at_full_size_changes_nothing_but_the_side() -> None:
    image, instances = scene((32, 32))
    first, again = (jitter(image, instances, (0.5, 2.0), 32, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1].masks, again[1].masks)
    for seed in range(4):
        crop, found = jitter(image, instances, (1.0, 1.0), 32, np.random.default_rng(seed))
        mirrored = not np.array_equal(crop, image)
        np.testing.assert_array_equal(crop, image[:, ::-1] if mirrored else image)
        np.testing.assert_array_equal(found.masks, instances.masks[..., ::-1] if mirrored else instances.masks)


def test_targets_are_boxes_with_exclusive_ends_and_labels_from_1() -> None:
    masks = np.stack([rectangle(2, 3, 4, 9), rectangle(9, 11, 10, 12)])
    ring = rectangle(1, 1, 6, 7) & ~rectangle(2, 2, 5, 6)
    made = target(Instances(masks, np.array([0, 5]), ring[None]))
    assert made["boxes"].tolist() == [[3, 2, 9, 4], [11, 9, 12, 10]]
    assert made["ignored"].tolist() == [[1, 1, 7, 6]]
    assert made["labels"].tolist() == [1, 6]
    assert made["labels"].dtype == torch.int64
    assert made["masks"].dtype == torch.uint8
    np.testing.assert_array_equal(made["masks"].numpy(), masks)
    assert made["boxes"].dtype == made["ignored"].dtype == torch.float32


def test_images_without_any_object_are_refused_for_a_training(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = coco_sample(tmp_path / "empty", [])
    known = coco_sample(tmp_path, [record(18, rectangle(1, 1, 5, 5), score=0.5)])
    _refuse_without_objects((), 2, 0.0, "training")
    _refuse_without_objects((empty, known), 2, 0.0, "training")
    for samples, min_score in (((empty, empty), 0.0), ((known,), 0.9)):
        with pytest.raises(DatasetError, match="expected validation images with an object, found none in all"):
            _refuse_without_objects(samples, 2, min_score, "validation")
