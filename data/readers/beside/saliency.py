"""Where maps of a set's images lie, such as those of their saliency, which may also come from a network."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from data.dataset import Dataset, DatasetError, Problem
from data.files import files_below, is_source
from data.formats.unit_maps import MAP_SUFFIXES
from data.readers.beside.matching import first_problems, match_samples
from data.readers.image_names import image_id
from data.saliency_maps import is_network
from data.validation import can_be_set_aside


def with_saliency(dataset: Dataset, source: Path, skip_bad: bool = False) -> tuple[Dataset, list[Problem]]:
    """Return a set whose samples with labels know where their saliency comes from.

    Args:
        dataset: The set.
        source: An `.onnx` file, or a folder of maps `<id>.png` or `<id>.npy`, found as images are by their names in
            lists: also in a flat folder, where that is clear.
        skip_bad: Return the images without a map instead of raising.

    Returns:
        The set, and a problem for each labelled image without a map (none unless `skip_bad`).

    Raises:
        DatasetError: The source is neither; or images have no map: the first are named, the others counted.
    """
    if is_network(source) and source.is_file():
        found, notes, problems = dict.fromkeys((sample.id for sample in dataset.samples), source), [], []
    elif source.is_dir():
        found, notes, problems = find_maps(dataset, source, "map of saliency")
    else:
        raise DatasetError([Problem(source, "expected a folder of maps of saliency, or a network in an .onnx file")])
    if problems and not skip_bad:
        raise DatasetError(first_problems(problems, source), of_images=can_be_set_aside(dataset, problems))
    samples = (replace(each, saliency=found.get(each.id) if each.labels else None) for each in dataset.samples)
    return replace(dataset, samples=tuple(samples), notes=(*dataset.notes, *notes)), problems


def find_maps(dataset: Dataset, folder: Path, what: str) -> tuple[dict[str, Path], list[str], list[Problem]]:
    """Return sample id -> map, how names were fitted, and a problem for each labelled image without one map.

    Args:
        dataset: The set.
        folder: Of maps `<id>.png` or `<id>.npy`, found as images are by their names in lists: also in a flat folder,
            where that is clear.
        what: What a map is, as messages have it: "map of saliency".
    """
    files: dict[str, list[Path]] = defaultdict(list)
    for file in files_below(folder, MAP_SUFFIXES):
        if is_source(file):
            files[image_id(file.relative_to(folder).with_suffix("").as_posix())].append(file)
    found, notes, problems = match_samples(
        dataset,
        files,
        folder,
        several=lambda id: f"expected one {what} for {id}",
        none=lambda id: f"expected a {what}, {id}.png or .npy",
    )
    return found, [f"{what}: {note}" for note in notes], problems
