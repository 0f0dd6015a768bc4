"""`pseudomask run` and `pseudomask demo`: the whole pipeline, with a server of its own where there is none."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data.dataset import DatasetError
from data.files import read_regular
from data.ownership import own
from data.store import ArtifactError, explain_os_errors, no_space, open_store
from data.synthetic.dataset import write_synthetic
from flows.commands.tables import percent, show_validation
from flows.engine.collect import writing
from flows.engine.request import Request
from flows.engine.server import check_scheduler, no_server, prefect_server
from flows.labels.request import RunRequest, open_set
from tasks.engine.stage import Stage
from tasks.engine.workers import StageError
from tasks.networks import NETWORKS
from tasks.pipeline import stages_of

DEMO_SIZE = (128, 160)
DEMO_STAMP = "recipe.json"
# A recipe that asks for more is none of a demo.
MAX_OLD_DEMO = 10_000
SHOWN_CLASSES = 25
# Bytes; less, and the server's database may not find room to grow.
ROOM_FOR_SERVER = 2**20


def run_pipeline(request: RunRequest) -> dict[str, Any]:
    """Run the flow, and return what `metrics.json` holds, and where."""
    with writing(request, "run"):
        # Faults of lists and labels need no server, and nobody should wait for one to learn of them.
        open_set(request)
        stages = (
            *stages_of(request.settings.refiner),
            *(stage for name in request.train for stage in NETWORKS[name].pipeline),
        )
        with embedded_server(request, stages):
            from flows.labels.flow import pseudo_labels

            pseudo_labels(request)
        result = read_result(request)
    if request.train:
        result["networks"] = {
            name: json.loads((request.out / name / "metrics.json").read_text()) for name in request.train
        }
    return result


def read_result(request: Request) -> dict[str, Any]:
    """Return what a finished run's `metrics.json` holds, and where the run is."""
    metrics = json.loads((request.out / "metrics.json").read_text())
    return {"run": str(request.out), "store": request.store_address, **metrics}


@contextlib.contextmanager
def embedded_server(request: Request, stages: Iterable[Stage]) -> Iterator[None]:
    """Have a Prefect server in the block, whose first import of Prefect must be there: one of its own if need be."""
    check_scheduler(request.cluster)
    store = open_store(request.store_address)
    root = store.root
    with (
        _explain_prefect(root),
        # A store that may only be read takes no database.
        tempfile.TemporaryDirectory() if store.read_only else contextlib.nullcontext(root / ".prefect") as home,
        prefect_server(Path(home)) as server,
    ):
        # Prefect reads its settings at import, and takes seconds for it, while the server starts.
        import flows.engine.execute  # noqa: F401

        # So does the plan, for the digests of the sources, which it finds kept here.
        for stage in stages:
            _ = stage.source
        if server:
            server.wait()
        yield


@contextlib.contextmanager
def _explain_prefect(store: Path) -> Iterator[None]:
    """Say why Prefect failed in its own way: its database lies in the store, on a full disk, or no server answers."""
    try:
        yield
    except (ArtifactError, DatasetError, StageError):
        raise
    except Exception as error:
        if store.is_dir() and shutil.disk_usage(store).free < ROOM_FOR_SERVER:
            raise no_space(store) from error
        # Prefect has no class of its own for it.
        if (address := os.environ.get("PREFECT_API_URL")) and str(error).startswith("Failed to reach API"):
            raise no_server(address) from error
        raise


def write_demo_set(folder: Path, num_images: int, seed: int) -> None:
    """Write the demo's data set into a folder that is empty or holds an earlier one of its own.

    Raises:
        ArtifactError: The folder holds something else.
    """
    recipe = _demo_recipe(num_images, seed)
    stamp = folder / DEMO_STAMP
    before = _read_demo(stamp)
    if before == recipe:
        return
    with tempfile.TemporaryDirectory() as temporary:
        new = Path(temporary, "new")
        names = _write_demo(new, recipe)
        # A set from before there were marks is told by its recipe.
        old = None if before is None else _write_demo(Path(temporary, "old"), before)
        with own(folder, "demo", old=old) as output, explain_os_errors(folder):
            output.claim(names)
            stamp.unlink(missing_ok=True)
            output.remove(output.below("") - names)
            for name in sorted(names - {DEMO_STAMP}):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(new / name, folder / name)
            shutil.copyfile(new / DEMO_STAMP, stamp)


def _demo_recipe(num_images: int, seed: int) -> dict[str, Any]:
    return {"images": num_images, "seed": seed, "size": list(DEMO_SIZE), "format": 1}


def _read_demo(stamp: Path) -> dict[str, Any] | None:
    """Return the recipe of the demo's set in a folder, None where there is none."""
    try:
        recipe = json.loads(read_regular(stamp))
        known = recipe == _demo_recipe(int(recipe["images"]), int(recipe["seed"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return recipe if known and 0 < recipe["images"] <= MAX_OLD_DEMO else None


def _write_demo(folder: Path, recipe: dict[str, Any]) -> set[str]:
    """Write the set of a recipe, and return the names of its files."""
    images = recipe["images"]
    write_synthetic(folder, num_images=images, seed=recipe["seed"], size=DEMO_SIZE, num_val=images // 4)
    (folder / DEMO_STAMP).write_text(json.dumps(recipe))
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


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
    for name, trained in result.get("networks", {}).items():
        show_validation({"network": name, **trained}, console)
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in result["seconds"].items())
    console.print(f"work: {seconds}", highlight=False)
    for kind, colour in (("failures", "red"), ("warnings", "yellow")):
        for sentence in result.get(kind, ()):
            console.print(sentence, style=colour, markup=False, highlight=False, soft_wrap=True)
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
    where = f"in folds over {tagged.get('images')} images" if kind == "folds" else f"on {tagged.get('images')} {kind}"
    table = Table(
        title="Classes", title_justify="left", caption=f"AP of the classifier {where}" if tagged.get("ap") else None
    )
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
