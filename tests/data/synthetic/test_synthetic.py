"""The synthetic set: a function of its seed, consistent with itself, and as hard as it claims to be."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data.formats.label_maps import VOC_PALETTE
from data.synthetic.dataset import draw_scene, write_synthetic
from data.synthetic.shapes import SHAPES, Placement

SIZE = (128, 160)
NUM_TRAIN, NUM_VAL = 60, 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder, num_images=NUM_TRAIN, num_val=NUM_VAL, seed=3)
    return folder


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_ids(root: Path, split: str) -> list[str]:
    return (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()


def read_maps(root: Path, image_id: str) -> tuple[np.ndarray, np.ndarray]:
    semantic, instances = (
        np.asarray(Image.open(root / folder / f"{image_id}.png"))
        for folder in ("SegmentationClass", "SegmentationObject")
    )
    return semantic, instances


def holds_touching_pair(semantic: np.ndarray, instances: np.ndarray) -> bool:
    for first in range(1, instances.max() + 1):
        grown = ndimage.binary_dilation(instances == first, np.ones((3, 3)), iterations=2)
        neighbours = grown & (instances > first) & (semantic == semantic[instances == first][0])
        if neighbours.any():
            return True
    return False


def test_the_same_seed_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, num_images=NUM_TRAIN, num_val=NUM_VAL, seed=3)
    assert files_below(tmp_path) == files_below(root)


def test_another_seed_gives_other_images(root: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, num_images=2, seed=4)
    for name in ("train_00000", "train_00001"):
        file = f"JPEGImages/{name}.jpg"
        assert (tmp_path / file).read_bytes() != (root / file).read_bytes()


def test_more_images_leave_the_first_ones_as_they_are(root: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, num_images=5, num_val=2, seed=3)
    smaller, larger = files_below(tmp_path), files_below(root)
    pictures = [name for name in smaller if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 3 * (5 + 2)
    assert all(smaller[name] == larger[name] for name in pictures)
    assert larger["labels.csv"].startswith(smaller["labels.csv"].split(b"val_")[0])


def test_the_lists_name_every_image_once_and_validation_images_are_new(root: Path) -> None:
    train, val = read_ids(root, "train"), read_ids(root, "val")
    assert (len(train), len(val)) == (NUM_TRAIN, NUM_VAL)
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        assert sorted(path.stem for path in (root / folder).iterdir()) == sorted(train + val)
    pictures = {(root / "JPEGImages" / f"{image_id}.jpg").read_bytes() for image_id in train + val}
    assert len(pictures) == NUM_TRAIN + NUM_VAL


def test_images_and_maps_have_the_size_asked_for(tmp_path: Path) -> None:
    write_synthetic(tmp_path, num_images=3, seed=0, size=(48, 75))
    for image_id in read_ids(tmp_path, "train"):
        with Image.open(tmp_path / "JPEGImages" / f"{image_id}.jpg") as image:
            assert (image.mode, image.height, image.width) == ("RGB", 48, 75)
        assert [m.shape for m in read_maps(tmp_path, image_id)] == [(48, 75), (48, 75)]


def test_maps_are_palette_images_in_the_colours_of_voc(root: Path) -> None:
    for folder in ("SegmentationClass", "SegmentationObject"):
        with Image.open(root / folder / "train_00000.png") as image:
            assert image.mode == "P"
            palette = np.array(image.getpalette()).reshape(-1, 3)
        np.testing.assert_array_equal(palette, VOC_PALETTE[: len(palette)])


def test_image_labels_are_the_classes_of_the_maps(root: Path) -> None:
    names = (root / "classes.txt").read_text().split()
    assert names == [shape.name for shape in SHAPES]
    with (root / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == read_ids(root, "train") + read_ids(root, "val")
    for row in rows:
        values = np.unique(read_maps(root, row["image"])[0])
        assert row["labels"] == ";".join(names[value - 1] for value in values if value)


def test_every_instance_has_one_class_and_is_large_enough(root: Path) -> None:
    for image_id in read_ids(root, "train"):
        semantic, instances = read_maps(root, image_id)
        np.testing.assert_array_equal(semantic > 0, instances > 0)
        assert set(np.unique(instances)) - {0} == set(range(1, instances.max() + 1))
        for instance in range(1, instances.max() + 1):
            assert len(np.unique(semantic[instances == instance])) == 1
            assert (instances == instance).mean() >= 0.015


def test_the_set_is_as_mixed_as_it_claims() -> None:
    classes, counts, touches = np.zeros(len(SHAPES), int), [], []
    for index in range(150):
        _, semantic, instances = draw_scene(np.random.default_rng([9, index]), SIZE, index % len(SHAPES))
        present = np.unique(semantic)[1:] - 1 if instances.any() else np.array([], int)
        assert len(present) <= 2
        classes[present] += 1
        counts.append(int(instances.max()))
        touches.append(holds_touching_pair(semantic, instances))
    assert 0.35 <= np.mean(touches) <= 0.55
    assert set(counts) == {0, 1, 2, 3, 4}
    assert 0 < counts.count(0) <= 15
    assert classes.min() >= 0.7 * classes.max()


def test_the_image_changes_at_the_edge_of_its_objects() -> None:
    """The masks lie on what is drawn: across their outline colours differ more than within the ground."""
    across, within = [], []
    for index in range(20):
        image, _, instances = draw_scene(np.random.default_rng([5, index]), SIZE, index % len(SHAPES))
        jump = np.abs(np.diff(image.astype(float), axis=1)).mean(axis=2)
        left, right = instances[:, :-1], instances[:, 1:]
        across.append(jump[left != right])
        within.append(jump[(left == 0) & (right == 0)])
    assert np.concatenate(across).mean() > 2 * np.concatenate(within).mean()


def test_colour_hints_at_the_class_but_does_not_tell_it() -> None:
    """The nearest class mean is right more often than chance, and far from always."""
    colours: list[list[np.ndarray]] = [[] for _ in SHAPES]
    for index in range(100):
        image, semantic, instances = draw_scene(np.random.default_rng([6, index]), SIZE, index % len(SHAPES))
        for instance in range(1, instances.max() + 1):
            mask = instances == instance
            colours[semantic[mask][0] - 1].append(image[mask].mean(axis=0))
    means = np.array([np.mean(group, axis=0) for group in colours])
    right = [
        np.linalg.norm(means - colour, axis=1).argmin() == kind
        for kind, group in enumerate(colours)
        for colour in group
    ]
    assert 0.4 < np.mean(right) < 0.75


@pytest.mark.parametrize("kind", range(len(SHAPES)), ids=[shape.name for shape in SHAPES])
def test_the_distance_of_a_shape_grows_by_a_pixel_a_pixel_across_its_edge(kind: int) -> None:
    placement = Placement(kind, (64.0, 80.0), 30.0, 0.4, SIZE)
    slope = np.hypot(*np.gradient(placement.distance))
    edge = np.abs(placement.distance) < 1
    # Corners alone may deviate, where two edges meet.
    assert np.mean(np.abs(slope[edge] - 1) < 0.02) > 0.85
    assert 0.6 < placement.mask.sum() / (np.pi * 30**2) < 1.2


def test_clearance_is_half_the_gap_of_two_discs() -> None:
    first = Placement(0, (60.0, 40.0), 20.0, 0.0, SIZE)
    assert first.clearance(Placement(0, (60.0, 100.0), 30.0, 0.0, SIZE)) == pytest.approx(5, abs=0.6)
    assert first.clearance(Placement(0, (60.0, 84.0), 30.0, 0.0, SIZE)) == pytest.approx(-3, abs=0.6)


@pytest.mark.parametrize("bad", [{"num_images": -1}, {"num_val": -1}, {"size": (31, 64)}])
def test_impossible_sizes_are_refused_before_anything_is_written(bad: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected num_images >= 0"):
        write_synthetic(tmp_path / "set", **({"num_images": 1, "seed": 0} | bad))
    assert not (tmp_path / "set").exists()
