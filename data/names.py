"""Names of classes, files and what becomes a path: their plain form, and what is wrong with them."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PureWindowsPath

from data.dataset import RESERVED
from data.text import is_hidden

MAX_NAME = 255
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
BACKGROUND = frozenset({"background", "bg"})
VOID_NAMES = frozenset({"void", "ignore", "ignored", "unlabeled", "unlabelled"})
NOTHING = frozenset(
    {"none", "nan", "na", "n/a", "#n/a", "null", "nil", "-", "--", *"\u2010\u2011\u2012\u2013\u2014\u2015\u2212"}
)
"""Words that tables have where there is no label."""
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\u00ad"))
_MARKS = "\u200e\u200f"  # Names of right-to-left scripts have them.


@lru_cache(maxsize=8192)
def clean_name(name: str) -> str:
    """Return a class name in NFC, without white space at its ends, invisible characters and repeated spaces."""
    text = unicodedata.normalize("NFC", name).translate(_INVISIBLE)
    spaced = (" " if unicodedata.category(letter) == "Zs" else letter for letter in text)
    return re.sub(" {2,}", " ", "".join(spaced)).strip().strip("\u200c\u200d")


def has_control_characters(text: str) -> bool:
    """Tell whether a text holds what no name may: control characters, line ends, lone surrogates."""
    if text.isprintable():
        return False
    return any((is_hidden(letter) and letter not in _MARKS) or letter == "\ufffe" for letter in text)


def is_background(name: str) -> bool:
    """Tell whether a name is one of the background's: "background", "_background_", "Background"."""
    return _bare(name) in BACKGROUND


def is_void(name: str) -> bool:
    """Tell whether a name stands for pixels that do not count: "__ignore__", "void", "unlabelled"."""
    return _bare(name) in VOID_NAMES


def is_nothing(name: str) -> bool:
    """Tell whether a label says that there is none: "none", "NaN", "background"."""
    return name.casefold() in NOTHING or is_background(name)


def name_fault(name: str) -> str | None:
    """Return what keeps a name, as `clean_name` returns it, from being a foreground class's; None if nothing does."""
    if not name:
        return "an empty name"
    if has_control_characters(name):
        return "a name with a line break, a control character or a broken letter"
    if ";" in name:
        return "a name with `;`, which joins labels"
    if len(name) > MAX_NAME:
        return f"a name of {len(name)} characters, more than {MAX_NAME}"
    if is_background(name):
        return "the background, which is no class: it has value 0"
    if name == RESERVED:
        return "the mark of void in tables of many classes"
    return None


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of different names that differ in case alone."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[name.casefold()].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def nearly_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of different names that differ in case, `_`, `-` and spaces alone: "traffic light"."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[re.sub(r"[_\- ]", "", name.casefold()) or name].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def shortened(names: Iterable[str], limit: int = 25) -> str:
    """Join names for a message, the first of them if they are many."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _bare(name: str) -> str:
    return name.casefold().strip("_-<>()[]* ")


def is_unsafe(name: str) -> bool:
    """Tell whether files named after it could land outside their folder, on any system."""
    path = PureWindowsPath(name)
    return bool(path.anchor) or ".." in path.parts or not path.parts or "\0" in name


def is_plain(name: object) -> bool:
    """Tell whether a name can be a key or a stage, one part of a path: letters, digits, - and _."""
    return isinstance(name, str) and PLAIN.fullmatch(name) is not None


def is_listed_file(name: object) -> bool:
    """Tell whether a name can be that of an artifact's file: a relative path with slashes, without any detour."""
    if not isinstance(name, str) or is_unsafe(name) or "\\" in name:
        return False
    return all(part not in ("", ".") for part in name.split("/"))
