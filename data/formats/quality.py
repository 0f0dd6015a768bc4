"""`quality.csv` of a run: for each image what is known of its labels without ground truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from data.dataset import DatasetError, Problem
from data.files import read_regular

QUALITY = "quality.csv"


class ImageQuality(NamedTuple):
    """One line of the file.

    Attributes:
        image: Id of the image.
        quality: Expected intersection over union, the mean over its tags and background: the order of review.
        confidence: Mean of it.
        unsure: Share of the pixels whose confidence is under the threshold of the run's settings.
        cam_agreement: Share of the labelled cells to which the attention maps give the same class, where they have as
            many cells as the labels.
        foreground: Share of the pixels that have a class.
        masks: Number of instances.
        components: Number of connected areas of one class.
        tags_without_a_pixel: Number of the image's tags that no pixel has.
        weakest: The class of least expected intersection over union, of those that have a pixel; "" where none has.
        weakest_quality: That one.
    """

    image: str
    quality: float
    confidence: float
    unsure: float
    cam_agreement: float
    foreground: float
    masks: int
    components: int
    tags_without_a_pixel: int
    weakest: str = ""
    weakest_quality: float = 1.0


MEASURES = tuple(name for name in ImageQuality._fields if name not in ("image", "weakest", "weakest_quality"))
_INTEGERS = ("masks", "components", "tags_without_a_pixel")


def quality_text(rows: Iterable[ImageQuality]) -> str:
    """Return the file's content: a head, and a line per image."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(ImageQuality._fields)
    writer.writerows([value if isinstance(value, str) else round(value, 4) for value in row] for row in rows)
    return stream.getvalue()


def read_quality(file: Path) -> list[ImageQuality]:
    """Read what `quality_text` returned.

    Raises:
        DatasetError: The file cannot be read, or a line is of another form.
    """
    try:
        lines = list(csv.DictReader(io.StringIO(read_regular(file).decode()), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError([Problem(file, f"cannot be read as the quality of a run's labels ({error})")]) from None
    return [_row(file, number, line) for number, line in enumerate(lines, start=2)]


def _row(file: Path, number: int, line: dict[str, str]) -> ImageQuality:
    try:
        numbers = {name: float(line[name]) for name in MEASURES}
        counts = {name: int(numbers[name]) for name in _INTEGERS}
        # Files of older versions have neither.
        weakest = {"weakest": line.get("weakest") or "", "weakest_quality": float(line.get("weakest_quality") or 1)}
        return ImageQuality(image=line["image"], **{**numbers, **counts, **weakest})  # pyright: ignore[reportArgumentType]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        message = f"line {number}: expected {', '.join(ImageQuality._fields)}, found {list(line.values())} ({error})"
        raise DatasetError([Problem(file, message)]) from None
