"""Where hints on a set's images lie: what a person said of some of their pixels."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from data.dataset import Dataset, DatasetError, Problem, with_more
from data.readers.beside.matching import LISTED, first_problems
from data.readers.image_names import ImageNames

SUFFIXES = frozenset({".json", ".xml", ".png"})


def with_hints(dataset: Dataset, folder: Path, skip_bad: bool = False) -> tuple[Dataset, list[Problem]]:
    """Return a set whose samples know where the hints on their images are. Images without hints stay as they are.

    Args:
        dataset: The set.
        folder: Of `<id>.json`, `.xml` or `.png`, found as images are by their names in lists.
        skip_bad: Return the images with several hints instead of raising.

    Returns:
        The set, and a problem for each image with several files of hints (none unless `skip_bad`).

    Raises:
        DatasetError: There is no such folder, it has no hints of any image of the set, or several of one.
    """
    if not folder.is_dir():
        raise DatasetError([Problem(folder, "expected a folder of hints")])
    files: dict[str, list[Path]] = defaultdict(list)
    photographs = {sample.image.resolve() for sample in dataset.samples}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        # labelme writes its files beside the photographs.
        if file.resolve() in photographs:
            continue
        if file.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.parts):
            files[name.with_suffix("").as_posix()].append(file)
    match = ImageNames({sample.id: sample for sample in dataset.samples}).match(files)
    if not match.ids:
        found = f"found {len(files)} of others" if files else "found none"
        raise DatasetError([Problem(folder, f"expected hints ID.json, ID.xml or ID.png of images of the set, {found}")])
    sources: dict[str, list[Path]] = defaultdict(list)
    for name, id in match.ids.items():
        sources[id] += files[name]
    problems = [_several(id, each) for id, each in sources.items() if len(each) > 1]
    if problems and not skip_bad:
        raise DatasetError(first_problems(problems, folder, "one file of hints"))
    samples = tuple(
        with_more(sample, hints=sources[sample.id][0]) if len(sources.get(sample.id, ())) == 1 else sample
        for sample in dataset.samples
    )
    notes = [f"hints: {len(sources)} of {len(samples)} images have some", *(f"hints: {note}" for note in match.notes)]
    if match.alone:
        shown = ", ".join(match.alone[:LISTED]) + " ..." * (len(match.alone) > LISTED)
        notes.append(f"hints: {len(match.alone)} are of no image of the set: {shown}")
    return replace(dataset, samples=samples, notes=(*dataset.notes, *notes)), problems


def _several(id: str, files: list[Path]) -> Problem:
    return Problem(files[0], f"expected hints of {id} once, found {' and '.join(file.name for file in files)}", id)
