"""Image-level labels from each source, as one stream of entries and problems."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from data.dataset import VOID, DatasetError, Problem
from data.label_maps import read_label_map
from data.readers.ids import image_id, is_unsafe, read_text, unsafe_problem
from data.threads import map_in_threads


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source says of one image.

    Attributes:
        name: The image as the source names it, with or without suffix.
        labels: Class names.
        file: The file that says so.
        where: The place in it, "line 3"; empty where the file is about this image alone.
    """

    name: str
    labels: frozenset[str]
    file: Path
    where: str = ""

    @property
    def id(self) -> str:
        return image_id(self.name)

    def problem(self, message: str) -> Problem:
        """Return a problem of this entry's image, at its place in the source."""
        return Problem(self.file, f"{self.where}: {message}" if self.where else message, self.id)


def find_labels(root: Path) -> Path | None:
    """Return the source of labels that a set brings along, the most explicit first."""
    for name in ("labels.csv", "labels.jsonl"):
        if (root / name).is_file():
            return root / name
    for name, pattern in (("Annotations", "*.xml"), ("SegmentationClass", "*.png")):
        if next((root / name).rglob(pattern), None) is not None:
            return root / name
    return None


def read_entries(source: Path, names: tuple[str, ...]) -> tuple[list[Entry], list[Problem]]:
    """Read all entries of a label source.

    Args:
        source: CSV, `.jsonl` / `.ndjson`, or a folder with VOC's XML files or, failing those, label maps.
        names: The class names that the values of label maps stand for.

    Returns:
        The entries, and what could not be read of the source.

    Raises:
        DatasetError: The source is missing or not text.
    """
    if source.is_dir():
        is_xml = next(source.rglob("*.xml"), None) is not None
        found = _read_annotations(source) if is_xml else _read_masks(source, names)
    elif source.suffix.lower() in (".jsonl", ".ndjson"):
        found = _read_json_lines(source)
    else:
        found = _read_csv(source)
    entries, problems = [], []
    for item in found:
        if isinstance(item, Problem):
            problems.append(item)
        elif is_unsafe(item.name):
            problems.append(unsafe_problem(item.file, item.name, item.where))
        else:
            entries.append(item)
    return entries, problems


def _read_csv(file: Path) -> Iterator[Entry | Problem]:
    rows = csv.reader(read_text(file).splitlines(), skipinitialspace=True)
    for row in rows:
        where = f"line {rows.line_num}"
        cells = [cell.strip() for cell in row]
        if not any(cells) or (rows.line_num == 1 and [cell.lower() for cell in cells] == ["image", "labels"]):
            continue
        if len(cells) > 2:
            yield Problem(
                file, f"{where}: expected `image,labels` with labels joined by `;`, found {len(cells)} columns"
            )
            continue
        name, joined = [*cells, ""][:2]
        yield Entry(name, _names(joined.split(";")), file, where)


def _read_json_lines(file: Path) -> Iterator[Entry | Problem]:
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        match record:
            case {"image": str(name), "labels": list(labels)} if all(isinstance(label, str) for label in labels):
                yield Entry(name, _names(labels), file, f"line {number}")
            case _:
                expected = '{"image": "name", "labels": ["class", ...]}'
                yield Problem(file, f"line {number}: expected {expected}, found {line.strip()[:80]}")


def _read_annotations(folder: Path) -> Iterator[Entry | Problem]:
    """Objects marked difficult count too, as in the reference; an object's parts do not."""
    for file in sorted(folder.rglob("*.xml")):
        id = file.relative_to(folder).with_suffix("").as_posix()
        try:
            objects = ElementTree.parse(file).getroot().findall("object")
            yield Entry(id, _names(item.findtext("name", "") for item in objects), file)
        except ElementTree.ParseError as error:
            yield Problem(file, f"expected an annotation in VOC's XML, but {error}", id)


def _read_masks(folder: Path, names: tuple[str, ...]) -> Iterator[Entry | Problem]:
    files = sorted(folder.rglob("*.png"))
    yield from map_in_threads(lambda file: _read_mask(folder, file, names), files)


def _read_mask(folder: Path, file: Path, names: tuple[str, ...]) -> Entry | Problem:
    id = file.relative_to(folder).with_suffix("").as_posix()
    try:
        values = [int(value) for value in np.unique(read_label_map(file)) if value not in (0, VOID)]
    except DatasetError as error:
        return Problem(file, error.problems[0].message, id)
    if values and values[-1] > len(names):
        return Problem(file, f"expected values 0 to {len(names)} and {VOID}, found {values[-1]}", id)
    return Entry(id, frozenset(names[value - 1] for value in values), file)


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(filter(None, (name.strip() for name in names)))
