"""Sets with label maps of their own coding: scenes, in which every pixel has a class, and salient objects.

| layout | images | label maps | lists |
|---|---|---|---|
| CamVid, 11 classes | `train`, `val`, `test` | `trainannot`, `valannot`, `testannot`, of the same names | the folders |
| CamVid, 701 frames | `701_StillsRaw_full` | `LabeledApproved_full`, named `*_L.png` | of the SegNet paper, by rule |
| SUN RGB-D | `SUNRGBD-train_images`, `SUNRGBD-test_images` | `sunrgbd_train_test_labels` | `train`, `test` |
| Cityscapes | `leftImg8bit/train` and so on, by city | `gtFine`, `*_labelIds.png` | the folders |
| DUTS | `DUTS-TR/DUTS-TR-Image`, `DUTS-TE/DUTS-TE-Image` | `DUTS-TR-Mask`, `DUTS-TE-Mask` | `train`, `test` |
| ECSSD | `images` | `ground_truth_mask` | `all` |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from data.dataset import ClassTable, Dataset, DatasetError, Problem, Sample
from data.formats.label_codings import LABEL_CODINGS
from data.readers.ids import find_split, read_split
from data.readers.image_names import ImageNames
from data.readers.index import index_images

CAMVID_SPLITS = ("train", "val", "test")
FRAMES, COLOURS = "701_StillsRaw_full", "LabeledApproved_full"
LOSSLESS = (".png", ".tif", ".tiff", ".bmp")
SUNRGBD_LABELS = "sunrgbd_train_test_labels"
DUTS = {"train": "DUTS-TR", "test": "DUTS-TE"}
# The label maps of the test images come first; both lists count from 1.
SUNRGBD_FIRST = {"test": 1, "train": 5051}


class ImageList(NamedTuple):
    """The images of a list.

    Attributes:
        samples: Those that have label maps.
        unlabelled: Those that have none.
        problems: Of the files.
        alone: A problem for each image without a label map, and each label map without an image.
    """

    samples: list[Sample]
    unlabelled: list[Sample]
    problems: list[Problem]
    alone: list[Problem]


Lists = dict[str, ImageList]
Reader = Callable[[Path], tuple[str, Lists]]


def find_scenes(root: Path) -> Reader | None:
    """Return what reads a set of scenes, or None where the folder has another layout."""
    if any((root / f"{split}annot").is_dir() for split in CAMVID_SPLITS):
        return _camvid
    if (root / FRAMES).is_dir() and (root / COLOURS).is_dir():
        return _camvid_frames
    if (root / SUNRGBD_LABELS).is_dir():
        return _sunrgbd
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return _cityscapes
    if any((root / name / f"{name}-Mask").is_dir() for name in DUTS.values()):
        return _duts
    if (root / "images").is_dir() and (root / "ground_truth_mask").is_dir():
        return _ecssd
    return None


def maps_of(root: Path) -> str:
    """Return the names of the folders of label maps by which a folder is known for a set of scenes."""
    names = [*(f"{split}annot" for split in CAMVID_SPLITS), COLOURS, SUNRGBD_LABELS, "gtFine"]
    names += [*(f"{name}/{name}-Mask" for name in DUTS.values()), "ground_truth_mask"]
    return " and ".join(f"{name}/" for name in names if (root / name).is_dir())


def read_scenes(
    reader: Reader, root: Path, split: str | Path | None, *, labelled: bool = True
) -> tuple[Dataset, list[Problem]]:
    """Read a set of scenes, one of its lists, or the images that a file lists.

    Args:
        labelled: All shall have label maps.

    Returns:
        The set with every image that has a label map, or every image at all, and all problems.

    Raises:
        DatasetError: There is no such list.
    """
    coding, lists = reader(root)
    if split not in lists:
        lists = _named_apart(lists)
    named = [lists[str(split)]] if split in lists else list(lists.values())
    samples, problems = {}, []
    for listed in named:
        samples |= {sample.id: sample for sample in (*listed.samples, *(() if labelled else listed.unlabelled))}
        problems += [*listed.problems, *(listed.alone if labelled else ())]
    if split is not None and split not in lists:
        samples, problems = _choose(root, split, samples, problems, list(lists))
    known = LABEL_CODINGS[coding]
    table = ClassTable(known.classes, has_background=known.has_background, origin="the set's own table")
    if known.has_background:
        # Whether a photograph has a salient object is not looked up: it is what such photographs were chosen for.
        samples = {id: replace(sample, labels=tuple(range(len(table)))) for id, sample in samples.items()}
    told = f"{maps_of(root)}: label maps of the set's own coding"
    return Dataset(root, table, tuple(samples[id] for id in sorted(samples)), told), problems


def find_scene_maps(folder: Path, split: str | Path | None = None) -> tuple[str, dict[str, Path]] | None:
    """Return the coding of the label maps in a folder of a set of scenes, and the maps by the ids of their images.

    Args:
        folder: The set's own folder, or one in it, up to three levels below.
        split: One of the set's lists, or a file that lists images; by default all.

    Returns:
        None where no label maps of a set of scenes lie in the folder.

    Raises:
        DatasetError: There is no such list, or it lists other images.
    """
    folder = folder.resolve()
    for root in (folder, *folder.parents[:3]):
        reader = find_scenes(root)
        if reader is None:
            continue
        coding, lists = reader(root)
        if split not in lists:
            lists = _named_apart(lists)
        samples = {sample.id: sample for listed in lists.values() for sample in listed.samples}
        inside = {id: s for id, s in samples.items() if s.semantic is not None and s.semantic.is_relative_to(folder)}
        if not inside:
            continue
        problems: list[Problem] = []
        if split in lists:
            listed = {sample.id for sample in lists[str(split)].samples}
            inside = {id: sample for id, sample in inside.items() if id in listed}
        elif split is not None:
            inside, problems = _choose(root, split, inside, [], list(lists))
        if not problems and not inside:
            problems = [Problem(folder, f"expected label maps of the list {str(split)!r}, found none")]
        if problems:
            raise DatasetError(problems)
        return coding, {id: sample.semantic for id, sample in inside.items() if sample.semantic is not None}
    return None


def _named_apart(lists: Lists) -> Lists:
    """Return lists of which no two have an image of one name: such images have the list's before their own."""
    counts = Counter(
        id for listed in lists.values() for id in {one.id for one in (*listed.samples, *listed.unlabelled)}
    )
    shared = {id for id, count in counts.items() if count > 1}

    def rename(name: str, listed: ImageList) -> ImageList:
        def of(id: str | None) -> str | None:
            return f"{name}/{id}" if id in shared else id

        samples, unlabelled = ([replace(one, id=of(one.id)) for one in some] for some in listed[:2])
        problems, alone = ([replace(one, sample=of(one.sample)) for one in some] for some in listed[2:])
        return ImageList(samples, unlabelled, problems, alone)

    return {name: rename(name, listed) for name, listed in lists.items()} if shared else lists


def _choose(
    root: Path, split: str | Path, samples: dict[str, Sample], problems: list[Problem], lists: list[str]
) -> tuple[dict[str, Sample], list[Problem]]:
    """Return the samples that a file lists, and what is wrong with the list and with them."""
    if find_split(root, split) is None:
        message = f"expected a file, or one of the set's lists: {', '.join(lists)}"
        raise DatasetError([Problem(Path(split), message)])
    bad = {problem.sample for problem in problems if problem.sample is not None}
    listed = read_split(root, split, ImageNames(samples | dict.fromkeys(bad)))
    ids = set(listed.ids)
    found = [*listed.problems, *(problem for problem in problems if problem.sample in ids)]
    found += [Problem(listed.file, f"expected images of {root}, found {id!r}", id) for id in sorted(listed.missing)]
    return {id: samples[id] for id in listed.ids if id in samples}, found


def _camvid(root: Path) -> tuple[str, Lists]:
    lists: Lists = {}
    for split in CAMVID_SPLITS:
        if (root / split).is_dir() or (root / f"{split}annot").is_dir():
            images, problems = index_images(root / split)
            labels, more = index_images(root / f"{split}annot")
            lists[split] = _pair(images, labels, root / f"{split}annot", "camvid-values", problems + more)
    return "camvid-values", lists


def _camvid_frames(root: Path) -> tuple[str, Lists]:
    images, problems = index_images(root / FRAMES)
    labels, more = index_images(root / COLOURS)
    by_frame = {id.removesuffix("_L"): file for id, file in labels.items()}
    every = _pair(images, by_frame, root / COLOURS, "camvid-colours", problems + more)
    lists: Lists = {split: ImageList([], [], [], []) for split in CAMVID_SPLITS}
    for sample in every.samples:
        lists[_list_of_frame(sample.id)].samples.append(sample)
    for sample in every.unlabelled:
        lists[_list_of_frame(sample.id)].unlabelled.append(sample)
    for problem in every.problems:
        lists[_list_of_frame(problem.sample or "")].problems.append(problem)
    for problem in every.alone:
        lists[_list_of_frame(problem.sample or "")].alone.append(problem)
    return "camvid-colours", lists


def _list_of_frame(id: str) -> str:
    """Return the list that a frame has in the files of SegNet's authors: 367 to train, 101 to validate, 233 to test.

    The test frames are one sequence and the second half of the one at dusk, those for validation the part of another
    that is labelled 15 times a second.
    """
    sequence, _, frame = id.rpartition("_")
    number = int(re.sub(r"\D", "", frame) or 0)
    if sequence.endswith("Seq05VD") or (sequence.endswith("0001TP") and number >= 8550):
        return "test"
    return "val" if sequence.endswith("0016E5") and 7959 <= number <= 8159 else "train"


def _sunrgbd(root: Path) -> tuple[str, Lists]:
    lists: Lists = {}
    labels, problems = index_images(root / SUNRGBD_LABELS)
    for split, first in SUNRGBD_FIRST.items():
        folder = root / f"SUNRGBD-{split}_images"
        if folder.is_dir():
            images, more = index_images(folder)
            # Image n of a list has the n-th label map from its first on.
            maps = {id: labels.get(f"img-{int(re.sub(r'[^0-9]', '', id) or 0) + first - 1:06d}") for id in images}
            found = {f"{split}/{id}": file for id, file in maps.items() if file}
            named = {f"{split}/{id}": file for id, file in images.items()}
            lists[split] = _pair(named, found, root / SUNRGBD_LABELS, "sunrgbd-values", problems + more)
    return "sunrgbd-values", lists


def _cityscapes(root: Path) -> tuple[str, Lists]:
    lists: Lists = {}
    for split in CAMVID_SPLITS:
        folder = root / "gtFine" / split
        if (root / "leftImg8bit" / split).is_dir() and folder.is_dir():
            images, problems = index_images(root / "leftImg8bit" / split)
            maps, more = index_images(folder)
            ending = "_gtFine_labelIds"
            labels = {id.removesuffix(ending): file for id, file in maps.items() if id.endswith(ending)}
            named = {id.removesuffix("_leftImg8bit"): file for id, file in images.items()}
            lists[split] = _pair(named, labels, folder, "cityscapes-ids", problems + more)
    return "cityscapes-ids", lists


def _duts(root: Path) -> tuple[str, Lists]:
    lists: Lists = {}
    for split, name in DUTS.items():
        folder = root / name / f"{name}-Mask"
        if folder.is_dir():
            images, problems = index_images(root / name / f"{name}-Image")
            masks, more = index_images(folder)
            lists[split] = _pair(images, masks, folder, "saliency", problems + more)
    return "saliency", lists


def _ecssd(root: Path) -> tuple[str, Lists]:
    images, problems = index_images(root / "images")
    masks, more = index_images(root / "ground_truth_mask")
    return "saliency", {"all": _pair(images, masks, root / "ground_truth_mask", "saliency", problems + more)}


def _pair(
    images: dict[str, Path], labels: dict[str, Path], folder: Path, coding: str, problems: list[Problem]
) -> ImageList:
    """Return the list of images and label maps of the same ids; the problems are those of both folders.

    Values of classes are lost in a JPEG and the like, those of black and white masks are not.
    """
    if coding != "saliency":
        message = "expected a label map as PNG, TIFF or BMP, which keep every value, found another kind of file"
        lossy = {id: file for id, file in labels.items() if file.suffix.lower() not in LOSSLESS}
        problems = [*problems, *(Problem(file, message, id) for id, file in lossy.items())]
        labels = {id: file for id, file in labels.items() if id not in lossy}
        images = {id: file for id, file in images.items() if id not in lossy}
    samples = [Sample(id, images[id], (), labels[id], coding=coding) for id in sorted(images.keys() & labels.keys())]
    lacking = f"expected its label map in {folder}, found none"
    unlabelled = [Sample(id, images[id], ()) for id in sorted(images.keys() - labels.keys())]
    alone = [Problem(sample.image, lacking, sample.id) for sample in unlabelled]
    alone += [Problem(labels[id], "expected its image, found none", id) for id in sorted(labels.keys() - images.keys())]
    return ImageList(samples, unlabelled, problems, alone)
