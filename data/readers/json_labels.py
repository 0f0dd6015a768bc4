"""Labels in JSON: one record per line, a list of records, or an object with a field per image."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    Entry,
    Reading,
    key_of,
    labels_in,
)
from data.readers.image_names import ImageNames
from data.readers.text import read_bytes, read_text, text_lines

EXPECTED = '{"image": "name", "labels": ["class", ...]}'
IMAGE_FILE_KEYS = frozenset(IMAGE_KEYS) - {"name", "id", "key", "imageid", "imgid"}
"""Fields that are about files, where others may count records."""
_BROKEN = object()


def holds_coco(file: Path) -> bool:
    """Tell whether a JSON file is meant to be COCO's, by the fields that are named in it."""
    content = read_bytes(file, "JSON").replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    names = (b'"annotations"', b'"categories"', b'"images"')
    if content.startswith(b"["):
        return False
    return any(name in content for name in names) or not re.match(rb'\{\s*"', content)


def read_json_lines(file: Path, names: ImageNames) -> Reading:
    """Read a record per line; or the whole file as one list, where its lines are none.

    Raises:
        DatasetError: The file cannot be read.
    """
    text = read_text(file)
    lines = [(number, line) for number, line in enumerate(text_lines(text), start=1) if line.strip()]
    records = []
    for number, line in lines:
        record = _parse(line, repeated := set[str]())
        # Which of two lists of labels counts is not known.
        records.append((number, line, _BROKEN if repeated else record))
    if lines and not any(isinstance(record, dict) for _, _, record in records):
        whole = _parse(text)
        if isinstance(whole, dict) or (isinstance(whole, list) and (not whole or isinstance(whole[0], dict | list))):
            return read_json(file, names)
    found = Reading("JSON lines")
    for number, line, record in records:
        where = f"line {number}"
        _add(found, file, where, record, line.strip(), names)
    return _note_unread(found, file)


def read_json(file: Path, names: ImageNames) -> Reading:
    """Read a list of records, `{"a.jpg": ["cat"]}`, or FiftyOne's `{"classes": [..], "labels": {"a": ..}}`.

    Raises:
        DatasetError: The file cannot be read, or is none of these.
    """
    text, repeated = read_text(file), set[str]()
    content = _parse(text, repeated)
    if repeated:
        message = f"expected each field once in an object, found {shortened(map(repr, sorted(repeated)))} twice"
        raise DatasetError([Problem(file, message)])
    found = Reading("JSON")
    if isinstance(content, list):
        for number, record in enumerate(content, start=1):
            _add(found, file, f"record {number}", record, _short(record), names)
        return _note_unread(found, file)
    if not isinstance(content, dict):
        expected = f"expected JSON: COCO's, a list of {EXPECTED}, or an object with the labels of each image"
        raise DatasetError([Problem(file, f"{expected}, found {text.strip()[:80]}")])
    classes = content.get("classes")
    labels = content
    if isinstance(content.get("labels"), dict):
        labels = content["labels"]
        found.unread.update(content.keys() - {"classes", "labels"})
        if beside := [name for name in found.unread if names.find(name)]:
            message = f"expected the labels of all images in the field 'labels', found {beside[0]!r} beside it"
            raise DatasetError([Problem(file, message)])
    for name, value in labels.items():
        if isinstance(value, int) and isinstance(classes, list) and not isinstance(value, bool):
            value = classes[value] if 0 <= value < len(classes) else value
        record = {"image": name, "labels": value}
        _add(found, file, f"field {name!r}", record, _short(record), names)
    return _note_unread(found, file)


def _add(found: Reading, file: Path, where: str, record: Any, text: str, names: ImageNames) -> None:
    """Add the entry of one record, or the problem that it is none."""
    fields: dict[str, Any] = record if isinstance(record, dict) else {}
    pairs = [(key_of(key), value) for key, value in fields.items()]
    images = [value for wanted in IMAGE_KEYS for key, value in pairs if key == wanted and isinstance(value, str)]
    name = next(iter(images), None)
    try:
        labels = _labels(pairs, fields)
        if name is None or labels is None:
            raise ValueError(f"expected {EXPECTED}, found {text[:80]}")
        if len({id for key, value in pairs if key in IMAGE_FILE_KEYS and (id := _found(value, names)) is not None}) > 1:
            raise ValueError(f"expected one image, found fields with the names of several: {text[:80]}")
        certainty = _certainty(pairs, labels)
    except ValueError as error:
        # The image keeps its problem, so that it is not taken for one without labels.
        guess = name if name is not None else next(_names_in(text), None)
        found.problems.append(Problem(file, f"{where}: {error}", names.find(guess) if guess else None))
        return
    if not name.strip():
        found.problems.append(Problem(file, f"{where}: expected the name of an image, found none"))
        return
    known = {*IMAGE_KEYS, *LABEL_KEYS, *DOUBTS, *LISTS}
    found.unread.update(key for key, value in fields.items() if key_of(key) not in known or _is_vague(key, value))
    found.entries.append(Entry(name, labels_in(labels), file, where, signs=True, certainty=certainty))


def _is_vague(key: str, value: Any) -> bool:
    """Return whether a field is called `value`, as many are, and holds no probability."""
    return key_of(key) in VAGUE_DOUBTS and _shares(value) is None


def _found(value: Any, names: ImageNames) -> str | None:
    return names.find(value) if isinstance(value, str) else None


def _labels(pairs: list[tuple[str, Any]], record: dict[str, Any]) -> list[str] | None:
    """Return the labels of a record; None where it has no field of them, or another kind of value in it.

    Raises:
        ValueError: Several fields say different things, or one says that labels are absent.
    """
    given = [value for wanted in LABEL_KEYS for key, value in pairs if key == wanted]
    # A field that says nothing contradicts none.
    several = [value for value in given if value not in (None, "", [])] or given
    if len({_as_text(value) for value in several}) > 1:
        named = " and ".join(repr(key) for key in record if key_of(key) in LABEL_KEYS)
        raise ValueError(f"expected one field of labels, found {named}, which differ: leave one")
    if denied := [key for key in record if key_of(key) in ABSENCES and _says_something(record[key])]:
        raise ValueError(f"expected labels that are there, found {denied[0]!r}: write `-NAME` among the labels")
    labels = next(iter(several), None)
    labels = [labels] if isinstance(labels, str) else labels
    return labels if isinstance(labels, list) and all(isinstance(label, str) for label in labels) else None


def _says_something(value: Any) -> bool:
    return value not in (0, None, "", []) and not (isinstance(value, str) and value.casefold() in NO)


def _certainty(pairs: list[tuple[str, Any]], labels: list[str]) -> dict[str, float]:
    """Return label -> how likely it is there, of those that are not sure: a number for all, or a list of one for each.

    Raises:
        ValueError: It is something else, or there are several such fields.
    """
    given = [(key, value) for key, value in pairs if key in DOUBTS and value not in (None, "", [])]
    # A field of any use is called so.
    certain = [(key, value) for key, value in given if key not in VAGUE_DOUBTS]
    given = certain or [(key, value) for key, value in given if _shares(value) is not None]
    if not given:
        return {}
    (key, value), *others = given
    found = _shares(value)
    shares = found if isinstance(value, list) or not found else found * len(labels)
    if others or shares is None or len(shares) != len(labels):
        message = f"expected how likely the labels are, one number from 0 to 1 for each, found {key}: {value!r:.80}"
        raise ValueError(f"{message}; take the field out")
    sure: dict[str, float] = {}
    for label, share in zip(map(clean_name, labels), shares, strict=True):
        # Of two objects of a class the likelier one counts.
        sure[label] = max(sure.get(label, 0.0), share)
    return {label: share for label, share in sure.items() if share < 1}


def _shares(value: Any) -> list[float] | None:
    """Return numbers from 0 to 1, or texts of such, as a list; None where one is something else."""
    found = []
    for each in value if isinstance(value, list) else [value]:
        try:
            share = None if isinstance(each, bool) else float(each)
        except (TypeError, ValueError):
            share = None
        if share is None or not 0 <= share <= 1:
            return None
        found.append(share)
    return found


def _note_unread(found: Reading, file: Path) -> Reading:
    """Tell of the fields that were left unread."""
    if found.unread:
        found.notes.append(f"{file.name}: fields left unread: {shortened(sorted(found.unread))}")
    return found


def _names_in(text: str) -> Iterator[str]:
    """Give the names of images in a record that is broken."""
    for key, value in re.findall(r'"(\w+)"\s*:\s*"([^"\\]*)"', text):
        if key_of(key) in IMAGE_KEYS:
            yield value


def _parse(text: str, repeated: set[str] | None = None) -> Any:
    """Return what a JSON text holds, `_BROKEN` where it is none; `repeated` gets fields that come twice."""

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if repeated is not None and len(content) < len(pairs):
            repeated.update(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return content

    try:
        return json.loads(text, object_pairs_hook=as_dict)
    except (ValueError, RecursionError):
        return _BROKEN


def _as_text(labels: Any) -> str:
    """Return labels in one writing, so that `"cat"` is `["cat"]`, and their order is none."""
    return repr(sorted(map(repr, labels if isinstance(labels, list) else [labels])))


def _short(record: Any) -> str:
    try:
        return json.dumps(record)[:200]
    except (ValueError, RecursionError):
        return "a record of many levels"
