"""The VOC layout, and a plain folder of images."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.dataset import VOID, ClassTable, Dataset, DatasetError, Problem, Sample, with_more
from data.files import files_below
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import read_label_map
from data.formats.voc import VOC_CLASSES
from data.names import has_control_characters, shortened
from data.readers.entries import EXPECTED, Labels, find_labels, read_entries, tag_faults
from data.readers.entry import Entry
from data.readers.ids import case_problems, examples, left_out_of_table, read_class_names, read_split, split_problems
from data.readers.image_names import ImageNames
from data.readers.index import Index, index_folder, mask_folders, mask_notes, set_aside_folder, stem_of
from data.readers.xml_labels import xml_files

PEEKED = 20
"""Label maps that are looked at to tell whose values they have."""
LISTED, MANY = 3, 10


def read_folder(
    root: Path, labels: Path | None, split: str | Path | None, classes: Path | None
) -> tuple[Dataset, list[Problem]]:
    """Read a set in the VOC layout (images in `JPEGImages`) or with its images directly below the root.

    Arguments and errors are those of `open_dataset`. With a split, labels of other images are not looked at.

    Returns:
        The set with every image that exists, and all problems.
    """
    index = _find_images(root)
    source, others = (labels, []) if labels else find_labels(root)
    if source is None:
        missing = [] if index.images else [Problem(index.folder, "expected images, found none")]
        raise DatasetError([*index.problems, *missing, Problem(root, f"{EXPECTED}{_hint(root, index)}")])
    given = read_class_names(root, classes)
    # Label maps have the values of the table, not those of the lines.
    names = ImageNames(index.images, index.aside)
    by_folder = source.resolve() in (root.resolve(), index.folder.resolve()) and not xml_files(source)
    by_folder = by_folder and any("/" in id for id in index.images)
    if by_folder:
        # Whoever says that folders are classes means a folder `mask`, too.
        index.images |= index.aside
        index.aside.clear()
        index.mask_folders.clear()
    read = read_entries(source, ClassTable(given or VOC_CLASSES).names, given or (), names, folders=by_folder)
    fatal = _settle_masks(index, read, split)
    chosen, problems, notes = _choose(root, split, index)
    problems += _index_problems(index, split, chosen, bool(problems))
    problems += case_problems(chosen)
    problems += [
        problem for problem in read.problems if split is None or problem.sample is None or problem.sample in chosen
    ]
    faults, more = tag_faults(source, read.entries) if given is None else ([], [])
    if fatal or faults:
        raise DatasetError([*problems, *fatal, *faults])
    notes += [*index.notes, *read.notes, *more, *_table_notes(root, classes, given)]
    denied = {name for entry in read.entries for name in entry.absent | entry.doubted}
    if others:
        beside = shortened(other.relative_to(root).as_posix() for other in others)
        notes.append(f"labels beside {source.name}, left unread: {beside}; --labels names another source")

    table = _class_table(root, given, classes, read)
    if never := sorted(denied.difference(table.names)):
        notes.append(f"classes that no image has, only denied or doubted: {shortened(never, LISTED)}")
    found, more = _resolve_labels(read, chosen, table)
    problems += more
    lost, more = _missing(read, index, chosen, split)
    problems += lost
    notes += more
    samples = tuple(
        _with_doubts(_sample(root, id, chosen[id], found.get(id, ())), read.by_id.get(id, ()), table)
        for id in sorted(chosen)
    )
    samples, truth = _with_masks(samples, index)
    notes += mask_notes(index, truth)
    notes += _unread_masks(root, index, is_source=source == root / SEMANTIC)
    return Dataset(root, table, samples, f"{_place(source, root)}: {read.form}", tuple(notes)), problems


def read_images(root: Path, split: str | Path | None, classes: ClassTable) -> tuple[Dataset, list[Problem]]:
    """Read images alone, in the VOC layout or directly below the root; whatever labels there are stay unread.

    Returns:
        The set with every image that exists, and all problems.
    """
    index = _find_images(root)
    chosen, problems, notes = _choose(root, split, index)
    problems += _index_problems(index, split, chosen, bool(problems))
    problems += case_problems(chosen)
    samples = tuple(Sample(id, chosen[id], ()) for id in sorted(chosen))
    return Dataset(root, classes, samples, "", (*index.notes, *mask_notes(index), *notes)), problems


def _find_images(root: Path) -> Index:
    folder = root / "JPEGImages"
    return index_folder(folder if folder.is_dir() else root)


def _hint(root: Path, index: Index) -> str:
    """Return what lies in a folder that could be meant for labels."""
    found = sorted(
        file.relative_to(root).as_posix()
        for pattern in (
            "*.csv",
            "*.json",
            "*.jsonl",
            "*.tsv",
            "*.txt",
            "*.npy",
            "*.xlsx",
            "*/*.json",
            "*/*.jsonl",
            "*/*.csv",
        )
        for file in root.glob(pattern)
        if file.name != "classes.txt"
    )
    if found:
        return f"; found {shortened(found, LISTED)}: name the right one with --labels"
    folders = sorted({id.split("/")[-2] for id in index.images if "/" in id})
    if len(folders) > 1 and all("/" in id for id in index.images):
        return f"; the images lie in folders ({shortened(folders, LISTED)}): if these are classes, say --labels {root}"
    return ""


def _settle_masks(index: Index, read: Labels, split: str | Path | None) -> list[Problem]:
    """Take back what labels name of the folders set aside, and set those aside that they name nothing of.

    Returns:
        A problem where images that no label names are called like images that have labels.
    """
    for id in read.by_id.keys() & index.aside.keys():
        index.images[id] = index.aside.pop(id)
    if split is not None or not read.by_id:
        return []
    for folder, ids in mask_folders(index.images).items():
        if not any(id in read.by_id for id in ids):
            set_aside_folder(index, folder, ids)
    stems = {stem_of(id) for id in read.by_id}
    doubled = [id for id in index.images if id not in read.by_id and stem_of(id) in stems]
    if not doubled or 2 * len(doubled) < len(index.images):
        return []
    folders = Counter(id.rpartition("/")[0] or "." for id in doubled)
    where = ", ".join(f"{folder}/ {count}" for folder, count in folders.items())
    message = (
        f"expected photographs alone, found images that {read.source.name} does not name and that are called like "
        f"images it names ({shortened(doubled, LISTED)}; {where}). If they are masks, move them out of the folder "
        "or into SegmentationClass; if not, give them lines without labels"
    )
    return [Problem(index.folder, message)]


def _choose(root: Path, split: str | Path | None, index: Index) -> tuple[dict[str, Path], list[Problem], list[str]]:
    """Return the images of a list, what is wrong with it, and how it was understood; all images without a list."""
    if split is None:
        return index.images, [], []
    listed = read_split(root, split, ImageNames(index.images, index.aside))
    images = index.images | index.aside
    return (
        {id: images[id] for id in listed.ids},
        [*listed.problems, *split_problems(listed, index.folder)],
        listed.notes,
    )


def _index_problems(index: Index, split: str | Path | None, chosen: dict[str, Path], is_short: bool) -> list[Problem]:
    """Return the problems of files that concern the images that were chosen."""
    if split is None:
        return index.problems
    # Whether a folder that cannot be read has what the list misses is not known.
    wanted = {*chosen, None} if is_short else set(chosen)
    return [problem for problem in index.problems if problem.sample in wanted]


def _table_notes(root: Path, classes: Path | None, given: tuple[str, ...] | None) -> list[str]:
    file = classes or root / "classes.txt"
    left = left_out_of_table(file) if given is not None else []
    return [f"{file.name}: left out what is no class: {', '.join(map(repr, left))}"] if left else []


def _class_table(root: Path, given: tuple[str, ...] | None, file: Path | None, read: Labels) -> ClassTable:
    """Return the class table: the names that are given, VOC's in VOC's layout, else the tags in ascending order.

    Where there are label maps, their values tell whether they count VOC's classes or the tags.
    """
    if given is not None:
        return ClassTable(given, origin=f"the names in {(file or root / 'classes.txt').name}")
    names = {name for entry in read.entries for name in entry.labels}
    known = names & set(VOC_CLASSES)
    tags = ClassTable(tuple(sorted(names)), origin=f"the tags of the set, {len(names)} in all, in ascending order")
    # One misspelt tag among VOC's must not turn the table into another one, with other values in the masks.
    if 2 * len(known) <= len(names) or not any((root / name).is_dir() for name in ("JPEGImages", SEMANTIC)):
        return tags
    origin = f"VOC's 20 classes, since the folder has VOC's layout and {len(known)} of {len(names)} tags are VOC's"
    voc = ClassTable(VOC_CLASSES, origin=origin)
    return max((voc, tags), key=lambda table: _agreement(root, read, table))


def _agreement(root: Path, read: Labels, table: ClassTable) -> float:
    """Return how far label maps have the values of their images' tags in a class table, and no other: 1 for all."""
    values = {name: number for number, name in enumerate(table.names, start=1)}
    found = []
    for id, (entry, *_) in read.by_id.items():
        file = _ground_truth(root / SEMANTIC, id)
        if entry.labels and file is not None:
            present = _values_of(file)
            if present is None:
                continue
            wanted = {values.get(name) for name in entry.labels}
            found.append(((present <= wanted) + (wanted <= present)) / 2)
        if len(found) == PEEKED:
            break
    return sum(found) / max(1, len(found))


def _resolve_labels(
    read: Labels, images: dict[str, Path], table: ClassTable
) -> tuple[dict[str, tuple[int, ...]], list[Problem]]:
    """Return id -> class indices, and a problem for each image that comes twice or has a class of no table."""
    index = {name: number for number, name in enumerate(table.names)}
    by_case = {name.casefold(): name for name in table.names}
    labels, problems = {}, []
    for id, (entry, *others) in read.by_id.items():
        if id not in images:
            continue
        if others:
            places = ", ".join(other.where or other.file.name for other in others)
            message = f"expected the image {id!r} once, found it again: {places} (its labels belong in one line)"
            problems.append(entry.problem(message, id))
        for name in sorted(entry.labels - index.keys()):
            expected = f"expected one of {shortened(table.names)} (classes.txt in the set's folder sets others)"
            meant = f"; is it {by_case[name.casefold()]!r}?" if name.casefold() in by_case else ""
            problems.append(entry.problem(f"{expected}, found the class {name!r} for the image {id!r}{meant}", id))
        for name in sorted((entry.absent | entry.doubted) - index.keys()):
            if name.casefold() in by_case:
                message = (
                    f"expected one of {shortened(table.names)}, found {name!r}; is it {by_case[name.casefold()]!r}?"
                )
                problems.append(entry.problem(message, id))
        labels[id] = tuple(sorted(index[name] for name in entry.labels & index.keys()))
    return labels, problems


def _missing(
    read: Labels, index: Index, chosen: dict[str, Path], split: str | Path | None
) -> tuple[list[Problem], list[str]]:
    """Return a problem for each entry without its image, and notes on images without an entry.

    With a list, such entries are problems where an image of the list has none: they may be meant for it.
    """
    bad = {problem.sample for problem in read.problems}
    silent = [id for id in chosen if id not in read.by_id and id not in bad]
    notes = []
    if silent:
        what = f"images that {read.source.name} does not name, taken for background only"
        notes.append(f"{what}: {len(silent)} ({shortened(silent, LISTED)})")
    if not read.missing:
        return [], notes
    told = [(f"{entry.file.name}, {entry.where}" if entry.where else entry.file.name, entry) for entry in read.missing]
    if split is not None and not silent:
        names = shortened((repr(entry.name) for entry in read.missing), LISTED)
        notes.append(f"entries of {read.source.name} that fit no image: {len(read.missing)} ({names})")
        return [], notes
    if len(told) > 1 and not read.by_id:
        message = (
            f"expected labels for images in {index.folder}, found {len(told)} names, of which none is an image there "
            f"({examples(entry.name for _, entry in told)}; the images: {examples(index.images) or 'none'})"
        )
        return [Problem(read.source, message)], notes
    if split is not None and len(told) > MANY:
        message = (
            f"expected entries of images in {index.folder}, found {len(told)} of none "
            f"({examples(entry.name for _, entry in told)}), while images of the list have no entry "
            f"({shortened(silent, LISTED)})"
        )
        return [Problem(read.source, message)], notes
    return [_missing_problem(index.folder, place, entry) for place, entry in told], notes


def _missing_problem(folder: Path, place: str, entry: Entry) -> Problem:
    expected = f"expected an image, as {place} has labels for it, found"
    if has_control_characters(entry.name):
        return Problem(entry.file, f"{entry.where}: {expected} none: {entry.name!r:.80}")
    if os.path.isfile(folder / entry.name):  # noqa: PTH113 -- false for names that no file can have, too
        return Problem(folder / entry.name, f"{expected} a file that is not read as one", entry.id)
    if entry.where == "line 1":
        expected = (
            f"{expected.removesuffix(', found')} (if that line is a header, call its columns `image,labels`), found"
        )
    return Problem(folder / entry.name, f"{expected} none", entry.id)


def _sample(root: Path, id: str, image: Path, labels: tuple[int, ...]) -> Sample:
    semantic, instances = (_ground_truth(root / folder, id) for folder in ("SegmentationClass", "SegmentationObject"))
    return Sample(id=id, image=image, labels=labels, semantic=semantic, instances=instances)


def _with_doubts(sample: Sample, entries: Sequence[Entry], table: ClassTable) -> Sample:
    """Return an image with what its entry leaves open of its labels."""
    entry = entries[0] if entries else None
    if entry is None or not (entry.open or entry.certainty or entry.doubted):
        return sample
    asked = set(table.real_names) - entry.labels - entry.absent if entry.open else entry.doubted
    unknown = tuple(c for c, name in enumerate(table.names) if name in asked)
    certainty = tuple(entry.certainty.get(table.names[c], 1.0) for c in sample.labels) if entry.certainty else ()
    return with_more(sample, unknown=unknown, certainty=certainty)


def _with_masks(samples: tuple[Sample, ...], index: Index) -> tuple[tuple[Sample, ...], list[str]]:
    """Give samples without ground truth the masks of a folder set aside, if those have the values of their tags.

    Returns:
        The samples, and the folders that their masks are from.
    """
    if any(sample.semantic for sample in samples):
        return samples, []
    for folder in index.mask_folders:
        masks: dict[str, list[Path]] = defaultdict(list)
        for id, file in index.aside.items():
            if id.startswith(f"{folder}/") and file.suffix.lower() == ".png":
                masks[stem_of(id)].append(file)
        stems = Counter(stem_of(sample.id) for sample in samples)
        found = {
            sample.id: masks[stem][0]
            for sample in samples
            if stems[stem := stem_of(sample.id)] == 1 and len(masks.get(stem, ())) == 1
        }
        peeked = [sample for sample in samples if sample.labels and sample.id in found][:PEEKED]
        if peeked and all(_values_of(found[sample.id]) == {c + 1 for c in sample.labels} for sample in peeked):
            return tuple(replace(sample, semantic=found.get(sample.id)) for sample in samples), [folder]
    return samples, []


def _values_of(file: Path) -> set[int] | None:
    """Return the classes' values in a label map, or None where it is none."""
    try:
        return set(np.unique(read_label_map(file)).tolist()) - {0, VOID}
    except DatasetError:
        return None


def _ground_truth(folder: Path, id: str) -> Path | None:
    """Return the mask of an image, in whichever form of its letters the file is named."""
    forms: Sequence[str] = (
        (id,) if id.isascii() else (id, *(unicodedata.normalize(form, id) for form in ("NFC", "NFD")))
    )
    files = (folder / f"{form}{suffix}" for form in forms for suffix in (".png", ".PNG"))
    # A link that leads nowhere is a mask that cannot be read, not an image without one.
    return next(filter(os.path.lexists, files), None)


def _unread_masks(root: Path, index: Index, *, is_source: bool) -> list[str]:
    """Tell of files in the folder of ground truth that are no image's mask."""
    folder = root / SEMANTIC
    # As the source of labels its maps have been looked at already.
    if is_source or not folder.is_dir():
        return []
    ids = {unicodedata.normalize("NFC", id) for id in index.images}
    files = (file for file in files_below(folder) if file.suffix)
    unread = []
    for file in files:
        id = unicodedata.normalize("NFC", file.relative_to(folder).with_suffix("").as_posix())
        if file.suffix not in (".png", ".PNG") or id not in ids:
            unread.append(file.name)
    if not unread:
        return []
    return [f"files in {SEMANTIC} that are no image's .png, left unread: {len(unread)} ({shortened(unread, LISTED)})"]


def _place(source: Path, root: Path) -> str:
    if source == root:
        return f"{root.name}/"
    return source.relative_to(root).as_posix() if source.is_relative_to(root) else str(source)
