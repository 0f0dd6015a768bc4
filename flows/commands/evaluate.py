"""`pseudomask evaluate`: semantic label maps or instance masks from anywhere, against ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from flows.commands.tables import instance_table, semantic_table
from tasks.evaluation.folders import evaluate_instances, evaluate_semantic


def evaluate(
    kind: Literal["semantic", "instances"],
    pred: Path,
    gt: Path,
    classes: Path | None = None,
    split: str | Path | None = None,
) -> dict[str, Any]:
    """Score predictions; arguments, answer and errors are those of the functions of `tasks.evaluation.folders`."""
    function = evaluate_semantic if kind == "semantic" else evaluate_instances
    return function(pred, gt, classes, split)


def show_scores(result: dict[str, Any], console: Console) -> None:
    """Print a row for each class, and the mean."""
    console.print(semantic_table(result) if "iou" in result else instance_table(result))
    ignored = f"; {result['ignored']} predictions without ground truth were ignored" if result["ignored"] else ""
    console.print(f"{result['images']} images{ignored}", highlight=False)
    console.print(f"classes: {result['classes']}", highlight=False, soft_wrap=True)
