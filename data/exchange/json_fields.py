"""Fields of JSON that other programs wrote: each is checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Kind = TypeVar("Kind")
NAMES = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
LIMIT = 1 << 31
"""Numbers of other programs lie below it, and above its negative."""


def field(record: Any, name: str, kind: type[Kind]) -> Kind:
    """Return a field of a JSON object.

    Raises:
        ValueError: The record is no object, lacks the field, or has a value of another kind.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"expected an object with {name!r}, found {record!r:.80}")
    return checked(record.get(name), name, kind)


def checked(value: Any, name: str, kind: type[Kind]) -> Kind:
    """Return a value of JSON that must be of a kind.

    Raises:
        ValueError: It is of another, or a whole number beyond `LIMIT`.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name}: expected {NAMES[kind]}, found {value!r:.80}")
    if isinstance(value, int) and abs(value) >= LIMIT:
        raise ValueError(f"{name}: expected a number below {LIMIT}, found {value!r:.80}")
    return value


def points(value: Any, name: str) -> list[list[float]]:
    """Return a list of (x, y).

    Raises:
        ValueError: It is none, or has a number that is not finite or beyond `LIMIT`.
    """
    found = checked(value, name, list)
    for point in found:
        numbers = point if isinstance(point, list) else []
        if len(numbers) != 2 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
            raise ValueError(f"{name}: expected pairs of numbers, found {point!r:.80}")
        # No comparison holds for NaN.
        if not all(abs(n) < LIMIT for n in numbers):
            raise ValueError(f"{name}: expected numbers below {LIMIT}, found {point!r:.80}")
    return found


def is_number_below(text: str, end: int) -> bool:
    """Tell whether a text is a whole number from 0 that is below another."""
    # Python reads no number of thousands of digits.
    return text.isdecimal() and len(text) < 20 and int(text) < end
