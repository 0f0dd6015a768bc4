"""Text of others, shown so that it cannot act: names may hold control characters, which a terminal would obey."""

from __future__ import annotations

import unicodedata

_HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # Control characters, what is no UTF-8, separators of lines and of paragraphs.
_DIRECTIONS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # Text is shown in another order.


def shown(text: str) -> str:
    """Return text with its control characters escaped, but for tabs and the ends of lines."""
    return "".join(_escaped(letter) if letter not in "\n\t" else letter for letter in text)


def one_line(text: object) -> str:
    """Return a name with all its control characters escaped, the ends of lines included."""
    return "".join(map(_escaped, str(text)))


def _escaped(letter: str) -> str:
    hidden = unicodedata.category(letter) in _HIDDEN or letter in _DIRECTIONS
    return letter.encode("unicode_escape").decode() if hidden else letter
