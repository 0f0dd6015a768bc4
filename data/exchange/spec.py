"""The record of an exchange format, the labels that it writes, and what it reads of labels that people edited."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data.dataset import VOID, ClassTable, DatasetError, Problem, Sample
from data.exchange.pixels import Pixels, without_void
from data.formats.images import LABEL_FORMATS, opened
from data.formats.label_folder import INSTANCES, SEMANTIC
from data.formats.label_maps import read_label_map
from data.names import clean_name, is_background, is_void, shortened

BACKGROUND_NAME, VOID_NAME = "background", "void"
ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:")
"""The begin of an absolute path, on Windows too, or of an address."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Labels:
    """Labels of a run or of a published version, as they lie in its folder.

    Attributes:
        folder: Holds `SegmentationClass/<id>.png`, `SegmentationObject/<id>.png` and `instances.json`; where labels
            have been thresholded `SegmentationSure/<id>.png`, too.
        samples: Its images.
        classes: Its class table.
        place: Where the folder of an export will lie at last, for paths to photographs that are relative to it.
        done: Called after each image that a format has taken from `images`.
    """

    folder: Path
    samples: tuple[Sample, ...]
    classes: ClassTable
    place: Path = Path()
    done: Callable[[], None] = _nothing

    def images(self) -> Iterator[tuple[Sample, Pixels]]:
        """Yield each image with its labels; one is in memory at a time.

        Raises:
            DatasetError: Label maps are missing, all of them listed, or one is damaged.
        """
        self.refuse_missing(SEMANTIC, INSTANCES)
        for sample in self.samples:
            yield sample, self.pixels(sample)
            self.done()

    def file(self, kind: str, sample: Sample) -> Path:
        """Return where an image's label map of a kind is."""
        return self.folder / kind / f"{sample.id}.png"

    def refuse_missing(self, *kinds: str) -> None:
        """Refuse labels without a map of each kind for each image.

        Raises:
            DatasetError: Lists every label map that is missing.
        """
        files = (self.file(kind, sample) for kind in kinds for sample in self.samples)
        if missing := [file for file in files if not file.is_file()]:
            raise DatasetError([Problem(file, "expected a label map of the run, found none") for file in missing])

    def pixels(self, sample: Sample) -> Pixels:
        """Read an image's labels; void pixels of the map of instances belong to none.

        Raises:
            DatasetError: A label map is missing, damaged, or of another size than the other.
        """
        semantic, objects = (read_label_map(self.file(kind, sample)) for kind in (SEMANTIC, INSTANCES))
        if semantic.shape != objects.shape:
            raise DatasetError([Problem(self.file(INSTANCES, sample), "expected a map of the size of that of classes")])
        if int(semantic.max(initial=0, where=semantic != VOID)) >= len(self.classes.values):
            raise DatasetError([Problem(self.file(SEMANTIC, sample), "expected values of the class table")])
        return without_void(Pixels(semantic, objects))

    def size(self, sample: Sample) -> tuple[int, int]:
        """Return the (H, W) of an image's labels without decoding them.

        Raises:
            DatasetError: The label map is missing or damaged.
        """
        with opened(self.file(SEMANTIC, sample), "a label map", LABEL_FORMATS) as image:
            return image.height, image.width

    def name(self, value: int) -> str:
        """Return what a class value is called in tools."""
        return self._void_name if value == VOID else self.classes.values[value]

    def value(self, name: str) -> int:
        """Return the class value that a tool's name stands for.

        Raises:
            ValueError: There is no such class.
        """
        value = self._values.get(name)
        value = self._values.get(clean_name(name)) if value is None else value
        if value is None and is_background(name) and self.classes.has_background:
            return 0
        if value is None and is_void(name):
            return VOID
        if value is None:
            known = shortened(self.classes.names, 10)
            raise ValueError(f"expected a class of the labels ({known}), found {name!r}")
        return value

    @property
    def named_values(self) -> list[int]:
        """The class values that tools get, background first, and void last."""
        return [*(value for value in range(len(self.classes.values)) if value != VOID), VOID]

    @cached_property
    def _void_name(self) -> str:
        return VOID_NAME if VOID_NAME not in self.classes.values else "__ignore__"

    @cached_property
    def _values(self) -> dict[str, int]:
        return {self.name(value): value for value in self.named_values}

    def find(self, name: str) -> Sample:
        """Return the image that a tool calls so: by its id, or by a path that ends as that of one image alone does.

        A path may lack the first folders of the id or of the photograph. One of another machine, that is an absolute
        one, may have other folders before the id instead.

        Raises:
            ValueError: There is none, or several.
        """
        text = name.replace("\\", "/")
        parts = tuple(part for part in PurePosixPath(text).parts if part not in ("/", "."))
        # A name may have dots, so what looks like a suffix is taken off second.
        spellings = (parts, (*parts[:-1], PurePosixPath(parts[-1]).stem)) if parts else ()
        found: list[Sample] = []
        for spelling in spellings:
            if sample := self._by_id.get("/".join(spelling)):
                return sample
            called = self._by_stem.get(spelling[-1], [])
            found = [sample for sample in called if any(_ends(path, spelling) for path in _paths(sample))]
            if not found and ABSOLUTE.match(text):
                found = [sample for sample in called if _ends(spelling, _paths(sample)[0])]
            if found:
                break
        if len(found) != 1:
            several = f"one of {len(found)} images called so" if found else "no image of the labels"
            raise ValueError(f"expected an image of the labels, found {name!r}, {several}")
        return found[0]

    def number(self, sample: Sample) -> int:
        """Return an image's number in `instances.json`, which counts from 1."""
        return self._numbers[sample.id]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {sample.id: number for number, sample in enumerate(self.samples, start=1)}

    @cached_property
    def _by_id(self) -> dict[str, Sample]:
        return {sample.id: sample for sample in self.samples}

    @cached_property
    def _by_stem(self) -> dict[str, list[Sample]]:
        found: dict[str, list[Sample]] = defaultdict(list)
        for sample in self.samples:
            found[PurePosixPath(sample.id).name].append(sample)
            if sample.image.stem != PurePosixPath(sample.id).name:
                found[sample.image.stem].append(sample)
        return found


def _paths(sample: Sample) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the parts of an image's id, and of its photograph's path without the suffix."""
    return PurePosixPath(sample.id).parts, sample.image.absolute().with_suffix("").parts


def _ends(whole: tuple[str, ...], tail: tuple[str, ...]) -> bool:
    return whole[-len(tail) :] == tail


class Edited(NamedTuple):
    """An image in a folder that a tool wrote.

    Attributes:
        name: What the tool calls it: an id, or a path.
        file: Where its labels stand.
        read: Reads them, once it is known which image it is; raises ValueError where they cannot be understood.
    """

    name: str
    file: Path
    read: Callable[[Sample], Pixels]


@dataclass(frozen=True)
class ExchangeFormat:
    """Record of a format. `docs/how-to/add_a_format.md` says how to write one.

    Attributes:
        name: As `pseudomask export --format` takes it.
        title: Name in texts.
        write: Writes labels into an empty or shared folder, and returns what is counted of them. Raises `DatasetError`
            where labels are missing, all of them listed, or damaged.
        read: Yields the images of a folder that the tool wrote, or that `write` wrote. Raises `DatasetError` where it
            holds nothing of the format.
        kept: What is left of an image's labels when they are written and read again.
        loss: What that is, as a phrase; "" where it is all of them.
        suffix: Of files `<id><suffix>` that it writes beside the export's own; "" where it has a folder for them.
    """

    name: str
    title: str
    write: Callable[[Labels, Path], dict[str, Any]]
    read: Callable[[Path, Labels], Iterator[Edited]]
    kept: Callable[[Labels, Sample], Pixels] = Labels.pixels
    loss: str = ""
    suffix: str = ""
