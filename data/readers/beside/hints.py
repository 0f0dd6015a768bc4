"""Where hints on a set's images lie: what a person said of some of their pixels."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from data.dataset import Dataset, DatasetError, NamedBox, Problem, with_more
from data.files import MARK, files_below
from data.names import shortened
from data.readers.beside.box_files import box_files, coco_boxes, is_coco, several_files, yolo_boxes
from data.readers.beside.matching import LISTED, first_problems
from data.readers.image_names import ImageNames
from data.validation import can_be_set_aside

SUFFIXES = frozenset({".json", ".xml", ".png"})


def with_hints(dataset: Dataset, folder: Path, skip_bad: bool = False) -> tuple[Dataset, list[Problem]]:
    """Return a set whose samples know where the hints on their images are. Images without hints stay as they are.

    Args:
        dataset: The set.
        folder: Of `<id>.json`, `.xml` or `.png`, or of YOLO's `<id>.txt`, found as images are by their names in lists;
            or of COCO's instance files, or one such file.
        skip_bad: Return the images with bad hints instead of raising.

    Returns:
        The set, and a problem for each image with several files of hints, and for each bad box (none unless
        `skip_bad`).

    Raises:
        DatasetError: There is no such folder, it has no hints of any image of the set, or several of one; or a box of
            COCO's or YOLO's files cannot be.
    """
    by_id = {sample.id: sample for sample in dataset.samples}
    files, coco_files, left = _find_files(dataset, folder)
    match = ImageNames(by_id).match(files)
    texts = {file.relative_to(folder).with_suffix("").as_posix(): file for file in box_files(folder)}
    names = ImageNames(by_id).match(texts).ids
    of_image: dict[str, list[Path]] = defaultdict(list)
    for name, id in names.items():
        of_image[id].append(texts[name])
    boxes, problems = yolo_boxes(folder, of_image, by_id, dataset.classes)
    found, notes, alone = [boxes], [*match.notes, *left], list(match.alone)
    for file in coco_files:
        boxes, wrong, more = coco_boxes(file, by_id, dataset.classes)
        found, problems, notes = [*found, boxes], [*problems, *wrong], [*notes, *more]
    sources: dict[str, list[Path]] = defaultdict(list)
    for name, id in match.ids.items():
        sources[id] += files[name]
    given: dict[str, tuple[NamedBox, ...]] = {}
    for id, (file, sides) in ((id, each) for boxes in found for id, each in boxes.items()):
        sources[id].append(file)
        given[id] = sides
    if not sources and not problems:
        shown = f"found {len(files)} of others" if files else "found none"
        expected = "expected hints ID.json, ID.xml, ID.png or ID.txt of images of the set, or COCO's JSON"
        raise DatasetError([Problem(folder, f"{expected}, {shown}")])
    problems += [several_files(folder, id, each) for id, each in sources.items() if len(each) > 1]
    if problems and not skip_bad:
        raise DatasetError(
            first_problems(problems, folder, "one file of hints"), of_images=can_be_set_aside(dataset, problems)
        )
    bad = {problem.sample for problem in problems}
    samples = tuple(
        with_more(sample, hints=sources[sample.id][0], boxes=given.get(sample.id, ()))
        if sample.id in sources and sample.id not in bad
        else sample
        for sample in dataset.samples
    )
    notes = [f"{len(sources)} of {len(samples)} images have some", *notes]
    if alone:
        shown = ", ".join(alone[:LISTED]) + " ..." * (len(alone) > LISTED)
        notes.append(f"{len(alone)} are of no image of the set: {shown}")
    return replace(dataset, samples=samples, notes=(*dataset.notes, *(f"hints: {note}" for note in notes))), problems


def _find_files(dataset: Dataset, folder: Path) -> tuple[dict[str, list[Path]], list[Path], list[str]]:
    """Return name -> files of one image, COCO's files of many, and a note on folders that are left out.

    Raises:
        DatasetError: There is no such folder, and no such file of COCO's.
    """
    if folder.is_file() and is_coco(folder):
        return {}, [folder], []
    if not folder.is_dir():
        raise DatasetError([Problem(folder, "expected a folder of hints, or COCO's JSON of boxes")])
    files: dict[str, list[Path]] = defaultdict(list)
    photographs = {sample.image.resolve() for sample in dataset.samples}
    made: list[Path] = []
    # Predicted label maps would be taken for what a person said.
    for file in files_below(folder, SUFFIXES, own=(MARK,), left=made):
        # labelme writes its files beside the photographs.
        if file.resolve() not in photographs:
            files[file.relative_to(folder).with_suffix("").as_posix()].append(file)
    # Only what is called like no image can be of many.
    others = ImageNames({sample.id: sample for sample in dataset.samples}).match(files).alone
    of_many = [file for name in others for file in files[name] if is_coco(file)]
    names = [path.relative_to(folder).as_posix() for path in made]
    left = [f"folders that pseudomask wrote, left out: {shortened(names, LISTED)}"] if names else []
    return {name: own for name, each in files.items() if (own := [f for f in each if f not in of_many])}, of_many, left
