"""Text of others, made safe to show: control characters, which a terminal would obey, and secrets in addresses."""

from __future__ import annotations

import re
import unicodedata

_PASSWORD = re.compile(r"(://[^/\s:@]*:)(?:[^/\s]*|[^\s@]+)@")
# There a name alone is a key or a token.
_KEY = re.compile(r"\b((?:s3a?|https?)://)[^/\s:@]+@")
_SIGNATURE = re.compile(
    r"([?&](?:X-Amz-\w+|X-Goog-\w+|AWSAccessKeyId|Signature|sig|sas|(?:\w+[-_])?(?:token|key|secret|password))=)[^&\s\"'<>]+",
    re.IGNORECASE,
)
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # Control characters, what is no UTF-8, separators of lines and of paragraphs.
_DIRECTIONS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # Text is shown in another order.


def shown(text: str) -> str:
    """Return text with its control characters escaped, but for tabs and the ends of lines."""
    return "".join(_escaped(letter) if letter not in "\n\t" else letter for letter in text)


def one_line(text: object) -> str:
    """Return a name with all its control characters escaped, the ends of lines included."""
    return "".join(map(_escaped, str(text)))


def hide_passwords(text: str) -> str:
    """Return text with *** for the password, the key and the signature of each address in it."""
    return _SIGNATURE.sub(r"\1***", _KEY.sub(r"\1***@", _PASSWORD.sub(r"\1***@", text)))


def split_password(path: str) -> tuple[str, str | None]:
    """Return what stands behind `protocol://` without its password, and that; None where it holds none."""
    user, _, rest = path.partition(":")
    host, _, _ = rest.partition("/")
    if any(sign in user for sign in "/@[") or "@" not in rest or ("@" not in host and host.isdecimal()):
        return path, None
    # A password may hold @, and where it should have been escaped a slash.
    password, _, place = host.rpartition("@") if "@" in host else rest.partition("@")
    place += rest[len(host) :] if "@" in host else ""
    return f"{user}@{place}" if user else place, password or None


def is_hidden(letter: str) -> bool:
    """Tell whether a letter acts on what is shown instead of being shown."""
    return unicodedata.category(letter) in _HIDDEN or letter in _DIRECTIONS


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode() if is_hidden(letter) else letter
