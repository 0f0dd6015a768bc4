"""`pseudomask run`: from images with image-level labels to semantic and instance labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from flows.commands.command import Command, Written, answering
from flows.commands.tables import percent, show_left_out, show_validation
from flows.engine.collect import writing
from flows.engine.embedded import embedded_server, read_result
from flows.engine.request import handed_over
from flows.labels.presets import PRESETS
from flows.labels.request import RunRequest, open_set
from flows.labels.results import collect_made
from tasks.networks import NETWORKS
from tasks.pipeline import stages_of

SHOWN_CLASSES = 25


def run_pipeline(request: RunRequest) -> dict[str, Any]:
    """Run the flow, and return what `metrics.json` holds, and where."""
    with writing(request, "run"):
        # Faults of lists and labels need no server, and nobody should wait for one to learn of them.
        found = open_set(request)
        if not collect_made(request, *found):
            stages = (
                *stages_of(request.settings.refiner),
                *(stage for name in request.train for stage in NETWORKS[name].pipeline),
            )
            with embedded_server(request, stages), handed_over(request, found):
                from flows.labels.flow import pseudo_labels

                pseudo_labels(request)
        result = read_result(request)
    if request.train:
        result["networks"] = {
            name: json.loads((request.out / name / "metrics.json").read_text()) for name in request.train
        }
    return result


def show_results(result: dict[str, Any], console: Console) -> None:
    """Print the table of results, where they are, and the next command to type."""
    run = result["run"]
    if classes := result.get("classes"):
        console.print(_class_table(classes, result.get("tags", {})))
        console.print(f"classes: {classes['origin']}", highlight=False, markup=False, soft_wrap=True)
    if cams := result.get("cams"):
        for line in _cam_lines(cams, result["thresholds"]):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if "semantic" in result:
        console.print(_semantic_table(result["semantic"]))
    if result.get("instances"):
        console.print(_instance_table(result["instances"]))
    if field := result.get("displacement"):
        divided = f"{field['instances']} instances in {field['components']} connected areas of sure foreground"
        console.print(f"displacement field: {divided}", highlight=False, soft_wrap=True)
    for name, trained in result.get("networks", {}).items():
        show_validation({"network": name, **trained}, console)
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in result["seconds"].items())
    console.print(f"work: {seconds}", highlight=False)
    for kind, colour in (("failures", "red"), ("warnings", "yellow")):
        for sentence in result.get(kind, ()):
            console.print(sentence, style=colour, markup=False, highlight=False, soft_wrap=True)
    show_left_out(result, console)
    console.print(f"labels   {run}/labels\nmetrics  {run}/metrics.json", highlight=False, soft_wrap=True)
    report = Path(run) / "report" / "index.html"
    if report.is_file() and report.stat().st_mtime >= (Path(run) / "metrics.json").stat().st_mtime:
        console.print(f"report   {report}", highlight=False, soft_wrap=True)
        console.print(f"next: pseudomask export {run} --out {run}-export", highlight=False, soft_wrap=True)
    else:
        console.print(f"next: pseudomask report {run}", highlight=False, soft_wrap=True)


def _cam_lines(cams: dict[str, Any], thresholds: dict[str, Any]) -> list[str]:
    """Say whose maps a run was made from, and with which thresholds."""
    # Those of the walked scores; a second round over the set has its own.
    relations, labels = thresholds.get("relations", {}), thresholds.get("walk", thresholds["labels"])
    numbers = [f"{name} {relations[name]:.2f}" for name in ("foreground", "background") if name in relations]
    numbers.append(f"labels {labels['background']:.2f}")
    whose = f"those of {cams['family']}" if cams["presets_used"] else f"not those of {cams['family']}"
    if cams["presets"] is None:
        whose = f"{cams['family']} has none of its own"
    return [
        f"maps: {cams['files']} files of {cams['origin']}; classifier: {cams['classifier']}",
        f"thresholds: {', '.join(numbers)} ({whose})",
    ]


def _class_table(classes: dict[str, Any], tags: dict[str, Any]) -> Table:
    """Return a row per class: its images, and what classifier, relations and labels found of it."""
    tagged = tags.get("classifier", {})
    kind = tagged.get("measured_on", "")
    who, where = "the classifier", f"on {tagged.get('images')} {kind}"
    if kind == "folds":
        who, where = "a linear classifier on the first weights", f"in folds over {tagged.get('images')} images"
    table = Table(title="Classes", title_justify="left", caption=f"AP of {who} {where}" if tagged.get("ap") else None)
    for column in ("class", "images", "AP", "with sure pixels", "without a pixel"):
        table.add_column(column, justify="left" if column == "class" else "right")
    sure = tags.get("relations", {}).get("images_with_confident_pixels", {})
    without = tags.get("labels", {}).get("tags_without_a_pixel", {})
    rows = list(classes["images"].items())
    # Of many classes those that do worst.
    rows.sort(key=lambda row: tagged.get("ap", {}).get(row[0], 1.0)) if len(rows) > SHOWN_CLASSES else None
    for name, count in rows[:SHOWN_CLASSES]:
        cells = percent(tagged.get("ap", {}).get(name)), percent(sure.get(name))
        table.add_row(name, str(count), *cells, str(without.get(name, 0)))
    if len(rows) > SHOWN_CLASSES:
        table.add_row(f"and {len(rows) - SHOWN_CLASSES} more", *[""] * 4)
    return table


def _semantic_table(scores: dict[str, Any]) -> Table:
    table = Table(title="Semantic labels", title_justify="left")
    for column, justify in (("labels", "left"), ("background", "right"), ("mIoU", "right")):
        table.add_column(column, justify=justify)  # pyright: ignore[reportArgumentType]
    names = {
        "cam": "CAM, best threshold",
        "cam_crf": "CAM + CRF, best threshold",
        "walk": "random walk",
        "labels": "this run's labels",
    }
    for key, name in names.items():
        if key in scores:
            table.add_row(name, f"{scores[key]['threshold']:.2f}", percent(scores[key]["miou"]))
    return table


def _instance_table(scores: dict[str, Any]) -> Table:
    table = Table(title="Instance labels", title_justify="left")
    for column in ("labels", "AP50", "AP70", "AP50, touching"):
        table.add_column(column, justify="left" if column == "labels" else "right")
    names = {
        "cam_components": "CAM + components, best threshold",
        "boundary_components": "CAM + boundary + components",
        "labels": "this run's labels",
    }
    touching = scores.get("touching", {})
    for key, name in names.items():
        if key in scores:
            cells = [scores[key]["ap50"], scores[key]["ap70"], touching.get(key, {}).get("ap50")]
            table.add_row(name, *map(percent, cells))
    return table


COMMAND = Command(
    name="run",
    help="From images with image-level labels to semantic and instance labels.",
    request=RunRequest,
    carry_out=answering(run_pipeline, show_results),
    written={"preset": Written(Literal[tuple(PRESETS)])},  # pyright: ignore
    presets=PRESETS,
)
