"""`pseudomask compare`: the tables of papers on networks, made anew."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from data.dataset import DatasetError
from flows.commands.command import HIDDEN, Command, Output, Written, answer
from flows.commands.comparing.refiners import COMMAND as REFINERS_COMMAND
from flows.commands.comparing.resources import COMMAND as RESOURCES_COMMAND
from flows.commands.comparing.resources import TABLE as RESOURCES_TABLE
from flows.commands.making.train import NetworkPreset
from flows.comparison.refiners import TABLE as REFINERS_TABLE
from flows.comparison.request import TABLES, CompareRequest, check_sets, trials
from flows.comparison.results import FILE_NAME, by_weighting, percent, table_of, tests_of
from flows.engine.collect import writing
from flows.engine.embedded import embedded_server
from tasks.networks import NETWORKS

log = logging.getLogger(__name__)


def compare_networks(request: CompareRequest) -> dict[str, Any]:
    """Run the flow, and return what `comparison.json` holds."""
    with writing(request, "compare"):
        for note in check_sets(request):
            log.warning("%s", note)
        networks = {trial.training.settings.network for trial in trials(request)}
        with embedded_server(request, [stage for name in networks for stage in NETWORKS[name].pipeline]):
            from flows.comparison.flow import compare

            compare(request)
    return json.loads((request.out / FILE_NAME).read_text())


def show_comparison(result: dict[str, Any], console: Console, *, per_class: bool = False) -> None:
    """Print the tables, one for each list of images so that they are narrow, and the next command to type."""
    for rows in by_weighting(result).values():
        for test in tests_of(rows[0]):
            console.print(table_of(result, rows, [test]))
    if per_class:
        for row in result["rows"]:
            console.print(_class_table(row))
    where = result["out"]
    console.print(f"figures  {where}/{FILE_NAME}\nreport   {where}/report/index.html", highlight=False, soft_wrap=True)


def _class_table(row: dict[str, Any]) -> Table:
    table = Table(title=f"{row['row']}, {row['weighting']}: each class of the test images", title_justify="left")
    for column in ("class", "accuracy", "IoU"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name in row["test"]["iou"][0]:
        table.add_row(name, *(percent([seed[name] for seed in row["test"][kind]]) for kind in ("accuracy", "iou")))
    return table


class CompareOptions(Output):
    """Options beside the comparison.

    Attributes:
        per_class: Print every class too.
    """

    per_class: bool = False


def _carry_out(request: CompareRequest, options: CompareOptions) -> None:
    answer(compare_networks(request), partial(show_comparison, per_class=options.per_class), options.as_json)


def _read_pairs(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a comparison with its pairs `NAME=VALUE` read."""
    weights = dict(_pair(text, "BACKBONE=FILE") for text in values["row_weights"])
    texts = [text for texts in values["training"] for text in texts]
    return {**values, "row_weights": weights, "training": _settings(texts)}


def _settings(texts: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in map(_setting, texts):
        if name in settings:
            raise DatasetError(f"--set: expected each setting once, got {name} twice")
        settings[name] = value
    return settings


def _setting(text: str) -> tuple[str, Any]:
    name, value = _pair(text, "NAME=VALUE")
    try:
        return name.replace("-", "_"), json.loads(value)
    except ValueError:
        return name.replace("-", "_"), value


def _pair(text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise DatasetError(f"expected {form}, got {text!r}")
    return name, value


_TABLE = Command(
    name="compare",
    help="Networks side by side, trained and tested alike: the tables of the papers.",
    request=CompareRequest,
    carry_out=_carry_out,
    options=CompareOptions,
    written={
        "table": HIDDEN,
        "preset": Written(NetworkPreset),
        "row_weights": Written(tuple[str, ...], metavar="BACKBONE=FILE ..."),
        "training": Written(tuple[tuple[str, ...], ...], name="set", metavar="NAME=VALUE ...", adds_up=True),
    },
    prepare=_read_pairs,
    word="table",
)
COMMAND = replace(
    _TABLE,
    variants={
        **dict.fromkeys(TABLES, _TABLE),
        RESOURCES_TABLE: RESOURCES_COMMAND,
        REFINERS_TABLE: REFINERS_COMMAND,
    },
)
