"""The figures of published labels over their versions, as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.store.publication import Publication
from tasks.reporting.pictures import Picture

MOST_VERSIONS = 60
PANELS = ("mIoU", "agreement", "background", "classes", "instances")


@dataclass(frozen=True)
class Point:
    """The figures of a version.

    Attributes:
        number: The version.
        held: It awaits review.
        figures: Name of `PANELS` -> value; what was not measured is not there.
    """

    number: int
    held: bool
    figures: dict[str, float]


def read_history(publication: Publication) -> list[Point]:
    """Return the figures of the newest `MOST_VERSIONS` versions, held ones included, the oldest first.

    Raises:
        ArtifactError: A record is damaged.
    """
    held = set(publication.held)
    numbers = sorted({*publication.published, *held})[-MOST_VERSIONS:]
    return [Point(number, number in held, dict(_figures(publication.record(number)))) for number in numbers]


def draw_history(points: Sequence[Point], latest: int | None) -> Picture:
    """Return a panel per figure, each over the versions: held ones are hollow, the latest is marked.

    Args:
        points: At least one.
        latest: The version that readers take.
    """
    # Only who draws waits for it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [name for name in PANELS if any(name in point.figures for point in points)]
    figure = Figure(figsize=(7.0, 0.8 + 1.3 * max(1, len(panels))), dpi=100, layout="constrained")
    all_axes = figure.subplots(max(1, len(panels)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(all_axes, panels, strict=False):
        known = [point for point in points if name in point.figures]
        places, values = [point.number for point in known], [point.figures[name] for point in known]
        axes.plot(places, values, color="tab:blue", linewidth=1)
        for point, value in zip(known, values, strict=True):
            face = "white" if point.held else "tab:red" if point.number == latest else "tab:blue"
            axes.plot(point.number, value, marker="o", markersize=6, markeredgecolor="tab:blue", markerfacecolor=face)
        axes.set_ylabel(name)
        axes.margins(y=0.25)
        axes.grid(alpha=0.3)
    all_axes[-1].set_xlabel("version (red: the latest; hollow: held)")
    all_axes[-1].xaxis.get_major_locator().set_params(integer=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _figures(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the figures that a version's record has; those of other versions of pseudomask have fewer."""
    means = record["means"].get("version") if isinstance(record.get("means"), dict) else None
    scores = record.get("scores")
    sources = {"mIoU": (scores, "miou"), "agreement": (record, "agreement")}
    sources |= {name: (means, name) for name in ("background", "classes", "instances")}
    for name, (source, key) in sources.items():
        value = source.get(key) if isinstance(source, dict) else None
        if isinstance(value, int | float):
            yield name, float(value)
