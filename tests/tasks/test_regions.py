"""Labels that follow a segmenter's regions: the rule on drawn maps, and the stage on a tiny set."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from data.dataset import VOID, Dataset, Sample, SampleWithMore
from data.formats.coco import as_detections, decode_mask, read_detections, write_detections
from data.formats.images import image_size
from data.formats.label_maps import instance_map, read_label_map, write_label_map
from data.region_masks import Regions
from tasks.engine.job import Job
from tasks.pipeline import UNREFINED
from tasks.pipeline.regions.instances import Found, follow_regions
from tasks.pipeline.regions.labels import refine_confidence, refine_labels, refine_sure
from tasks.pipeline.regions.rule import Refined, refine_by_regions
from tasks.pipeline.score_maps import save_maps
from tasks.pipeline.settings import LabelsConfig, RegionsConfig

SIZE = (12, 20)
CAT, DOG = 1, 2
KINDS = ("SegmentationClass", "SegmentationObject", "SegmentationConfidence")


def box(rows: slice, columns: slice, value: int = 1) -> NDArray[np.uint8]:
    found = np.zeros(SIZE, np.uint8)
    found[rows, columns] = value
    return found


def refine(labels: NDArray[np.uint8], *masks: NDArray, config: RegionsConfig | None = None) -> Refined:
    made = [mask.astype(bool) for mask in masks]
    return refine_by_regions(labels, Regions(SIZE, len(made), made.__getitem__), config or RegionsConfig())


OBJECT = box(slice(2, 10), slice(2, 8))
PARTLY = box(slice(2, 10), slice(2, 6), CAT)


def test_a_region_takes_the_class_that_covers_more_than_the_share_of_it() -> None:
    refined = refine(PARTLY, OBJECT)
    np.testing.assert_array_equal(refined.labels, OBJECT * CAT)
    (claim,) = refined.claims
    assert (claim.region, claim.value, claim.area, claim.held) == (0, CAT, 48, False)
    assert claim.cover == pytest.approx(32 / 48)
    stays = refine(PARTLY, OBJECT, config=RegionsConfig(least_cover=0.7, least_cover_held=1.0))
    np.testing.assert_array_equal(stays.labels, PARTLY)


def test_without_regions_and_in_what_no_region_holds_labels_stay() -> None:
    labels = PARTLY + box(slice(4, 9), slice(14, 18), DOG)
    np.testing.assert_array_equal(refine(labels).labels, labels)
    np.testing.assert_array_equal(refine(labels, box(slice(0, 0), slice(0, 0))).labels, labels)
    np.testing.assert_array_equal(refine(labels, OBJECT).labels, OBJECT * CAT + box(slice(4, 9), slice(14, 18), DOG))


def test_an_object_follows_the_regions_that_hold_enough_of_it_and_stays_whole_otherwise() -> None:
    spilt = np.maximum(PARTLY, box(slice(2, 4), slice(2, 10), CAT))
    np.testing.assert_array_equal(refine(spilt, OBJECT).labels, OBJECT * CAT)
    np.testing.assert_array_equal(refine(spilt, box(slice(0, 12), slice(8, 20))).labels, spilt)
    ear = box(slice(2, 4), slice(2, 5))
    np.testing.assert_array_equal(refine(spilt, ear).labels, spilt)
    np.testing.assert_array_equal(refine(spilt, ear, config=RegionsConfig(least_follow=0.1)).labels, ear * CAT)
    stays = refine(spilt, OBJECT, config=RegionsConfig(least_follow=1.0))
    np.testing.assert_array_equal(stays.labels, np.maximum(OBJECT, spilt > 0) * CAT)


def test_a_region_that_holds_an_object_takes_its_class_if_the_object_is_a_fifth_of_it() -> None:
    head = box(slice(2, 6), slice(2, 6), CAT)
    refined = refine(head, OBJECT)
    np.testing.assert_array_equal(refined.labels, OBJECT * CAT)
    assert refined.claims[0].held
    meadow = box(slice(0, 12), slice(0, 14))
    np.testing.assert_array_equal(refine(head, meadow).labels, head)
    half_outside = box(slice(2, 6), slice(2, 12), CAT)
    np.testing.assert_array_equal(refine(half_outside, OBJECT).labels, half_outside)


def test_of_regions_that_hold_an_object_the_smallest_takes_it_and_none_where_it_is_taken() -> None:
    head = box(slice(2, 6), slice(2, 6), CAT)
    larger = box(slice(1, 11), slice(1, 9))
    refined = refine(head, larger, OBJECT)
    np.testing.assert_array_equal(refined.labels, OBJECT * CAT)
    assert [claim.region for claim in refined.claims] == [1]
    np.testing.assert_array_equal(refine(head, OBJECT, head).labels, head)


def test_a_region_of_two_classes_and_one_of_the_whole_image_take_none() -> None:
    labels = PARTLY + box(slice(2, 10), slice(6, 8), DOG)
    np.testing.assert_array_equal(refine(labels, OBJECT).labels, labels)
    most = box(slice(0, 12), slice(0, 14), CAT)
    np.testing.assert_array_equal(refine(most, np.ones(SIZE)).labels, most)
    whole = RegionsConfig(largest=1.0)
    np.testing.assert_array_equal(refine(most, np.ones(SIZE), config=whole).labels, np.full(SIZE, CAT))


def test_of_overlapping_regions_the_smaller_decides_and_of_equal_ones_that_with_the_larger_cover() -> None:
    labels = box(slice(0, 8), slice(0, 10), CAT) + box(slice(8, 12), slice(0, 10), DOG)
    large, small = box(slice(0, 10), slice(0, 10)), box(slice(7, 12), slice(0, 10))
    for masks in ((large, small), (small, large)):
        np.testing.assert_array_equal(refine(labels, *masks).labels[7:12, :10], np.full((5, 10), DOG))
    first, second = box(slice(0, 8), slice(0, 10)), box(slice(4, 12), slice(0, 10))
    both = box(slice(0, 7), slice(0, 10), CAT) + box(slice(7, 12), slice(0, 10), DOG)
    for masks in ((first, second), (second, first)):
        np.testing.assert_array_equal(refine(both, *masks).labels[4:8, 0], np.full(4, CAT))


@pytest.mark.parametrize("seed", range(8))
def test_no_image_gets_a_class_or_loses_one_whatever_its_regions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, (3, 5)), np.ones((4, 4), int)).astype(np.uint8)
    masks = [np.kron(rng.random((6, 10)) < rng.random(), np.ones((2, 2), bool)) for _ in range(12)]
    refined = refine(labels, *masks)
    assert set(np.unique(refined.labels)) | {0} == set(np.unique(labels)) | {0}
    values = np.array([0, *(claim.value for claim in refined.claims)])
    decided = refined.owners > 0
    np.testing.assert_array_equal(refined.labels[decided], values[refined.owners][decided])
    present = np.unique(labels[labels > 0])
    found = Found(labels == present[:, None, None], present.tolist(), [0.5] * len(present))
    after = follow_regions(found, refined, 0)
    assert after.masks.sum(0).max(initial=0) <= 1
    for mask, value in zip(after.masks, after.values, strict=True):
        assert (refined.labels[mask] == value).all()
    assert after.scores == sorted(after.scores, reverse=True)


def instances(*masks: NDArray, values: list[int] | None = None) -> Found:
    scores = [0.9 - 0.1 * number for number in range(len(masks))]
    return Found(np.array(masks, bool), values or [CAT] * len(masks), scores)


def test_an_instance_has_the_pixels_of_its_region() -> None:
    other = box(slice(4, 9), slice(14, 18), DOG)
    refined = refine(PARTLY + other, OBJECT)
    after = follow_regions(instances(PARTLY, other, values=[CAT, DOG]), refined, 0)
    np.testing.assert_array_equal(after.masks, np.stack([OBJECT, other > 0]))
    assert (after.values, after.scores) == ([CAT, DOG], [0.9, pytest.approx(0.8)])


def test_fragments_of_a_region_are_one_instance_and_large_parts_stay_two() -> None:
    main, fragment = box(slice(2, 10), slice(2, 6)), box(slice(2, 4), slice(7, 8))
    refined = refine((main + fragment).astype(np.uint8), OBJECT)
    after = follow_regions(instances(main, fragment), refined, 0)
    np.testing.assert_array_equal(after.masks, OBJECT[None])
    above, below = box(slice(2, 5), slice(2, 8)), box(slice(6, 10), slice(2, 8))
    refined = refine(above + below, OBJECT)
    after = follow_regions(instances(above, below), refined, 0)
    assert len(after.masks) == 2
    np.testing.assert_array_equal(after.masks.sum(0), OBJECT)
    assert (after.masks[0] >= above).all()


def test_an_instance_of_two_regions_is_split_but_not_by_a_part_of_one_region() -> None:
    both = box(slice(2, 10), slice(2, 14))
    left, right = box(slice(2, 10), slice(2, 8)), box(slice(2, 10), slice(8, 14))
    thirds = [box(slice(2, 10), slice(start, start + 4)) for start in (2, 6, 10)]
    np.testing.assert_array_equal(follow_regions(instances(both), refine(both, *thirds), 0).masks, both[None])
    after = follow_regions(instances(both), refine(both, left, right), 0)
    assert {mask.tobytes() for mask in after.masks} == {(mask > 0).tobytes() for mask in (left, right)}
    assert after.scores == [0.9, 0.9]
    whole = follow_regions(instances(both), refine(both, both, right), 0)
    np.testing.assert_array_equal(whole.masks, both[None])


def test_a_region_without_an_instance_becomes_one_unless_it_is_small() -> None:
    refined = refine(PARTLY, OBJECT)
    after = follow_regions(instances(), refined, 48)
    np.testing.assert_array_equal(after.masks, OBJECT[None])
    assert after.scores == [pytest.approx(32 / 48)]
    assert not len(follow_regions(instances(), refined, 49).masks)


def test_confidence_of_what_changed_is_the_cover_and_of_the_rest_stays() -> None:
    spilt = np.maximum(PARTLY, box(slice(2, 4), slice(2, 10), CAT))
    refined = refine(spilt, OBJECT)
    confidence = refine_confidence(np.full(SIZE, 77, np.uint8), spilt, refined)
    assert set(confidence[spilt == refined.labels]) == {77}
    assert set(confidence[(OBJECT > 0) & (spilt == 0)]) == {round(255 * 36 / 48)}
    assert set(confidence[(OBJECT == 0) & (spilt > 0)]) == {round(255 * 36 / 40)}


def test_what_changed_is_void_but_in_regions_that_were_covered() -> None:
    head = box(slice(2, 6), slice(2, 6), CAT)
    other = box(slice(2, 10), slice(12, 16), DOG)
    dog = box(slice(2, 10), slice(12, 18))
    labels = head + other
    refined = refine(labels, OBJECT, dog)
    sure = labels.copy()
    sure[2:6, 4:6] = VOID
    found = refine_sure(sure, labels, refined)
    np.testing.assert_array_equal(found[dog > 0], np.full(48, DOG))
    assert set(found[(OBJECT > 0) & (head == 0)]) == {VOID}
    np.testing.assert_array_equal(found[2:6, 2:6], sure[2:6, 2:6])
    sure[head > 0] = VOID
    assert 0 not in refine_sure(sure, labels, refined)


def with_regions(dataset: Dataset, folder: Path, draw) -> Dataset:
    """Give each labelled image the map of ids that `draw` makes of it."""
    folder.mkdir()
    samples: list[Sample] = []
    for sample in dataset.samples:
        if sample.labels:
            Image.fromarray(draw(sample)).save(folder / f"{sample.id}.png")
            known = {name: getattr(sample, name) for name in Sample.__dataclass_fields__}
            sample = SampleWithMore(**known, regions=folder / f"{sample.id}.png")
        samples.append(sample)
    return replace(dataset, samples=tuple(samples))


@pytest.fixture(scope="module")
def before(tiny_set: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Artifacts of labels, which are blobs of the tags, and of the walk, of which ids alone count."""
    labels, walk = (tmp_path_factory.mktemp(name) for name in ("labels", "walk"))
    detections = []
    for number, sample in enumerate(tiny_set.samples):
        size = image_size(sample.image)
        noise = cv2.GaussianBlur(np.random.default_rng(number).random(size), (0, 0), 4)
        column = np.arange(size[1]) * len(sample.labels) // size[1]
        masks = [(noise > 0.5) & (column == place) for place in range(len(sample.labels))]
        values = np.array([c + 1 for c in sample.labels], np.uint8)
        drawn = sum((mask * value for mask, value in zip(masks, values, strict=True)), np.zeros(size, np.uint8))
        write_label_map(labels / KINDS[0] / f"{sample.id}.png", drawn.astype(np.uint8))
        write_label_map(labels / KINDS[1] / f"{sample.id}.png", instance_map(np.array(masks, bool).reshape(-1, *size)))
        write_label_map(labels / KINDS[2] / f"{sample.id}.png", np.full(size, 200, np.uint8), grey=True)
        detections += as_detections(sample.id, masks, sample.labels, [0.5] * len(masks))
    write_detections(labels / "instances.json", detections)
    (labels / "settings.json").write_text(LabelsConfig().model_dump_json())
    save_maps(walk / "semantic.safetensors", {s.id: torch.zeros(1, 1, 1) for s in tiny_set.samples if s.labels})
    return {UNREFINED: labels, "walk": walk}


def run(dataset: Dataset, out: Path, before: dict[str, Path]) -> tuple[Path, dict]:
    out.mkdir()
    inputs = {name: (folder,) for name, folder in before.items()}
    job = Job(dataset.samples, dataset.classes, RegionsConfig(), out, out, inputs=inputs)
    return out, refine_labels(job)


def test_where_regions_are_silent_the_stage_writes_the_labels_that_were(tiny_set, before, tmp_path: Path) -> None:
    silent = with_regions(tiny_set, tmp_path / "regions", lambda sample: np.zeros(image_size(sample.image), np.uint8))
    folder, summary = run(silent, tmp_path / "out", before)
    labels = before[UNREFINED]
    for sample in tiny_set.samples:
        for kind in KINDS:
            name = f"{kind}/{sample.id}.png"
            np.testing.assert_array_equal(read_label_map(folder / name), read_label_map(labels / name))
    assert (summary["regions"], summary["taken"], summary["moved_share"]) == (0, 0, 0)
    assert read_detections(folder / "instances.json") == read_detections(labels / "instances.json")
    assert (folder / "settings.json").read_text() == (labels / "settings.json").read_text()
    assert summary["tags"] == {c: sum(c in s.labels for s in tiny_set.samples) for c in summary["tags"]}


def test_the_stage_brings_labels_instances_and_the_map_of_regions_to_the_regions(tiny_set, before, tmp_path) -> None:
    unrefined = before[UNREFINED] / "SegmentationClass"

    def blocks(sample: Sample) -> NDArray[np.uint8]:
        labels = read_label_map(unrefined / f"{sample.id}.png")
        rows, columns = (np.arange(side) // 8 for side in labels.shape)
        return (1 + rows[:, None] * 10 + columns).astype(np.uint8)

    dataset = with_regions(tiny_set, tmp_path / "regions", blocks)
    folder, summary = run(dataset, tmp_path / "out", before)
    assert summary["taken"] > 0
    found = {sample.id: [] for sample in dataset.samples}
    for detection in read_detections(folder / "instances.json"):
        found[detection["image"]].append(detection)
    for sample in dataset.samples:
        labels, objects = (read_label_map(folder / kind / f"{sample.id}.png") for kind in KINDS[:2])
        assert set(np.unique(labels)) <= {0, *(c + 1 for c in sample.labels)}
        assert objects.max(initial=0) == len(found[sample.id])
        for detection in found[sample.id]:
            assert (labels[decode_mask(detection["segmentation"])] == detection["class"] + 1).all()
        if sample.labels:
            taken, ids = read_label_map(folder / "Regions" / f"{sample.id}.png"), blocks(sample)
            assert all(len(np.unique(ids[taken == number])) == 1 for number in np.unique(taken[taken > 0]))
            assert all(len(np.unique(labels[ids == id])) == 1 for id in np.unique(ids[taken > 0]))
    assert json.dumps(summary)
