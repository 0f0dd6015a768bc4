"""`pseudomask compare`: the tables of papers on networks, made anew."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from data.readers import open_dataset
from data.store import explain_os_errors
from flows.commands.run import embedded_server
from flows.compare_request import CompareRequest, Trial, trials
from flows.results import write_text
from flows.train_request import open_training_sets
from tasks.network_settings import PixelTrainerConfig
from tasks.reporting.comparison import comparison_page
from tasks.run_record import read_run
from tasks.stages import NETWORK_STAGES

log = logging.getLogger(__name__)
FILE_NAME = "comparison.json"
# The paper's names of the scores.
SCORES = {"G": "accuracy", "C": "class_accuracy", "mIoU": "miou", "BF": "boundary_f"}
# Of networks that learn saliency.
SALIENCY_SCORES = {"MAE": "mae", "max F": "max_f"}
TESTS = ("test", "train")
WEIGHTINGS = {
    "none": "classes weighted alike",
    "median_frequency": "median frequency balancing",
    "inverse_log": "classes weighted by 1 / ln(1.02 + share)",
}
# Of the image that a network's costs are measured on, where it is not trained on images of one size.
TEST_SIZE = (512, 1024)
RESOURCES = ("segnet", "deeplab-largefov", "fcn-learned", "deconvnet")


def compare_networks(request: CompareRequest) -> dict[str, Any]:
    """Run the flow, write `comparison.json`, the table and the report into the folder, and return what the JSON has."""
    from tasks.resources import Variant, measure_inference

    all_trials = list(trials(request))
    # A fault of any set shows before the first training.
    for training in {trial.training.settings.network: trial.training for trial in all_trials}.values():
        open_training_sets(training)
    networks = {trial.training.settings.network for trial in all_trials}
    with embedded_server(request, [stage for name in networks for stage in NETWORK_STAGES[name]]):
        from flows.comparison import compare

        compare(request)
    num_classes = len(read_run(all_trials[0].training.out).classes.values)
    configs = {trial.row: _pixel_config(trial) for trial in all_trials}
    size = configs[all_trials[0].row].image_size or TEST_SIZE
    costs: dict[str, dict[str, Any]] = {}
    for trial in all_trials[: len(configs)]:
        settings = trial.training.settings
        variant = Variant(settings.network, settings.backbone, configs[trial.row].network_options)
        costs[trial.row] = asdict(measure_inference(variant, num_classes, size, device=request.torch_device))
    result = {
        "table": request.table,
        "out": str(request.out),
        "size": list(size),
        "seeds": list(request.seeds),
        "device": request.torch_device,
        "rows": _rows(all_trials, costs),
    }
    with explain_os_errors(request.out):
        write_text(request.out / FILE_NAME, json.dumps(result, indent=1))
        for weighting, table in tables_of(result).items():
            write_text(request.out / f"{request.table}-{weighting}.md", _markdown(table))
        shown = [(trial.row, trial.weighting, trial.training.out) for trial in all_trials]
        samples = open_dataset(request.test_data, split=request.test)[0].samples
        page = comparison_page(request.table, shown, result["rows"], samples)
        (request.out / "report").mkdir(exist_ok=True)
        write_text(request.out / "report" / "index.html", page.render())
    return result


def compare_resources(
    networks: Iterable[str],
    size: tuple[int, int],
    num_classes: int,
    device: str,
    num_threads: int,
    out: Path | None = None,
) -> dict[str, Any]:
    """Measure time and memory of networks, each in processes of its own (Table 6); `out` gets `comparison.json`."""
    from tasks.resources import Variant, measure_resources

    rows = []
    for name in networks:
        log.info("%s at %d x %d", name, *size)
        variant = Variant(name, options={"input": "imagenet"})
        measured = measure_resources(variant, num_classes, size, device=device, num_threads=num_threads)
        rows.append({"network": name, **asdict(measured)})
    result = {"table": "segnet-resources", "size": list(size), "device": device, "threads": num_threads, "rows": rows}
    if out is not None:
        with explain_os_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            write_text(out / FILE_NAME, json.dumps(result, indent=1))
    return result


def show_comparison(result: dict[str, Any], console: Console, *, per_class: bool = False) -> None:
    """Print the tables, one for each list of images so that they are narrow, and the next command to type."""
    for weighting, rows in _by_weighting(result).items():
        for test in tests_of(rows[0]):
            console.print(_table(result["table"], weighting, rows, [test]))
    if per_class:
        for row in result["rows"]:
            console.print(_class_table(row))
    where = result["out"]
    console.print(f"figures  {where}/{FILE_NAME}\nreport   {where}/report/index.html", highlight=False, soft_wrap=True)


def show_resources(result: dict[str, Any], console: Console) -> None:
    """Print a row a network."""
    height, width = result["size"]
    title = f"One image of {height} x {width} on {result['device']}, {result['threads']} threads; training memory of 4"
    table = Table(title=title, title_justify="left")
    columns = ("network", "forward ms", "backward ms", "inference ms", "inference MB", "training MB", "model MB")
    for column in columns:
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in result["rows"]:
        seconds = (row[name] for name in ("forward_seconds", "backward_seconds", "inference_seconds"))
        sizes = (row[name] for name in ("inference_bytes", "training_bytes", "model_bytes"))
        table.add_row(row["network"], *(f"{1e3 * s:,.0f}" for s in seconds), *(f"{b / 1e6:,.0f}" for b in sizes))
    console.print(table)


def tables_of(result: dict[str, Any]) -> dict[str, Table]:
    """Return a table for each weighting of the classes; scores in percent, with their deviation over the seeds."""
    return {
        weighting: _table(result["table"], weighting, rows, tests_of(rows[0]))
        for weighting, rows in _by_weighting(result).items()
    }


def _by_weighting(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in result["rows"]:
        found[row["weighting"]].append(row)
    return found


def _table(name: str, weighting: str, rows: list[dict[str, Any]], tests: list[str]) -> Table:
    """Return the rows' scores on some lists of images; what the networks cost is beside those on the test images."""
    num_seeds = len(rows[0]["test"]["G"])
    title = f"{name}, {' and '.join(tests)} images, {WEIGHTINGS[weighting]}, {num_seeds} seed{'s' * (num_seeds > 1)}"
    table = Table(title=title, title_justify="left")
    table.add_column("network", overflow="fold")
    costs = {
        "M": [f"{row['parameters'] / 1e6:.3f}" for row in rows],
        "storage": [f"{row['storage']:g}" for row in rows if row["storage"] is not None],
        "ms": [f"{1e3 * row['seconds']:.0f}" for row in rows],
        "MB": [f"{row['bytes'] / 1e6:.0f}" for row in rows],
    }
    # What no network of the table has is no column.
    costs = {column: cells for column, cells in costs.items() if cells and "test" in tests}
    scores = [
        (test, name) for test in tests for name in (*SCORES, *SALIENCY_SCORES) if any(name in r[test] for r in rows)
    ]
    for column in (*costs, *(f"{test} {name}" if len(tests) > 1 else name for test, name in scores)):
        table.add_column(column, justify="right", min_width=min(5, len(column)))
    cells = zip(*costs.values(), strict=True) if costs else [()] * len(rows)
    for row, cost in zip(rows, cells, strict=True):
        table.add_row(row["row"], *cost, *(_percent(row[test].get(name)) for test, name in scores))
    table.caption = "; ".join([*(["M: millions of parameters"] if costs else []), *_notes(rows)])
    return table


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """Return what has to be known of scores: which output is the prediction, and what saliency was compared with."""
    notes = [f"{row['row']}: the prediction is {row['prediction']}" for row in rows if "prediction" in row]
    derived = {", ".join(row["masks_derived_from"]) for row in rows if row.get("masks_derived_from")}
    return notes + [f"masks of salient objects are derived from {names}" for names in sorted(derived)]


def tests_of(kinds: Iterable[str]) -> list[str]:
    """Return which of `TESTS` there are."""
    return [test for test in TESTS if test in kinds]


def _pixel_config(trial: Trial) -> PixelTrainerConfig:
    config = trial.training.settings.training
    assert isinstance(config, PixelTrainerConfig)
    return config


def _rows(all_trials: Iterable[Trial], costs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is known of each row and weighting: the scores of every seed, and what the network costs."""
    grouped: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in all_trials:
        grouped[trial.row, trial.weighting].append(trial)
    rows = []
    for (row, weighting), group in grouped.items():
        settings = group[0].training.settings
        scores: dict[str, Any] = {}
        for test in tests_of(group[0].tests):
            found = [json.loads((trial.tests[test].out / "metrics.json").read_text()) for trial in group]
            scores[test] = {name: [one[key] for one in found] for name, key in SCORES.items()}
            per_class = {"iou": "iou", "accuracy": "accuracy_per_class"}
            scores[test] |= {name: [one[key] for one in found] for name, key in per_class.items()}
            where = "saliency" if test == "test" and "saliency" in group[0].tests else test
            found = [json.loads((trial.tests[where].out / "metrics.json").read_text()) for trial in group]
            salient = [one["saliency"] for one in found if "saliency" in one]
            for name, key in SALIENCY_SCORES.items():
                if values := [one[key] for one in salient if one[key] is not None]:
                    scores[test][name] = values
        trained = json.loads((group[0].training.out / "metrics.json").read_text())["training"]
        rows.append(
            {
                "row": row,
                "network": settings.network,
                "backbone": settings.backbone,
                "weights": None if settings.weights is None else str(settings.weights),
                **{name: trained[name] for name in ("prediction", "masks_derived_from") if name in trained},
                "weighting": weighting,
                **costs[row],
                **scores,
            }
        )
    return rows


def _class_table(row: dict[str, Any]) -> Table:
    table = Table(title=f"{row['row']}, {row['weighting']}: each class of the test images", title_justify="left")
    for column in ("class", "accuracy", "IoU"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name in row["test"]["iou"][0]:
        values = ([seed[name] for seed in row["test"][kind] if seed[name] is not None] for kind in ("accuracy", "iou"))
        table.add_row(name, *map(_percent, values))
    return table


def _percent(values: list[float] | None) -> str:
    if not values:
        return "-"
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


def _markdown(table: Table) -> str:
    """Return a table for a page of documentation."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    head = [str(column.header) for column in table.columns]
    lines = [head, ["---"] * len(head), *map(list, zip(*columns, strict=True))]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
