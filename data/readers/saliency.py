"""Where maps of a set's images lie, such as those of their saliency, which may also come from a network."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from data.dataset import Dataset, DatasetError, Problem
from data.formats.unit_maps import MAP_SUFFIXES
from data.readers.image_names import ImageNames
from data.saliency_maps import is_network

LISTED = 10


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
        raise DatasetError(first_problems(problems, source))
    samples = (replace(each, saliency=found.get(each.id) if each.labels else None) for each in dataset.samples)
    return replace(dataset, samples=tuple(samples), notes=(*dataset.notes, *notes)), problems


def first_problems(problems: list[Problem], folder: Path, what: str = "a map") -> list[Problem]:
    """Return the first problems of a folder, and how many images there are beyond that are without something."""
    if len(problems) <= LISTED + 1:
        return problems
    return [*problems[:LISTED], Problem(folder, f"and {len(problems) - LISTED} more images without {what}")]


def find_maps(dataset: Dataset, folder: Path, what: str) -> tuple[dict[str, Path], list[str], list[Problem]]:
    """Return sample id -> map, how names were fitted, and a problem for each labelled image without one map.

    Args:
        dataset: The set.
        folder: Of maps `<id>.png` or `<id>.npy`, found as images are by their names in lists: also in a flat folder,
            where that is clear.
        what: What a map is, as messages have it: "map of saliency".
    """
    files: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in MAP_SUFFIXES and not file.name.startswith(".") and file.is_file():
            files[file.relative_to(folder).with_suffix("").as_posix()].append(file)
    wanted = [sample for sample in dataset.samples if sample.labels]
    match = ImageNames(files).match(sample.id for sample in wanted)
    found, problems = {}, []
    for sample in wanted:
        of_image = files.get(match.ids.get(sample.id, ""), [])
        if len(of_image) == 1:
            found[sample.id] = of_image[0]
        elif of_image:
            names = " and ".join(file.name for file in of_image)
            problems.append(Problem(of_image[0], f"expected one {what} for {sample.id}, found {names}", sample.id))
        else:
            message = f"expected a {what}, {sample.id}.png or .npy, found none"
            problems.append(Problem(folder, message, sample.id))
    return found, [f"{what}: {note}" for note in match.notes], problems
