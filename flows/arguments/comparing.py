"""The command that makes the tables of papers anew."""

from __future__ import annotations

import inspect
import json as json_format
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from data.dataset import DatasetError
from flows.arguments.answers import Verbose, answer, list_or_file
from flows.arguments.making import NetworkPreset
from flows.comparison.request import CompareRequest, TableName
from flows.engine.request import Request
from models.pretrained import ImageNetWeights
from tasks.config import BackboneName, ClassWeights
from tasks.networks.segnet import SCENE_NETWORKS
from tasks.tuning.space import DEFAULT_CRITERION, Criterion

Table = TableName | Literal["segnet-resources", "irnet"]
MEASURED = ("size", "classes", "threads")
OF_REFINERS = (
    "table",
    "data",
    "labels",
    "out",
    "train",
    "seeds",
    "backbone",
    "weights",
    "set",
    "store",
    "workers",
    "time_limit",
    "device",
    "cluster",
    "preset",
    "json",
    "verbose",
)
OF_RESOURCES = (*MEASURED, "table", "rows", "out", "device", "json", "verbose")


def compare(
    table: Positional[Table],
    data: Path | None = None,
    labels: Path | None = None,
    out: Path | None = None,
    train: str = "train",
    val: str | None = None,
    test: str = "test",
    saliency: tuple[Path, ...] = (),
    saliency_split: tuple[str, ...] = (),
    saliency_test: str | None = None,
    rows: tuple[str, ...] = (),
    weightings: tuple[ClassWeights, ...] = (),
    seeds: tuple[int, ...] = (0,),
    backbone: BackboneName | Literal["vgg16"] | None = None,
    weights: Path | ImageNetWeights | None = None,
    row_weights: Annotated[tuple[str, ...], arg(metavar="BACKBONE=FILE")] = (),
    set: Annotated[tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="NAME=VALUE")] = (),
    per_class: bool = False,
    size: tuple[int, int] | None = None,
    classes: int | None = None,
    threads: int | None = None,
    store: str | None = None,
    workers: int | None = None,
    time_limit: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    cluster: str | None = None,
    preset: NetworkPreset = "quick",
    json: bool = False,
    verbose: Verbose = False,
) -> None:
    """Networks side by side, trained and tested alike: the tables of the papers.

    Args:
        table: Of SegNet's paper segnet-decoders (Table 1), segnet-benchmark (Table 3) and segnet-resources (Table 6),
            which measures time and memory alone; saliency-ablation, of saliency co-learning; cooperative, of networks
            that share features; irnet, the pseudo labels of CAMs, CRF, AffinityNet and IRNet.
        data: Folder of a data set with label maps; by default that of the run.
        labels: A run, whose labels are learned instead of ground truth; of irnet image-level labels, as of run.
        out: Folder of the results; that of segnet-resources is optional.
        train: The list of images to learn from; of irnet also to be labelled and scored.
        val: The list by which the best network of a training is chosen; where the preset chooses one, by default val.
        test: The list that networks are tested on.
        saliency: Folders of sets with masks of salient objects; without any they are derived from the label maps.
        saliency_split: A list of images of each of these sets, in their order.
        saliency_test: A list of the first set's images that saliency is tested on.
        rows: Of the table; all if none are named.
        weightings: Of the classes in the loss; one or several of them, by default the preset's.
        seeds: Every network is trained once for each.
        backbone: Of the networks, which may be timm:NAME; by default the preset's.
        weights: ImageNet weights of the backbone, a file or torchvision's ("imagenet-v1"); by default the preset's.
        row_weights: ImageNet weights of the rows that are named after a backbone, such as densenet121=FILE.
        set: Training settings that are other than the preset's, such as epochs=20 or image_size=[64,96]; of irnet those
            of a run, such as walk.beta=8.
        per_class: Print every class too.
        size: Of segnet-resources: height and width, by default 360 480.
        classes: Of segnet-resources, by default 11.
        threads: Of segnet-resources on a CPU, by default one.
        store: Folder of the artifacts, or s3://bucket/prefix and the like; by default `store` beside the results.
        workers: Worker processes; by default one a core.
        time_limit: Hours after which a training is stopped; what is finished is kept.
        device: Where networks run; auto takes a GPU where there is one.
        cluster: Dask workers for all artifacts: local, local:N, or tcp://host:port of a scheduler.
        preset: Where the settings start from.
        json: Print one JSON object on standard output.
        verbose: More log lines, and tracebacks.
    """
    options = locals()
    defaults = {name: parameter.default for name, parameter in inspect.signature(compare).parameters.items()}
    given = [name for name, default in defaults.items() if options[name] != default]
    uses = {"segnet-resources": OF_RESOURCES, "irnet": OF_REFINERS}.get(table)
    useless = [name for name in given if (name in MEASURED if uses is None else name not in uses)]
    if useless:
        raise DatasetError(f"{table} has no use for {', '.join('--' + name.replace('_', '-') for name in useless)}")
    if table == "irnet":
        _compare_refiners(options)
        return
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
        numbers = (size or (360, 480), 11 if classes is None else classes)
        result = compare_resources(rows or RESOURCES, *numbers, chosen, 1 if threads is None else threads, out)
        answer(result, show_resources, json)
        return
    if (data is None and labels is None) or out is None:
        message = "it takes a data set (--data) or the labels of a run (--labels), and a folder (--out)"
        raise DatasetError(f"{table} trains networks: {message}")
    request = CompareRequest(
        table=table,
        data=data and data.absolute(),
        labels=labels and labels.absolute(),
        train=list_or_file(train) or train,
        val=list_or_file(val),
        test=list_or_file(test) or test,
        saliency=tuple(folder.absolute() for folder in saliency),
        saliency_split=tuple(list_or_file(split) or split for split in saliency_split),
        saliency_test=list_or_file(saliency_test),
        rows=rows,
        weightings=weightings,
        seeds=seeds,
        backbone=backbone,
        weights=weights,
        row_weights=dict(_pair(text, "BACKBONE=FILE") for text in row_weights),  # pyright: ignore
        training=_settings([text for texts in set for text in texts]),
        out=out,
        store=store,
        workers=workers,
        time_limit=time_limit,
        device=device,
        cluster=cluster,
        preset=preset,
    )
    answer(compare_networks(request), partial(show_comparison, per_class=per_class), json)


def tune(
    run: Positional[Path],
    out: Path,
    gt: str | None = None,
    set: Annotated[tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="NAME VALUE")] = (),
    trials: int = 200,
    images: int = 200,
    criterion: Criterion = DEFAULT_CRITERION,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: bool = False,
    verbose: Verbose = False,
) -> None:
    """Search the settings after the networks, on what a run has made; a search that was stopped goes on.

    Args:
        run: Folder of a finished run.
        out: Folder of the results: table, picture, and best.json for --settings of run and regenerate.
        gt: Images whose ground truth decides: a file, the name of a list of the set, or none; by default all that have.
        set: A setting and the values to try, such as walk.beta 6 8 10; by default thresholds and CRF iterations.
        trials: Candidates at most.
        images: Images that are looked at, at most.
        criterion: What decides without ground truth.
        workers: Threads and processes; by default one a core.
        device: Where walks are made; auto takes a GPU where there is one.
        json: Print one JSON object on standard output.
        verbose: More log lines, and tracebacks.
    """
    from flows.commands.tune import TuneRequest, show_tuning, tune_run

    request = TuneRequest(
        run=run,
        out=out,
        gt=list_or_file(gt),
        set=set,
        trials=trials,
        images=images,
        criterion=criterion,
        workers=workers,
        device=device,
    )
    answer(tune_run(request), show_tuning, json)


def _compare_refiners(options: dict[str, Any]) -> None:
    """Make the tables of the IRNet paper, with the options of `compare`."""
    if options["data"] is None or options["out"] is None:
        raise DatasetError("irnet labels images: it takes a data set (--data) and a folder (--out)")
    from flows.commands.compare import compare_refiners, show_refiners
    from flows.comparison.refiners import CompareRefinersRequest

    settings: dict[str, Any] = {name: options[name] for name in ("backbone", "weights") if options[name] is not None}
    for name, value in _settings([text for texts in options["set"] for text in texts]).items():
        *sections, last = name.split(".")
        inner = settings
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    labels = options["labels"]
    passed = ("out", "seeds", "store", "workers", "time_limit", "device", "cluster", "preset")
    request = CompareRefinersRequest(
        data=options["data"].absolute(),
        labels=labels and labels.absolute(),
        split=list_or_file(options["train"]) or options["train"],
        settings=settings,  # pyright: ignore[reportArgumentType]
        **{name: options[name] for name in passed},
    )
    answer(compare_refiners(request), show_refiners, options["json"])


def _settings(texts: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in map(_setting, texts):
        if name in settings:
            raise DatasetError(f"--set: expected each setting once, got {name} twice")
        settings[name] = value
    return settings


def _pair(text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise DatasetError(f"expected {form}, got {text!r}")
    return name, value


def _setting(text: str) -> tuple[str, Any]:
    name, value = _pair(text, "NAME=VALUE")
    try:
        return name.replace("-", "_"), json_format.loads(value)
    except ValueError:
        return name.replace("-", "_"), value
