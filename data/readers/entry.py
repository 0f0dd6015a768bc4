"""What a source of labels says of one image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.dataset import Problem
from data.readers.image_names import image_id


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source says of one image.

    Attributes:
        name: The image as the source names it, with or without suffix.
        labels: Class names, as they stand there.
        file: The file that says so.
        where: The place in it, "line 3"; empty where the file is about this image alone.
        signs: Whether the labels are tags that people wrote, in which `?`, `-` and `:` are signs.
        open: Whether the image may have other classes, too (a label `?`).
        absent: Names of classes that it surely has not (`-cat`).
        doubted: Names of classes that it has with a probability under a half.
        certainty: Name -> how likely it is right (`dog:0.8`, or a column of a table), of labels that are not sure.
    """

    name: str
    labels: frozenset[str]
    file: Path
    where: str = ""
    signs: bool = False
    open: bool = False
    absent: frozenset[str] = frozenset()
    doubted: frozenset[str] = frozenset()
    certainty: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return image_id(self.name)

    def problem(self, message: str, sample: str | None = None) -> Problem:
        """Return a problem of this entry's image, at its place in the source."""
        return Problem(self.file, f"{self.where}: {message}" if self.where else message, sample or self.id)


@dataclass
class Reading:
    """What was read of a source.

    Attributes:
        form: What the source is, as a phrase for people.
        entries: Those that were understood.
        problems: What was not.
        notes: What was left unread on purpose, and why.
        unread: Names of the fields that were left unread, and of how many records.
    """

    form: str = ""
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


IMAGE_KEYS = [
    "image",
    "filename",
    "imagename",
    "imagefile",
    "imagepath",
    "imageid",
    "filepath",
    "file",
    "path",
    "images",
    "filenames",
    "img",
    "imgname",
    "imgpath",
    "imgfile",
    "imgid",
    "imgs",
    "photo",
    "picture",
    "frame",
    "name",
    "id",
    "key",
]
"""Names of the column or field that names the image, without `_` and spaces, the surest first."""
LABEL_KEYS = [
    "labels",
    "label",
    "tags",
    "tag",
    "classes",
    "class",
    "classname",
    "classnames",
    "categories",
    "category",
    "categoryname",
    "labelname",
    "labelnames",
    "imagelabels",
    "imagelabel",
    "target",
    "targets",
]
DOUBTS = frozenset(
    [
        *("confidence", "confidences", "conf", "score", "scores", "probability", "probabilities", "prob", "probs"),
        *("certainty", "likelihood", "p", "confidencescore", "confidencelevel", "labelconfidence", "labelscore"),
        *("present", "presence", "value"),
    ]
)
"""Names of the column or field that says how likely the labels beside it are there."""
VAGUE_DOUBTS = frozenset({"p", "value", "present", "presence"})
"""Such names that may as well be of something else: they count where their values are probabilities."""
ABSENCES = frozenset(
    ["absent", "isabsent", "absentlabels", "negative", "negatives", "isnegative", "negativelabels", "negativetags"]
)
"""Names of the column or field that may say that the labels beside it are not there."""

YES, NO = frozenset({"1", "1.0", "true", "t", "yes", "y", "x"}), frozenset({"0", "0.0", "false", "f", "no", "n", ""})
"""What says that something is there, and that it is not."""
LISTS = frozenset({"split", "subset", "fold", "istrain", "isval", "isvalid", "istest"})
"""Columns that say which list an image is in."""


def key_of(text: str) -> str:
    """Return the name of a column or field in the writing of `IMAGE_KEYS`."""
    return re.sub(r"[\s_\-.]+", "", text.casefold())


def split_labels(text: str, joiner: str = ";") -> list[str]:
    """Return the labels in a cell: joined by `joiner`, or a list as Python, NumPy and JSON write it.

    Raises:
        ValueError: It begins like a list and is none, or commas stand between labels and in their probabilities.
    """
    text = text.strip()
    if text == "set()":
        return []
    # Brackets alone are part of many a name; a tuple has quotes in it, or nothing.
    if text[:1] in ("[", "{") or re.match(r"\(\s*(['\"]|\)$)", text):
        if len(text) < 2 or text[-1] != {"[": "]", "{": "}", "(": ")"}[text[0]] or re.search(r"[\[\]{}]", text[1:-1]):
            raise ValueError(f"expected labels, or a list of them, found {text:.80}")
        inner = text[1:-1].strip()
        quoted = re.findall(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", inner)
        if quoted and not re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[\s,]", "", inner):
            return [one or other for one, other in quoted]
        if "'" in inner or '"' in inner:
            raise ValueError(f"expected labels, or a list of them, found {text:.80}")
        joiner = joiner if joiner in inner else ","
        text = inner
    if joiner == "," and (cut := re.search(r"[^;|]*:\s*\d,\d+", text)):
        raise ValueError(f"expected labels joined by commas, and probabilities with a point, found {cut[0]:.80}")
    return text.split(joiner)


def labels_in(names: Iterable[str]) -> frozenset[str]:
    return frozenset(filter(None, (name.strip() for name in names)))
