"""Labels in VOC's XML, as labelImg, labelme, CVAT and converters write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from data.dataset import DatasetError, Problem
from data.readers.entry import Entry, Reading, labels_in
from data.readers.text import read_bytes

EXPECTED = "expected an annotation in VOC's XML"
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_DECLARATION = re.compile(r"^\s*<\?xml\b[^>]*\?>")


def xml_files(folder: Path) -> list[Path]:
    """Return the XML files below a folder, in any case of the suffix; hidden ones, as macOS writes them, left out."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".xml" and file.name[0] != ".")


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
    root = _parse(file)
    tag = _tag(root)
    inner = [each for each in root if _tag(each) == "annotation"] if tag == "annotations" else []
    if tag != "annotation" and not inner:
        _refuse(file, f"found <{tag}> around the whole")
    if len(inner) < 2:
        return [Entry(id, _labels(file, inner[0] if inner else root), file)]
    entries = []
    for number, each in enumerate(inner, start=1):
        name = next((_text(child) for child in each if _tag(child) == "filename"), "")
        if not name:
            _refuse(file, f"found several, and no <filename> in number {number}")
        entries.append(Entry(name, _labels(file, each), file, f"annotation {number}"))
    return entries


def _labels(file: Path, annotation: ElementTree.Element) -> frozenset[str]:
    names = []
    for item in _objects(annotation):
        fields = {_tag(child): _text(child) for child in reversed(item)}
        if fields.get("deleted") in ("1", "true"):
            continue
        if not fields.get("name"):
            found = f"found an object without a name, but with <{'>, <'.join(fields) or ''}>"
            _refuse(file, found)
        names.append(fields["name"])
    return labels_in(names)


def _objects(annotation: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Give the objects at any depth, but for parts, and what is within objects, which has names of its own."""
    waiting = [annotation]
    while waiting:
        for child in waiting.pop():
            if _tag(child) == "object":
                yield child
            elif _tag(child) not in ("part", "parts"):
                waiting.append(child)


def _parse(file: Path) -> ElementTree.Element:
    content = read_bytes(file, "an annotation in VOC's XML")
    try:
        text = _decode(content)
        return ElementTree.fromstring(_DECLARATION.sub("", text, count=1))
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise DatasetError([Problem(file, f"{EXPECTED}, but {error}")]) from error


def _decode(content: bytes) -> str:
    """Return the text by its byte order mark, else by the encoding that it declares."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    if content.startswith((b"<\0", b"\0<")):
        return content.decode("utf-16-le" if content.startswith(b"<\0") else "utf-16-be")
    declared = re.match(rb"\s*<\?xml\b[^>]*?encoding\s*=\s*[\"']([\w.:-]+)[\"']", content)
    encoding = declared[1].decode() if declared else "utf-8"
    # Who can be asked for the declaration a byte a letter is not UTF-16, whatever it declares.
    encoding = "utf-8" if re.match(r"utf[-_]?(16|32)", encoding, re.IGNORECASE) else encoding
    if content.isascii():
        return content.decode("ascii")
    try:
        text = content.decode(encoding)
    except (LookupError, ValueError) as error:
        advice = f"cannot be read by the encoding it declares, {encoding} ({error}): save it as UTF-8"
        raise ValueError(f"it {advice}") from error
    return text


def _tag(element: ElementTree.Element) -> str:
    """Return an element's name without its namespace, in lower case."""
    return element.tag.rpartition("}")[2].casefold() if isinstance(element.tag, str) else ""


def _text(element: ElementTree.Element) -> str:
    return "".join(element.itertext()).strip()


def _refuse(file: Path, found: str) -> None:
    raise DatasetError([Problem(file, f"{EXPECTED} (<annotation> with <object>s that have a <name>), {found}")])
