"""Where the regions that a segmenter has found in a set's images lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from data.dataset import Dataset, DatasetError, Problem, with_more
from data.files import walk_visible
from data.readers.beside.matching import first_problems, match_samples
from data.region_masks import MASK_SUFFIX
from data.validation import can_be_set_aside

REGION_SUFFIXES = frozenset({".json", MASK_SUFFIX})


def with_regions(dataset: Dataset, folder: Path, skip_bad: bool = False) -> tuple[Dataset, list[Problem]]:
    """Return a set whose samples with labels know where the regions of their images are.

    Args:
        dataset: The set.
        folder: Of `<id>.json`, `<id>.png` or folders `<id>`, found as images are by their names in lists: also in a
            flat folder, where that is clear.
        skip_bad: Return the images without regions instead of raising.

    Returns:
        The set, and a problem for each labelled image without regions (none unless `skip_bad`).

    Raises:
        DatasetError: There is no such folder; or images have no regions: the first are named, the others counted.
    """
    if not folder.is_dir():
        raise DatasetError([Problem(folder, "expected a folder of regions")])
    sources = _find_sources(folder, {sample.id for sample in dataset.samples})
    found, notes, problems = match_samples(
        dataset,
        sources,
        folder,
        several=lambda id: f"expected regions of {id} once",
        none=lambda id: f"expected regions, {id}.json, .png or a folder of that name",
    )
    if problems and not skip_bad:
        raise DatasetError(first_problems(problems, folder, "regions"), of_images=can_be_set_aside(dataset, problems))
    samples = tuple(
        with_more(sample, regions=found[sample.id]) if sample.id in found else sample for sample in dataset.samples
    )
    notes = (*dataset.notes, *(f"regions: {note}" for note in notes))
    return replace(dataset, samples=samples, notes=notes), problems


def _find_sources(folder: Path, ids: Collection[str]) -> dict[str, list[Path]]:
    """Return name -> files and folders of regions that have it.

    A PNG in a folder below is one region of the image that the folder is called after, unless an image has its name.
    """
    sources: dict[str, list[Path]] = defaultdict(list)
    found = walk_visible(folder)
    for path in sorted(p / name for p, *both in found for names in both for name in names if name[0] != "."):
        name = path.relative_to(folder)
        if path.is_dir():
            if name.as_posix() in ids and not _holds_sources(path, name, ids):
                sources[name.as_posix()].append(path)
            continue
        id, above = name.with_suffix("").as_posix(), name.parent.as_posix()
        if path.suffix.lower() not in REGION_SUFFIXES:
            continue
        if path.suffix.lower() == MASK_SUFFIX and above != "." and id not in ids:
            if path.parent not in sources[above]:
                sources[above].append(path.parent)
        else:
            sources[id].append(path)
    return sources


def _holds_sources(path: Path, name: Path, ids: Collection[str]) -> bool:
    """Tell whether a folder that is called like an image holds files of other images, and is none of regions."""
    return any(
        (name / file.stem).as_posix() in ids for file in path.iterdir() if file.suffix.lower() in REGION_SUFFIXES
    )
