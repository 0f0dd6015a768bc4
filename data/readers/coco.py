"""A set described by a COCO instance file."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.dataset import ClassTable, CocoSource, Dataset, DatasetError, Problem, Sample
from data.files import visible
from data.formats.coco import CocoFile, read_coco
from data.formats.coco_records import has_masks, record_order
from data.names import alike, clean_name, is_background, name_fault, shortened
from data.readers.entries import FIRST_TABLES, first_sources
from data.readers.ids import case_problems, find_split, left_out_of_table, read_class_names, read_split
from data.readers.image_names import ImageNames, image_id, is_unsafe, unsafe_message
from data.readers.index import id_fault, index_folder, nested_problems
from data.readers.json_labels import holds_coco

LISTED = 3
OWN_NAMES = ("_annotations.coco.json", "labels.json", "annotations.json", "result.json")
"""Instance files of Roboflow, FiftyOne and Label Studio, which lie beside their images or the images' folder."""


def find_coco_file(root: Path, labels: Path | None, split: str | Path | None) -> Path | None:
    """Return the instance file of a set, or None where the set is not COCO's.

    Raises:
        DatasetError: The set has several instance files and nothing says which one is meant.
    """
    if labels is not None:
        return labels if labels.suffix.lower() == ".json" and (not labels.is_file() or holds_coco(labels)) else None
    names = {file.name.casefold() for file in root.iterdir()}
    if (root / "JPEGImages").is_dir() or names & set(FIRST_TABLES):
        return None
    files = visible(root / "annotations", "*.json")
    # COCO's own folder holds captions and key points beside the instances.
    files = [file for file in files if file.stem.startswith("instances")] or files
    if not files and not first_sources(root):
        own = [root / name for name in OWN_NAMES] + visible(root, f"*/{OWN_NAMES[0]}")
        files = [file for file in own if file.is_file() and holds_coco(file)]
    if split is not None:
        named = (str(split), f"instances_{split}")
        files = [file for file in files if file.stem in named or _list_name(file) == str(split)] or files
    if len(files) > 1:
        found = shortened(file.relative_to(root).as_posix().removeprefix("annotations/") for file in files)
        message = f"expected one instance file, or its name as labels or split, found {found}"
        raise DatasetError([Problem(root / "annotations" if files[0].parent.name == "annotations" else root, message)])
    return files[0] if files else None


def _list_name(file: Path) -> str | None:
    """Return the list that an instance file of Roboflow's describes: its folder's name."""
    return file.parent.name if file.name == OWN_NAMES[0] else None


def _is_in(split: str, stem: str) -> bool:
    """Tell whether the name of a list is a word of a file's name: train is one of train2017, and none of trainval."""
    return re.search(rf"(?<![^\W\d_]){re.escape(split)}(?![^\W\d_])", stem) is not None


def read_coco_set(
    root: Path, file: Path, split: str | Path | None, classes: Path | None
) -> tuple[Dataset, list[Problem]]:
    """Read the images that a COCO file lists, with the categories of their annotations as labels.

    A class table that is given picks among the categories; annotations of the others are left out, in the labels
    and in the ground truth. A crowd counts for the labels; its pixels are void in the ground truth.

    Arguments and errors are those of `open_dataset`.

    Returns:
        The set with every image that exists, and all problems.
    """
    content = read_coco(file)
    given = read_class_names(root, classes)
    table, notes = _class_table(content, given, classes or root / "classes.txt")
    images, problems, more = _find_images(root, content)
    notes += more
    if split is not None and (list_file := find_split(root, split)) is not None:
        listed = read_split(root, split, ImageNames(images))
        notes += listed.notes
        problems += listed.problems
        problems += [
            Problem(list_file, f"expected images that {file.name} describes, found {name!r}", image_id(name))
            for name in listed.missing
        ]
        images = {id: images[id] for id in listed.ids}
    elif split is not None and not _is_in(str(split), file.stem) and str(split) != _list_name(file):
        raise DatasetError(
            [Problem(Path(split), f"expected a list of images, or an instance file in {root / 'annotations'}")]
        )

    indices = {category: index for index, category in enumerate(table.category_ids)}
    categories_known = content.categories.keys()
    # A file of boxes alone has no ground truth for images without objects either.
    masked = any(record["segmentation"] for records in content.annotations.values() for record in records)
    masked = masked or not any(content.annotations.values())
    samples, alone = [], []
    for id, (number, image) in sorted(images.items()):
        categories = {annotation["category_id"] for annotation in content.annotations[number]}
        problems += [
            Problem(file, f"expected one of its own categories, found category {category!r} on image {id!r}", id)
            for category in sorted(categories - categories_known, key=record_order)
        ]
        if os.path.isfile(image):  # noqa: PTH113 -- see _find_images
            labels = tuple(sorted(indices[category] for category in categories & indices.keys()))
            # Boxes and classes alone are labels; a mask that lacks some of the objects is no ground truth.
            known = masked and has_masks(content.annotations[number]) and None not in _size(content, number)
            coco = CocoSource(file, number, table.category_ids) if known else None
            samples.append(Sample(id, image, labels, coco=coco))
        else:
            alone.append(Problem(image, f"expected an image, as {file.name} describes it, found none", id))
    if len(alone) > 1 and not samples:
        shown = shortened(
            (repr(content.images[images[problem.sample or ""][0]]["file_name"]) for problem in alone), LISTED
        )
        message = (
            f"expected its images below {root}, found none of its {len(alone)} ({shown}): are their folders others?"
        )
        alone = [Problem(file, message)]
    problems += alone
    files = {sample.id: sample.image for sample in samples}
    problems += [*case_problems(files), *nested_problems(files)]
    if given is None and (empty := sum(not sample.labels for sample in samples)):
        notes.append(f"images without an annotation in {file.name}, taken for background only: {empty}")
    source = file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
    return Dataset(root, table, tuple(samples), f"{source}: COCO's annotations", tuple(notes)), problems


def _size(content: CocoFile, number: int) -> tuple[int | None, int | None]:
    return content.images[number]["height"], content.images[number]["width"]


def _class_table(content: CocoFile, names: tuple[str, ...] | None, names_file: Path) -> tuple[ClassTable, list[str]]:
    used = Counter(annotation["category_id"] for records in content.annotations.values() for annotation in records)
    categories, problems, notes = _category_names(content, used, picked=names)
    if names is None:
        if problems:
            raise DatasetError(problems)
        origin = f"the categories of {content.path.name}"
        return ClassTable(tuple(categories.values()), tuple(categories), origin=origin), notes
    numbers = {name: number for number, name in categories.items()}
    if not problems and (unknown := [name for name in names if name not in numbers]):
        known = shortened(map(str, content.categories.values()))
        message = f"expected categories of {content.path.name} ({known}), found {shortened(unknown)}"
        problems = [Problem(names_file, message)]
    if problems:
        raise DatasetError(problems)
    if left := left_out_of_table(names_file):
        notes.append(f"{names_file.name}: left out what is no class: {', '.join(map(repr, left))}")
    return ClassTable(names, tuple(numbers[name] for name in names), origin=f"the names in {names_file.name}"), notes


def _category_names(
    content: CocoFile, used: Mapping[Any, int], picked: tuple[str, ...] | None
) -> tuple[dict[Any, str], list[Problem], list[str]]:
    """Return category id -> name as `clean_name` returns it, what is wrong with the names, and what was left out.

    Where a class table picks among them, only the names in it must be sound.
    """
    categories: dict[Any, str] = {}
    problems, notes = [], []
    by_name: dict[str, list[Any]] = defaultdict(list)
    for number, name in content.categories.items():
        clean = clean_name(name) if isinstance(name, str) else ""
        if picked is not None and clean not in picked:
            continue
        if is_background(clean) and not used.get(number):
            notes.append(f"category {number!r} is called {name!r} and has no annotation: left out of the classes")
            continue
        expected = f"expected the name of a class for category {number!r}, found"
        if not isinstance(name, str):
            problems.append(Problem(content.path, f"{expected} {name!r:.80}, which is no text"))
        elif fault := name_fault(clean):
            more = f" with {used[number]} annotations" if is_background(clean) else ""
            message = (
                f"{expected} {fault}: {name!r:.80}{more}. Rename it, or list the categories that count in classes.txt"
            )
            problems.append(Problem(content.path, message))
        else:
            categories[number] = clean
            by_name[clean].append(number)
    for name, numbers in by_name.items():
        if len(numbers) > 1:
            message = (
                f"expected one category of each name, found {name!r} for categories {', '.join(map(repr, numbers))}"
            )
            problems.append(Problem(content.path, message))
    for group in alike(by_name):
        shown = " and ".join(f"{name!r} (category {by_name[name][0]!r})" for name in group)
        problems.append(Problem(content.path, f"expected names that differ in more than case, found {shown}"))
    return categories, problems, notes


def _find_images(root: Path, content: CocoFile) -> tuple[dict[str, tuple[int, Path]], list[Problem], list[str]]:
    """Return sample id -> (image id, file), problems and notes.

    The file is in the first place that has it, else the one whose name fits (`ImageNames.match`); it may be missing.
    """
    subset = content.path.stem.removeprefix("instances_")
    beside = [] if content.path.parent.name == "annotations" else [content.path.parent]
    places = [
        root / "images" / subset,
        root / "images",
        root / subset,
        root / "JPEGImages",
        root,
        *beside,
        root / "data",
    ]
    images: dict[str, tuple[int, Path]] = {}
    problems, lost = [], {}
    for number, record in content.images.items():
        name = record["file_name"]
        fault = id_fault(image_id(name)) if isinstance(name, str) else "expected the name of an image, found no text"
        if fault:
            problems.append(Problem(content.path, f"image {number!r}: {fault}, in {name!r:.80}"))
            continue
        # False, too, for names that are too long for a file.
        found = (place / name for place in places if not is_unsafe(name) and os.path.isfile(place / name))  # noqa: PTH113
        file = next(found, None)
        id = image_id(name)
        if file is None:
            lost[number] = name
        elif id in images:
            problems.append(_twice(content, id, images[id][0], number))
        else:
            images[id] = (number, file)
    notes = []
    if lost:
        index = index_folder(root)
        match = ImageNames(index.images).match(lost.values())
        notes = match.notes
        for number, name in lost.items():
            found = match.ids.get(name)
            # The id is the path below the folder of images, where the name has other folders.
            id = image_id(name) if found is None or not is_unsafe(name) else found
            id = id.replace("\\", "/") if found is not None else id
            if found is None and is_unsafe(name):
                problems.append(Problem(content.path, f"image {number}: {unsafe_message(name)}"))
            elif id in images:
                problems.append(_twice(content, id, images[id][0], number))
            else:
                images[id] = (number, index.images[found] if found is not None else root / name)
    known = content.images.keys()
    problems += [
        Problem(content.path, f"expected annotations of its own images, found {len(records)} of image {number!r}")
        for number, records in content.annotations.items()
        if number not in known
    ]
    return images, problems, notes


def _twice(content: CocoFile, id: str, first: Any, second: Any) -> Problem:
    message = f"expected one image with the id {id!r}, found image {first} and image {second}"
    return Problem(content.path, message, id)
