"""Tables of labels: CSV and its relatives, with or without a header, one column for all classes or one for each."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.dataset import DatasetError, Problem
from data.names import clean_name, shortened
from data.readers.entry import (
    ABSENCES,
    DOUBTS,
    IMAGE_KEYS,
    LABEL_KEYS,
    LISTS,
    NO,
    VAGUE_DOUBTS,
    YES,
    Entry,
    Reading,
    key_of,
    labels_in,
    split_labels,
)
from data.readers.image_names import ImageNames
from data.readers.text import read_text, text_lines

PEEKED = 50
"""Lines that are looked at to tell the form of a table."""
DELIMITERS = (",", "\t", ";", "|")
NAMED = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
ONE_LABEL = frozenset({"label", "tag", "class", "classname", "category", "categoryname", "labelname", "target"})
"""Columns of these names have one label per line, as tables with a line per object have."""
UNSAID = frozenset({"", "nan"})
NO_CLASS = DOUBTS - VAGUE_DOUBTS
"""Columns that no table has for a class of that name."""
EXPECTED = "expected `image,labels` with labels joined by `;`"


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what.

    Attributes:
        image: Of the images' names.
        labels: Of all labels, or None.
        flags: Column -> class, where each class has a column of 0 and 1.
        count: Number of columns.
        unread: Column -> name, of those that are neither.
        is_per_object: An image may have several lines.
        certainty: Of how likely a line's labels are there, from 0 to 1, or None.
    """

    image: int = 0
    labels: int | None = 1
    flags: dict[int, str] | None = None
    count: int = 2
    unread: dict[int, str] = field(default_factory=dict)
    is_per_object: bool = False
    certainty: int | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    cells: list[str]
    width: int


def read_table(file: Path, names: ImageNames) -> Reading:
    """Read a table with a line per image.

    Columns are found by their names in the first line, if it has any; without, they are the image and its labels. A
    name never goes over the end of a line, so a quote that is not closed spoils its own line alone.

    Raises:
        DatasetError: The file cannot be read, or its columns cannot be told.
    """
    lines = [(number, line) for number, line in enumerate(text_lines(read_text(file)), start=1) if line.strip()]
    delimiter = _delimiter(file, [line for _, line in lines[:PEEKED]], names)
    found = Reading(f"a table with {NAMED[delimiter]} between columns")
    kept = [(number, line) for number, line in lines if not _is_comment(line, delimiter, names)]
    if len(kept) < len(lines):
        found.notes.append(f"{file.name}: lines that begin with #, left unread: {len(lines) - len(kept)}")
    if kept and re.fullmatch(r"sep=.", kept[0][1].strip(), re.IGNORECASE):
        # Excel's own first line.
        kept = kept[1:]
    rows = _rows(file, kept, delimiter, names, found)
    columns = _columns(file, rows[: PEEKED + 1], names) if rows else None
    if columns is not None:
        rows = rows[1:]
        _check(file, rows, columns, found)
    _read_rows(file, rows, columns or Columns(), delimiter, names, found)
    if columns is not None and columns.is_per_object:
        _merge(found)
    if not found.entries and len(found.problems) > 3:
        message = f"{found.problems[0].message}; and {len(found.problems) - 1} more lines that cannot be read"
        found.problems = [Problem(file, message)]
    return found


def _is_comment(line: str, delimiter: str, names: ImageNames) -> bool:
    return line.lstrip().startswith("#") and not names.find(line.split(delimiter)[0].strip())


def _check(file: Path, rows: list[_Row], columns: Columns, found: Reading) -> None:
    """Tell what the header says; raise DatasetError where its columns hold something else."""
    found.form += f", a column for each of {len(columns.flags)} classes" if columns.flags else ", with a header"
    if columns.certainty is not None:
        _check_certainty(file, rows, columns.certainty)
        found.form += ", and how likely each label is"
    if columns.unread:
        _check_unread(file, rows, columns)
        found.notes.append(f"{file.name}: columns left unread: {shortened(columns.unread.values())}")
    if columns.flags:
        _check_flags(file, rows, columns)


def _delimiter(file: Path, lines: list[str], names: ImageNames) -> str:
    """Return what stands between columns: what leaves names of images, or of columns, in front."""
    if file.suffix.lower() == ".tsv":
        return "\t"

    def fits(delimiter: str) -> tuple[int, int]:
        split = [[cell.strip().strip('"') for cell in line.split(delimiter)] for line in lines if delimiter in line]
        header = next((cells for cells in split if not cells[0].startswith("#")), [])
        keys = [key_of(cell) for cell in header]
        is_header = any(key in IMAGE_KEYS for key in keys) and any(key in LABEL_KEYS for key in keys)
        return sum(any(names.find(cell) for cell in cells[:2]) for cells in split) + is_header, len(split)

    scores = {delimiter: fits(delimiter) for delimiter in DELIMITERS}
    best = max(DELIMITERS, key=lambda delimiter: scores[delimiter][0])
    if scores[best][0]:
        return best
    return next((each for each in DELIMITERS if scores[each][1] == len(lines)), ",")


def _rows(file: Path, lines: list[tuple[int, str]], delimiter: str, names: ImageNames, found: Reading) -> list[_Row]:
    rows = []
    for number, line in lines:
        start = line.lstrip("\ufeff")
        try:
            (cells,) = csv.reader([start], delimiter=delimiter, skipinitialspace=True, strict=True)
            cells = [cell.strip() for cell in cells]
            stray = next((c for c in cells if '"' in c and '""' not in start and c[:1] not in ("[", "{", "(")), None)
            if stray is not None:
                raise csv.Error("a quote inside a cell")
        except (csv.Error, ValueError) as error:
            hint = "close the quote in its line" if "unexpected end" in str(error) else str(error)
            message = f"line {number}: {EXPECTED}, found {line.strip()[:80]} ({hint})"
            # The image keeps its problem, so that it is not taken for one without labels.
            images = map(names.find, (cell.strip().strip('"') for cell in line.split(delimiter)))
            found.problems.append(Problem(file, message, next(filter(None, images), None)))
            continue
        width = len(cells)
        while len(cells) > 2 and not cells[-1]:
            cells.pop()
        if any(cells):
            rows.append(_Row(number, cells, width))
    return rows


def _columns(file: Path, rows: list[_Row], names: ImageNames) -> Columns | None:
    """Return the columns that the first line names, or None where it is no header.

    Raises:
        DatasetError: It is one, and which column is what cannot be told; or there is none, and columns are many.
    """
    first, rest = rows[0], rows[1:]
    keys = [key_of(cell) for cell in first.cells]
    images = sorted((i for i, key in enumerate(keys) if key in IMAGE_KEYS), key=lambda i: IMAGE_KEYS.index(keys[i]))
    labels = sorted((i for i, key in enumerate(keys) if key in LABEL_KEYS), key=lambda i: LABEL_KEYS.index(keys[i]))
    is_image = any(names.find(cell) for cell in first.cells if cell)
    width = len(first.cells)
    if is_image and not (images and labels):
        if all(len(row.cells) > 2 for row in rows) and len(rows) > 1:
            _refuse(file, f"{EXPECTED}, or a header that names the columns, found {width} columns without one")
        return None
    if not images and width > 2:
        # The names are no known ones: the column that has names of images is theirs.
        images = [i for i in range(width) if 2 * sum(bool(names.find(_cell(row, i))) for row in rest) > len(rest)][:1]
        if not images:
            _refuse(file, f"{EXPECTED}, or a header with a column `image`, found {shortened(first.cells, 8)}")
    if not images and labels and width == 2:
        images = [1 - labels[0]]
    if not images:
        return None
    if len(labels) > 1 and (keys[labels[0]] != "labels" or keys.count("labels") > 1):
        _refuse(
            file, f"expected one column of labels, found {shortened(first.cells[i] for i in labels)}: call one `labels`"
        )
    others = [i for i in range(len(keys)) if i != images[0] and i not in labels[:1]]
    if labels:
        doubts = [i for i in others if keys[i] in NO_CLASS]
        vague = [i for i in others if keys[i] in VAGUE_DOUBTS and _are_shares(_cell(row, i) for row in rest)]
        doubts = doubts or vague
        if len(doubts) > 1:
            _refuse(file, f"expected one column of how likely labels are, found {shortened(keys[i] for i in doubts)}")
        unread = {i: first.cells[i] or "(no name)" for i in others if i not in doubts}
        is_per_object = bool(others) or keys[labels[0]] in ONE_LABEL
        return Columns(images[0], labels[0], None, width, unread, is_per_object, next(iter(doubts), None))
    flags = {i: first.cells[i] for i in others if keys[i] and keys[i] not in ("index", *IMAGE_KEYS)}
    flags = {i: name for i, name in flags.items() if not key_of(name).startswith("unnamed")}
    flags = {i: name for i, name in flags.items() if key_of(name) not in LISTS}
    if not flags:
        _refuse(file, f"{EXPECTED}, found no column of labels among {shortened(first.cells, 8)}")
    unread = {i: first.cells[i] or "(no name)" for i in others if i not in flags}
    cells = (_cell(row, i).casefold() for row in rest for i in flags)
    is_flag = all(cell in YES | NO or _share(cell) is not None for cell in cells)
    if len(flags) == 1 and not is_flag:
        # `image,breed`: one column beside the images' is that of the labels.
        return Columns(images[0], next(iter(flags)), None, width, unread)
    return Columns(images[0], None, flags, width, unread)


def _check_flags(file: Path, rows: list[_Row], columns: Columns) -> None:
    """Raise DatasetError where columns of classes hold other things than 0 and 1."""
    assert columns.flags is not None
    _check_names(file, columns)
    values = {name: {_cell(row, i).casefold() for row in rows} for i, name in columns.flags.items()}
    # VOC's way: -1 is absent, and then 0 would be unclear.
    signed = any("-1" in found for found in values.values())
    allowed = (YES | {"-1", ""}) if signed else YES | NO
    bad = {name: sorted(each for each in found if each not in allowed) for name, found in values.items()}
    if not signed:
        bad = {name: [each for each in found if _share(each) is None] for name, found in bad.items()}
    if bad := {name: found[0] for name, found in bad.items() if found}:
        shown = shortened((f"{value!r} in {name!r}" for name, value in bad.items()), 5)
        expected = f"{EXPECTED}, or in each column but the image's 0 and 1, or how likely the class is, from 0 to 1"
        _refuse(file, f"{expected}, found {shown}: take such columns out")
    # Programs write 1.0 and 0.0 in a column of probabilities.
    flags = [name for name, found in values.items() if found <= allowed and found & (YES - {"1.0"})]
    shares = [name for name, found in values.items() if not found <= allowed]
    if flags and shares:
        found = f"0 and 1 in {shortened(map(repr, flags), 3)} and other numbers in {shortened(map(repr, shares), 3)}"
        message = f"expected 0 and 1 in all columns of classes, or how likely the class is in all, found {found}"
        _refuse(file, f"{message}: take out what is no class, and write 1.0 where a class is sure")


def _check_names(file: Path, columns: Columns) -> None:
    """Raise DatasetError where columns of classes are called alike, or like a number that is about the line."""
    assert columns.flags is not None
    names = Counter(map(clean_name, columns.flags.values()))
    if twice := [name for name, count in names.items() if count > 1]:
        _refuse(file, f"expected one column for each class, found {shortened(map(repr, twice))} more than once")
    if doubts := [name for name in names if key_of(name) in NO_CLASS and len(names) > 1]:
        message = f"expected a column for each class, found {doubts[0]!r} among them: take it out, or rename the class"
        _refuse(file, message)


def _check_unread(file: Path, rows: list[_Row], columns: Columns) -> None:
    """Raise DatasetError where a column that is not read says that labels are absent."""
    for i, name in columns.unread.items():
        if key_of(name) in ABSENCES and any(_cell(row, i).casefold() not in NO for row in rows):
            message = f"expected labels that are there, found lines whose column {name!r} says that they are not"
            _refuse(file, f"{message}: write `-NAME` as their label, and take the column out")


def _check_certainty(file: Path, rows: list[_Row], column: int) -> None:
    """Raise DatasetError where a column of how likely labels are holds something else."""
    for row in rows:
        text = _cell(row, column).casefold()
        if not _are_shares([text]):
            message = f"line {row.number}: expected how likely the labels are, from 0 to 1, found {text[:80]!r}"
            _refuse(file, f"{message}: take the column out")


def _are_shares(cells: Iterable[str]) -> bool:
    """Return whether cells say how likely something is; an empty one, or NaN, says nothing."""
    return all(text in YES | NO | UNSAID or _share(text) is not None for text in map(str.casefold, cells))


def _share(text: str) -> float | None:
    """Return the number that a text is, None where it is none from 0 to 1."""
    if not re.fullmatch(r"(\d+|\d*[.,]\d+)(e-?\d+)?", text):
        return None
    share = float(text.replace(",", "."))
    # What single precision makes of 1.
    return min(share, 1.0) if share <= 1 + 1e-6 else None


def _certainty(text: str) -> float:
    """Return how likely a cell says that something is there; one that says nothing does not doubt it."""
    text = text.casefold()
    share = _share(text)
    return share if share is not None else float(text in UNSAID or text in YES)


def _read_rows(
    file: Path, rows: list[_Row], columns: Columns, delimiter: str, names: ImageNames, found: Reading
) -> None:
    joiner = _joiner([] if columns.labels is None else [_cell(row, columns.labels) for row in rows], delimiter)
    if joiner == "|":
        found.form += ", labels joined by `|`"
    for row in rows:
        where = f"line {row.number}"
        name = _cell(row, columns.image)
        if len(row.cells) > columns.count:
            message = f"{where}: {EXPECTED}, found {len(row.cells)} columns"
            found.problems.append(Problem(file, message, names.find(name)))
        elif not name:
            found.problems.append(Problem(file, f"{where}: expected the name of an image, found none"))
        elif columns.flags:
            if row.width < columns.count:
                message = f"{where}: expected {columns.count} columns, as the header has, found {row.width}"
                found.problems.append(Problem(file, message, names.find(name)))
                continue
            cells = {label: _cell(row, i) for i, label in columns.flags.items()}
            sure = {label: _certainty(cell) for label, cell in cells.items() if cell and cell != "-1"}
            sure = {label: share for label, share in sure.items() if share}
            found.entries.append(Entry(name, labels_in(sure), file, where, certainty=_less_than_sure(sure)))
        else:
            try:
                labels = split_labels(_cell(row, columns.labels or 0) if columns.labels is not None else "", joiner)
            except ValueError as error:
                found.problems.append(Problem(file, f"{where}: {error}", names.find(name)))
            else:
                said = "" if columns.certainty is None else _cell(row, columns.certainty)
                doubts = _less_than_sure(dict.fromkeys(labels, _certainty(said)))
                found.entries.append(Entry(name, labels_in(labels), file, where, signs=True, certainty=doubts))


def _less_than_sure(sure: dict[str, float]) -> dict[str, float]:
    return {clean_name(label): share for label, share in sure.items() if share < 1}


def _joiner(cells: list[str], delimiter: str) -> str:
    """Return what joins labels: `;`, or what is there instead of it; a comma only where it cannot be in a name."""
    candidates = [";", "|"] if delimiter == "," else [";", "|", ","]
    used = (sign for sign in candidates if sign != delimiter and any(sign in cell for cell in cells))
    return next(used, ";" if delimiter != ";" else ",")


def _merge(found: Reading) -> None:
    """Join the entries of one name: tables of more columns have a line per object."""
    merged: dict[str, Entry] = {}
    for entry in found.entries:
        first = merged.get(entry.name)
        merged[entry.name] = _joined(first, entry) if first else entry
    if again := len(found.entries) - len(merged):
        found.notes.append(f"lines of an image that has one already, their labels joined: {again}")
    found.entries = list(merged.values())


def _joined(first: Entry, other: Entry) -> Entry:
    """Return what two lines say of an image: of two objects of a class the likelier one counts."""
    sure: dict[str, float] = {}
    for entry in (first, other):
        for label in map(clean_name, entry.labels):
            sure[label] = max(sure.get(label, 0.0), entry.certainty.get(label, 1.0))
    return replace(first, labels=first.labels | other.labels, certainty=_less_than_sure(sure))


def _cell(row: _Row, column: int) -> str:
    return row.cells[column] if column < len(row.cells) else ""


def _refuse(file: Path, message: str) -> None:
    raise DatasetError([Problem(file, message)])
