"""`pseudomask evaluate`: label maps, instance masks or maps of saliency from anywhere, against ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from data.dataset import DatasetError
from flows.commands.command import POSITIONAL, Command, answering, spread
from flows.commands.tables import instance_table, percent, semantic_table
from flows.engine.request import ListName
from tasks.config import Config
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


class EvaluateRequest(Config):
    """Labels and their ground truth.

    Attributes:
        kind: What to compare: semantic, instances or saliency.
        pred: Folder of label maps, of a run or of a training, or COCO JSON with scores for instances; for saliency of
            maps in grey, 255 where it is sure.
        gt: Folder of label maps, or COCO JSON for instances; sets of scenes, and of masks of salient objects, are known
            by their layout.
        classes: File with the name of a class per line; called values.txt, of a value per line, where there is no
            background. By default the set's own table, or `classes.txt` beside either, else VOC's.
        split: The images of the ground truth to score: a list of the set, or a file; by default all.
    """

    kind: Literal["semantic", "instances", "saliency"]
    pred: Path
    gt: Path
    classes: Path | None = None
    split: ListName | None = None


COMMAND = Command(
    name="evaluate",
    help="Labels against ground truth: mIoU, average precision of masks, or error and largest F of saliency.",
    request=EvaluateRequest,
    carry_out=answering(spread(evaluate), show_scores),
    written={"kind": POSITIONAL},
)
