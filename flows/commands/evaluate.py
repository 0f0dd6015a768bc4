"""`pseudomask evaluate`: semantic label maps or instance masks from anywhere, against ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from tasks.evaluation.folders import evaluate_instances, evaluate_semantic


def evaluate(
    kind: Literal["semantic", "instances"], pred: Path, gt: Path, classes: Path | None = None
) -> dict[str, Any]:
    """Score predictions; arguments, answer and errors are those of the functions of `tasks.evaluation.folders`."""
    function = evaluate_semantic if kind == "semantic" else evaluate_instances
    return function(pred, gt, classes)


def show_scores(result: dict[str, Any], console: Console) -> None:
    """Print a row for each class, and the mean."""
    console.print(_semantic_table(result) if "iou" in result else _instance_table(result))
    ignored = f"; {result['ignored']} predictions without ground truth were ignored" if result["ignored"] else ""
    console.print(f"{result['images']} images{ignored}", highlight=False)


def show_validation(result: dict[str, Any], console: Console) -> None:
    """Print the scores of a trained network on its validation images, where it had any."""
    if validation := result.get("validation"):
        title = f"{result['network']} on {validation['images']} images, in percent"
        table = _semantic_table if "iou" in validation else _instance_table
        console.print(table(validation, title))


def _semantic_table(result: dict[str, Any], title: str = "Semantic labels, in percent") -> Table:
    table = _table(title, "IoU")
    for name, score in result["iou"].items():
        table.add_row(name, _percent(score))
    table.add_section()
    table.add_row("mean", _percent(result["miou"]))
    table.add_row("pixel accuracy", _percent(result["accuracy"]))
    table.add_row("boundary F", _percent(result["boundary_f"]))
    return table


def _instance_table(result: dict[str, Any], title: str = "Instance labels, in percent") -> Table:
    table = _table(title, "AP50", "AP70", "objects")
    for name, score in result["per_class"].items():
        table.add_row(name, _percent(score["ap50"]), _percent(score["ap70"]), str(score["gt"]))
    table.add_section()
    total = sum(score["gt"] for score in result["per_class"].values())
    table.add_row("mean", _percent(result["ap50"]), _percent(result["ap70"]), str(total))
    coco = {name.upper(): _percent(score) for name, score in result["coco"].items()}
    table.caption = "COCO: " + ", ".join(f"{name} {score}" for name, score in coco.items())
    return table


def _table(title: str, *scores: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("class")
    for score in scores:
        table.add_column(score, justify="right")
    return table


def _percent(score: float | None) -> str:
    return "-" if score is None else f"{100 * score:.1f}"
