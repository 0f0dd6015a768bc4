"""The commands and their options, as functions whose parameters the command line is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from flows.presets import PRESETS
from flows.request import NetworkName, RunRequest
from flows.train_request import NetworkSettings, PredictRequest, TrainRequest
from tasks.settings import PipelineConfig

Settings = Annotated[PipelineConfig, arg(name="")]
Show = Callable[[Any, Console], None]


class CommandFailed(Exception):
    """A command did its work and the answer is a failure: it is shown, and the exit code is 1."""


def commands(preset: str, network_settings: NetworkSettings) -> dict[str, Callable[..., None]]:
    """Return every command by its name.

    Args:
        preset: Its settings are the defaults of the options.
        network_settings: The defaults of `train`, of the network that is to be trained.
    """
    settings_of_preset = PRESETS[preset]()

    def run(
        data: Path,
        out: Path,
        labels: Path | None = None,
        split: str | None = None,
        classes: Path | None = None,
        store: Path | None = None,
        networks: Path | None = None,
        skip_bad: bool = False,
        train: tuple[NetworkName, ...] = (),
        val: str | None = None,
        workers: int | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        preset: Literal["quick", "voc12"] = preset if preset in ("quick", "voc12") else "quick",  # pyright: ignore
        json: bool = False,
        verbose: Annotated[bool, arg(aliases=["-v"])] = False,
        settings: Settings = settings_of_preset,
    ) -> None:
        """From images with image-level labels to semantic and instance labels.

        Args:
            data: Folder of the data set.
            out: Folder of the results.
            labels: Image-level labels: CSV, JSON lines, COCO JSON, a folder of XML or label maps.
            split: A list of images: a file, or the name of a list of the set.
            classes: File with the name of a class a line.
            store: Folder of the artifacts; by default `store` beside the results.
            networks: An earlier run whose networks are used; nothing is trained.
            skip_bad: Set bad images aside, and list them in the report.
            train: Networks to train on the labels.
            val: A list of images with ground truth to evaluate these on.
            workers: Worker processes; by default one a core.
            device: Where networks run; auto takes a GPU where there is one.
            preset: Where all settings below start from.
            json: Print one JSON object on standard output.
            verbose: More log lines, and tracebacks.
            settings: The settings of all stages.
        """
        from flows.commands.run import run_pipeline, show_results

        request = RunRequest(
            data=data.absolute(),
            out=out,
            labels=labels and labels.absolute(),
            split=_list(split),
            classes=classes and classes.absolute(),
            store=store and store.absolute(),
            networks=networks,
            skip_bad=skip_bad,
            train=train,
            val=_list(val),
            workers=workers,
            device=device,
            preset=preset,
            settings=settings,
        )
        _answer(run_pipeline(request), show_results, json)

    def demo(
        out: Path = Path("runs/demo"),
        images: int = 256,
        data_seed: int = 0,
        train: tuple[NetworkName, ...] = (),
        store: Path | None = None,
        workers: int | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        json: bool = False,
        verbose: Annotated[bool, arg(aliases=["-v"])] = False,
        settings: Settings = settings_of_preset,
    ) -> None:
        """The whole pipeline on a synthetic set, with its report.

        Args:
            out: Folder of the results; the set is written into its `data`.
            images: Images of the set.
            data_seed: Seed of the set.
            train: Networks to train on the labels, and to evaluate on images that were held out.
            store: Folder of the artifacts; by default `store` beside the results.
            workers: Worker processes; by default one a core.
            device: Where networks run; auto takes a GPU where there is one.
            json: Print one JSON object on standard output.
            verbose: More log lines, and tracebacks.
            settings: The settings of all stages.
        """
        from flows.commands.report import make_report
        from flows.commands.run import run_pipeline, show_results, write_demo_set

        data = out.absolute() / "data"
        write_demo_set(data, images, data_seed)
        request = RunRequest(
            data=data,
            out=out,
            split="train",
            store=store and store.absolute(),
            train=train,
            val="val",
            workers=workers,
            device=device,
            preset="demo",
            settings=settings,
        )
        result = run_pipeline(request)
        make_report(out)
        _answer(result, show_results, json)

    def train(
        network: Positional[NetworkName],
        out: Path,
        data: Path | None = None,
        labels: Path | None = None,
        split: str | None = None,
        val: str | None = None,
        classes: Path | None = None,
        store: Path | None = None,
        skip_bad: bool = False,
        workers: int | None = None,
        processes: int = 1,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        preset: Literal["quick", "voc12", "demo"] = preset,  # pyright: ignore[reportArgumentType]
        json: bool = False,
        verbose: Annotated[bool, arg(aliases=["-v"])] = False,
        settings: Any = network_settings,
    ) -> None:
        """Train a segmentation network on the labels of a run, or on ground truth.

        Args:
            network: What to train.
            out: Folder of the results.
            data: Folder of a data set with label maps; by default that of the run.
            labels: A run, whose labels are learned.
            split: A list of images to learn from: a file, or the name of a list of the set.
            val: A list of images with ground truth to evaluate on.
            classes: File with the name of a class a line.
            store: Folder of the artifacts; by default `store` beside the results.
            skip_bad: Set bad images aside.
            workers: Worker processes; by default one a core.
            processes: Processes that train together, by GPU where there are any.
            device: Where the network runs; auto takes a GPU where there is one.
            preset: Where all settings below start from.
            json: Print one JSON object on standard output.
            verbose: More log lines, and tracebacks.
            settings: The settings of the network; its weights may also be a run, whose classifier is taken.
        """
        from flows.commands.train import show_training, train_network

        request = TrainRequest(
            data=data and data.absolute(),
            labels=labels and labels.absolute(),
            split=_list(split),
            val=_list(val),
            classes=classes and classes.absolute(),
            out=out,
            store=store and store.absolute(),
            skip_bad=skip_bad,
            workers=workers,
            processes=processes,
            device=device,
            preset=preset,
            settings=settings,
        )
        _answer(train_network(request), show_training, json)

    # Which settings there are depends on the network.
    train.__annotations__["settings"] = Annotated[type(network_settings), arg(name="")]

    def predict(
        network: Positional[Path],
        data: Path,
        out: Path,
        split: str | None = None,
        store: Path | None = None,
        skip_bad: bool = False,
        workers: int | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        json: bool = False,
    ) -> None:
        """The labels of images, from a trained network: palette PNGs, and COCO JSON of instances.

        Args:
            network: Folder of a training.
            data: Folder of images, or of a data set.
            out: Folder of the labels.
            split: A list of the images: a file, or the name of a list of the set.
            store: Folder of the artifacts; by default `store` beside the results.
            skip_bad: Set bad images aside.
            workers: Worker processes; by default one a core.
            device: Where the network runs; auto takes a GPU where there is one.
            json: Print one JSON object on standard output.
        """
        from flows.commands.train import predict_images, show_prediction

        request = PredictRequest(
            network=network.absolute(),
            data=data.absolute(),
            out=out,
            split=_list(split),
            store=store and store.absolute(),
            skip_bad=skip_bad,
            workers=workers,
            device=device,
        )
        _answer(predict_images(request), show_prediction, json)

    def status(run: Positional[Path], json: bool = False) -> None:
        """Each stage of a run: cached, stale and why, damaged, missing.

        Args:
            run: Folder of the run.
            json: Print one JSON object on standard output.
        """
        from flows.commands.status import show_status, status_of

        _answer(status_of(run), show_status, json)

    def doctor(
        data: Path | None = None,
        labels: Path | None = None,
        split: str | None = None,
        classes: Path | None = None,
        json: bool = False,
    ) -> None:
        """What this machine has, and everything that is wrong with a data set.

        Args:
            data: Folder of a data set.
            labels: Its image-level labels.
            split: A list of its images.
            classes: File with the name of a class a line.
            json: Print one JSON object on standard output.
        """
        from flows.commands.doctor import examine_dataset, examine_machine, show_diagnosis

        result: dict[str, Any] = {"machine": examine_machine(Path.cwd()), "problems": []}
        if data:
            result["dataset"], problems = examine_dataset(data, labels, split, classes)
            result["problems"] = [{"file": str(p.file), "sample": p.sample, "message": p.message} for p in problems]
        _answer(result, show_diagnosis, json)
        if result["problems"]:
            raise CommandFailed

    def report(run: Positional[Path], out: Path | None = None, images: int = 12, json: bool = False) -> None:
        """One HTML page with the pictures and figures of a run.

        Args:
            run: Folder of the run.
            out: Folder of the page; by default `report` in the run.
            images: Images to show at most.
            json: Print one JSON object on standard output.
        """
        from flows.commands.report import make_report, show_report

        _answer(make_report(run, out, images), show_report, json)

    def evaluate(
        kind: Positional[Literal["semantic", "instances"]],
        pred: Path,
        gt: Path,
        classes: Path | None = None,
        json: bool = False,
    ) -> None:
        """Labels against ground truth: mIoU, or average precision of masks.

        Args:
            kind: What to compare.
            pred: Folder of label maps, or COCO JSON with scores for instances.
            gt: Folder of label maps, or COCO JSON for instances.
            classes: File with the name of a class a line; by default `classes.txt` beside either, else VOC's.
            json: Print one JSON object on standard output.
        """
        from flows.commands.evaluate import evaluate as evaluate_labels
        from flows.commands.evaluate import show_scores

        _answer(evaluate_labels(kind, pred, gt, classes), show_scores, json)

    def export(
        run: Positional[Path],
        out: Path,
        format: Literal["voc", "coco", "both", "onnx", "torchscript"] = "both",
        json: bool = False,
    ) -> None:
        """The labels of a run, or the network of a training, in other tools' formats.

        Args:
            run: Folder of the run or the training.
            out: Folder of the labels, or file of the network.
            format: Of a run VOC palette PNGs, COCO JSON with RLE, or both; of a training ONNX or TorchScript.
            json: Print one JSON object on standard output.
        """
        if format in ("onnx", "torchscript"):
            from flows.commands.export_network import export_network, show_network

            _answer(export_network(run, out, format), show_network, json)
        else:
            from flows.commands.export import export_labels, show_export

            _answer(export_labels(run, out, format), show_export, json)

    def models(classes: int = 20, size: tuple[int, int] = (512, 512), json: bool = False) -> None:
        """Every network: parameters and multiply-adds.

        Args:
            classes: Foreground classes.
            size: Height and width of the input that the multiply-adds are counted for.
            json: Print one JSON list on standard output.
        """
        from flows.commands.models import list_models, show_models

        result = list_models(classes, size)
        _answer(result, lambda shown, console: show_models(shown, console, classes=classes, size=size), json)

    every = (demo, run, train, predict, status, report, evaluate, export, models, doctor)
    return {command.__name__: command for command in every}


def _list(name: str | None) -> str | None:
    """Return the name of a list of images, or the whole path of a file."""
    return str(Path(name).absolute()) if name and Path(name).is_file() else name


def _answer(result: Any, show: Show, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result), flush=True)
    else:
        show(result, Console())
