"""Labels in VOC's XML, as labelImg, labelme, CVAT and converters write it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from data.dataset import DatasetError, Problem
from data.files import files_below
from data.formats.voc_xml import EXPECTED_FILE, objects_in, parse_xml, refuse, refuse_nameless_objects, tag_of, text_of
from data.readers.entry import Entry, Reading, labels_in
from data.readers.text import read_bytes


def xml_files(folder: Path) -> list[Path]:
    """Return the XML files below a folder, in any case of the suffix; hidden ones, as macOS writes them, left out."""
    return files_below(folder, {".xml"})


def read_annotations(folder: Path) -> Reading:
    """Read a file per image. Objects marked difficult count too, as in the reference; an object's parts do not, and
    neither do those marked as deleted."""
    found = Reading("VOC's XML")
    for file in xml_files(folder):
        id = file.relative_to(folder).with_suffix("").as_posix()
        try:
            found.entries += _entries(file, id)
        except DatasetError as error:
            found.problems += [Problem(problem.file, problem.message, id) for problem in error.problems]
    return found


def _entries(file: Path, id: str) -> list[Entry]:
    root = parse_xml(file, read_bytes(file, EXPECTED_FILE))
    tag = tag_of(root)
    inner = [each for each in root if tag_of(each) == "annotation"] if tag == "annotations" else []
    if tag != "annotation" and not inner:
        refuse(file, f"found <{tag}> around the whole")
    if len(inner) < 2:
        return [Entry(id, _labels(file, inner[0] if inner else root), file)]
    entries = []
    for number, each in enumerate(inner, start=1):
        name = next((text_of(child) for child in each if tag_of(child) == "filename"), "")
        if not name:
            refuse(file, f"found several, and no <filename> in number {number}")
        entries.append(Entry(name, _labels(file, each), file, f"annotation {number}"))
    return entries


def _labels(file: Path, annotation: ElementTree.Element) -> frozenset[str]:
    refuse_nameless_objects(file, annotation)
    names = []
    for item in objects_in(annotation):
        fields = {tag_of(child): text_of(child) for child in reversed(item)}
        if (fields.get("deleted") or "").casefold() in ("1", "true"):
            continue
        if not fields.get("name"):
            found = f"found an object without a name, but with <{'>, <'.join(fields) or ''}>"
            refuse(file, found)
        names.append(fields["name"])
    return labels_in(names)
