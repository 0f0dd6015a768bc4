"""The folder of the IRNet paper's tables: `comparison.json`, and the tables for documentation and papers."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from data.files import atomic_write, explain_os_errors, replacing
from data.formats.label_folder import SEMANTIC
from data.ownership import Output
from flows.comparison.refiners import (
    PAPER_TABLES,
    SEGMENTER,
    TABLE,
    CompareRefinersRequest,
    predictions_of,
    runs,
)
from flows.comparison.results import FILE_NAME, percent
from flows.comparison.written import write_tables
from flows.engine.collect import writing
from flows.training.prediction import PredictRequest
from tasks.evaluation.instance_metrics import CHAINERCV

# Of results of methods that learned from other images than the test's own (VOC's competition 6).
SERVER_FOLDER = "VOC2012/Segmentation/comp6_test_cls"
Scores = dict[str, dict[str, dict[str, Any]]]
"""Table of `PAPER_TABLES` -> method -> name of a score -> its value."""


def collect_refiners(request: CompareRefinersRequest) -> Path:
    """Write the scores of finished runs into `request.out`, and return that folder.

    Raises:
        ArtifactError: The folder cannot be written.
    """
    found: dict[str, list[Scores]] = defaultdict(list)
    tested = predictions_of(request)
    for name, seed, run in runs(request):
        scores = scores_of(run.out, run.train)
        test = tested.get((name, seed))
        if test and test.evaluate:
            scores["segmentation"][SEGMENTER]["test"] = _read(test.out)["miou"]
        found[name].append(scores)
    result = {"table": TABLE, "out": str(request.out), "seeds": list(request.seeds), "preset": request.preset}
    result |= rows_of(found)
    with writing(request, "compare") as output, explain_os_errors(request.out):
        output.claim([FILE_NAME])
        atomic_write(request.out / FILE_NAME, json.dumps(result, indent=1))
        write_tables(request.out, {TABLE: tables_of(result)}, output)
        for (name, seed), test in tested.items():
            if not test.evaluate:
                write_for_server(test, request.out, f"results-{name}-{seed}", output)
    return request.out


def scores_of(run: Path, networks: Sequence[str]) -> Scores:
    """Return the scores of a finished run and of its networks; AP is by the rule of the paper's authors."""
    metrics = _read(run)
    scores: Scores = {
        "semantic": metrics.get("semantic", {}),
        "instances": metrics.get("instances", {}).get(CHAINERCV, {}),
        "segmentation": {},
        "detection": {},
    }
    for name in networks:
        validation = _read(run / name)["validation"]
        if name == SEGMENTER:
            scores["segmentation"][name] = {"val": validation["miou"]}
        else:
            scores["detection"][name] = validation[CHAINERCV]
    return scores


def rows_of(found: Mapping[str, Sequence[Scores]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table that has a score: without ground truth of instances, or without networks, some
    have none.

    Args:
        found: Run -> its scores of every seed.
    """
    all_rows = {kind: _rows(kind, found) for kind in PAPER_TABLES}
    return {
        kind: rows
        for kind, rows in all_rows.items()
        if any(row[column] for row in rows for column in PAPER_TABLES[kind].scores)
    }


def tables_of(result: dict[str, Any]) -> list[Table]:
    """Return the tables: scores in percent, with their deviation over the seeds, beside the paper's."""
    return [_table(result, kind) for kind in PAPER_TABLES if kind in result]


def write_for_server(test: PredictRequest, out: Path, folder: str, output: Output) -> None:
    """Copy the label maps of a prediction into the layout that VOC's evaluation server takes, below `out / folder`.

    Raises:
        ArtifactError: A file of that name is not the command's.
    """
    place = f"{folder}/results/{SERVER_FOLDER}"
    maps = sorted((test.out / SEMANTIC).glob("*.png"))
    output.claim(f"{place}/{file.name}" for file in maps)
    (out / place).mkdir(parents=True, exist_ok=True)
    for file in maps:
        with replacing(out / place / file.name) as temporary:
            shutil.copyfile(file, temporary)


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def _rows(kind: str, found: Mapping[str, Sequence[Scores]]) -> list[dict[str, Any]]:
    """Return the rows of a table with their scores of every seed; a score that a run does not have is left out."""
    table = PAPER_TABLES[kind]
    rows = []
    for row in table.rows:
        scored = [metrics[kind].get(row.method, {}) for metrics in found[row.run]]
        scores = {
            column: [each[key] for each in scored if each.get(key) is not None] for column, key in table.scores.items()
        }
        paper = dict(zip(table.scores, row.paper, strict=True))
        rows.append({"row": row.title, "run": row.run, "method": row.method, "paper": paper, **scores})
    return rows


def _table(result: dict[str, Any], kind: str) -> Table:
    paper, num_seeds = PAPER_TABLES[kind], len(result["seeds"])
    title = f"{paper.title}, preset {result['preset']}, {num_seeds} seed{'s' * (num_seeds > 1)}"
    table = Table(title=title, title_justify="left")
    table.add_column("labels", overflow="fold")
    for column in paper.scores:
        if any(row["paper"][column] is not None for row in result[kind]):
            table.add_column(f"paper's {column}", justify="right")
        table.add_column(column, justify="right")
    for row in result[kind]:
        cells = []
        for column in paper.scores:
            if any(each["paper"][column] is not None for each in result[kind]):
                figure = row["paper"][column]
                cells.append("-" if figure is None else f"{figure:.1f}")
            cells.append(percent(row[column]))
        table.add_row(row["row"], *cells)
    rule = ", AP by the authors' rule" if "AP50" in paper.scores else ""
    table.caption = f"in percent{rule}; the paper's are on {paper.tested_on}, with ResNet-50"
    return table
