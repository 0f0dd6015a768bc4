"""Tables of scores, for every command that has any. Scores come as JSON objects; nothing heavy is imported."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from data.names import shortened
from tasks.networks.cooperative import PREDICTIONS

LISTED = 10


def show_left_out(result: dict[str, Any], console: Console) -> None:
    """Print how many images were left out, and the ids of the first ten."""
    if images := result.get("images_left_out"):
        count = "1 image was" if len(images) == 1 else f"{len(images)} images were"
        line = f"{count} left out: {shortened(images, LISTED)}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def show_validation(result: dict[str, Any], console: Console) -> None:
    """Print the scores of a trained network on its validation images, where it had any."""
    if validation := result.get("validation"):
        title = f"{result['network']} on {validation['images']} images, in percent"
        table = semantic_table if "iou" in validation else instance_table
        console.print(table(validation, title))


def semantic_table(result: dict[str, Any], title: str = "Semantic labels, in percent") -> Table:
    """Return what `tasks.evaluation.folders.evaluate_semantic` answers, a row a class."""
    table = _table(title, "IoU", "accuracy")
    for name, score in result["iou"].items():
        table.add_row(name, percent(score), percent(result["accuracy_per_class"][name]))
    table.add_section()
    table.add_row("mean", percent(result["miou"]), percent(result["class_accuracy"]))
    table.add_row("pixel accuracy", "", percent(result["accuracy"]))
    table.add_row("boundary F", percent(result["boundary_f"]))
    if saliency := result.get("saliency"):
        table.add_section()
        table.add_row("saliency: MAE", percent(saliency["mae"]))
        table.add_row("saliency: max F", percent(saliency["max_f"]))
        if saliency["derived_from"]:
            table.caption = f"Masks of salient objects are derived from {', '.join(saliency['derived_from'])}."
    if prediction := result.get("prediction"):
        table.caption = f"The prediction is {PREDICTIONS[prediction]}."
    return table


def instance_table(result: dict[str, Any], title: str = "Instance labels, in percent") -> Table:
    """Return what `tasks.evaluation.folders.evaluate_instances` answers, a row a class."""
    table = _table(title, "AP50", "AP70", "objects")
    for name, score in result["per_class"].items():
        table.add_row(name, percent(score["ap50"]), percent(score["ap70"]), str(score["gt"]))
    table.add_section()
    total = sum(score["gt"] for score in result["per_class"].values())
    table.add_row("mean", percent(result["ap50"]), percent(result["ap70"]), str(total))
    coco = {name.upper(): percent(score) for name, score in result["coco"].items()}
    table.caption = "COCO: " + ", ".join(f"{name} {score}" for name, score in coco.items())
    return table


def _table(title: str, *scores: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("class")
    for score in scores:
        table.add_column(score, justify="right")
    return table


def percent(score: float | None) -> str:
    """Return a fraction in percent, with one decimal place; "-" where there is none."""
    return "-" if score is None else f"{100 * score:.1f}"
