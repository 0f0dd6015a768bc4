"""Finding the one file or folder beside a set that belongs to an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data.dataset import Dataset, Problem
from data.readers.image_names import ImageNames

LISTED = 10


def match_samples(
    dataset: Dataset,
    sources: Mapping[str, Sequence[Path]],
    folder: Path,
    *,
    several: Callable[[str], str],
    none: Callable[[str], str],
) -> tuple[dict[str, Path], list[str], list[Problem]]:
    """Return sample id -> source, how names were fitted, and a problem for each labelled image without one source.

    Args:
        dataset: The set.
        sources: Name -> what has it; found as images are by their names in lists: also in a flat folder, where that is
            clear.
        folder: Of the sources.
        several: Gives what was expected for an image that has several.
        none: The same of one that has none.
    """
    wanted = [sample for sample in dataset.samples if sample.labels]
    match = ImageNames(sources).match(sample.id for sample in wanted)
    found, problems = {}, []
    for sample in wanted:
        of_image = sources.get(match.ids.get(sample.id, ""), [])
        if len(of_image) == 1:
            found[sample.id] = of_image[0]
        elif of_image:
            names = " and ".join(source.name for source in of_image)
            problems.append(Problem(of_image[0], f"{several(sample.id)}, found {names}", sample.id))
        else:
            problems.append(Problem(folder, f"{none(sample.id)}, found none", sample.id))
    return found, list(match.notes), problems


def first_problems(problems: list[Problem], folder: Path, what: str = "a map") -> list[Problem]:
    """Return the first problems of a folder, and how many images there are beyond that are without something."""
    if len(problems) <= LISTED + 1:
        return problems
    return [*problems[:LISTED], Problem(folder, f"and {len(problems) - LISTED} more images without {what}")]
