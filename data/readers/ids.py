"""The lists that name images, and the class names."""

from __future__ import annotations

import csv
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from data.dataset import RESERVED, VOID, DatasetError, Problem
from data.files import is_source
from data.names import alike, clean_name, is_background, is_void, name_fault, shortened
from data.readers.image_names import ImageNames, is_unsafe, unsafe_message
from data.readers.text import read_text, text_lines

log = logging.getLogger(__name__)


class Split(NamedTuple):
    """The images of a list.

    Attributes:
        file: The list.
        ids: Those that exist, once each, in the list's order.
        missing: Names that fit no image.
        problems: Of the lines.
        notes: How names were fitted.
    """

    file: Path
    ids: list[str]
    missing: list[str]
    problems: list[Problem]
    notes: list[str]


def read_split(root: Path, split: str | Path, names: ImageNames) -> Split:
    """Read a list of images, given by its name or its file.

    Images may have suffixes. Of a line of several columns, as VOC's class lists and lists of pairs have, the first one
    counts; lines that begin with # count where images are named so.

    Returns:
        The list, with a problem for each image that is listed twice or lies outside the folder.

    Raises:
        DatasetError: There is no such list, or it is empty.
    """
    file = find_split(root, split)
    if file is None:
        places = "ImageSets/Segmentation, ImageSets/Main, ImageSets or the folder itself"
        raise DatasetError([Problem(Path(split), f"expected a file, or the name of a .txt list in {places} of {root}")])
    lines = [(number, line.strip()) for number, line in enumerate(text_lines(read_text(file)), start=1)]
    listed = [(number, _image_of(line, names)) for number, line in lines if line]
    if not listed:
        raise DatasetError([Problem(file, "expected the name of an image per line, found an empty list")])
    listed = [(number, name) for number, name in listed if not name.startswith("#") or names.find(name)]
    matched = names.match(name for _, name in listed)
    alone = set(matched.alone)
    problems = [
        Problem(file, f"line {number}: {unsafe_message(name)}")
        for number, name in listed
        if name in alone and is_unsafe(name)
    ]
    counts = Counter(matched.ids[name] for _, name in listed if name not in alone)
    problems += [
        Problem(file, f"expected each image once, found {id!r} {count} times", id)
        for id, count in counts.items()
        if count > 1
    ]
    missing = [name for name in matched.alone if not is_unsafe(name)]
    return Split(file, list(counts), missing, problems, matched.notes)


def _image_of(line: str, names: ImageNames) -> str:
    """Return the name of the image in a line of a list."""
    if names.find(line):
        return line
    first = re.split(r"[\s,;]", line, maxsplit=1)[0]
    flag = re.fullmatch(r"(.*\S)\s+(?:-1|0|1)", line)
    try:
        cell = next(csv.reader([line], skipinitialspace=True), [line])[0].strip()
    except csv.Error:
        cell = line
    candidates = [cell, *([flag[1]] if flag else []), first.strip("\"'")]
    known = next((name for name in candidates if names.find(name)), None)
    # A path of two parts, or more, is a column even where the set's folders are others.
    return known or (flag[1] if flag else first if "/" in first and first != line else line)


def find_split(root: Path, split: str | Path) -> Path | None:
    """Return the file of a list, or None: a list of the set goes before a file of the same name elsewhere."""
    places = [root / "ImageSets" / "Segmentation", root / "ImageSets" / "Main", root / "ImageSets", root]
    candidates = [place / f"{split}.txt" for place in places]
    if str(split).casefold().endswith(".txt"):
        candidates += [place / split for place in places]
    # A link that leads to nothing is a list that cannot be read now, not none.
    return next((file for file in [*candidates, Path(split)] if is_source(file)), None)


def case_problems(files: dict[str, Path]) -> list[Problem]:
    """Return a problem for each id that differs from an earlier one in case or in the form of its letters only: their
    label files would be one file on a system that ignores it."""
    seen: dict[str, str] = {}
    problems = []
    for id in sorted(files):
        first = seen.setdefault(id if id.isascii() and id.islower() else _file_key(id), id)
        if first != id:
            message = f"expected ids that differ in more than case, found {first!r} and {id!r}"
            if first.casefold() != id.casefold():
                message = f"expected ids that differ in more than the form of their letters, found {first!a} and {id!a}"
            problems.append(Problem(files[id], message, id))
    return problems


def _file_key(id: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", id).casefold())


def read_class_names(root: Path, classes: Path | None) -> tuple[str, ...] | None:
    """Read a table of foreground classes, a name a line; `classes.txt` in the root unless a file is given.

    Names of the background and of void that stand before all others, as labelme writes them, are left out, and so is
    void at the end: no value changes with them. The log says so.

    Returns:
        The names, or None where no file is given and the root has none.

    Raises:
        DatasetError: The file is missing or empty, or a name cannot be a class's; lists every one.
    """
    file = classes or root / "classes.txt"
    # A link that leads to nothing is a table that cannot be read now, not none.
    if classes is None and not os.path.lexists(file):
        return None
    lines = [(number, clean_name(line)) for number, line in enumerate(text_lines(read_text(file)), start=1)]
    named = [(number, name) for number, name in lines if name]
    # A table of more than 254 classes has "(void)" in its 255th line.
    kept = [
        each
        for place, each in enumerate(named)
        if not ((is_background(each[1]) or is_void(each[1])) and all(_is_no_class(name) for _, name in named[:place]))
    ]
    while kept and is_void(kept[-1][1]):
        kept.pop()
    if len(kept) < len(named):
        left = shortened(repr(name) for number, name in named if (number, name) not in set(kept))
        log.warning("%s: left out what is no class: %s", file, left)
    problems = _table_problems(file, kept)
    if not named:
        problems.append(Problem(file, "expected the name of a class a line, found none"))
    elif not kept:
        problems.append(
            Problem(file, "expected the name of a class a line, found only names of the background or void")
        )
    if problems:
        raise DatasetError(problems)
    return tuple(name for _, name in kept)


def left_out_of_table(file: Path) -> list[str]:
    """Return the names in a class table that `read_class_names` leaves out."""
    names = list(filter(None, map(clean_name, text_lines(read_text(file)))))
    return [name for place, name in enumerate(names) if _is_no_class(name) and not _is_reserved(name, place)]


def _is_reserved(name: str, place: int) -> bool:
    return name == RESERVED and place == VOID - 1


def _is_no_class(name: str) -> bool:
    return is_background(name) or is_void(name)


def _table_problems(file: Path, lines: list[tuple[int, str]]) -> list[Problem]:
    problems = []
    names = [name for _, name in lines]
    for place, (number, name) in enumerate(lines):
        if _is_reserved(name, place):
            continue
        if is_void(name):
            message = (
                f"expected classes, found {name!r} between them, so the values of those below are unclear: take it out"
            )
            problems.append(Problem(file, f"line {number}: {message}"))
        elif is_background(name):
            message = f"expected foreground classes only, found {name!r}, which has value 0, below others: take it out"
            problems.append(Problem(file, f"line {number}: {message}"))
        elif fault := name_fault(name):
            problems.append(Problem(file, f"line {number}: expected the name of a class, found {fault}"))
        elif name.startswith("#"):
            message = f"expected the name of a class, found {name!r}, which looks like a comment: take it out"
            problems.append(Problem(file, f"line {number}: {message}"))
    if names and all(re.fullmatch(r"[-+]?\d+\s*[:,=\t ]\s*\S.*", name) for name in names):
        problems.append(
            Problem(file, f"expected names alone, found numbers before each, as in {names[0]!r}: take the numbers out")
        )
    elif names and re.match(r"[\[{]", names[0]) and re.search(r"[\]}],?$", names[-1]):
        problems.append(Problem(file, f"expected a name a line, found JSON or a list ({names[0]!r:.40})"))
    problems += [
        Problem(file, f"expected each class once, found {name!r} {count} times")
        for name, count in Counter(names).items()
        if count > 1
    ]
    problems += [
        Problem(file, f"expected classes that differ in more than case, found {' and '.join(map(repr, group))}")
        for group in alike(names)
    ]
    return problems


def split_problems(split: Split, folder: Path) -> list[Problem]:
    """Return a problem for each name of a list that fits no image; one alone where none fits."""
    if len(split.missing) > 1 and not split.ids:
        message = (
            f"expected images in {folder}, found none for any of its {len(split.missing)} names "
            f"({examples(split.missing)}): are their folders others?"
        )
        return [Problem(split.file, message)]
    expected = f"expected an image, as {split.file.name} lists it, found none"
    return [Problem(folder / name, expected, name) for name in split.missing]


def examples(names: Iterable[Any], limit: int = 3) -> str:
    """Join some names as they are written in Python, so that spaces at their ends are seen."""
    return shortened((repr(name) for name in names), limit)
