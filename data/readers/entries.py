"""Image-level labels from each source, as entries of the images of a set."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data.concurrency import map_in_threads
from data.dataset import VOID, DatasetError, Problem
from data.files import files_below, has_below, leads_nowhere, visible
from data.formats.label_folder import INSTANCES, SEMANTIC
from data.formats.label_maps import palette_problems, read_label_map
from data.names import MAX_NAME, alike, clean_name, is_nothing, name_fault, shortened
from data.readers.class_vectors import class_lists, is_class_list, read_class_lists, read_vectors
from data.readers.entry import Entry, Reading, labels_in
from data.readers.image_names import ImageNames, is_unsafe, unsafe_message
from data.readers.index import is_folder_name
from data.readers.json_labels import holds_coco, read_json, read_json_lines
from data.readers.tables import read_table
from data.readers.xml_labels import read_annotations, xml_files

LISTED = 3
JOINERS = "|,\uff0c\uff1b\u3001"
"""Bar and comma, and what East Asian keyboards write for comma and semicolon: no label has them between two others."""
OPEN = "?"
WEAK = {
    OPEN: "`?`, the image may have other classes too",
    "-": "`-NAME`, the image surely has not that class",
    ":": "`NAME:0.8`, labels that are not sure",
}
"""Signs in labels -> what they were taken for."""
DENIALS = "-!\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
"""Signs before a class that an image surely has not: the minus of the keyboard, and what word processors make of it."""
WIDE = str.maketrans("\uff1f\uff1a\uff05\uff01\uff08\uff09\uff1d\uff0e\uff0c\u066b", "?:%!()=.,.")
"""Signs of East Asian and Arabic keyboards -> those of ASCII that they stand for."""
LIKELY = 0.5
"""A class that an image has with less than this probability is not known to be there."""
FIRST_TABLES = ("labels.csv", "labels.jsonl")
TABLES = ("labels.tsv", "labels.ndjson", "labels.json")
LAST_TABLES = ("metadata.jsonl", "metadata.csv", "cls_labels.npy")
FOLDERS = ("JPEGImages", "Annotations", "ImageSets", SEMANTIC, INSTANCES)
SOURCES = frozenset(name.casefold() for name in (*FIRST_TABLES, *TABLES, *LAST_TABLES, *FOLDERS, "classes.txt"))
"""Files and folders that say what a set is."""
SOURCE_SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".npy", ".xml", ".txt"})
EXPECTED = (
    "expected image-level labels in labels.csv, labels.jsonl, Annotations/*.xml, SegmentationClass/*.png or "
    "ImageSets/Main/<class>_<list>.txt"
)


@dataclass
class Labels:
    """What a source says of the images of a set.

    Attributes:
        source: The file or folder.
        form: What it is, as a phrase for people.
        by_id: Sample id -> its entries, of which there should be one.
        missing: Entries that fit no image.
        problems: What could not be read.
        notes: What was left unread on purpose, or read as something else than it stands there.
    """

    source: Path
    form: str
    by_id: dict[str, list[Entry]]
    missing: list[Entry]
    problems: list[Problem]
    notes: list[str] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        return [*(entry for entries in self.by_id.values() for entry in entries), *self.missing]


def find_labels(root: Path) -> tuple[Path | None, list[Path]]:
    """Return the source of labels that a set brings along, the most explicit first, and the others beside it."""
    present = _files(root)
    found = first_sources(root)
    others = [present[name] for name in TABLES if name in present]
    others = [file for file in others if file.suffix.lower() != ".json" or not holds_coco(file)]
    folders = [file for file in sorted(root.iterdir()) if file.name.casefold() == "annotations" and file.is_dir()]
    others += [folder for folder in folders if folder not in found and xml_files(folder)]
    if not found and not others:
        lists = root / "ImageSets" / "Main"
        images = root / "JPEGImages" if (root / "JPEGImages").is_dir() else root
        others = [lists] if class_lists(lists) else [images] if xml_files(images) else []
        others += [present[name] for name in LAST_TABLES if name in present]
    # Label maps that are no source of labels are read as ground truth.
    sources = [*found[:1], *(file for file in [*found[1:], *others] if file != root / SEMANTIC)]
    coco = [file for folder in folders for file in visible(folder, "*.json") if holds_coco(file)]
    return (sources[0] if sources else None), [*sources[1:], *coco]


def first_sources(root: Path) -> list[Path]:
    """Return the sources of labels that go before all others and before COCO's files beside the images."""
    present = _files(root)
    found = [present[name] for name in FIRST_TABLES if name in present]
    if (root / "Annotations").is_dir() and xml_files(root / "Annotations"):
        found.append(root / "Annotations")
    if has_below(root / SEMANTIC, ".png"):
        found.append(root / SEMANTIC)
    return found


def refuse_dangling(root: Path) -> None:
    """See that nothing in a set's folder that may say what the set is leads to nothing: it would count as absent.

    Photographs are named one by one where they are looked for.

    Raises:
        DatasetError: Names each link.
    """
    entries = (file for file in sorted(root.iterdir()) if file.name[0] != "." and file.is_symlink())
    problems = [
        Problem(link, f"expected a file or folder of the set, found a link to {target}, where nothing is")
        for link in entries
        if link.name.casefold() in SOURCES or is_folder_name(link.name) or link.suffix.lower() in SOURCE_SUFFIXES
        if (target := leads_nowhere(link)) is not None
    ]
    if problems:
        raise DatasetError(problems)


def _files(root: Path) -> dict[str, Path]:
    """Return the files in a folder by their names in lower case."""
    return {file.name.casefold(): file for file in sorted(root.iterdir(), reverse=True) if file.is_file()}


def read_entries(
    source: Path, classes: tuple[str, ...], given: Iterable[str], names: ImageNames, *, folders: bool = False
) -> Labels:
    """Read all entries of a label source, and find their images.

    Args:
        source: A table, `.jsonl` / `.ndjson` / `.json`, `.npy`, or a folder with VOC's XML files, label maps or class
            lists.
        classes: The class names that the values of label maps and the places of vectors stand for.
        given: The class table, as far as there is one: in it a word such as "none" is a class.
        names: The images of the set.
        folders: Whether the labels are the names of the folders that the images lie in.

    Returns:
        The labels, their names as `clean_name` returns them.

    Raises:
        DatasetError: The source is missing, or cannot be read at all.
    """
    reading = _folder_names(source, names) if folders else _read(source, classes, names)
    match = names.match(entry.name for entry in reading.entries)
    labels = Labels(source, reading.form, defaultdict(list), [], reading.problems, [*reading.notes, *match.notes])
    nothing: Counter[str] = Counter()
    weak: Counter[str] = Counter()
    given = frozenset(given)
    without: list[str] = []
    for entry in reading.entries:
        id = match.ids.get(entry.name)
        if id is None and is_unsafe(entry.name):
            message = unsafe_message(entry.name)
            labels.problems.append(Problem(entry.file, f"{entry.where}: {message}" if entry.where else message))
            continue
        likely, words, faults = _likely(entry, given)
        nothing.update(words)
        without += [entry.name] * len(words)
        for fault in faults:
            problem = f"expected the names of classes, found {fault}"
            labels.problems.append(entry.problem(problem, id) if id else replace(entry.problem(problem), sample=None))
        if entry.signs and OPEN not in given and any(text.translate(WIDE) == OPEN for text in entry.labels):
            weak[OPEN] += 1
            entry = replace(entry, open=True)
        kept = {name for name, sure in likely.items() if sure >= LIKELY}
        weak["-"] += 0.0 in likely.values()
        weak[":"] += any(0 < sure < 1 for sure in likely.values())
        entry = replace(
            entry,
            labels=frozenset(kept),
            absent=frozenset(name for name, sure in likely.items() if sure == 0),
            doubted=frozenset(name for name, sure in likely.items() if 0 < sure < LIKELY),
            certainty={name: likely[name] for name in kept if likely[name] < 1},
        )
        if id is None:
            labels.missing.append(entry)
        else:
            labels.by_id[id].append(entry)
    for sign, told in WEAK.items():
        if weak[sign]:
            labels.notes.append(f"{told}: {weak[sign]} images")
    if nothing:
        words = ", ".join(f"{word!r} {count}" for word, count in sorted(nothing.items()))
        images = shortened(without, LISTED)
        labels.notes.append(f"words that stand for no label were taken for none: {words} (of {images})")
    return labels


def _likely(entry: Entry, given: Collection[str]) -> tuple[dict[str, float], list[str], list[str]]:
    """Return class -> how likely the image has it, the words for nothing, and what is wrong with the labels."""
    likely: dict[str, float] = {}
    words, faults = [], []
    for text in sorted(map(clean_name, entry.labels)):
        if entry.signs and text.translate(WIDE) == OPEN and OPEN not in given:
            continue
        try:
            name, sure = _weak(text, given) if entry.signs else (text, 1.0)
        except ValueError as error:
            faults.append(str(error))
            continue
        beside = entry.certainty.get(text, 1.0)
        if name not in given and is_nothing(name):
            words.append(name)
        elif fault := name_fault(name):
            faults.append(f"{fault}: {name!r:.80}")
        elif sure < 1 and beside < 1:
            faults.append(f"{text!r:.80} with a sign, and {beside:g} beside it: leave one")
        elif likely.setdefault(name, sure * beside) != sure * beside:
            faults.append(f"{name!r:.80} with two probabilities")
    return likely, words, faults


def _weak(text: str, given: Collection[str]) -> tuple[str, float]:
    """Return the class that a tag names, and how likely the image has it.

    `-cat`, with any dash, and `!cat` are 0; `dog:0.8`, `dog:0,8` and `dog:80%` are 0.8.

    Raises:
        ValueError: It has two signs: `--cat`, `-cat:0.8`.
    """
    # What is longer is no name.
    if text in given or len(text) > 2 * MAX_NAME:
        return text, 1.0
    plain = text.translate(WIDE)
    rest = plain.lstrip(DENIALS + " ")
    found = re.fullmatch(r"(.*[^\W\d_].*):\s*(?:(\d*[.,]\d+|\d)(e-?\d+)?|(\d{1,3}(?:[.,]\d+)?)\s*%)\s*", plain)
    if rest and plain[0] in DENIALS and rest[0] not in "0123456789.":
        name, sure = clean_name(text[1:]), 0.0
        several = len(plain) - len(rest) > 1 + plain.count(" ", 0, len(plain) - len(rest)) or "?" in (rest[0], rest[-1])
    elif found:
        name, number, exponent, percent = found.groups()
        name = clean_name(text[: len(name)])
        sure = float((number or percent).replace(",", ".") + (exponent or "")) / (100 if percent else 1)
        if sure > 1:
            return text, 1.0
        several = False
    else:
        return text, 1.0
    if several or _weak(name, given) != (name, 1.0):
        raise ValueError(f"{text!r:.80}, which has two signs: write `-NAME`, or `NAME:0.8`")
    return name, sure


def tag_faults(source: Path, entries: list[Entry]) -> tuple[list[Problem], list[str]]:
    """Return what keeps the tags of a set from being a class table, and what in them looks like an oversight."""
    first: dict[str, Entry] = {}
    for entry in entries:
        for name in entry.labels:
            first.setdefault(name, entry)
    names = sorted(first)

    def place(name: str) -> str:
        return f"{name!r} ({first[name].where or first[name].file.name})"

    problems = [
        Problem(source, f"expected one spelling of each class, found {' and '.join(map(place, group))}")
        for group in alike(names)
    ]
    if names and {name.casefold() for name in names} <= {"0", "1", "true", "false", "yes", "no"}:
        message = f"expected the names of classes, found only {', '.join(map(repr, names))}: say what they stand for"
        problems.append(Problem(source, message))
    if shares := [name for name in names if first[name].signs and re.fullmatch(r"[01]?[.,]\d+(e-?\d+)?", name)]:
        found = ", ".join(map(place, shares[:LISTED]))
        message = f"expected the names of classes, found the number {found}: a class with a number is `NAME:0.8`"
        problems.append(Problem(source, message))
    # "cat,dog" is a list where one of both is in another list, too; "cabinet, kitchen" may be a name.
    parts = Counter(part for name in names for part in set(re.split(r",(?! )", name)))
    joined = [
        name
        for name in names
        if any(_are_classes(name.split(sign), first) for sign in JOINERS)
        or (re.search(r",(?! )", name) and any(parts[part] > 1 for part in re.split(r",(?! )", name)))
    ]
    if joined:
        found = ", ".join(map(place, joined[:LISTED]))
        message = f"expected labels joined by `;`, found {found}, which look like lists of classes"
        problems.append(Problem(source, message))
    signs = "a class that is surely not there is `-NAME`, a label that is not sure `NAME:0.8`"
    known = {*first, *(name for entry in entries for name in entry.absent)}
    if unclear := [name for name in names if first[name].signs and _is_unclear(name, known)]:
        found = ", ".join(map(place, unclear[:LISTED]))
        message = f"{signs}; if these are classes, list all of them in classes.txt"
        problems.append(Problem(source, f"expected the names of classes, found {found}: {message}"))
    notes = []
    if denying := [name for name in names if _denied(name) in known]:
        notes.append(f"classes that seem to deny another, and are taken for classes: {shortened(denying)}; {signs}")
    if odd := [name for name in names if name not in joined and re.search(r"[|\[\]{}\"]|,", name)]:
        notes.append(f"classes that look like several (labels are joined by `;`): {shortened(map(repr, odd), LISTED)}")
    if numbers := [name for name in names if re.fullmatch(r"[-+]?\d+(\.\d+)?", name)]:
        notes.append(f"classes that are called by a number alone: {shortened(map(repr, numbers), LISTED)}")
    several = [name for name in names if any(_are_classes(name.split(sign), first) for sign in " /+&")]
    if several:
        notes.append(f"classes whose words are classes, too: {shortened(map(repr, several), LISTED)}")
    return problems, notes


_RATED = re.compile(r"(.*[^\W\d_].*?)(?:\s*[=@]\s*|\s+|\s*\(\s*)(?:0?[.,]\d+|1[.,]0*|\d{1,3}\s*%)\s*\)?")
_DENIED = re.compile(r"(?:not?|without|non)[ _-](.+)", re.IGNORECASE)
_BESIDE_A_CLASS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"[~\xac^+?]\s*(.+)",
        r"(.+?)\s*\?+",
        r"(.+?)\s*[(\[]\s*(?:not?|absent|maybe|unsure|\?)\s*[)\]]",
        r"(.+?)\s*[:=@/(\[]\s*(?:yes|no|true|false|nan|inf|[01][.,]?|\d\d|100|\d+\s*%|0?[.,]\d+\??|[-+]\d.*)\s*[)\]]?",
        r"(.+?)\s*:\s*\d",
    )
]
"""Names of which the group is another class: what stands beside it says no, or how likely it is."""


def _denied(name: str) -> str:
    """Return the class that a name such as "no helmet" is without; nothing where it is no such name."""
    found = _DENIED.fullmatch(name)
    return clean_name(found[1]) if found else ""


def _is_unclear(name: str, classes: Collection[str]) -> bool:
    """Return whether a name is that of another class with a sign or number beside it that says no, or how likely."""
    plain = name.translate(WIDE)
    if _RATED.fullmatch(plain):
        return True
    return any(
        clean_name(name[slice(*found.span(1))]) in classes
        for found in (pattern.fullmatch(plain) for pattern in _BESIDE_A_CLASS)
        if found
    )


def _are_classes(parts: list[str], classes: Collection[str]) -> bool:
    return len(parts) > 1 and all(clean_name(part) in classes for part in parts)


def _folder_names(root: Path, names: ImageNames) -> Reading:
    """Return the names of the images' own folders as their labels, as torchvision's ImageFolder and Hugging Face have
    them; what lies in no folder has none."""
    found = Reading("the names of the images' folders")
    for id in names.ids:
        *_, folder = ("", *id.split("/")[:-1])
        found.entries.append(Entry(id, labels_in([folder]), root / id))
    return found


def _read(source: Path, classes: tuple[str, ...], names: ImageNames) -> Reading:
    suffix = source.suffix.lower()
    if source.is_dir():
        return _read_labels_folder(source, classes)
    if suffix in (".jsonl", ".ndjson"):
        return read_json_lines(source, names)
    if suffix == ".json":
        return read_json(source, names)
    if suffix == ".npy":
        return read_vectors(source, classes, names)
    if suffix == ".txt" and "_" in source.stem and is_class_list(source):
        return read_class_lists({source: source.stem.rpartition("_")[0]})
    return read_table(source, names)


def _read_labels_folder(folder: Path, classes: tuple[str, ...]) -> Reading:
    for link in (file for file in files_below(folder) if is_folder_name(file.name)):
        if (target := leads_nowhere(link)) is not None:
            message = f"expected a file or folder of labels, found a link to {target}, where nothing is"
            raise DatasetError([Problem(link, message)])
    if xml_files(folder):
        return read_annotations(folder)
    masks = files_below(folder, {".png"})
    if masks:
        found = Reading("label maps")
        by_id = {file.relative_to(folder).with_suffix("").as_posix(): file for file in masks}
        swapped = {problem.sample: problem for problem in palette_problems(by_id, len(classes) + 1)}
        for item in map_in_threads(lambda file: _read_mask(folder, file, classes), masks):
            if isinstance(item, Entry) and item.name in swapped:
                item = swapped[item.name]
            if isinstance(item, Problem):
                found.problems.append(item)
            else:
                found.entries.append(item)
        return found
    if lists := class_lists(folder):
        return read_class_lists(lists)
    message = "expected annotations (.xml), label maps (.png) or class lists (<class>_<list>.txt), found none"
    raise DatasetError([Problem(folder, message)])


def _read_mask(folder: Path, file: Path, names: tuple[str, ...]) -> Entry | Problem:
    id = file.relative_to(folder).with_suffix("").as_posix()
    try:
        values = [int(value) for value in np.unique(read_label_map(file)) if value not in (0, VOID)]
    except DatasetError as error:
        return Problem(file, error.problems[0].message, id)
    if values and values[-1] > len(names):
        return Problem(file, f"expected values 0 to {len(names)} and {VOID}, found {values[-1]}", id)
    return Entry(id, labels_in(names[value - 1] for value in values), file)
