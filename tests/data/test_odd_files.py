"""Files that are not what their names say: other formats, pipes, sizes beyond the memory, odd depths, any bytes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, Dataset, DatasetError, Sample
from data.files import file_digest, waiting_lock
from data.formats import images
from data.formats.coco import read_coco, read_detections
from data.formats.images import image_size, read_image
from data.formats.label_codings import read_coded
from data.formats.label_maps import read_label_map, write_label_map
from data.readers import open_dataset
from data.validation import check_images, examine_images
from tasks.engine.plan import digest_samples
from tasks.evaluation.folders import evaluate_semantic

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(hello) print\nshowpage\n"
LABELS = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3


def read_saliency(path: Path) -> np.ndarray:
    return read_coded(path, "saliency")


IMAGE_READERS = pytest.mark.parametrize("read", [read_image, image_size, read_label_map, read_saliency])


@IMAGE_READERS
@pytest.mark.parametrize("format", ["EPS", "PCX", "PDF", "ICNS", "SGI", "MSP"])
def test_only_listed_formats_are_opened(tmp_path: Path, format: str, read: Callable[[Path], object]) -> None:
    path = tmp_path / "a.png"
    if format == "EPS":
        path.write_bytes(EPS)
    else:
        Image.new("1" if format == "MSP" else "RGB", (16, 16)).save(path, format=format)
    with pytest.raises(DatasetError, match=r"a\.png: expected .*, found another kind of file"):
        read(path)


def test_a_label_map_is_of_a_format_that_keeps_values(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(DatasetError, match="found another kind of file"):
        read_label_map(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_image, image_size, read_label_map, read_saliency, read_coco, read_detections])
def test_pipes_devices_and_folders_are_refused_and_never_waited_for(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "device.png", "folder.png"):
        with pytest.raises(DatasetError, match=rf"{name}: .*no regular file"):
            read(tmp_path / name)


def test_a_pipe_among_the_images_is_a_problem_of_that_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "zz.jpg")
    with pytest.raises(OSError, match="no regular file"):
        file_digest(tmp_path / "zz.jpg")
    dataset = Dataset(tmp_path, ClassTable(("cat",)), (Sample("zz", tmp_path / "zz.jpg", (0,)),))
    with pytest.raises(DatasetError, match=r"zz\.jpg: cannot be read \(it is no regular file"):
        digest_samples(dataset)
    (problem,) = check_images(dataset, 1)
    assert problem.sample == "zz"


def test_a_link_to_a_photograph_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert read_image(tmp_path / "b.png").shape == (3, 4, 3)


@pytest.mark.parametrize("read", [read_image, read_label_map, read_saliency])
def test_an_image_beyond_the_limit_is_refused_before_it_is_decoded(
    tmp_path: Path, read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (300, 40)).save(path)
    monkeypatch.setenv(images.MAX_PIXELS_VARIABLE, "11999")
    with pytest.raises(DatasetError, match=r"a\.png: .*at most 11999 pixels.*300 x 40.*PSEUDOMASK_MAX_PIXELS"):
        read(path)
    monkeypatch.setenv(images.MAX_PIXELS_VARIABLE, "12000")
    read(path)


def test_the_limit_follows_from_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(images.MAX_PIXELS_VARIABLE, raising=False)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}
    monkeypatch.setattr(images.os, "sysconf", sizes.__getitem__)
    images._memory_pixels.cache_clear()
    assert images.max_pixels() * images.BYTES_PER_PIXEL <= 2**32 / 8
    sizes["SC_PHYS_PAGES"] = 2**19
    images._memory_pixels.cache_clear()
    assert images.max_pixels() * images.BYTES_PER_PIXEL <= 2**31 / 8
    images._memory_pixels.cache_clear()


def test_large_images_are_decoded_one_after_the_other_by_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "LARGE_PIXELS", 100)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "photos").mkdir()
    for name, side in (("small", 10), ("large", 11)):
        Image.new("RGB", (side, side)).save(tmp_path / "photos" / f"{name}.png")
    read_image(tmp_path / "photos/large.png")
    (lock,) = tmp_path.glob("*.lock")
    done: list[str] = []
    threads = [
        Thread(target=lambda name=name: done.append(str(read_image(tmp_path / "photos" / f"{name}.png").shape)))
        for name in ("large", "small")
    ]
    # As another process would hold it.
    with waiting_lock(lock):
        for thread in threads:
            thread.start()
        threads[1].join()
        threads[0].join(0.3)
        assert done == ["(10, 10, 3)"]
    threads[0].join()
    assert done == ["(10, 10, 3)", "(11, 11, 3)"]
    # A folder that nobody can write in makes nobody wait.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert read_image(tmp_path / "photos/large.png").shape == (11, 11, 3)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("highest", "expected"), [(1023, 255), (4095, 255), (16383, 255), (200, 200), (65535, 255)])
def test_grey_photographs_of_any_camera_are_not_dark(tmp_path: Path, suffix: str, highest: int, expected: int) -> None:
    grey = np.linspace(0, highest, 40 * 60).astype(np.uint16).reshape(40, 60)
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}").max() == expected


def test_nearly_black_photographs_and_files_of_several_pictures_are_doubts(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / "dark.png")
    frames = [Image.new("RGB", (40, 30), (200, 90, level)) for level in (0, 99)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "labels.csv").write_text("dark,cat\nmoving,cat\npages,dog\n")
    problems, doubts = examine_images(open_dataset(tmp_path)[0], 1)
    assert problems == []
    assert doubts == [
        "the image is nearly black: dark",
        "the file has several pictures, of which the first is taken: moving, pages",
    ]


def test_a_palette_with_transparent_colours_is_read_without_a_warning(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16), "P")
    image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


def voc_set(root: Path, **masks: np.ndarray) -> Path:
    (root / "JPEGImages").mkdir(parents=True)
    for name, mask in masks.items():
        Image.new("RGB", mask.shape[::-1], (90, 90, 90)).save(root / "JPEGImages" / f"{name}.jpg")
        write_label_map(root / "SegmentationClass" / f"{name}.png", mask)
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "labels.csv").write_text("".join(f"{name},cat\n" for name in masks))
    return root


def test_masks_of_0_and_255_are_refused_where_no_mask_has_a_class(tmp_path: Path) -> None:
    white = np.where(LABELS > 0, 255, 0).astype(np.uint8)
    root = voc_set(tmp_path / "set", a=white, b=white)
    problems = check_images(open_dataset(root)[0], 1)
    assert [problem.sample for problem in problems] == ["a", "b"]
    assert "found only 0 and 255" in problems[0].message
    with pytest.raises(DatasetError, match="found only 0 and 255"):
        evaluate_semantic(root, root)
    right = voc_set(tmp_path / "right", a=white, b=np.where(LABELS > 0, 1, 0).astype(np.uint8))
    assert check_images(open_dataset(right)[0], 1) == []
    assert evaluate_semantic(right, right)["iou"]["cat"] == 1


def test_masks_and_tags_that_disagree_are_doubts(tmp_path: Path) -> None:
    root = voc_set(tmp_path / "set", a=np.where(LABELS > 0, 2, 0).astype(np.uint8))
    problems, doubts = examine_images(open_dataset(root)[0], 1)
    assert problems == []
    assert doubts == [
        "tagged, but the mask has no pixel of the class: a (cat)",
        "not tagged, but the mask has pixels of the class: a (dog)",
    ]


def test_masks_of_an_upper_case_suffix_are_read_and_others_named(tmp_path: Path) -> None:
    root = voc_set(tmp_path / "set", a=np.where(LABELS > 0, 1, 0).astype(np.uint8))
    folder = root / "SegmentationClass"
    (folder / "a.png").rename(folder / "a.PNG")
    (folder / "a.bmp").touch()
    (sample,) = open_dataset(root)[0].samples
    assert sample.semantic == folder / "a.PNG"
    assert (
        "in a folder of masks, but no PNG, and not read: SegmentationClass/a.bmp"
        in examine_images(open_dataset(root)[0], 1)[1]
    )
    assert evaluate_semantic(root, root)["images"] == 1


def test_evaluation_skips_what_macos_leaves_and_names_files_that_are_no_png(tmp_path: Path) -> None:
    root = voc_set(tmp_path / "set", a=np.where(LABELS > 0, 1, 0).astype(np.uint8))
    (root / "SegmentationClass" / "._a.png").write_bytes(b"\0\5\x16\7")
    found = evaluate_semantic(root, root)
    assert (found["images"], found["ignored"]) == (1, 0)
    (tmp_path / "bmp").mkdir()
    Image.fromarray(LABELS).save(tmp_path / "bmp" / "a.bmp")
    with pytest.raises(DatasetError, match=r"expected label maps \(PNG\), found other files: a\.bmp"):
        evaluate_semantic(tmp_path / "bmp", root)


@pytest.mark.parametrize("error", [RuntimeError("planes"), OverflowError("size"), ZeroDivisionError()])
def test_whatever_a_decoder_raises_is_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    # Pillow's AVIF raises RuntimeError where colour planes are damaged.
    def fail(*_: object) -> None:
        raise error

    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    for read in (read_image, read_label_map):
        with pytest.raises(DatasetError, match="found a damaged one"):
            read(tmp_path / "a.png")


def test_ground_truth_behind_a_broken_link_is_a_problem(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("image,labels\na,cat\n")
    (tmp_path / "SegmentationClass").mkdir()
    (tmp_path / "SegmentationClass/a.png").symlink_to("annex/a.png")
    dataset, _ = open_dataset(tmp_path, tmp_path / "labels.csv")
    (problem,) = check_images(dataset, 1)
    assert "a.png: expected a label map, found no file" in str(problem)
