"""The command that makes the tables of papers anew."""

from __future__ import annotations

import json as json_format
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from data.dataset import DatasetError
from flows.arguments.answers import Verbose, answer, list_or_file
from flows.compare_request import CompareRequest, TableName, Weighting
from flows.request import Request
from tasks.network_settings import SCENE_NETWORKS

Table = TableName | Literal["segnet-resources"]


def compare(
    table: Positional[Table],
    data: Path | None = None,
    out: Path | None = None,
    train: str = "train",
    val: str = "val",
    test: str = "test",
    rows: tuple[str, ...] = (),
    weightings: tuple[Weighting, ...] = ("median_frequency",),
    seeds: tuple[int, ...] = (0,),
    set: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE")] = (),
    per_class: bool = False,
    size: tuple[int, int] = (360, 480),
    classes: int = 11,
    threads: int = 1,
    store: str | None = None,
    workers: int | None = None,
    time_limit: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    cluster: str | None = None,
    preset: Literal["quick", "camvid", "sunrgbd", "demo"] = "quick",
    json: bool = False,
    verbose: Verbose = False,
) -> None:
    """Networks side by side: the decoders of the SegNet paper, its benchmark, and what the networks take.

    Args:
        table: segnet-decoders (Table 1) and segnet-benchmark (Table 3) train and test networks on a data set,
            segnet-resources (Table 6) measures time and memory.
        data: Folder of a data set with label maps.
        out: Folder of the results; that of segnet-resources is optional.
        train: The list of images to learn from.
        val: The list by which the best network of a training is chosen.
        test: The list that networks are tested on.
        rows: Networks of the table; all if none are named.
        weightings: Of the classes in the loss: median_frequency, none, or both.
        seeds: Every network is trained once for each.
        set: Training settings that are other than the preset's, such as epochs=20 or precision=bfloat16.
        per_class: Print every class too.
        size: Of segnet-resources: height and width.
        classes: Of segnet-resources.
        threads: Of segnet-resources, on a CPU.
        store: Folder of the artifacts, or s3://bucket/prefix and the like; by default `store` beside the results.
        workers: Worker processes; by default one a core.
        time_limit: Hours after which a training is stopped; what is finished is kept.
        device: Where networks run; auto takes a GPU where there is one.
        cluster: Dask workers for all artifacts: local, local:N, or tcp://host:port of a scheduler.
        preset: Where the settings start from.
        json: Print one JSON object on standard output.
        verbose: More log lines, and tracebacks.
    """
    from flows.commands.compare import (
        RESOURCES,
        compare_networks,
        compare_resources,
        show_comparison,
        show_resources,
    )

    if table == "segnet-resources":
        unknown = [name for name in rows if name not in SCENE_NETWORKS]
        if unknown:
            raise DatasetError(f"unknown networks {', '.join(unknown)}; expected some of {', '.join(SCENE_NETWORKS)}")
        chosen = Request(out=Path(), device=device).torch_device
        measured = compare_resources(rows or RESOURCES, size, classes, chosen, threads, out)
        answer(measured, show_resources, json)
        return
    if data is None or out is None:
        raise DatasetError(f"{table} trains networks: it takes a data set (--data) and a folder (--out)")
    request = CompareRequest(
        table=table,
        data=data.absolute(),
        train=list_or_file(train) or train,
        val=list_or_file(val) or val,
        test=list_or_file(test) or test,
        rows=rows,  # pyright: ignore[reportArgumentType]
        weightings=weightings,
        seeds=seeds,
        training=dict(_setting(text) for text in set),
        out=out,
        store=store,
        workers=workers,
        time_limit=time_limit,
        device=device,
        cluster=cluster,
        preset=preset,
    )
    answer(compare_networks(request), partial(show_comparison, per_class=per_class), json)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise DatasetError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name.replace("-", "_"), json_format.loads(value)
    except ValueError:
        return name.replace("-", "_"), value
