"""A set described by a COCO instance file."""

from __future__ import annotations

from pathlib import Path

from data.coco import CocoFile, read_coco
from data.dataset import ClassTable, CocoSource, Dataset, DatasetError, Problem, Sample
from data.readers.ids import (
    case_problems,
    find_split,
    image_id,
    is_unsafe,
    read_class_names,
    read_split,
    shortened,
    unsafe_problem,
)


def find_coco_file(root: Path, labels: Path | None, split: str | Path | None) -> Path | None:
    """Return the instance file of a set, or None where the set is not COCO's.

    Raises:
        DatasetError: The set has several instance files and nothing says which one is meant.
    """
    if labels is not None:
        return labels if labels.suffix.lower() == ".json" else None
    if (root / "JPEGImages").is_dir() or any((root / name).is_file() for name in ("labels.csv", "labels.jsonl")):
        return None
    files = sorted((root / "annotations").glob("*.json"))
    # COCO's own folder holds captions and key points beside the instances.
    files = [file for file in files if file.stem.startswith("instances")] or files
    if split is not None:
        files = [file for file in files if file.stem in (str(split), f"instances_{split}")] or files
    if len(files) > 1:
        message = (
            f"expected one instance file, or its name as labels or split, found {shortened(f.name for f in files)}"
        )
        raise DatasetError([Problem(root / "annotations", message)])
    return files[0] if files else None


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
    table = _class_table(content, read_class_names(root, classes), classes or root / "classes.txt")
    images, problems = _find_images(root, content)
    if split is not None and (list_file := find_split(root, split)) is not None:
        _, ids, more = read_split(root, split)
        problems += more
        problems += [
            Problem(list_file, f"expected images that {file.name} describes, found {id!r}", id)
            for id in ids
            if id not in images
        ]
        images = {id: images[id] for id in ids if id in images}
    elif split is not None and str(split) not in file.stem:
        raise DatasetError(
            [Problem(Path(split), f"expected a list of images, or an instance file in {root / 'annotations'}")]
        )

    indices = {category: index for index, category in enumerate(table.category_ids)}
    samples = []
    for id, (number, image) in sorted(images.items()):
        categories = {annotation["category_id"] for annotation in content.annotations[number]}
        problems += [
            Problem(file, f"expected one of its own categories, found category {category} on image {id!r}", id)
            for category in sorted(categories - content.categories.keys())
        ]
        if image.is_file():
            labels = tuple(sorted(indices[category] for category in categories & indices.keys()))
            samples.append(Sample(id, image, labels, coco=CocoSource(file, number, table.category_ids)))
        else:
            problems.append(Problem(image, f"expected an image, as {file.name} describes it, found none", id))
    problems += case_problems({sample.id: sample.image for sample in samples})
    return Dataset(root, table, tuple(samples)), problems


def _class_table(content: CocoFile, names: tuple[str, ...] | None, names_file: Path) -> ClassTable:
    if names is None:
        origin = f"the categories of {content.path.name}"
        return ClassTable(tuple(content.categories.values()), tuple(content.categories), origin=origin)
    numbers = {name: number for number, name in content.categories.items()}
    if unknown := [name for name in names if name not in numbers]:
        message = f"expected categories of {content.path.name} ({shortened(numbers)}), found {shortened(unknown)}"
        raise DatasetError([Problem(names_file, message)])
    return ClassTable(names, tuple(numbers[name] for name in names), origin=f"the names in {names_file.name}")


def _find_images(root: Path, content: CocoFile) -> tuple[dict[str, tuple[int, Path]], list[Problem]]:
    """Return sample id -> (image id, file); the file is in the first place that has it and may be missing."""
    subset = content.path.stem.removeprefix("instances_")
    places = [root / "images" / subset, root / "images", root / subset, root / "JPEGImages", root]
    images: dict[str, tuple[int, Path]] = {}
    problems = []
    for number, record in content.images.items():
        name = record["file_name"]
        if is_unsafe(name):
            problems.append(unsafe_problem(content.path, name, f"image {number}"))
            continue
        id = image_id(name)
        if id in images:
            message = f"expected one image with the id {id!r}, found image {images[id][0]} and image {number}"
            problems.append(Problem(content.path, message, id))
            continue
        file = next((place / name for place in places if (place / name).is_file()), root / name)
        images[id] = (number, file)
    known = content.images.keys()
    problems += [
        Problem(content.path, f"expected annotations of its own images, found {len(records)} of image {number}")
        for number, records in content.annotations.items()
        if number not in known
    ]
    return images, problems
