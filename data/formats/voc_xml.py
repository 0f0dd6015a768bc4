"""The elements of VOC's XML, as labelImg, labelme, CVAT and converters write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

from data.dataset import DatasetError, Problem

EXPECTED_FILE = "an annotation in VOC's XML"
EXPECTED = f"expected {EXPECTED_FILE}"
NAMES = frozenset({"name", "label", "class", "bndbox", "polygon"})
"""What an object has inside."""
ABOUT_THE_IMAGE = ("owner", "source", "size", "segmented", "folder", "filename", "path", "imagesize")
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_DECLARATION = re.compile(r"^\s*<\?xml\b[^>]*\?>")


def parse_xml(file: Path, content: bytes) -> ElementTree.Element:
    """Return the outermost element of a file.

    Args:
        file: Named where it cannot be read.
        content: Its bytes.

    Raises:
        DatasetError: They are no XML.
    """
    try:
        text = _decode(content)
        return ElementTree.fromstring(_DECLARATION.sub("", text, count=1))
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise DatasetError([Problem(file, f"{EXPECTED}, but {error}")]) from error


def objects_in(annotation: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Give the objects at any depth, but for parts, and what is within objects, which has names of its own."""
    waiting = [annotation]
    while waiting:
        for child in waiting.pop():
            if tag_of(child) == "object":
                yield child
            elif tag_of(child) not in ("part", "parts"):
                waiting.append(child)


def refuse_nameless_objects(file: Path, annotation: ElementTree.Element) -> None:
    """See that no element but `<object>` has the name and place of an object.

    Raises:
        DatasetError: One has: its objects would be taken for none.
    """
    waiting = [annotation]
    while waiting:
        parent = waiting.pop()
        for child in parent:
            if tag_of(child) in ("object", "part", "parts", *ABOUT_THE_IMAGE):
                continue
            inner = {tag_of(each) for each in child}
            if inner & NAMES and tag_of(child) not in ("annotation", "annotations"):
                refuse(file, f"found <{tag_of(child)}> with <{sorted(inner & NAMES)[0]}>")
            waiting.append(child)


def tag_of(element: ElementTree.Element) -> str:
    """Return an element's name without its namespace, in lower case."""
    return element.tag.rpartition("}")[2].casefold() if isinstance(element.tag, str) else ""


def text_of(element: ElementTree.Element) -> str:
    """Return all text within an element."""
    return "".join(element.itertext()).strip()


def refuse(file: Path, found: str) -> NoReturn:
    """Raise the DatasetError of a file that is XML, but no annotation."""
    raise DatasetError([Problem(file, f"{EXPECTED} (<annotation> with <object>s that have a <name>), {found}")])


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
