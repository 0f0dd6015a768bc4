"""The record of an exchange format, and the labels that it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.dataset import ClassTable, Sample


@dataclass(frozen=True)
class Labels:
    """Labels of a run, as they lie in its folder.

    Attributes:
        folder: Holds `SegmentationClass/<id>.png`, `SegmentationObject/<id>.png` and `instances.json`; where labels
            have been thresholded `SegmentationSure/<id>.png`, too.
        samples: Its images.
        classes: Its class table.
    """

    folder: Path
    samples: tuple[Sample, ...]
    classes: ClassTable


@dataclass(frozen=True)
class ExchangeFormat:
    """Record of a format. `docs/how-to/add_a_format.md` says how to write one.

    Attributes:
        name: As `pseudomask export --format` takes it.
        title: Name in texts.
        write: Writes labels into an empty or shared folder, and returns what is counted of them. Raises `DatasetError`
            where labels are missing, all of them listed, or damaged.
    """

    name: str
    title: str
    write: Callable[[Labels, Path], dict[str, Any]]
