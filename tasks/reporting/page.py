"""A page of HTML: its parts, and how they become one file that needs no network and no file beside it.

Nothing here loads torch.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jinja2
import numpy as np
from pydantic import AfterValidator, BaseModel

from data.dataset import ClassTable, Sample
from data.formats.label_folder import INSTANCES, SALIENCY, SEMANTIC
from data.formats.label_maps import VOC_PALETTE, read_ground_truth, read_label_map
from tasks.config import Config
from tasks.engine.run_record import RunRecord
from tasks.networks import NETWORKS
from tasks.reporting import pictures
from tasks.reporting.pictures import Picture, palette_row
from tasks.reporting.review import Reviewed

PICTURE_HEIGHT = 240
WHEEL_SIDE = 96


def _check_network(name: str | None) -> str | None:
    if name is not None and name not in NETWORKS:
        raise ValueError(f"expected one of {', '.join(NETWORKS)}, found {name!r:.80}")
    return name


class ShownSettings(BaseModel):
    """The settings that reports name, of a run or a training of any version.

    Attributes:
        network: Of a training.
        irnet: Those of stage `irnet`, of a run.
    """

    backbone: str
    weights: str | None
    seed: int
    network: Annotated[str | None, AfterValidator(_check_network)] = None
    irnet: dict[str, Any] | None = None


def shown_settings(record: RunRecord) -> dict[str, Any]:
    """Return a run's settings, of any version, once those that a report is made from are as `ShownSettings` says.

    Raises:
        ArtifactError: They are not.
    """
    record.settings_as(ShownSettings)
    return record.settings


class Column(NamedTuple):
    """One kind of picture, and what it says."""

    title: str
    caption: str


@dataclass(frozen=True)
class Row:
    """One image of the page.

    Attributes:
        classes: The names of its labels.
        cells: Key of `COLUMNS` -> data URI; what the image does not have is absent.
    """

    sample: str
    classes: tuple[str, ...]
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """Scores in [0, 1], or None.

    Attributes:
        columns: Their titles.
        rows: Title -> a score for each column.
        compares_columns: Its columns are methods, so the best of a row is worth marking.
    """

    columns: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]
    compares_columns: bool = False


@dataclass(frozen=True)
class Page:
    """What a report shows of a run.

    Attributes:
        changes: Dotted name of a setting -> its values, one for each of `settings_of`.
        scores: Title -> table.
        scores_note: What the scores are, or why there are none.
        seconds: Stage -> seconds of work.
        epochs: Of a training, the figures of each epoch.
        columns: Key -> kind of picture; those that no row has are not shown.
        images_note: Which images of how many are shown.
        full_px: The displacement, in feature pixels, that is drawn fully saturated; None without such pictures.
        review: Images to look at first.
        reliability: How far the confidence of the labels is right, where there is ground truth.
        settings_of: Whose settings are compared.
        settings_note: What is said of those that differ, and of none.
    """

    title: str
    record: RunRecord
    changes: Mapping[str, tuple[Any, ...]]
    scores: Mapping[str, Table]
    scores_note: str
    seconds: Mapping[str, float]
    columns: Mapping[str, Column]
    rows: Sequence[Row]
    images_note: str
    warnings: Sequence[str] = ()
    epochs: Sequence[Mapping[str, float]] = ()
    full_px: float | None = None
    review: Sequence[Reviewed] = ()
    reliability: Mapping[str, Any] | None = None
    settings_of: Sequence[str] = ("This run", "Reference")
    settings_note: tuple[str, str] = ("Settings that differ from the reference's", "All settings are the reference's.")

    def render(self) -> str:
        """Return the HTML."""
        drawn = {key for row in self.rows for key in row.cells}
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["percent"] = _percent
        return environment.get_template("report.html.j2").render(
            page=self,
            record=self.record,
            columns={key: column for key, column in self.columns.items() if key in drawn},
            figures=list(dict.fromkeys(name for epoch in self.epochs for name in epoch)),
            colors=class_colors(self.rows, self.record.classes),
            wheel=pictures.data_uri(pictures.paint_wheel(WHEEL_SIDE), lossless=True),
        )


def choose_samples(
    samples: Sequence[Sample], num_instances: Mapping[str, Mapping[int, int]], num_images: int
) -> list[Sample]:
    """Choose images to show: the classes take turns, each with its images of several instances first.

    The rest is decided by the hash of the ids, so the choice is the same each time and follows no order of files.

    Args:
        num_instances: Sample id -> class -> instances found.
    """
    queues: dict[int, list[Sample]] = defaultdict(list)
    shuffled = sorted(samples, key=lambda sample: hashlib.sha1(sample.id.encode()).digest())
    for sample in shuffled:
        for label in sample.labels:
            queues[label].append(sample)
    turns = []
    for label, queue in queues.items():
        # Sorting is stable: among the images of several instances, and the others, the order of hashes stays.
        queue.sort(key=lambda sample: num_instances.get(sample.id, {}).get(label, 0) < 2)
        turns += [(turn, label, sample) for turn, sample in enumerate(queue)]
    turns.sort(key=lambda item: item[:2])
    ordered = {sample.id: sample for _, _, sample in turns}
    ordered |= {sample.id: sample for sample in shuffled if not sample.labels}
    return list(ordered.values())[:num_images]


def changed_settings(settings: Mapping[str, Any], defaults: Config) -> dict[str, tuple[Any, Any]]:
    """Return dotted name -> (the run's value, the reference's), for those that differ from the defaults."""
    ours, reference = (dict(flatten(tree)) for tree in (settings, defaults.model_dump(mode="json")))
    return {name: (value, reference.get(name)) for name, value in ours.items() if value != reference.get(name)}


def class_colors(rows: Sequence[Row], classes: ClassTable) -> dict[str, str]:
    """Return class name -> CSS colour in the pictures, for the classes of the rows' images."""
    shown = {name for row in rows for name in row.classes}
    colors = {name: VOC_PALETTE[palette_row(value)] for value, name in enumerate(classes.values) if name in shown}
    return {name: "rgb({} {} {})".format(*color) for name, color in colors.items()}


def names_of_classes(sample: Sample, classes: ClassTable) -> tuple[str, ...]:
    """Return the names of an image's labels, or of a scene, which has none, those of the values in its label map."""
    if classes.has_background:
        return tuple(classes.names[label] for label in sample.labels)
    truth = read_ground_truth(sample).semantic
    values = [] if truth is None else np.unique(truth).tolist()
    return tuple(classes.values[value] for value in values if value < len(classes.values)) or ("void",)


def label_cells(sample: Sample, photo: Picture, folder: Path, classes: ClassTable) -> dict[str, str]:
    """Draw the label maps that a folder has of an image, and its ground truth, over the photograph.

    Returns:
        Pictures by "semantic", "instances", "saliency", "gt_semantic" and "gt_instances".
    """
    cells = {}
    if (saliency := folder / SALIENCY / f"{sample.id}.png").exists():
        cells["saliency"] = pictures.data_uri(pictures.overlay_heat(photo, read_label_map(saliency) / 255))
    files = {
        "semantic": folder / SEMANTIC / f"{sample.id}.png",
        "instances": folder / INSTANCES / f"{sample.id}.png",
    }
    truth = read_ground_truth(sample)
    maps = {key: read_label_map(file) for key, file in files.items() if file.exists()}
    maps |= {"gt_semantic": truth.semantic, "gt_instances": truth.instances}
    overlay = {
        "semantic": partial(pictures.overlay_labels, background=classes.has_background),
        "instances": pictures.overlay_instances,
    }
    return cells | {
        key: pictures.data_uri(overlay[key.removeprefix("gt_")](photo, values))
        for key, values in maps.items()
        if values is not None
    }


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of every leaf of nested mappings."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.1f}"
