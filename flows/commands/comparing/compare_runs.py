"""`pseudomask compare-runs`: what differs between runs, and which images gained and lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, validate_call
from rich.console import Console
from rich.table import Table

from data.files import replacing
from data.ownership import is_page, refuse_inside, refuse_other
from data.store import explain_os_errors
from flows.commands.command import POSITIONAL, Command, answering, spread
from flows.commands.tables import percent
from tasks.config import Config
from tasks.reporting.runs import compare_labels, open_runs, runs_page

SHOWN_CLASSES = 25


@validate_call
def compare_runs(
    runs: tuple[Path, ...], out: Path | None = None, images: Annotated[int, Field(ge=0)] = 10
) -> dict[str, Any]:
    """Compare the first of several runs with the others.

    Args:
        runs: Folders of finished runs that made labels.
        out: Folder of a page with pictures; without one none is written.
        images: Images that are listed, of those that gained and of those that lost.

    Returns:
        What `tasks.reporting.runs.compare_labels` returns, and "report", the page, where there is one.

    Raises:
        ArtifactError: A folder holds no finished run that made labels, or `out` lies in a data set or
            cannot be written.
        DatasetError: A label map, a photograph or ground truth cannot be read.
        pydantic.ValidationError: A number of images under 0.
    """
    opened = open_runs(runs)
    if out is not None:
        # Before the work.
        for one in opened:
            refuse_inside(out, one.record.root)
        refuse_other(out / "index.html", is_page, "a page of pseudomask")
    found = compare_labels(opened, images)
    if out is None:
        return found
    page = out / "index.html"
    refuse_other(page, is_page, "a page of pseudomask")
    content = runs_page(opened, found).render().encode()
    with explain_os_errors(out), replacing(page) as temporary:
        temporary.write_bytes(content)
    return {**found, "report": str(page)}


def show_runs(result: dict[str, Any], console: Console) -> None:
    """Print settings that differ, scores side by side, and the images that gained and lost most."""
    names = [run["name"] for run in result["runs"]]
    for part, title in (("settings", "Settings that differ"), ("code", "Code that differs, by stage")):
        if result[part]:
            console.print(_table(title, names, {name: map(str, values) for name, values in result[part].items()}))
    for part, title in (("semantic", "mIoU, in percent"), ("instances", "AP50, in percent")):
        if result[part]:
            console.print(_table(title, names, {name: map(percent, values) for name, values in result[part].items()}))
    if measures := result["quality"]:
        rows = {name: map(_number, values) for name, values in measures.items()}
        console.print(_table("Quality without ground truth, mean over the images", names, rows))
    if classes := result["per_class"]:
        console.print(_class_table(names, classes))
    for pair in result["pairs"]:
        for line in _lines(names[0], pair):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if "report" in result:
        console.print(f"report   {result['report']}", highlight=False, soft_wrap=True)


def _class_table(names: list[str], classes: dict[str, list[float | None]]) -> Table:
    """Return the IoU of the classes that have one; of many classes those that changed most."""
    rows = [row for row in classes.items() if any(value is not None for value in row[1])]
    if len(rows) > SHOWN_CLASSES:
        rows.sort(key=lambda row: -_spread(row[1]))
    shown = {name: map(percent, values) for name, values in rows[:SHOWN_CLASSES]}
    return _table("IoU of the labels, in percent", names, shown)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known) if known else 0.0


def _lines(first: str, pair: dict[str, Any]) -> list[str]:
    if not pair["images"]:
        return [f"{first} and {pair['name']} have no image in common"]
    lines = [
        f"{first} and {pair['name']}: {pair['images']} images in common, {percent(pair['agreement'])} % of their "
        f"pixels of one class, mIoU of the two {percent(pair['agreement_iou'])}"
    ]
    if "gain" not in pair:
        return lines
    gain = f"mean IoU of {pair['scored']} images from {first} to {pair['name']}: {100 * pair['gain']:+.1f}"
    if pair["interval"] is not None:
        gain += " (95 % of resampled sets: {:+.1f} to {:+.1f})".format(*(100 * end for end in pair["interval"]))
    lines.append(gain)
    for kind in ("gained", "lost"):
        for change in pair[kind]:
            lines.append(f"  {kind} {percent(change['before'])} -> {percent(change['after'])}  {change['image']}")
    return lines


def _table(title: str, names: list[str], rows: dict[str, Any]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


class CompareRunsRequest(Config):
    """Runs side by side.

    Attributes:
        runs: Folders of two runs or more; the first is what the others are compared with.
        out: Folder of a page with pictures of these images.
        images: Images that are listed, of those that gained and of those that lost.
    """

    runs: tuple[Path, ...]
    out: Path | None = None
    images: Annotated[int, Field(ge=0)] = 10


COMMAND = Command(
    name="compare-runs",
    help="What differs between runs: settings, code, scores, and the images that gained and lost most.",
    request=CompareRunsRequest,
    carry_out=answering(spread(compare_runs), show_runs),
    written={"runs": POSITIONAL},
)
