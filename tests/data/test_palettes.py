"""Indexed label maps whose colours are in another order than in the other files of a set are refused, wherever read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import DatasetError
from data.formats import label_maps
from data.formats.label_maps import VOC_PALETTE, Indexed, palette_problems, swapped_colours, write_label_map
from data.readers import open_dataset
from data.readers.beside.hints import with_hints
from data.validation import check_images, examine_files
from tasks.evaluation.folders import evaluate_semantic

BLACK, RED, GREEN, BLUE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)
Palette = Sequence[tuple[int, int, int]]


def indexed(file: Path, values: Sequence[int], palette: Palette) -> None:
    """Write an indexed PNG of stripes of values."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(np.repeat(np.array(values, np.uint8), 8 // len(values))[None].repeat(8, axis=0))
    mask.putpalette([level for colour in palette for level in colour])
    mask.save(file)


def photographs(root: Path, tags: Sequence[str]) -> None:
    root.mkdir(exist_ok=True)
    for number in range(len(tags)):
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(root / f"{number}.png")
    (root / "classes.txt").write_text("dog\ncat\n")
    (root / "labels.csv").write_text("image,labels\n" + "".join(f"{n},{tag}\n" for n, tag in enumerate(tags)))


def of(values: Sequence[int], palette: Palette) -> Indexed:
    return Indexed(values, bytes(level for colour in palette for level in colour))


@pytest.mark.parametrize(
    ("maps", "wrong"),
    [
        # Of two alone nobody knows which is right.
        ([of((0, 1, 2), (BLACK, RED, GREEN)), of((0, 1, 2), (BLACK, GREEN, RED))], [0, 1]),
        # Colours that a file does not use are left out of its palette.
        ([of((0, 1), (BLACK, RED)), of((0, 1), (BLACK, RED)), of((0, 2), (BLACK, GREEN, RED))], [2]),
        ([of((0, 1), (BLACK, RED)), of((0, 1, 2), (BLACK, GREEN, RED))], [1]),
        ([of((0, 1, 2), (BLACK, RED, GREEN)), of((0, 1), (BLACK, GREEN))], [0]),
        # Background is no exception.
        ([of((0, 1), (BLACK, RED)), of((0, 1), (BLACK, RED)), of((0, 1), (RED, BLACK))], [2]),
        # The majority is right.
        ([of((1,), (BLACK, GREEN, RED)), *[of((1, 2), (BLACK, RED, GREEN))] * 2], [0]),
    ],
)
def test_a_colour_that_is_another_value_elsewhere_is_found(maps: list[Indexed], wrong: list[int]) -> None:
    assert list(swapped_colours(maps, 3)) == wrong


@pytest.mark.parametrize(
    "maps",
    [
        [of((0, 1), (BLACK, RED)), of((0, 1, 2), (BLACK, RED, GREEN))],
        # What is not used is nothing to us, nor are palettes that have nothing in common.
        [of((0, 1), (BLACK, RED, GREEN)), of((0, 1), (BLACK, RED, BLUE, GREEN))],
        [of((0, 1), (BLACK, RED)), of((0, 1), (BLACK, GREEN))],
        # Black for all that has no colour.
        [of((0, 1), (BLACK, RED, BLACK)), of((0, 2), (BLACK, RED, BLACK))],
        [of((0, 1), (BLACK, RED)), Indexed((0, 1), b"")],
        [of((0, 255), (BLACK, RED)), Indexed((0, 255), VOC_PALETTE.tobytes())],
    ],
)
def test_palettes_that_fit_are_left_alone(maps: list[Indexed]) -> None:
    assert swapped_colours(maps, 4) == {}


def test_ground_truth_in_short_palettes_is_checked(tmp_path: Path) -> None:
    photographs(tmp_path, ["dog", "dog", "cat"])
    for number, (values, palette) in enumerate(
        [((0, 1), (BLACK, RED)), ((0, 1), (BLACK, RED)), ((0, 2), (BLACK, GREEN, RED))]
    ):
        indexed(tmp_path / f"SegmentationClass/{number}.png", values, palette)
    (problem,) = check_images(open_dataset(tmp_path)[0], 1)
    assert (problem.sample, problem.file.name) == ("2", "2.png")
    assert "in which the colour 255, 0, 0 is the value 1; here it is 2" in problem.message


def test_label_maps_that_are_the_labels_are_checked_wherever_they_lie(tmp_path: Path) -> None:
    photographs(tmp_path / "set", ["dog", "dog", "cat"])
    maps = tmp_path / "maps"
    for number in range(3):
        indexed(maps / f"{number}.png", (0, 1), (BLACK, RED, GREEN))
    assert [s.labels for s in open_dataset(tmp_path / "set", labels=maps)[0].samples] == [(0,)] * 3
    indexed(maps / "2.png", (0, 1), (BLACK, GREEN, RED))
    with pytest.raises(DatasetError, match=r"2\.png: expected the palette of the other masks"):
        open_dataset(tmp_path / "set", labels=maps)
    _, (aside,) = open_dataset(tmp_path / "set", labels=maps, skip_bad=True)
    assert aside.sample == "2"


def test_maps_of_hints_are_checked(tmp_path: Path) -> None:
    photographs(tmp_path / "set", ["dog;cat"] * 3)
    for number in range(3):
        indexed(tmp_path / f"hints/{number}.png", (0, 1), (BLACK, RED, GREEN) if number else (BLACK, GREEN, RED))
    dataset, _ = with_hints(open_dataset(tmp_path / "set")[0], tmp_path / "hints")
    (problem,) = check_images(dataset, 1)
    assert (problem.file, problem.sample) == (tmp_path / "hints/0.png", "0")


def test_label_maps_of_scenes_are_checked(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(tmp_path / f"train/{number}.png")
        indexed(tmp_path / f"trainannot/{number}.png", (0, 1), (BLACK, RED, GREEN) if number else (BLACK, GREEN, RED))
    (problem,) = check_images(open_dataset(tmp_path)[0], 1)
    assert (problem.file, problem.sample) == (tmp_path / "trainannot/0.png", "0")


def test_masks_that_are_evaluated_are_checked(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    for number in range(3):
        indexed(tmp_path / f"gt/{number}.png", (0, 1), (BLACK, RED, GREEN) if number else (BLACK, GREEN, RED))
        write_label_map(tmp_path / f"pred/{number}.png", np.ones((8, 8), np.uint8))
    with pytest.raises(DatasetError, match=r"gt/0\.png: expected the palette of the other masks"):
        evaluate_semantic(tmp_path / "pred", tmp_path / "gt", tmp_path / "classes.txt")


def test_a_class_of_several_colours_is_told(tmp_path: Path) -> None:
    photographs(tmp_path, ["dog", "dog"])
    for number, colour in enumerate((RED, GREEN)):
        indexed(tmp_path / f"SegmentationClass/{number}.png", (0, 1), (BLACK, colour))
    examined = examine_files(open_dataset(tmp_path)[0], 1)
    assert not examined.problems
    assert "not one colour in all masks, of which the values count: are their palettes alike?: dog (value 1)" in (
        examined.doubts
    )


def test_no_file_is_decoded_where_palettes_are_alike_and_damaged_ones_are_passed_over(tmp_path: Path) -> None:
    for number in range(2):
        indexed(tmp_path / f"{number}.png", (0, 1), (BLACK, RED))
    (tmp_path / "2.png").write_bytes(b"nothing")
    files = {str(number): tmp_path / f"{number}.png" for number in range(4)}
    assert palette_problems(files) == []


def test_another_palette_of_a_tool_may_have_the_values_of_the_classes() -> None:
    ansi = bytes([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 192, 192, 192])
    ansi += bytes([128, 128, 128, 255, 0, 0, 0, 255, 0])
    maps = [Indexed((0, 1), VOC_PALETTE.tobytes())] * 3
    assert swapped_colours([*maps, Indexed((0, 8), ansi), Indexed((0, 7), ansi)], 21) == {}
    assert swapped_colours([*maps, of((0, 1), (BLACK, (0, 128, 0), (255, 255, 0)))], 21) == {}


def test_palettes_that_are_cut_off_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colours = [tuple(colour) for colour in VOC_PALETTE.tolist()]
    for number, length in enumerate((256, 256, 5, 3)):
        indexed(tmp_path / f"{number}.png", (0, 1), colours[:length])
    monkeypatch.setattr(label_maps, "_values_used", lambda path: pytest.fail(f"{path} was decoded"))
    assert palette_problems({file.stem: file for file in tmp_path.iterdir()}, 21) == []
