"""`pseudomask evaluate`: label maps, instance masks or maps of saliency from anywhere, against ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from data.dataset import DatasetError
from flows.commands.tables import instance_table, percent, semantic_table
from tasks.evaluation.folders import evaluate_instances, evaluate_saliency, evaluate_semantic


def evaluate(
    kind: Literal["semantic", "instances", "saliency"],
    pred: Path,
    gt: Path,
    classes: Path | None = None,
    split: str | Path | None = None,
) -> dict[str, Any]:
    """Score predictions; arguments, answer and errors are those of the functions of `tasks.evaluation.folders`."""
    if kind == "saliency":
        if classes is not None:
            raise DatasetError("saliency has no classes (--classes)")
        return evaluate_saliency(pred, gt, split)
    function = evaluate_semantic if kind == "semantic" else evaluate_instances
    return function(pred, gt, classes, split)


def show_scores(result: dict[str, Any], console: Console) -> None:
    """Print a row for each class and the mean, or the scores of saliency."""
    if "mae" in result:
        scores = f"MAE {percent(result['mae'])}, max F {percent(result['max_f'])}"
        console.print(f"Saliency, in percent: {scores}", highlight=False)
    else:
        console.print(semantic_table(result) if "iou" in result else instance_table(result))
    ignored = f"; {result['ignored']} predictions without ground truth were ignored" if result["ignored"] else ""
    console.print(f"{result['images']} images{ignored}", highlight=False)
    if "classes" in result:
        console.print(f"classes: {result['classes']}", highlight=False, soft_wrap=True)
