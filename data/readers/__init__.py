"""Data sets from disk, whatever their layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from data.concurrency import gc_paused
from data.dataset import ClassTable, Dataset, DatasetError, Problem, Sample
from data.formats.label_folder import SEMANTIC
from data.names import nearly_alike, shortened
from data.readers.coco import find_coco_file, read_coco_set
from data.readers.entries import find_labels, refuse_dangling
from data.readers.folder import read_folder, read_images
from data.readers.scenes import find_scenes, maps_of, read_scenes
from data.validation import can_be_set_aside, set_aside, set_problems

__all__ = ["has_own_classes", "open_dataset", "open_images"]
MOST_SPELLINGS = 10


@gc_paused()
def open_dataset(
    root: Path,
    labels: Path | None = None,
    split: str | Path | None = None,
    classes: Path | None = None,
    skip_bad: bool = False,
) -> tuple[Dataset, list[Problem]]:
    """Read the lists and labels of a data set; no image is decoded.

    Layouts, in the order they are tried:

    - Scenes (`data.readers.scenes`): CamVid, SUN RGB-D. Every pixel has a class, there is no background, and the
      class table is the set's own.
    - COCO: `labels` is a `.json` instance file, or `root` has `annotations/*.json` (or Roboflow's, FiftyOne's or Label
      Studio's file) and neither `JPEGImages` nor a label file.
    - VOC: `root` has `JPEGImages`.
    - A folder of images, sub-folders included.

    Image-level labels come from `labels` or else the first of `labels.csv`, `labels.jsonl`, `Annotations/*.xml`
    and `SegmentationClass/*.png` in `root`, or what `data.readers.entries.find_labels` knows besides. An image that
    they do not mention is background only; `Dataset.notes` says how many there are, and what was left unread.

    The class table is `classes` or `classes.txt` (one name per line), else COCO's categories, else VOC's 20 classes
    where the layout is VOC's and most tags are among them, else the sorted tags of the whole set, so that every split
    of it has the same table. `ClassTable.origin` says which.

    Args:
        root: The set's folder.
        labels: CSV (`image,labels`, labels joined by `;`), JSON lines (`{"image": .., "labels": [..]}`), COCO
            JSON, or a folder of XML files, label maps or VOC's class lists; the forms of each are in `docs/data.md`.
        split: A file with an image id a line, or the name of one in `ImageSets/Segmentation`, `ImageSets/Main`
            or `root`; for COCO also an annotation file's, "val2017" for `annotations/instances_val2017.json`.
        classes: A file with the name of a class a line.
        skip_bad: Leave out the images that have problems instead of raising.

    Returns:
        The set, and the problems of what was left out (none unless `skip_bad`).

    Raises:
        DatasetError: Lists every problem of the set. With `skip_bad` only if nothing useful remains without the
            bad images, or a list or label file cannot be read at all.
    """
    if not root.is_dir():
        raise DatasetError([Problem(root, "expected the folder of a data set, found none")])
    with _named_os_errors(root):
        dataset, problems = _read(root, labels, split, classes)
    if problems and not skip_bad:
        of_images = can_be_set_aside(dataset, problems)
        raise DatasetError([*problems, *set_problems(dataset)], of_images=of_images)
    dataset = replace(dataset, notes=(*dataset.notes, *_spelling_notes(dataset.classes)))
    return set_aside(dataset, problems), problems


def _spelling_notes(classes: ClassTable) -> Iterator[str]:
    """Tell of classes that may be one, spelt in two ways."""
    groups = nearly_alike(classes.real_names)
    if groups:
        told = shortened((" and ".join(map(repr, group)) for group in groups), MOST_SPELLINGS)
        yield f"classes whose names are nearly alike, and may be one: {told}; each is learnt as a class of its own"


def _read(
    root: Path, labels: Path | None, split: str | Path | None, classes: Path | None
) -> tuple[Dataset, list[Problem]]:
    """Read a set of whatever layout; all problems are returned."""
    refuse_dangling(root)
    coco_file = find_coco_file(root, labels, split)
    scenes = find_scenes(root) if labels is None else None
    if scenes is not None:
        beside = _beside_scenes(root, coco_file)
        if classes is not None:
            raise DatasetError([Problem(classes, f"{root} has a class table of its own: leave this one out")])
        dataset, problems = read_scenes(scenes, root, split)
        notes = [f"beside the label maps of {maps_of(root)}, left unread: {', '.join(beside)}"] if beside else []
        return replace(dataset, notes=(*dataset.notes, *notes)), problems
    if coco_file is not None:
        return read_coco_set(root, coco_file, split, classes)
    return read_folder(root, labels, split, classes)


def _beside_scenes(root: Path, coco_file: Path | None) -> list[str]:
    """Return what lies beside the label maps of scenes and is not read.

    Raises:
        DatasetError: There are labels of other classes: nobody knows which of both are meant.
    """
    source, others = find_labels(root)
    maps = root / SEMANTIC
    found = [each for each in (source, *others, coco_file) if each is not None and each != maps]
    if found:
        message = f"expected one source of labels, found this one beside {maps_of(root)}, label maps of scenes"
        remedy = f"--labels {found[0]} takes this one, and without it in the folder the maps are taken"
        raise DatasetError([Problem(found[0], f"{message}: {remedy}")])
    return [name for name in (f"{SEMANTIC}/", "classes.txt") if (root / name).exists()]


@contextmanager
def _named_os_errors(root: Path) -> Iterator[None]:
    """Turn what the system refuses, such as a folder without rights, into a problem with its name."""
    try:
        yield
    except OSError as error:
        message = f"expected files that can be read, but {error.strerror or error}"
        raise DatasetError([Problem(Path(os.fsdecode(error.filename or root)), message)]) from error


def has_own_classes(root: Path) -> bool:
    """Return whether a folder has a layout of `data.readers.scenes`, whose class table none that is given replaces."""
    return find_scenes(root) is not None


def open_images(
    root: Path, classes: ClassTable, split: str | Path | None = None, skip_bad: bool = False
) -> tuple[Dataset, list[Problem]]:
    """Read the images of a folder, or of a set in the layout of VOC or of scenes, without labels; none is decoded.

    Args:
        root: The folder.
        classes: The class table that the set shall have.
        split: As in `open_dataset`.
        skip_bad: Leave out the images that have problems instead of raising.

    Returns:
        The set, and the problems of what was left out (none unless `skip_bad`).

    Raises:
        DatasetError: Lists every problem, or there are no images.
    """
    if not root.is_dir():
        raise DatasetError([Problem(root, "expected a folder of images, found none")])
    with _named_os_errors(root):
        scenes = find_scenes(root)
        if scenes is not None:
            found, problems = read_scenes(scenes, root, split, labelled=False)
            dataset = Dataset(root, classes, tuple(Sample(sample.id, sample.image, ()) for sample in found.samples))
        else:
            dataset, problems = read_images(root, split, classes)
    if problems and not skip_bad:
        raise DatasetError(problems, of_images=bool(dataset.samples))
    if not dataset.samples:
        raise DatasetError([*problems, Problem(root, "expected images, found none")])
    return dataset, problems
