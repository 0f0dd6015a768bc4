"""The elements of VOC's XML, as labelImg, labelme, CVAT and converters write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

from data.dataset import DatasetError, Problem

EXPECTED_FILE = "an annotation in VOC's XML"
EXPECTED = f"expected {EXPECTED_FILE}"
NAMES = frozenset(
    [
        *("name", "label", "class", "category", "title", "tag", "classname", "class_name", "categoryname"),
        *("category_name", "labelname", "label_name", "bndbox", "robndbox", "bbox", "box", "polygon"),
    ]
)
"""What an object has inside."""
NAMING = ("name", "label", "class", "category")
"""Attributes that name what an element is about."""
PLACES = frozenset({"bndbox", "robndbox", "bbox", "box", "polygon"})
"""What is where an object is."""
REMEDY = ": call it <object>, or take it out"
ABOUT_THE_IMAGE = frozenset(
    [
        *(
            "owner",
            "source",
            "size",
            "segmented",
            "folder",
            "filename",
            "path",
            "imagesize",
            "image",
            "meta",
            "license",
        ),
        *(
            "user",
            "annotator",
            "author",
            "creator",
            "camera",
            "task",
            "project",
            "job",
            "event",
            "attributes",
            "dataset",
        ),
    ]
)
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
    """See that no element but `<object>` has the name and place of an object, and that no object has two names.

    Raises:
        DatasetError: One has: its objects would be taken for none. Where there is no `<object>` at all, a name alone,
            in an element or between two, counts as one.
    """
    objects = list(objects_in(annotation))
    for item in objects:
        if len(names := {text_of(child) for child in item if tag_of(child) == "name"} - {""}) > 1:
            refuse(file, f"found an object with the names {', '.join(map(repr, sorted(names))):.80}")
    waiting = [annotation]
    while waiting:
        for child in waiting.pop():
            tag = tag_of(child)
            if tag == "object" and not objects:
                refuse(file, "found an <object> within a <part>")
            if not tag or tag == "object" or tag in ABOUT_THE_IMAGE or (objects and tag in ("part", "parts")):
                continue
            inner = {tag_of(each) for each in child}
            # Where there are objects, a name alone may be anybody's.
            if inner & (PLACES if objects else NAMES) and tag not in ("annotation", "annotations"):
                refuse(file, f"found <{tag}> with <{sorted(inner & NAMES)[0]}>{REMEDY}")
            named = [name for name in NAMING if child.get(name, "").strip()]
            if named and (not objects or tag in PLACES):
                refuse(file, f"found <{tag} {named[0]}={child.get(named[0])!r:.80}>{REMEDY}")
            if not objects and not len(child) and text_of(child) and (tag in NAMES or _is_like_object(tag)):
                refuse(file, f"found <{tag}> alone: {text_of(child)!r:.80}{REMEDY}")
            waiting.append(child)


def _is_like_object(tag: str) -> bool:
    """Tell whether a name could be meant for `object`, or for a list of labels."""
    lists = ("tags", "labels", "classes", "categories", "obj", "objs")
    return tag in lists or bool(get_close_matches(tag, ["object"], cutoff=0.8))


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
