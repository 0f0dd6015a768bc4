"""Finding the one file or folder beside a set that belongs to an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from data.dataset import Dataset, Problem
from data.names import shortened
from data.readers.image_names import SHOWN, ImageNames, image_id

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
    ids, notes = match.ids, list(match.notes)
    if not ids:
        ids, notes = match_with_affix([sample.id for sample in wanted], list(sources))
    found, problems = {}, []
    for sample in wanted:
        of_image = sources.get(ids.get(sample.id, ""), [])
        if len(of_image) == 1:
            found[sample.id] = of_image[0]
        elif of_image:
            names = " and ".join(source.name for source in of_image)
            problems.append(Problem(of_image[0], f"{several(sample.id)}, found {names}", sample.id))
        else:
            problems.append(Problem(folder, f"{none(sample.id)}, found none", sample.id))
    return found, notes, problems


def match_with_affix(names: Sequence[str], files: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Find the images of files that are all named like images with the same words before or behind, such as `_attn`.

    The words begin or end where the image's name does, with something else than a letter or number, and have a letter:
    numbers tell images apart.

    Args:
        names: Of images.
        files: Names of files without their suffixes, none of which is an image's.

    Returns:
        Name -> file, and a note on the words; nothing where none fit, or several differ and fit as many images.
    """
    found: dict[str, dict[str, str]] = {}
    for affix, stripped in _without_affixes(files):
        if len(stripped) < len(files):
            # Two files have one name by now.
            continue
        match = ImageNames(stripped).match(names)
        found[affix] = {name: stripped[id] for name, id in match.ids.items()}
    most = max(map(len, found.values()), default=0)
    best = sorted((affix for affix, ids in found.items() if len(ids) == most), key=len)
    if not most or any(found[affix] != found[best[0]] for affix in best):
        return {}, []
    ids = found[best[0]]
    pairs = shortened((f"{name!r} is {file!r}" for name, file in ids.items()), SHOWN)
    return ids, [f"files found by their names without {best[0]!r}: {pairs}"]


def _without_affixes(files: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the words that all files have before or behind, and name without them -> file."""
    parts = [file.rpartition("/") for file in files]
    lasts = [last for *_, last in parts]
    sizes = range(1, min(map(len, lasts), default=0))
    before = {lasts[0][:size] for size in sizes if not lasts[0][size - 1].isalnum()}
    behind = {lasts[0][-size:] for size in sizes if not lasts[0][-size].isalnum()}
    for affix in sorted(filter(_has_letter, before)):
        if all(last.startswith(affix) for last in lasts):
            names = (f"{folder}{slash}{last.removeprefix(affix)}" for folder, slash, last in parts)
            yield affix, dict(zip(map(image_id, names), files, strict=True))
    for affix in sorted(filter(_has_letter, behind)):
        if all(last.endswith(affix) for last in lasts):
            yield affix, {image_id(file.removesuffix(affix)): file for file in files}


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))


def first_problems(problems: list[Problem], folder: Path, what: str = "a map") -> list[Problem]:
    """Return the first problems of a folder, and how many images there are beyond that are without something."""
    if len(problems) <= LISTED + 1:
        return problems
    more = len(problems) - LISTED
    return [*problems[:LISTED], Problem(folder, f"and {more} more images without {what}", count=more)]
