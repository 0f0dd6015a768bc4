"""The one notion of a data set: images, image-level labels, a class table, optional ground truth."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.text import one_line

LabelMap = NDArray[np.unsignedinteger]
"""Class values [H, W], of the type that `value_type` returns."""
VOID = 255
"""The value of a label map that says "do not care", in maps of any number of classes."""
RESERVED = "(void)"
"""In the place of the class whose value would be `VOID`."""


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set.

    Attributes:
        names: Class `c` (counted from 0) is called `names[c]`; its value in a label map is `c + 1`.
            0 is background and `VOID`, 255, is "do not care": in a table of more than 254 classes no class has that
            value, `RESERVED` stands in its place, and what follows is moved by one.
        category_ids: The ids that COCO JSON uses for the classes; `c + 1` where a format has none, -1 for `RESERVED`.
        has_background: Without one, as in sets of scenes, every pixel has a class, and the value of class `c` in a
            label map is `c`.
        origin: Where the names come from, as a phrase for people.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()
    has_background: bool = True
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        names, ids = self.names, self.category_ids
        if self.has_background and len(names) >= VOID and names[VOID - 1] != RESERVED:
            object.__setattr__(self, "names", (*names[: VOID - 1], RESERVED, *names[VOID - 1 :]))
            object.__setattr__(self, "category_ids", ids and (*ids[: VOID - 1], -1, *ids[VOID - 1 :]))
        if not self.category_ids:
            ids = (-1 if name == RESERVED else c + 1 for c, name in enumerate(self.names))
            object.__setattr__(self, "category_ids", tuple(ids))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def real_names(self) -> tuple[str, ...]:
        """The names without `RESERVED`: what people are told."""
        return tuple(name for name in self.names if name != RESERVED)

    @property
    def values(self) -> tuple[str, ...]:
        """What the values of a label map are called, from 0."""
        return ("background", *self.names) if self.has_background else self.names


def value_type(num_values: int) -> type[np.uint8 | np.uint16]:
    """Return the type of label maps with this many values (background counted, void not): 8 bits, or 16."""
    return np.uint8 if num_values <= VOID else np.uint16


@dataclass(frozen=True, slots=True)
class CocoSource:
    """Ground truth of one image inside a COCO instance file.

    Attributes:
        file: The JSON file.
        image_id: The image's id in it.
        category_ids: Those of the class table; category `category_ids[c]` has the value `c + 1` in a label map.
    """

    file: Path
    image_id: int
    category_ids: tuple[int, ...]


@dataclass(frozen=True)
class CamSource:
    """What class attention maps of another method are, of a whole folder.

    Attributes:
        family: A name in `data.cam_families.FAMILIES`.
        names: Their classes by number, from 0; "" for numbers without one.
        missing: "error", "skip" and "background", as the run was asked for: whether a tag without a map is refused,
            or its map is taken for empty.
        origin: The folder, and how its files were understood, as a phrase for people.
    """

    family: str
    names: tuple[str, ...]
    missing: str = "error"
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its image-level labels.

    Attributes:
        id: Unique within the set; a relative path without suffix, also the stem of every label file written.
        image: The image file.
        labels: The classes that occur, counted from 0, ascending; empty for background only.
        semantic: Palette or grey PNG of class values (0 background, 255 void), or None.
        instances: PNG of instance ids (0 background, 255 void), or None.
        coco: Where the ground truth is a COCO file instead of PNGs.
        coding: How `semantic` is stored where it is not as said: a name in `data.formats.label_codings.LABEL_CODINGS`.
        saliency: Where its saliency comes from: a map of `data.saliency_maps`, or an ONNX network; or None.
        cams: Its class attention maps, where another method made them.
        confidence: Grey PNG of how sure `semantic` is, 255 times a probability; where the loss is to be weighted by it.
    """

    id: str
    image: Path
    labels: tuple[int, ...]
    semantic: Path | None = None
    instances: Path | None = None
    coco: CocoSource | None = None
    coding: str | None = None
    saliency: Path | None = None
    cams: Path | None = None
    confidence: Path | None = None


NamedBox = tuple[str, float, float, float, float]
"""Name of a class; left, top, right and bottom of a box in pixels of the image as it is seen."""


@dataclass(frozen=True, slots=True)
class SampleWithMore(Sample):
    """One image of which more is known than most sets say.

    A class of its own: the source of `Sample` is part of every artifact's key, and what sees no more keeps its key.

    Attributes:
        regions: Masks without classes that a segmenter has found: what `data.region_masks` reads.
        hints: What a person said of some pixels: what `data.formats.hints` reads.
        boxes: What `hints` has of this image, where that is a file of boxes that is read with the set.
        unknown: Classes of which nobody has said whether the image has them, ascending; none is among its labels.
        certainty: How likely each label is right, in (0, 1]; empty where all are sure.
    """

    regions: Path | None = None
    hints: Path | None = None
    boxes: tuple[NamedBox, ...] = ()
    unknown: tuple[int, ...] = ()
    certainty: tuple[float, ...] = ()


def with_more(sample: Sample, **more: Any) -> SampleWithMore:
    """Return the image with more known of it, beside what is known already."""
    known = {each.name: getattr(sample, each.name) for each in fields(sample)}
    return SampleWithMore(**{**known, **more})


def relabelled(sample: Sample, labels: tuple[int, ...]) -> Sample:
    """Return the image with other labels, ascending; what is left open of its other classes stays so."""
    found = replace(sample, labels=labels)
    if not isinstance(sample, SampleWithMore):
        return found
    known = dict(zip(sample.labels, sample.certainty, strict=False))
    certainty = tuple(known.get(label, 1.0) for label in labels) if sample.certainty else ()
    return with_more(found, unknown=tuple(c for c in sample.unknown if c not in labels), certainty=certainty)


def unknown_classes(sample: Sample) -> tuple[int, ...]:
    """Return the classes of which nobody has said whether an image has them."""
    return sample.unknown if isinstance(sample, SampleWithMore) else ()


def without_more(sample: Sample) -> Sample:
    """Return the image without what `SampleWithMore` knows of it."""
    return Sample(**{each.name: getattr(sample, each.name) for each in fields(Sample)})


@dataclass(frozen=True)
class Dataset:
    """Samples in ascending order of their ids, and the class table that their labels index.

    Attributes:
        labels_from: Where the image-level labels were read, as a phrase for people.
        notes: What else people should know of how the set was understood: what was left unread, and why.
        cams: What the samples' class attention maps are, where another method made them.
    """

    root: Path
    classes: ClassTable
    samples: tuple[Sample, ...]
    labels_from: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    cams: CamSource | None = None


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set: the file, and what was expected of it and what came.

    Attributes:
        count: How many such things it stands for; 0 where it only explains the others.
    """

    file: Path
    message: str
    sample: str | None = None
    count: int = field(default=1, compare=False)

    def __str__(self) -> str:
        return one_line(f"{self.file}: {self.message}")


class DatasetError(Exception):
    """A data set cannot be used as it is. `problems` lists everything that is wrong with it.

    Attributes:
        of_images: Whether the set can be used once the images that the problems name are set aside.
    """

    def __init__(self, problems: list[Problem] | str, *, of_images: bool = False) -> None:
        self.problems = [] if isinstance(problems, str) else problems
        self.of_images = of_images
        super().__init__(problems if isinstance(problems, str) else "\n".join(map(str, problems)))
