"""The VOC layout, and a plain folder of images."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from data.dataset import VOID, ClassTable, Dataset, DatasetError, Problem, Sample
from data.label_folder import SEMANTIC
from data.label_maps import read_label_map
from data.readers.entries import Entry, find_labels, read_entries
from data.readers.ids import case_problems, index_images, read_class_names, read_split, shortened
from data.voc import VOC_CLASSES

PEEKED = 20
"""Label maps that are looked at to tell whose values they have."""


def read_folder(
    root: Path, labels: Path | None, split: str | Path | None, classes: Path | None
) -> tuple[Dataset, list[Problem]]:
    """Read a set in the VOC layout (images in `JPEGImages`) or with its images directly below the root.

    Arguments and errors are those of `open_dataset`. With a split, labels of other images are not looked at.

    Returns:
        The set with every image that exists, and all problems.
    """
    folder, images, index_problems = _find_images(root)
    source = labels or find_labels(root)
    if source is None:
        expected = "labels.csv, labels.jsonl, Annotations/*.xml or SegmentationClass/*.png"
        missing = [] if images else [Problem(folder, "expected images, found none")]
        raise DatasetError([*index_problems, *missing, Problem(root, f"expected image-level labels in {expected}")])
    chosen, problems = _choose(root, split, folder, images)
    problems += [problem for problem in index_problems if problem.sample in chosen]
    problems += case_problems(chosen)

    given = read_class_names(root, classes)
    # Label maps have the values of the table, not those of the lines.
    entries, more = read_entries(source, ClassTable(given or VOC_CLASSES).names)
    problems += [problem for problem in more if split is None or problem.sample is None or problem.sample in chosen]
    table = _class_table(root, given, classes, entries)
    labels_of, more = _resolve_labels(entries, chosen, table, folder if split is None else None)
    samples = tuple(_sample(root, id, chosen[id], labels_of.get(id, ())) for id in sorted(chosen))
    return Dataset(root, table, samples), problems + more


def read_images(root: Path, split: str | Path | None, classes: ClassTable) -> tuple[Dataset, list[Problem]]:
    """Read images alone, in the VOC layout or directly below the root; whatever labels there are stay unread.

    Returns:
        The set with every image that exists, and all problems.
    """
    folder, images, index_problems = _find_images(root)
    chosen, problems = _choose(root, split, folder, images)
    problems += [problem for problem in index_problems if problem.sample in chosen]
    problems += case_problems(chosen)
    samples = tuple(Sample(id, chosen[id], ()) for id in sorted(chosen))
    return Dataset(root, classes, samples), problems


def _find_images(root: Path) -> tuple[Path, dict[str, Path], list[Problem]]:
    """Return the folder of a set's images, its images by id, and problems."""
    folder = root / "JPEGImages"
    if not folder.is_dir():
        folder = root
    return folder, *index_images(folder)


def _choose(
    root: Path, split: str | Path | None, folder: Path, images: dict[str, Path]
) -> tuple[dict[str, Path], list[Problem]]:
    """Return the images of a list, and those that it names in vain; all images without a list."""
    if split is None:
        return images, []
    file, ids, problems = read_split(root, split)
    missing = [
        Problem(folder / id, f"expected an image, as {file.name} lists it, found none", id)
        for id in ids
        if id not in images
    ]
    return {id: images[id] for id in ids if id in images}, [*problems, *missing]


def _class_table(root: Path, given: tuple[str, ...] | None, file: Path | None, entries: list[Entry]) -> ClassTable:
    """Return the class table: the names that are given, VOC's in VOC's layout, else the tags in ascending order.

    Where there are label maps, their values tell whether they count VOC's classes or the tags.
    """
    if given is not None:
        return ClassTable(given, origin=f"the names in {(file or root / 'classes.txt').name}")
    names = {name for entry in entries for name in entry.labels}
    known = names & set(VOC_CLASSES)
    tags = ClassTable(tuple(sorted(names)), origin=f"the tags of the set, {len(names)} in all, in ascending order")
    # One misspelt tag among VOC's must not turn the table into another one, with other values in the masks.
    if 2 * len(known) <= len(names) or not any((root / name).is_dir() for name in ("JPEGImages", SEMANTIC)):
        return tags
    origin = f"VOC's 20 classes, since the folder has VOC's layout and {len(known)} of {len(names)} tags are VOC's"
    voc = ClassTable(VOC_CLASSES, origin=origin)
    return max((voc, tags), key=lambda table: _agreement(root, entries, table))


def _agreement(root: Path, entries: list[Entry], table: ClassTable) -> float:
    """Return how far label maps have the values of their images' tags in a class table, and no other: 1 for all."""
    values = {name: number for number, name in enumerate(table.names, start=1)}
    found = []
    for entry in entries:
        file = root / SEMANTIC / f"{entry.id}.png"
        if entry.labels and file.is_file():
            try:
                present = set(np.unique(read_label_map(file)).tolist()) - {0, VOID}
            except DatasetError:
                continue
            wanted = {values.get(name) for name in entry.labels}
            found.append(((present <= wanted) + (wanted <= present)) / 2)
        if len(found) == PEEKED:
            break
    return sum(found) / max(1, len(found))


def _resolve_labels(
    entries: list[Entry], images: dict[str, Path], table: ClassTable, folder: Path | None
) -> tuple[dict[str, tuple[int, ...]], list[Problem]]:
    """Return id -> class indices. An entry without its image is a problem only where `folder` is given."""
    index = {name: number for number, name in enumerate(table.names)}
    by_id: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_id[entry.id].append(entry)
    labels, problems = {}, []
    for id, (entry, *others) in by_id.items():
        if id not in images:
            if folder is not None:
                place = f"{entry.file.name}, {entry.where}" if entry.where else entry.file.name
                problems.append(
                    Problem(folder / entry.name, f"expected an image, as {place} has labels for it, found none", id)
                )
            continue
        if others:
            places = ", ".join(other.where or other.file.name for other in others)
            problems.append(entry.problem(f"expected the image {id!r} once, found it again: {places}"))
        for name in sorted(entry.labels - index.keys()):
            expected = f"expected one of {shortened(table.names)} (classes.txt in the set's folder sets others)"
            problems.append(entry.problem(f"{expected}, found the class {name!r} for the image {id!r}"))
        labels[id] = tuple(sorted(index[name] for name in entry.labels & index.keys()))
    return labels, problems


def _sample(root: Path, id: str, image: Path, labels: tuple[int, ...]) -> Sample:
    semantic, instances = (root / folder / f"{id}.png" for folder in ("SegmentationClass", "SegmentationObject"))
    return Sample(
        id=id,
        image=image,
        labels=labels,
        semantic=semantic if semantic.is_file() else None,
        instances=instances if instances.is_file() else None,
    )
