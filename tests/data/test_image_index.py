"""What counts as an image of a set, and what is left out by name."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, DatasetError
from data.formats.label_maps import write_label_map
from data.readers import open_dataset, open_images
from data.readers.index import index_folder

TABLE = ClassTable(("cat",))


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10)).save(folder / name, format="PNG")
    return folder


def ids(root: Path, **options: object) -> list[str]:
    return [sample.id for sample in open_images(root, TABLE, **options)[0].samples]


def labelled(root: Path, *names: str) -> Path:
    (root / "labels.csv").write_text("image,labels\n" + "".join(f"{name},cat\n" for name in names))
    return root


SURELY = (
    "SegmentationClassAug",
    "segmentationclassraw",
    "segmentationclass",
    "SegmentationSure",
    "SegmentationConfidence",
    "Saliency",
)
PERHAPS = ("masks", "mask", "Labels", "annotations", "gt", "ground_truth", "Segmentation Masks", "x/masks")


@pytest.mark.parametrize("folder", [*SURELY, *PERHAPS])
def test_masks_beside_the_photographs_are_no_photographs(tmp_path: Path, folder: str) -> None:
    make(tmp_path, "images/a.jpg", "images/b.jpg", f"{folder}/a.png", f"{folder}/b.png")
    labelled(tmp_path, "images/a", "images/b")
    assert ids(tmp_path) == ["images/a", "images/b"]
    dataset, _ = open_dataset(tmp_path)
    assert [sample.id for sample in dataset.samples] == ["images/a", "images/b"]
    assert any(
        note.startswith(f"{folder}/ (2 files) is taken for masks, not for photographs") for note in dataset.notes
    )


@pytest.mark.parametrize("ending", ["_mask", "-gt", "_label", "_seg"])
def test_masks_with_an_ending_are_known_by_their_folder(tmp_path: Path, ending: str) -> None:
    make(tmp_path, "images/a.jpg", "images/b.jpg", f"masks/a{ending}.png", f"masks/b{ending}.png")
    assert ids(tmp_path) == ["images/a", "images/b"]


def test_photographs_of_masks_stay_where_labels_name_them(tmp_path: Path) -> None:
    make(tmp_path, "mask/1.jpg", "no_mask/1.jpg")
    labelled(tmp_path, "mask/1", "no_mask/1")
    assert [sample.id for sample in open_dataset(tmp_path)[0].samples] == ["mask/1", "no_mask/1"]
    make(tmp_path / "other", "mask/1.jpg", "bare/2.jpg")
    assert ids(tmp_path / "other") == ["bare/2", "mask/1"]


def test_a_folder_of_masks_that_labels_do_not_name_is_left_out_whatever_its_files_are_called(tmp_path: Path) -> None:
    make(tmp_path, "images/a.jpg", "images/b.jpg", "masks/m1.png", "masks/m2.png")
    labelled(tmp_path, "images/a", "images/b")
    assert [sample.id for sample in open_dataset(tmp_path)[0].samples] == ["images/a", "images/b"]


@pytest.mark.parametrize("pattern", ["truth/{}.png", "images/{}_mask.png", "{}-gt.png"])
def test_images_without_labels_that_are_called_like_labelled_ones_are_refused(tmp_path: Path, pattern: str) -> None:
    make(tmp_path, "images/a.jpg", "images/b.jpg", pattern.format("a"), pattern.format("b"))
    labelled(tmp_path, "images/a", "images/b")
    with pytest.raises(DatasetError, match=r"found images that labels\.csv does not name and that are called like"):
        open_dataset(tmp_path)


def test_what_systems_and_the_product_write_is_no_part_of_a_set(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "__MACOSX/a.jpg", "@eaDir/b.jpg", "$RECYCLE.BIN/c.jpg", "x/y.jpg")
    for folder, record in (("run", "run.json"), ("v1", "version.json"), ("out", "export.json")):
        make(tmp_path, f"{folder}/report/p.png")
        (tmp_path / folder / record).write_text("{}")
    make(tmp_path, "store/relations/k/p.png")
    (tmp_path / "store" / ".users").mkdir()
    assert ids(tmp_path) == ["a", "x/y"]
    (note,) = index_folder(tmp_path).notes
    assert all(name in note for name in ("$RECYCLE.BIN", "@eaDir", "4 more"))


@pytest.mark.parametrize(
    "suffix", ["avif", "gif", "jfif", "jpe", "jp2", "ppm", "pgm", "tga", "JPG", "Jpeg", "tif", "webp", "bmp"]
)
def test_photographs_of_every_common_suffix_are_found(tmp_path: Path, suffix: str) -> None:
    make(tmp_path, "a.jpg")
    (tmp_path / f"b.{suffix}").write_bytes(b"x")
    labelled(tmp_path, "a.jpg", f"b.{suffix}")
    assert [sample.labels for sample in open_dataset(tmp_path)[0].samples] == [(0,), (0,)]


def test_a_picture_beside_its_photograph_is_left_unread(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.jpg", "a.gif", "depth/b.pgm", "c.gif")
    index = index_folder(tmp_path)
    assert list(index.images) == ["a", "b", "c"]
    assert "pictures beside photographs of the same name, left unread: a.gif, depth/b.pgm" in index.notes


def test_files_that_look_like_images_and_are_not_read_are_named(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "nosuffix")
    for name in ("a.dng", "poster.psd", "b.heic"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "README").write_text("text")
    index = index_folder(tmp_path)
    assert "files without a suffix that may be images, left unread: nosuffix" in index.notes
    assert any("files .psd that may be images" in note for note in index.notes)
    (problem,) = index.problems
    assert str(problem).startswith(f"{tmp_path / 'b.heic'}: expected a photograph as JPEG")
    assert "found .heic: convert it to JPEG" in str(problem)
    labelled(tmp_path, "a", "nosuffix.heic")
    with pytest.raises(DatasetError, match=r"b\.heic"):
        open_dataset(tmp_path)
    labelled(tmp_path, "a", "poster.psd")
    with pytest.raises(DatasetError, match="found a file that is not read as one"):
        open_dataset(tmp_path)


def deny(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let folders of a name be such as cannot be read."""
    scandir = os.scandir

    def denied(path: str) -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)


def test_a_folder_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jpg", "sub/b.jpg")
    deny(monkeypatch, "sub")
    (problem,) = index_folder(tmp_path).problems
    assert problem.file == tmp_path / "sub"
    assert "expected a folder that can be read, but Permission denied" in problem.message
    with pytest.raises(DatasetError, match="Permission denied"):
        open_images(tmp_path, TABLE)


def test_linked_folders_are_read_once_and_loops_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "set/a.jpg", "elsewhere/b.jpg")
    for link, target in (("linked", "elsewhere"), ("again", "elsewhere"), ("self", "set"), ("up", ".")):
        (tmp_path / "set" / link).symlink_to(tmp_path / target)
    index = index_folder(tmp_path / "set")
    assert list(index.images) == ["a", "again/b"]
    assert "linked (a link to what is read already), self (a link" in index.notes[0]
    assert not index.problems


def test_links_to_nothing_and_pipes_are_problems(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "c.jpg")
    assert [problem.sample for problem in index_folder(tmp_path).problems] == ["b", "c"]


def test_file_names_that_no_record_can_hold_are_problems(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    for name in (b"b\xe9.jpg", b"c\x1b]0;owned\x07.jpg", b"d\ne.jpg"):
        make_bytes(tmp_path, name)
    with pytest.raises(DatasetError) as caught:
        open_images(tmp_path, TABLE)
    text = str(caught.value)
    assert text.count("\n") == 2
    assert "\x1b" not in text
    assert text.encode()
    assert "expected a file name in UTF-8, found b'b\\xe9'" in text
    assert "without control characters and line breaks" in text
    dataset, problems = open_images(tmp_path, TABLE, skip_bad=True)
    assert [sample.id for sample in dataset.samples] == ["a"]
    assert all(str(problem.file).encode() for problem in problems)


def make_bytes(folder: Path, name: bytes) -> None:
    (folder / os.fsdecode(name)).write_bytes((folder / "a.jpg").read_bytes())


def test_ids_that_no_label_file_can_have_are_problems(tmp_path: Path) -> None:
    make(tmp_path, f"{'x' * 245}.jpg", "\u00fc" * 121 + ".jpg", "a.jpg", "a.png/b.jpg", f"{'y' * 236}.jpg")
    long, umlauts, pair = sorted((str(problem) for problem in index_folder(tmp_path).problems), key=len, reverse=True)
    assert "at most 240 bytes, since label files are named after it, found 245" in long
    assert "found 242" in umlauts
    assert "expected ids whose label files can stand side by side, found 'a' and 'a.png/b'" in pair


def test_files_among_the_ground_truth_that_are_not_read_are_named(tmp_path: Path) -> None:
    make(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.jpg", "SegmentationClass/a.PNG")
    for name in ("b.bmp", "b_mask.png"):
        make(tmp_path, f"SegmentationClass/{name}")
    dataset, _ = open_dataset(labelled(tmp_path, "a", "b"))
    assert [sample.semantic and sample.semantic.name for sample in dataset.samples] == ["a.PNG", None]
    (note,) = (note for note in dataset.notes if "SegmentationClass" in note)
    assert "that are no image's .png, left unread: 2" in note
    assert "b.bmp" in note


def test_images_that_may_be_masks_are_refused_even_when_bad_images_are_skipped(tmp_path: Path) -> None:
    make(tmp_path, "images/a.jpg", "truth/a.png")
    with pytest.raises(DatasetError, match="are called like images it names"):
        open_dataset(labelled(tmp_path, "images/a"), skip_bad=True)


def test_a_list_that_misses_images_names_the_folder_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.jpg", "sub/b.jpg")
    (tmp_path / "list.txt").write_text("a\nsub/b\n")
    deny(monkeypatch, "sub")
    with pytest.raises(DatasetError, match="sub: expected a folder that can be read"):
        open_images(tmp_path, TABLE, split="list")
    (tmp_path / "list.txt").write_text("a\n")
    assert ids(tmp_path, split="list") == ["a"]


def test_masks_beside_the_photographs_are_ground_truth_where_their_values_are_those_of_the_tags(tmp_path: Path) -> None:
    make(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg")
    (tmp_path / "labels.csv").write_text("images/a,cat\nimages/b,dog\nimages/c,cat;dog\n")
    values = {"a": (0, 1), "b": (0, 2, 255), "c": (1, 2)}
    for id, present in values.items():
        write_label_map(tmp_path / "masks" / f"{id}_mask.png", np.resize(np.array(present, np.uint8), (10, 12)))
    dataset, _ = open_dataset(tmp_path)
    assert [sample.semantic for sample in dataset.samples] == [tmp_path / f"masks/{id}_mask.png" for id in "abc"]
    assert any("masks/ (3 files) is taken for masks" in n and "read as ground truth" in n for n in dataset.notes)
    write_label_map(tmp_path / "masks" / "b_mask.png", np.full((10, 12), 1, np.uint8))
    dataset, _ = open_dataset(tmp_path)
    assert not any(sample.semantic for sample in dataset.samples)
    assert any("masks/ (3 files) is taken for masks" in n and "left unread" in n for n in dataset.notes)
