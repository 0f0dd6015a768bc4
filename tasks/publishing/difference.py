"""How two versions of published labels differ: which images, by how many pixels, and between which classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, LabelMap
from data.formats.label_folder import SEMANTIC, value_names
from data.formats.label_maps import read_label_map
from data.store.publication import Publication
from tasks.publishing.assemble import new_values

VOID_NAME = "void"
TOLD = 0.1


@dataclass(frozen=True)
class ChangedImage:
    """An image whose label map differs.

    Attributes:
        image: The sample's id.
        share: Of its pixels that have another class, in [0, 1]; 1 where the map has another size.
        gained: Class -> pixels that have it now and had another.
        lost: Class -> pixels that had it and have another now.
    """

    image: str
    share: float
    gained: dict[str, int]
    lost: dict[str, int]


@dataclass(frozen=True)
class Difference:
    """How a version differs from an earlier one.

    Attributes:
        added, removed: Ids of images that only one of them has, ascending.
        changed: Images of both whose label maps differ, those that differ most first.
        same: How many images have the label map that they had.
        pixels: Class -> its pixels before, of the images that both have and that changed.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[ChangedImage, ...]
    same: int
    pixels: dict[str, int] = field(default_factory=dict)

    def classes(self) -> dict[str, dict[str, int]]:
        """Return class -> "before", "gained", "lost" in pixels of the images that changed, the largest change first."""
        gained, lost = Counter[str](), Counter[str]()
        for each in self.changed:
            gained.update(each.gained)
            lost.update(each.lost)
        names = sorted(gained.keys() | lost.keys(), key=lambda name: (-(gained[name] + lost[name]), name))
        return {
            name: {"before": self.pixels.get(name, 0), "gained": gained[name], "lost": lost[name]} for name in names
        }


def compare_versions(publication: Publication, before: int, after: int) -> Difference:
    """Compare the label maps of two versions, class by name.

    A file that both share is not read.

    Raises:
        ArtifactError: There is no such version, or its list is damaged.
        DatasetError: A label map cannot be read.
    """
    old, new = publication.folder(before), publication.folder(after)
    ids_before, ids_after = ({entry.id for entry in publication.entries(number)} for number in (before, after))
    found = compare_folders(old, new, ids_before & ids_after)
    return replace(found, added=tuple(sorted(ids_after - ids_before)), removed=tuple(sorted(ids_before - ids_after)))


def compare_folders(old: Path, new: Path, ids: Iterable[str]) -> Difference:
    """Compare the label maps of images that both folders have, class by name; one may be a draft."""
    both, pixels = sorted(ids), Counter[str]()
    changed = sorted(_changed(old, new, both, pixels), key=lambda each: (-each.share, each.image))
    return Difference((), (), tuple(changed), len(both) - len(changed), dict(pixels))


def class_changes(found: Difference) -> list[str]:
    """Say which classes have more or fewer pixels by `TOLD` of what they had: "12% fewer dog pixels"."""
    told = []
    for name, row in found.classes().items():
        share = (row["gained"] - row["lost"]) / row["before"] if row["before"] else 0.0
        if name != VOID_NAME and abs(share) >= TOLD:
            told.append(f"{abs(share):.0%} {'more' if share > 0 else 'fewer'} {name} pixels in the images that changed")
    return told


def _changed(old: Path, new: Path, ids: list[str], pixels: Counter[str]) -> Iterator[ChangedImage]:
    """Yield the images whose maps differ, and count the pixels that their classes had in `pixels`."""
    now_called, names, names_before = new_values(old, new), value_names(new), value_names(old)
    for id in ids:
        files = [folder / SEMANTIC / f"{id}.png" for folder in (old, new)]
        if files[0].samefile(files[1]):
            continue
        was, now = map(read_label_map, files)
        if was.shape != now.shape:
            share, before, after = 1.0, was.ravel(), now.ravel()
        else:
            moved = now_called[was] != now
            share, before, after = float(moved.mean()), was[moved], now[moved]
        if share:
            pixels.update(_counts(was, names_before))
            yield ChangedImage(id, share, _counts(after, names), _counts(before, names_before))


def _counts(values: LabelMap | NDArray[np.integer], names: list[str]) -> dict[str, int]:
    """Return the name of each value that is there -> how often."""
    found, counts = np.unique(values, return_counts=True)
    return {_name(int(value), names): int(count) for value, count in zip(found, counts, strict=True)}


def _name(value: int, names: list[str]) -> str:
    if value == VOID:
        return VOID_NAME
    return names[value] if value < len(names) else str(value)
