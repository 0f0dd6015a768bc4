"""The images of a set by the names that lists and label files have for them."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from functools import cached_property
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from data.formats.images import HEIF_SUFFIXES, reads_heif
from data.names import is_unsafe, shortened

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".png",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".jpe",
        ".jfif",
        ".avif",
        ".gif",
        ".jp2",
        ".j2k",
        ".jpf",
        ".jpx",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
        *(HEIF_SUFFIXES if reads_heif() else ()),
    ]
)
SHOWN = 3


class Match(NamedTuple):
    """What the names of a list or a label file mean.

    Attributes:
        ids: Name -> sample id, of the names that fit an image.
        notes: How names were fitted where they are not the images' own.
        alone: Names that fit no image, in the order they came.
    """

    ids: dict[str, str]
    notes: list[str]
    alone: list[str]


def image_id(name: str) -> str:
    """Return the sample id of an image's name: "./a/b.jpg" and "a/b" are both "a/b"; other dots are kept."""
    path = PurePosixPath(name.strip())
    return (path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path).as_posix()


def unsafe_message(name: str) -> str:
    """Return what is wrong with a name that `is_unsafe`."""
    if not name.strip():
        return "expected the name of an image, found none"
    message = f"expected a path inside the folder of images, found {name!r}"
    drive = PureWindowsPath(name).drive and not PureWindowsPath(name).root
    return (
        f"{message}: Windows takes what stands before the colon for a drive, so rename the file" if drive else message
    )


class ImageNames:
    """Images by their ids, and by what else people and tools call them.

    Args:
        images: Sample id -> anything.
        aside: Ids of images that count only where they are named as they are.
    """

    def __init__(self, images: Mapping[str, Any], aside: Container[str] = ()) -> None:
        self._images = images
        self._aside = aside

    @property
    def ids(self) -> list[str]:
        """The ids of the images, without those that count only where they are named."""
        return list(self._images)

    @cached_property
    def _loose(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for id in self._images:
            found[_loose(id)].append(id)
        return found

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for id in self._images:
            found[_loose(id).rpartition("/")[2]].append(id)
        return found

    def find(self, name: str) -> str | None:
        """Return the image that has this name; or the only one that has it in another writing: with `\\` for `/`,
        letters composed otherwise, in another case, with %20 for a space, or with spaces at its ends."""
        if (id := image_id(name)) in self._images or id in self._aside:
            return id
        if is_unsafe(name):
            return None
        found = self._loose.get(_loose(image_id(name.replace("\\", "/"))), ())
        return found[0] if len(found) == 1 else None

    def match(self, names: Iterable[str]) -> Match:
        """Find the images of all the names of one source.

        Where none has a folder in common with the images' names, they are found by their last part, if that fits all
        of them and no two of them the same image. Where some do, the others are found if one name is the end of the
        other.
        """
        ids: dict[str, str] = {}
        unknown, other = [], []
        for name in dict.fromkeys(names):
            id = self.find(name)
            if id is None:
                unknown.append(name)
            else:
                ids[name] = id
                if id != image_id(name):
                    other.append(name)
        notes = [f"names in another writing than the files': {_pairs(other, ids)}"] if other else []
        found = self._by_end(unknown, set(ids.values())) if unknown else {}
        if found:
            notes.append(f"images found by the last part of their names: {_pairs(list(found), found)}")
        return Match(ids | found, notes, [name for name in unknown if name not in found])

    def _by_end(self, names: list[str], taken: set[str]) -> dict[str, str]:
        found = {}
        for name in names:
            path = _loose(image_id(PurePosixPath(name.replace("\\", "/")).as_posix()))
            candidates = self._by_last_part.get(path.rpartition("/")[2], [])
            ends = [id for id in candidates if f"/{_loose(id)}".endswith(f"/{path}") or path.endswith(f"/{_loose(id)}")]
            candidates = ends if ends or taken else candidates
            if len(candidates) == 1 and candidates[0] not in taken:
                found[name] = candidates[0]
        counts = Counter(found.values())
        # Names that fit partly are more likely of another set than of other folders.
        fits = len(found) == len(names) or taken
        return {name: id for name, id in found.items() if counts[id] == 1} if fits else {}


def _loose(text: str) -> str:
    """Return what is left of a path when case, the form of letters and the ways to write a path are looked past."""
    parts = unicodedata.normalize("NFKC", unquote(text) if "%" in text else text).split("/")
    return unicodedata.normalize("NFC", "/".join(part.strip() for part in parts if part not in (".", "")).casefold())


def _pairs(names: list[str], ids: Mapping[str, str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return shortened(f"{name!r} is {ids[name]!r}" for name in names[:SHOWN]) + more
