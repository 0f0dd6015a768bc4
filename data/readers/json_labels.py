"""Labels in JSON: one record per line, a list of records, or an object with a field per image."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.dataset import DatasetError, Problem
from data.names import shortened
from data.readers.entry import IMAGE_KEYS, LABEL_KEYS, Entry, Reading, key_of, labels_in
from data.readers.image_names import ImageNames
from data.readers.text import read_bytes, read_text, text_lines

EXPECTED = '{"image": "name", "labels": ["class", ...]}'
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
    return found


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
        return found
    if not isinstance(content, dict):
        expected = f"expected JSON: COCO's, a list of {EXPECTED}, or an object with the labels of each image"
        raise DatasetError([Problem(file, f"{expected}, found {text.strip()[:80]}")])
    classes = content.get("classes")
    labels = content["labels"] if isinstance(content.get("labels"), dict) else content
    for name, value in labels.items():
        if isinstance(value, int) and isinstance(classes, list) and not isinstance(value, bool):
            value = classes[value] if 0 <= value < len(classes) else value
        record = {"image": name, "labels": value}
        _add(found, file, f"field {name!r}", record, _short(record), names)
    return found


def _add(found: Reading, file: Path, where: str, record: Any, text: str, names: ImageNames) -> None:
    """Add the entry of one record, or the problem that it is none."""
    fields = {key_of(key): value for key, value in record.items()} if isinstance(record, dict) else {}
    name = next((fields[key] for key in IMAGE_KEYS if isinstance(fields.get(key), str)), None)
    several = [key for key in LABEL_KEYS if key in fields]
    labels = next((fields[key] for key in several), None)
    if len({_as_text(fields[key]) for key in several}) > 1:
        guess = name if name is not None else next(_names_in(text), None)
        named = " and ".join(repr(key) for key in (record or ()) if key_of(key) in several)
        message = f"{where}: expected one field of labels, found {named}, which differ: leave one"
        found.problems.append(Problem(file, message, names.find(guess) if guess else None))
        return
    labels = [labels] if isinstance(labels, str) else labels
    if name is None or not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        # The image keeps its problem, so that it is not taken for one without labels.
        guess = name if name is not None else next(_names_in(text), None)
        sample = names.find(guess) if guess else None
        found.problems.append(Problem(file, f"{where}: expected {EXPECTED}, found {text[:80]}", sample))
    elif not name.strip():
        found.problems.append(Problem(file, f"{where}: expected the name of an image, found none"))
    else:
        found.entries.append(Entry(name, labels_in(labels), file, where, signs=True))


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
