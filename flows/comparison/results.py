"""The folder of a comparison: `comparison.json`, its tables for a page of documentation, and its report."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.table import Table

from data.files import atomic_write, explain_os_errors
from data.readers import has_own_classes, open_dataset
from flows.comparison.request import CompareRequest, Trial, check_sets
from flows.comparison.written import write_tables
from flows.engine.collect import writing
from tasks.engine.run_record import read_run
from tasks.networks.cooperative import PREDICTIONS
from tasks.networks.trainer import PixelTrainerConfig
from tasks.reporting.comparison import comparison_page

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


def collect_comparison(request: CompareRequest, all_trials: Sequence[Trial]) -> Path:
    """Write what finished trainings and their tests say into `request.out`, and return that folder.

    Raises:
        ArtifactError: The folder cannot be written.
    """
    num_classes = len(read_run(all_trials[0].training.out).classes.values)
    configs = {trial.row: _pixel_config(trial) for trial in all_trials}
    size = configs[all_trials[0].row].image_size or TEST_SIZE
    result = {
        "table": request.table,
        "out": str(request.out),
        "size": list(size),
        "seeds": list(request.seeds),
        "device": request.torch_device,
        "rows": _rows(all_trials, _costs(all_trials, num_classes, size, request.torch_device)),
        "notes": check_sets(request),
        "saliency_tested": not request.saliency or request.saliency_test is not None,
    }
    with writing(request, "compare") as output, explain_os_errors(request.out):
        tables = tables_of(result)
        output.claim([FILE_NAME, "report/index.html"])
        atomic_write(request.out / FILE_NAME, json.dumps(result, indent=1))
        write_tables(request.out, {f"{request.table}-{name}": [table] for name, table in tables.items()}, output)
        shown = [(trial.row, trial.weighting, trial.training.out) for trial in all_trials]
        tested = all_trials[0].tests["test"]
        names = None if has_own_classes(tested.data) else request.classes
        samples = open_dataset(tested.data, split=tested.split, classes=names)[0].samples
        page = comparison_page(request.table, shown, result["rows"], notes_on(result, result["rows"]), samples)
        (request.out / "report").mkdir(exist_ok=True)
        atomic_write(request.out / "report" / "index.html", page.render())
    return request.out


def tables_of(result: dict[str, Any]) -> dict[str, Table]:
    """Return a table for each weighting of the classes; scores in percent, with their deviation over the seeds."""
    return {weighting: table_of(result, rows, tests_of(rows[0])) for weighting, rows in by_weighting(result).items()}


def by_weighting(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each weighting of the classes."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in result["rows"]:
        found[row["weighting"]].append(row)
    return found


def table_of(result: dict[str, Any], rows: list[dict[str, Any]], tests: list[str]) -> Table:
    """Return the rows' scores on some lists of images; what the networks cost is beside those on the test images."""
    num_seeds = len(result["seeds"])
    weighting = WEIGHTINGS[rows[0]["weighting"]]
    title = f"{result['table']}, {' and '.join(tests)} images, {weighting}, {num_seeds} seed{'s' * (num_seeds > 1)}"
    table = Table(title=title, title_justify="left")
    table.add_column("network", overflow="fold")
    costs = {
        "M": [f"{row['parameters'] / 1e6:.3f}" for row in rows],
        "storage": [f"{row['storage']:g}" for row in rows if row["storage"] is not None],
        "GMACs": [f"{row['gmacs']:.2f}" for row in rows if "gmacs" in row],
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
        table.add_row(row["row"], *cost, *(percent(row[test].get(name)) for test, name in scores))
    table.caption = "; ".join([*([_units(result, rows)] if costs else []), *notes_on(result, rows)])
    return table


def notes_on(result: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Return what has to be known of scores: which output is the prediction, what saliency was compared with, and which
    test images are not new to the networks."""
    notes = [f"{row['row']}: the prediction is {PREDICTIONS[row['prediction']]}" for row in rows if "prediction" in row]
    notes += [f"{row['row']}: costs without the dense CRF" for row in rows if row["crf_iterations"]]
    if any(row["weights"] for row in rows):
        # Those that have none anyway are of one backbone, which has no name of its own.
        random = [row["row"] for row in rows if row["weights"] is None and row["storage"] is None]
        notes += [f"{', '.join(random)}: from random weights, the others from ImageNet's"] if random else []
    derived = {", ".join(row["masks_derived_from"]) for row in rows if row.get("masks_derived_from")}
    notes += [f"masks of salient objects are derived from {names}" for names in sorted(derived)]
    for row in rows:
        sigmas = {name.removeprefix("sigma_"): row[name] for name in row if name.startswith("sigma_")}
        if sigmas:
            said = (f"{mean(values):.2f} for {task}" for task, values in sigmas.items())
            notes.append(f"{row['row']}: sigma ends at {' and '.join(said)}")
    if not result["saliency_tested"]:
        notes.append("saliency was not tested: no list of images was given (--saliency-test)")
    return [*notes, *result.get("notes", ())]


def tests_of(kinds: Iterable[str]) -> list[str]:
    """Return which of `TESTS` there are."""
    return [test for test in TESTS if test in kinds]


def percent(values: Sequence[float | None] | None) -> str:
    """Return the mean and the deviation of scores in percent; those that are None say nothing."""
    known = [value for value in values or () if value is not None]
    if not known:
        return "-"
    spread = f" ± {100 * stdev(known):.1f}" if len(known) > 1 else ""
    return f"{100 * mean(known):.1f}{spread}"


def _units(result: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    height, width = result["size"]
    threads = ", one thread" if result["device"] == "cpu" else ""
    image = f"an image of {height} x {width} on {result['device']}{threads}"
    # Comparisons of earlier versions were measured in single precision.
    precisions = ", ".join(dict.fromkeys(row.get("precision", "float32") for row in rows))
    stored = any(row.get("storage") is not None for row in rows)
    storage = "storage: what is kept of the first encoder, in its maps after pooling; " if stored else ""
    counts = f"M: millions of parameters; {storage}GMACs: billions of multiply-adds"
    return f"{counts}; GMACs, ms, MB: for {image}, {precisions}"


def _pixel_config(trial: Trial) -> PixelTrainerConfig:
    config = trial.training.settings.training
    assert isinstance(config, PixelTrainerConfig)
    return config


def _costs(
    all_trials: Iterable[Trial], num_classes: int, size: tuple[int, int], device: str
) -> dict[str, dict[str, Any]]:
    """Return what the network of each row costs."""
    from models.profile import count_gmacs
    from tasks.measurement.resources import Variant, measure_inference

    costs: dict[str, dict[str, Any]] = {}
    for trial in all_trials:
        if trial.row not in costs:
            settings = trial.training.settings
            variant = Variant(settings.network, settings.backbone, _pixel_config(trial).network_options)
            gmacs = count_gmacs(lambda variant=variant: variant.build(num_classes), size)
            # As its tests were made.
            precision = settings.testing.precision  # pyright: ignore[reportAttributeAccessIssue]
            measured = measure_inference(variant, num_classes, size, device=device, precision=precision)
            costs[trial.row] = {"gmacs": gmacs, "precision": precision, **asdict(measured)}
    return costs


def _rows(all_trials: Iterable[Trial], costs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is known of each row and weighting: the scores of every seed, and what the network costs."""
    grouped: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in all_trials:
        grouped[trial.row, trial.weighting].append(trial)
    rows = []
    for (row, weighting), group in grouped.items():
        settings = group[0].training.settings
        trainings = [json.loads((trial.training.out / "metrics.json").read_text())["training"] for trial in group]
        trained = trainings[0]
        rows.append(
            {
                "row": row,
                "network": settings.network,
                "backbone": settings.backbone,
                "weights": None if settings.weights is None else str(settings.weights),
                "crf_iterations": settings.testing.crf_iterations,  # pyright: ignore[reportAttributeAccessIssue]
                **{name: trained[name] for name in ("prediction", "masks_derived_from") if name in trained},
                "kept": [one["kept"] for one in trainings],
                **{name: [one[name] for one in trainings] for name in trained if name.startswith("sigma_")},
                "weighting": weighting,
                **costs[row],
                **{test: scores_of(group, test) for test in tests_of(group[0].tests)},
            }
        )
    return rows


def scores_of(group: Sequence[Trial], test: str) -> dict[str, Any]:
    """Return the scores on a list of images, of every seed; saliency's are those on the set that has masks."""

    def read(test: str) -> list[dict[str, Any]]:
        return [json.loads((trial.tests[test].out / "metrics.json").read_text()) for trial in group]

    found = read(test)
    keys = {**SCORES, "iou": "iou", "accuracy": "accuracy_per_class"}
    scores = {name: [one[key] for one in found] for name, key in keys.items()}
    if not group[0].learns_saliency:
        return scores
    salient = read("saliency") if test == "test" and "saliency" in group[0].tests else found
    for name, key in SALIENCY_SCORES.items():
        values = [one["saliency"][key] for one in salient if "saliency" in one]
        if values and None not in values:
            scores[name] = values
    return scores
