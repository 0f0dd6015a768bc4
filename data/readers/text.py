"""Text files as people's tools write them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from data.dataset import DatasetError, Problem
from data.files import leads_nowhere

# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = (
    (b"\x93NUMPY", "NumPy's array", "a table of numbers is read as .npy where it has a vector for each image"),
    (b"PK\x03\x04", "an archive, as Excel's .xlsx is one", "save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "Excel's old .xls", "save the table as CSV"),
    (b"PAR1", "Parquet", "convert it to CSV"),
    (b"\x89HDF", "HDF5", "convert it to CSV"),
    (b"SQLite", "a database of SQLite", "export the table as CSV"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"%PDF", "PDF", "save the table as CSV"),
    (b"\xff\xd8\xff", "a JPEG image", "name a table of labels"),
    (b"\x89PNG", "a PNG image", "name a table of labels, or the folder of the label maps"),
    (b"\x80", "Python's pickle, which may hold code and is not opened", "convert it to CSV"),
)


def read_bytes(file: Path, expected: str) -> bytes:
    """Read a whole file.

    Args:
        file: The file.
        expected: What it should be, for the message.

    Raises:
        DatasetError: It is missing, no regular file, or cannot be read.
    """
    try:
        if file.exists() and not file.is_file():
            found = "a folder" if file.is_dir() else "a device or a pipe"
            raise DatasetError([Problem(file, f"expected {expected}, found {found}")])
        return file.read_bytes()
    except FileNotFoundError as error:
        target = leads_nowhere(file)
        found = "no file" if target is None else f"a link to {target}, where nothing is"
        raise DatasetError([Problem(file, f"expected {expected}, found {found}")]) from error
    except (OSError, ValueError) as error:
        raise DatasetError([Problem(file, f"expected {expected}, but {error}")]) from error


def read_text(file: Path) -> str:
    """Read UTF-8, with or without a byte order mark, or UTF-16 and UTF-32 with one.

    Raises:
        DatasetError: The file is missing or other text; names its kind, or the line and the byte, and what to do.
    """
    expected = "a text file in UTF-8"
    content = read_bytes(file, expected)
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    kind = None if encoding else next((kind for kind in _KINDS if content.startswith(kind[0])), None)
    if kind is not None:
        raise DatasetError([Problem(file, f"expected {expected}, found {kind[1]}: {kind[2]}")])
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\n|\r", content[: error.start])) + 1
        found = (
            f"the byte 0x{content[error.start]:02X} in line {line}" if encoding in (None, "utf-8-sig") else str(error)
        )
        message = f"expected {expected}, found {found}: save it as UTF-8 (in Excel: CSV UTF-8)"
        raise DatasetError([Problem(file, message)]) from error
    if "\0" in text:
        line = len(text_lines(text[: text.index("\0")]))
        message = f"expected {expected}, found a zero byte in line {line}: save it as UTF-8"
        raise DatasetError([Problem(file, message)])
    return text


def text_lines(text: str) -> list[str]:
    """Return the lines of a text. `str.splitlines` would cut names at more signs than ends of lines."""
    return re.split(r"\r\n|\n|\r", text)
