"""The folder of the IRNet paper's tables: `comparison.json`, and the tables for documentation and papers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from data.files import atomic_write, explain_os_errors
from flows.comparison.refiners import INSTANCES, SEMANTIC, TABLE, CompareRefinersRequest, Row, runs
from flows.comparison.results import FILE_NAME, markdown, percent
from flows.engine.collect import writing

TITLES = {
    "semantic": ("Semantic pseudo labels (Table 2 of the paper)", ("mIoU",), SEMANTIC),
    "instances": ("Instance pseudo labels (Table 1 of the paper)", ("AP50", "AP70"), INSTANCES),
}
KEYS = {"mIoU": "miou", "AP50": "ap50", "AP70": "ap70"}


def collect_refiners(request: CompareRefinersRequest) -> Path:
    """Write what finished runs say into `request.out`, and return that folder.

    Raises:
        ArtifactError: The folder cannot be written.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, _, run in runs(request):
        found.setdefault(name, []).append(json.loads((run.out / "metrics.json").read_text()))
    rows = {kind: [_scores(kind, row, found[row.run]) for row in rows] for kind, (_, _, rows) in TITLES.items()}
    result = {"table": TABLE, "out": str(request.out), "seeds": list(request.seeds), "preset": request.preset, **rows}
    if not any(row["AP50"] for row in rows["instances"]):
        # No image has ground truth of instances.
        del result["instances"]
    tables = tables_of(result)
    with writing(request, "compare") as output, explain_os_errors(request.out):
        output.claim([FILE_NAME, f"{TABLE}.md", f"{TABLE}.tex"])
        atomic_write(request.out / FILE_NAME, json.dumps(result, indent=1))
        atomic_write(request.out / f"{TABLE}.md", "\n".join(map(markdown, tables)))
        atomic_write(request.out / f"{TABLE}.tex", "\n".join(map(_latex, tables)))
    return request.out


def tables_of(result: dict[str, Any]) -> list[Table]:
    """Return the tables: scores in percent, with their deviation over the seeds, beside the paper's."""
    return [_table(result, kind) for kind in TITLES if kind in result]


def _scores(kind: str, row: Row, metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a row with its scores of every seed; a score that a run does not have is left out."""
    found = [each.get(kind, {}).get(row.method, {}) for each in metrics]
    scores = {name: [each[KEYS[name]] for each in found if KEYS[name] in each] for name in TITLES[kind][1]}
    return {"row": row.title, "run": row.run, "method": row.method, "paper": row.paper, **scores}


def _table(result: dict[str, Any], kind: str) -> Table:
    title, columns, _ = TITLES[kind]
    num_seeds = len(result["seeds"])
    told = f"{title}, preset {result['preset']}, {num_seeds} seed{'s' * (num_seeds > 1)}"
    table = Table(title=told, title_justify="left")
    table.add_column("labels", overflow="fold")
    for column in (f"paper's {columns[0]}", *columns):
        table.add_column(column, justify="right")
    for row in result[kind]:
        paper = "-" if row["paper"] is None else f"{row['paper']:.1f}"
        table.add_row(row["row"], paper, *(percent(row[column]) for column in columns))
    table.caption = "in percent; the paper's are on VOC 2012 train, with ResNet-50"
    return table


def _latex(table: Table) -> str:
    """Return a table for a paper, in the commands of booktabs."""
    columns = [[str(cell).replace("±", r"$\pm$") for cell in column.cells] for column in table.columns]
    head = " & ".join(str(column.header) for column in table.columns)
    body = "".join(f"{' & '.join(cells)} \\\\\n" for cells in zip(*columns, strict=True))
    rules = f"\\toprule\n{head} \\\\\n\\midrule\n{body}\\bottomrule"
    kinds = "l" + "r" * (len(columns) - 1)
    return f"% {table.title}; {table.caption}\n\\begin{{tabular}}{{{kinds}}}\n{rules}\n\\end{{tabular}}\n"
