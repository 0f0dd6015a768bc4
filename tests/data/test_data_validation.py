"""Damaged files are found by decoding; sets that work but train badly are warned of."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, CocoSource, Dataset, DatasetError, Problem, Sample
from data.formats.label_maps import write_label_map
from data.readers import open_dataset
from data.validation import can_be_set_aside, check_images, set_aside, warnings

SIZE = (10, 12)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four images with sound masks; the classes are cat (three images) and dog (two)."""
    samples = []
    for id, labels in (("a", (0,)), ("b", (0, 1)), ("c", (0, 1)), ("d", ())):
        image, semantic, instances = (tmp_path / f"{id}{suffix}" for suffix in (".jpg", "_class.png", "_object.png"))
        noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(noise).save(image)
        for file in (semantic, instances):
            write_label_map(file, np.asarray([0, 1, 2, 255], np.uint8)[np.arange(120).reshape(SIZE) % 4])
        samples.append(Sample(id, image, labels, semantic, instances))
    return Dataset(tmp_path, ClassTable(("cat", "dog")), tuple(samples))


def truncate(sample: Sample) -> None:
    sample.image.write_bytes(sample.image.read_bytes()[:400])


def empty(sample: Sample) -> None:
    sample.image.write_bytes(b"")


def write_text(sample: Sample) -> None:
    sample.image.write_text("image,labels\n")


def shrink_semantic(sample: Sample) -> None:
    assert sample.semantic
    write_label_map(sample.semantic, np.zeros((9, 12), np.uint8))


def shrink_instances(sample: Sample) -> None:
    assert sample.instances
    write_label_map(sample.instances, np.zeros((10, 11), np.uint8))


def use_other_value(sample: Sample) -> None:
    assert sample.semantic
    write_label_map(sample.semantic, np.full(SIZE, 3, np.uint8))


def damage_mask(sample: Sample) -> None:
    assert sample.semantic
    sample.semantic.write_bytes(sample.semantic.read_bytes()[:50])


def test_a_sound_set_has_no_problems(dataset: Dataset) -> None:
    assert check_images(dataset, 2) == []


@pytest.mark.parametrize(
    ("break_it", "file", "message"),
    [
        (truncate, "b.jpg", "expected an image, found"),
        (empty, "b.jpg", "expected an image, found an empty file"),
        (write_text, "b.jpg", "expected an image, found another kind of file"),
        (shrink_semantic, "b_class.png", "expected the size of b.jpg, 12 x 10, found 12 x 9"),
        (shrink_instances, "b_object.png", "expected the size of b.jpg, 12 x 10, found 11 x 10"),
        (use_other_value, "b_class.png", "expected values 0 to 2 and 255, found 3"),
        (damage_mask, "b_class.png", "expected a label map, found a damaged one"),
    ],
)
def test_a_bad_file_is_named(dataset: Dataset, break_it: Callable[[Sample], None], file: str, message: str) -> None:
    break_it(dataset.samples[1])
    (problem,) = check_images(dataset, 2)
    assert problem.file.name == file
    assert message in problem.message
    assert problem.sample == "b"


def test_all_problems_are_listed_in_the_order_of_the_samples(dataset: Dataset) -> None:
    for sample in dataset.samples:
        empty(sample)
    shrink_instances(dataset.samples[2])
    assert [problem.sample for problem in check_images(dataset, 3)] == ["a", "b", "c", "d"]


def test_a_coco_entry_of_another_size_is_a_problem(dataset: Dataset, tmp_path: Path) -> None:
    image = {"id": 4, "file_name": "a.jpg", "height": 30, "width": 12}
    file = tmp_path / "set.json"
    file.write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    sample = replace(dataset.samples[0], semantic=None, instances=None, coco=CocoSource(file, 4, (1, 2)))
    (problem,) = check_images(replace(dataset, samples=(sample,)), 1)
    assert problem.sample == "a"
    assert "its entry in set.json is 12 x 30, the image is 12 x 10" in problem.message


def test_setting_aside_keeps_the_other_samples(dataset: Dataset) -> None:
    truncate(dataset.samples[1])
    kept = set_aside(dataset, check_images(dataset, 1))
    assert kept.samples == (dataset.samples[0], *dataset.samples[2:])
    assert kept.classes == dataset.classes


@pytest.mark.parametrize(
    ("bad", "message"),
    [("abcd", "expected at least one usable image, found none"), ("abc", "none of the 1 images has any")],
)
def test_a_set_that_is_useless_without_its_bad_images_raises(dataset: Dataset, bad: str, message: str) -> None:
    problems = [Problem(dataset.root / id, "is bad", id) for id in bad]
    with pytest.raises(DatasetError, match=message) as caught:
        set_aside(dataset, problems)
    assert caught.value.problems[:-1] == problems


def test_images_without_labels_and_rare_classes_are_warned_of(dataset: Dataset) -> None:
    few = "classes with fewer than 8 images, which may not be learnt: cat, dog"
    tiny = "images of fewer than 48 pixels a side, too few to tell an object"
    assert warnings(dataset) == [few, "images without labels, taken for background only: 1", f"{tiny}: 4"]
    first, *_ = dataset.samples
    assert warnings(replace(dataset, samples=(first,))) == [
        "the set is one image alone",
        "classes with a single image: cat",
        f"{tiny}: 1",
    ]


def tagged(dataset: Dataset, *labels: tuple[int, ...]) -> Dataset:
    """Return a set with an image for each of the tags."""
    (first, *_) = dataset.samples
    samples = tuple(replace(first, id=f"{number:03d}", labels=each) for number, each in enumerate(labels))
    return replace(dataset, samples=samples)


def test_a_class_that_is_in_every_image_is_foretold(dataset: Dataset) -> None:
    both = tagged(dataset, *[(0, 1)] * 10, *[(0,)] * 10)
    assert "every image has cat: no classifier can find what is always there" in warnings(both)[0]
    alone = tagged(dataset, *[(0,)] * 10)
    assert "cat is the only class and every image has it" in warnings(alone)[0]
    assert "add images without it" in warnings(alone)[0]
    with_negatives = tagged(dataset, *[(0,)] * 10, *[()] * 10)
    assert not any("every image" in note for note in warnings(with_negatives))


def test_few_classes_without_images_that_have_none_are_foretold(dataset: Dataset) -> None:
    two = [(0,)] * 10 + [(1,)] * 10
    (note,) = (note for note in warnings(tagged(dataset, *two)) if "every image has one of" in note)
    assert note.startswith("every image has one of 2 classes: little tells objects from what is around them")
    assert not any("one of" in note for note in warnings(tagged(dataset, *two, ())))
    many = replace(dataset, classes=ClassTable(tuple("abcd")))
    four = [(number % 4,) for number in range(40)]
    assert not any("one of" in note for note in warnings(tagged(many, *four)))


def test_what_nearly_all_images_have_is_foretold(dataset: Dataset) -> None:
    (note, *_) = warnings(tagged(dataset, *[(0,)] * 39, ()))
    assert note.startswith("almost every image has cat, 39 of 40: little tells a classifier where it is not")
    assert not any("almost" in note for note in warnings(tagged(dataset, *[(0,)] * 35, *[()] * 5)))
    # Of few images a share says little.
    assert not any("almost" in note for note in warnings(tagged(dataset, *[(0,)] * 8, ())))
    two = [(0,)] * 10 + [(1,)] * 10
    notes = warnings(tagged(dataset, *two, ()))
    assert any(note.startswith("only 1 of 21 images lacks all 2 classes: little tells objects") for note in notes)
    assert not any("all 2 classes" in note for note in warnings(tagged(dataset, *two, *[()] * 5)))


def test_tags_that_are_always_together_are_foretold(dataset: Dataset) -> None:
    together = tagged(dataset, *[(0, 1)] * 10, *[()] * 10)
    assert "cat, dog are always together: no classifier can tell which is which" in warnings(together)[0]
    assert not any("together" in note for note in warnings(tagged(dataset, *[(0, 1)] * 10, *[(0,)] * 2, ())))


def test_a_class_that_hardly_comes_without_another_is_foretold(dataset: Dataset) -> None:
    boats, seas, lands = [(0, 1)] * 19, [(1,)] * 20, [()] * 20
    (note,) = (note for note in warnings(tagged(dataset, *boats, (0,), *seas, *lands)) if "without another" in note)
    told = "classes that hardly come without another: cat with dog (19 of its 20 images). The classifier may take one"
    assert note.startswith(told)
    assert not any("without another" in note for note in warnings(tagged(dataset, *boats, *[(0,)] * 4, *seas, *lands)))
    # Two that hardly come without each other are said once.
    both = [(0, 1)] * 28 + [(0,)] * 2 + [(1,)] * 2
    (note,) = (note for note in warnings(tagged(dataset, *both, *lands)) if "without another" in note)
    assert "cat with dog (28 of its 30 images). The" in note
    assert any("9 of its 9" in note for note in warnings(tagged(dataset, *boats[:9], *seas, *lands)))
    # Of few images a share says little, and what is in almost every image is named already.
    assert not any("without another" in note for note in warnings(tagged(dataset, *boats[:7], *seas, *lands)))
    assert not any("without another" in note for note in warnings(tagged(dataset, *boats, *seas, ())))


def test_strips_are_foretold(dataset: Dataset) -> None:
    (note,) = warnings(dataset, sizes=[(20, 1000), (1000, 126), (1000, 125)])[2:]
    assert note.startswith("images one of whose sides is at least 8 times the other: 2. ")


@pytest.mark.parametrize(("bad", "can"), [("d", True), ("abcd", False), ("abc", False)])
def test_what_can_be_set_aside_leaves_a_set(dataset: Dataset, bad: str, can: bool) -> None:
    assert can_be_set_aside(dataset, [Problem(dataset.root / id, "is bad", id) for id in bad]) is can


def test_the_same_image_with_two_tags_is_foretold(dataset: Dataset) -> None:
    digests = {"a": "1", "b": "1", "c": "2", "d": "3"}
    (note,) = (note for note in warnings(dataset, digests) if "same image" in note)
    assert note == "the same image has different tags: a (cat) and b (cat, dog)"
    assert not any("same image" in note for note in warnings(dataset, {"b": "1", "c": "1"}))


def test_copies_are_foretold_where_they_are_many(dataset: Dataset) -> None:
    twice = tagged(dataset, *[(0,)] * 20, *[(1,)] * 20, ())
    digests = {sample.id: sample.id for sample in twice.samples}
    assert not any("to the byte" in note for note in warnings(twice, digests | {"001": "000"}))
    (note,) = (
        note for note in warnings(twice, digests | dict.fromkeys(("001", "002", "003"), "000")) if "byte" in note
    )
    assert note.startswith("4 images equal another one to the byte: 000 and 001 and 002 and 003. Copies teach nothing")


def test_very_large_images_are_foretold(dataset: Dataset, tmp_path: Path) -> None:
    Image.new("L", (2400, 20)).save(tmp_path / "large.png")
    large = replace(dataset, samples=(replace(dataset.samples[0], image=tmp_path / "large.png"),))
    assert any("images of more than 2000 pixels a side: 1" in note for note in warnings(large))


def swapped(folder: Path, *, orders: Sequence[Sequence[int]], values: Sequence[int]) -> Dataset:
    """Write images with indexed masks of one value each, whose palettes have three colours in some order."""
    colours = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]
    (folder / "SegmentationClass").mkdir(parents=True)
    rows = ["image,labels"]
    for number, (order, value) in enumerate(zip(orders, values, strict=True)):
        Image.new("RGB", (8, 8)).save(folder / f"i{number}.png")
        mask = Image.fromarray(np.full((8, 8), value, np.uint8), "P")
        mask.putpalette([level for place in order for level in colours[place]])
        mask.save(folder / "SegmentationClass" / f"i{number}.png")
        rows.append(f"i{number},{'cat' if value == 1 else 'dog'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return open_dataset(folder)[0]


def test_masks_whose_palette_was_put_in_another_order_are_refused(tmp_path: Path) -> None:
    usual, other = (0, 1, 2), (0, 2, 1)
    dataset = swapped(tmp_path / "a", orders=[usual, usual, usual, other], values=[1, 2, 1, 2])
    (problem,) = check_images(dataset, 1)
    assert problem.sample == "i3"
    assert "the colour 255, 0, 0 is the value 1; here it is 2" in problem.message
    assert not check_images(swapped(tmp_path / "b", orders=[other] * 3, values=[1, 2, 1]), 1)
    # Void alone, and shorter palettes of the same order, are no matter.
    assert not check_images(swapped(tmp_path / "c", orders=[usual, usual, (0, 1)], values=[1, 2, 1]), 1)


def test_palettes_that_merely_differ_are_nothing_to_us(tmp_path: Path) -> None:
    dataset = swapped(tmp_path, orders=[(0, 1, 2), (0, 1, 2), (0, 1, 2)], values=[1, 2, 1])
    mask = Image.fromarray(np.full((8, 8), 1, np.uint8), "P")
    for palette in ([0, 0, 0, 9, 9, 9, 7, 7, 7], [0] * 9):
        mask.putpalette(palette)
        mask.save(tmp_path / "SegmentationClass" / "i0.png")
        assert not check_images(dataset, 1)
