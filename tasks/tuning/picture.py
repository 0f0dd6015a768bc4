"""The score over a setting, as a PNG."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.tuning.choose import Candidate
from tasks.tuning.space import Criterion

MOST_LINES = 12
MARKS: Mapping[str, dict[str, Any]] = {
    "default": {"label": "the run's own", "marker": "s", "color": "black"},
    "chosen": {"label": "chosen", "marker": "o", "color": "tab:red"},
    "oracle": {"label": "best by ground truth", "marker": "*", "color": "tab:green"},
}


def draw_scores(
    candidates: Sequence[Candidate], marked: Mapping[str, int], axis: str, criterion: Criterion | None
) -> bytes:
    """Return a PNG: a line per setting that is not on the axis, over the values of the one that is.

    Args:
        candidates: That were tried.
        marked: Name of `MARKS` -> position of a candidate.
        axis: Dotted name of a setting that candidates differ in.
        criterion: What was searched by; None for ground truth. Where there is ground truth too it has a panel of its
            own.
    """
    with_truth = candidates[0].score is not None
    panels = [*([criterion] if criterion else []), *([None] if with_truth else [])]
    figure = Figure(figsize=(7.0 * len(panels), 4.5), layout="constrained")
    for number, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        _draw(axes, candidates, marked, axis, panel)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _draw(
    axes: Axes, candidates: Sequence[Candidate], marked: Mapping[str, int], axis: str, criterion: Criterion | None
) -> None:
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for candidate in candidates:
        rest = ", ".join(f"{name} {value:g}" for name, value in candidate.values.items() if name != axis)
        lines[rest].append((candidate.values[axis], candidate.judged_by(criterion)))
    best_first = sorted(lines.items(), key=lambda line: -max(figure for _, figure in line[1]))
    for rest, points in best_first[:MOST_LINES]:
        axes.plot(*zip(*sorted(points), strict=True), marker=".", linewidth=1, label=rest or None)
    for name, row in marked.items():
        place = candidates[row].values[axis], candidates[row].judged_by(criterion)
        axes.plot(*place, linestyle="none", markersize=9, **MARKS[name])
    axes.set_xlabel(axis)
    axes.set_ylabel("mIoU against ground truth" if criterion is None else f"criterion: {criterion}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
