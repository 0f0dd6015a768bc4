"""`pseudomask compare irnet`: the tables of the IRNet paper, made anew."""

from __future__ import annotations

import json
from typing import Any, Literal

from rich.console import Console

from flows.commands.command import Command, Written, answering
from flows.comparison.refiner_tables import tables_of
from flows.comparison.refiners import FIRST_ROUND_PRESETS, CompareRefinersRequest, check_lists, networks_of
from flows.comparison.results import FILE_NAME
from flows.engine.collect import writing
from flows.engine.embedded import embedded_server
from tasks.networks import NETWORKS
from tasks.pipeline import EVERY_STAGE


def compare_refiners(request: CompareRefinersRequest) -> dict[str, Any]:
    """Run the flow, and return what `comparison.json` holds."""
    with writing(request, "compare"):
        check_lists(request)
        stages = (*EVERY_STAGE, *(stage for name in networks_of(request) for stage in NETWORKS[name].pipeline))
        with embedded_server(request, stages):
            from flows.comparison.flow import compare_refiners as flow

            flow(request)
    return json.loads((request.out / FILE_NAME).read_text())


def show_refiners(result: dict[str, Any], console: Console) -> None:
    """Print the tables, and where they are."""
    for table in tables_of(result):
        console.print(table)
    where = f"{result['out']}/{result['table']}"
    console.print(
        f"figures  {result['out']}/{FILE_NAME}\ntables   {where}.md, {where}.tex, {where}.png",
        highlight=False,
        soft_wrap=True,
    )


COMMAND = Command(
    name="compare",
    help="The tables of the IRNet paper: pseudo labels of CAMs, CRF, AffinityNet and IRNet, and networks on these.",
    request=CompareRefinersRequest,
    carry_out=answering(compare_refiners, show_refiners),
    written={"split": Written(name="train"), "preset": Written(Literal["quick", "voc12", "demo"])},
    presets=FIRST_ROUND_PRESETS,
    word="table",
)
