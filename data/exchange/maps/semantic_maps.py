"""Maps of values without objects, as several tools have them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from data.dataset import Sample
from data.exchange.maps.png import map_files, renamed
from data.exchange.pixels import Pixels
from data.exchange.spec import Edited, Labels
from data.formats.label_maps import read_label_map


def read_semantic_maps(folder: Path, names: list[str], labels: Labels) -> Iterator[Edited]:
    """Yield the maps below a folder, whose values have names, in the values of labels.

    Raises:
        DatasetError: There are none; or, once one is read, it is no label map or has a value without a known class.
    """
    for file in map_files(folder):
        yield Edited(file.relative_to(folder).as_posix(), file, partial(_read, file, names, labels))


def semantic_alone(labels: Labels, sample: Sample) -> Pixels:
    """Return what such maps keep of an image's labels: no objects."""
    return Pixels(labels.pixels(sample).semantic, None)


def _read(file: Path, names: list[str], labels: Labels, _: Sample) -> Pixels:
    return Pixels(renamed(read_label_map(file), names, labels), None)
