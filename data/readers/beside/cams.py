"""Class attention maps of another method beside the images of a set: which file is whose, and what they all are."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from data.cam_classes import TABLES, numbers_of
from data.cam_families import FAMILIES, CamFamily, family_of
from data.cam_maps import MAP_SUFFIXES, byte_limit, cams_of, describe, read_content
from data.dataset import CamSource, Dataset, DatasetError, Problem, Sample
from data.files import files_below, is_source
from data.formats.images import image_size
from data.names import clean_name, shortened
from data.readers.beside.matching import match_with_affix
from data.readers.image_names import ImageNames, image_id
from data.readers.text import read_text, text_lines
from data.validation import can_be_set_aside

Missing = Literal["error", "skip", "background"]
MAPS = "class attention maps"
LISTED = 10
# Files that tell the family; all are checked against it before a run begins.
LOOKED_AT = 32
CLASSES_FILE = "classes.txt"
_COCO_NAME = re.compile(r"(?:COCO_[a-z]+\d{4}_)?0*(\d{1,12})")


def with_cams(
    dataset: Dataset,
    folder: Path,
    *,
    classes: str | None = None,
    family: str | None = None,
    missing: Missing = "error",
    skip_bad: bool = False,
) -> tuple[Dataset, list[Problem]]:
    """Return a set whose samples with labels know their maps, and that knows what these are.

    Args:
        dataset: The set.
        folder: Of files `<id>.npy`, `.npz` or `.pt`, found as images are by their names in lists.
        classes: The maps' table, for `read_table`; by default `classes.txt` in the folder, else the set's own.
        family: The name of the maps' family; by default it is told by some of the files and the tags.
        missing: What happens to images with labels and without a map: they are refused, set aside, or their maps are
            taken for empty.
        skip_bad: Leave files that contradict the tags to the check of all files.

    Returns:
        The set, and a problem for each image that is to be set aside.

    Raises:
        DatasetError: There is no such folder or table; images have no map: the first are named, the others counted;
            or most of some files are of no family, of several, or contradict the tags, with an example.
    """
    if not folder.is_dir():
        raise DatasetError([Problem(folder, f"expected a folder of {MAPS}")])
    files = _files(folder)
    if not files:
        raise DatasetError([Problem(folder, f"expected {MAPS} of the set's images, found no .npy, .npz or .pt in it")])
    found, notes, problems = _find(dataset, folder, files)
    if problems and missing != "skip":
        twice = [problem for problem in problems if problem.file != folder]
        if twice or missing == "error":
            hints = [] if twice else _hints(dataset, folder, files, found)
            of_images = can_be_set_aside(dataset, problems)
            raise DatasetError([*_few(twice or problems, folder), *hints], of_images=of_images)
        notes.append(f"{len(problems)} images have no map, which is taken for empty: {_named(problems)}")
        problems = []
    if not found:
        hints = _hints(dataset, folder, files, found)
        raise DatasetError([Problem(folder, f"expected {MAPS} of the set's images, found none"), *hints])
    samples = tuple(replace(s, cams=found.get(s.id) if s.labels else None) for s in dataset.samples)
    names = _names(dataset, folder, classes)
    dataset = replace(dataset, samples=samples)
    chosen = _family(dataset, names, family, missing, skip_bad)
    origin = f"{folder}, of the form {chosen.name} ({chosen.writer})"
    source = CamSource(chosen.name, names, missing, origin)
    notes.append(f"{len(found)} files of {origin}, {len(names)} classes ({shortened(filter(None, names), 5)})")
    notes = [f"{MAPS}: {note}" for note in notes]
    return replace(dataset, notes=(*dataset.notes, *notes), cams=source), problems


def _files(folder: Path) -> dict[str, list[Path]]:
    """Return name -> files of maps, without their suffixes."""
    files: dict[str, list[Path]] = defaultdict(list)
    for file in files_below(folder, MAP_SUFFIXES):
        if is_source(file):
            files[image_id(file.relative_to(folder).with_suffix("").as_posix())].append(file)
    return files


def _find(
    dataset: Dataset, folder: Path, files: Mapping[str, list[Path]]
) -> tuple[dict[str, Path], list[str], list[Problem]]:
    """Return sample id -> file, notes, and a problem for each labelled image without one file."""
    wanted = [sample.id for sample in dataset.samples if sample.labels]
    match = ImageNames(files).match(wanted)
    ids, notes = match.ids | _by_coco_number(match.alone, files, set(match.ids.values())), list(match.notes)
    if not ids:
        ids, notes = match_with_affix(wanted, list(files))
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    for id in wanted:
        of_image = files.get(ids.get(id, ""), [])
        if len(of_image) == 1:
            found[id] = of_image[0]
        elif of_image:
            names = " and ".join(file.name for file in of_image)
            problems.append(Problem(of_image[0], f"expected one file of maps for {id}, found {names}", id))
        else:
            problems.append(Problem(folder, f"expected the maps of {id}, {id}.npy, .npz or .pt, found none", id))
    if unknown := _unknown(files, dataset, set(ids.values())):
        notes.append(f"{len(unknown)} files are of no image of the set, and stay unread: {_listed(unknown)}")
    return found, notes, problems


def _hints(dataset: Dataset, folder: Path, files: Mapping[str, list[Path]], found: Mapping[str, Path]) -> list[Problem]:
    """Return what else is in the folder, as a line, and how to name it; nothing where all files have their image."""
    taken = set(found.values())
    unknown = _unknown(files, dataset, {name for name, each in files.items() if taken.intersection(each)})
    alone = [sample.id for sample in dataset.samples if sample.labels and sample.id not in found]
    if not unknown or not alone:
        return []
    # An example that seems to be of one of the images shows best what is wrong with its name.
    pairs = ((name, id) for name in unknown[:LISTED] for id in alone[:LISTED] if id in name)
    name, id = next(pairs, (unknown[0], alone[0]))
    example = files[name][0].relative_to(folder)
    count = "1 file" if len(unknown) == 1 else f"{len(unknown)} files"
    message = f"it holds {count} of other names, such as {example}; name maps like their images: {id}{example.suffix}"
    return [Problem(folder, message, count=0)]


def _unknown(files: Mapping[str, list[Path]], dataset: Dataset, taken: set[str]) -> list[str]:
    others = [name for name in files if name not in taken]
    # Images without labels may have maps, which nothing needs.
    return ImageNames({sample.id: None for sample in dataset.samples}).match(others).alone


def _by_coco_number(names: Iterable[str], files: Iterable[str], taken: set[str]) -> dict[str, str]:
    """Return name -> file of the same number, where both are named as COCO's images are, with or without zeros."""

    def number(name: str) -> str | None:
        found = _COCO_NAME.fullmatch(image_id(name).rpartition("/")[2])
        return found and found[1]

    by_number: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if file not in taken and (digits := number(file)):
            by_number[digits].append(file)
    asked = Counter(map(number, names := list(names)))
    fits = ((name, digits) for name in names if (digits := number(name)) and asked[digits] == 1)
    return {name: by_number[digits][0] for name, digits in fits if len(by_number[digits]) == 1}


def read_table(name: str) -> tuple[str, ...]:
    """Return the names of a table's classes, by their numbers from 0.

    Args:
        name: "voc20", "coco80", "coco91", or the path of a file with a name per line.

    Raises:
        DatasetError: There is no such table, or the file cannot be read or holds a name twice.
    """
    if name in TABLES:
        return TABLES[name]
    file = Path(name)
    if not file.is_file():
        expected = f"expected a table of classes: {', '.join(TABLES)}, or a file with a name per line"
        raise DatasetError([Problem(file, expected)])
    names = tuple(clean_name(line) for line in text_lines(read_text(file)) if line.strip())
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice or not names:
        raise DatasetError([Problem(file, f"expected names of classes, found {', '.join(twice) or 'none'}, twice")])
    return names


def _names(dataset: Dataset, folder: Path, classes: str | None) -> tuple[str, ...]:
    """Return the names of the maps' classes by their numbers."""
    beside = folder / CLASSES_FILE
    if classes is None and not is_source(beside):
        return dataset.classes.real_names
    names = read_table(classes or str(beside))
    if not numbers_of(names, dataset.classes.names):
        told = f"{shortened(names, 5)}, none of which is in {shortened(dataset.classes.real_names, 5)}"
        raise DatasetError([Problem(folder, f"expected classes of the set among those of its maps, found {told}")])
    return names


def _family(
    dataset: Dataset, names: tuple[str, ...], family: str | None, missing: Missing, skip_bad: bool
) -> CamFamily:
    """Return the family of the folder's files: the first that fits most of the files that are looked at.

    It fits a file where the file's classes are the image's tags. Files that it does not fit are left to the check of
    all files, which lists every one.

    Raises:
        DatasetError: There is none: the form, or the table of classes, is another. The file is an example: of the
            family that fits most of them.
    """
    candidates = FAMILIES if family is None else (family_of(family),)
    failures: dict[str, list[DatasetError]] = {each.name: [] for each in candidates}
    known: set[str] = set()
    unread: list[DatasetError] = []
    looked_at = _spread([sample for sample in dataset.samples if sample.cams])
    for sample in looked_at:
        try:
            content = read_content(sample.cams or sample.image, byte_limit(image_size(sample.image), len(names)))
        except DatasetError as error:
            # What cannot be read is told with all else that cannot.
            unread.append(error)
            continue
        known |= {each.name for each in candidates if each.recognises(content)}
        for each in candidates:
            try:
                cams_of(content, sample, CamSource(each.name, names, missing), dataset.classes)
            except DatasetError as error:
                failures[each.name].append(error)
        if family is None and not any(each.recognises(content) for each in candidates):
            message = "expected class attention maps of a known form (docs/how-to/refine_your_cams.md), found "
            unread.append(DatasetError([Problem(sample.cams or sample.image, message + describe(content), sample.id)]))
    fitting = [each for each in candidates if each.name in known]
    if not fitting:
        raise [*unread, *failures[candidates[0].name]][0]
    best = min(fitting, key=lambda each: len(failures[each.name]))
    if len(failures[best.name]) > len(looked_at) / 2 and not skip_bad:
        raise failures[best.name][0]
    return best


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    rows = np.unique(np.linspace(0, len(samples) - 1, LOOKED_AT).round().astype(int))
    return [samples[row] for row in rows]


def _few(problems: list[Problem], folder: Path) -> list[Problem]:
    if len(problems) <= LISTED + 1:
        return problems
    count = len(problems) - LISTED
    more = f"and {count} more images without maps; --missing-cams skip or background goes on"
    return [*problems[:LISTED], Problem(folder, more, count=count)]


def _named(problems: list[Problem]) -> str:
    return _listed([problem.sample or "" for problem in problems])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
