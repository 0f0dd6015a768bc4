"""The commands that make labels and networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from data.dataset import DatasetError
from data.readers.cams import Missing
from flows.arguments.answers import Settings, SettingsFile, Verbose, answer, list_or_file
from flows.labels.presets import PRESETS
from flows.labels.request import NetworkName, RunRequest
from flows.training.prediction import PredictRequest
from flows.training.request import TrainRequest
from tasks.networks import NETWORKS, NetworkSettings

if TYPE_CHECKING:
    TrainedNetwork = NetworkPreset = str
else:
    TrainedNetwork = Literal[tuple(NETWORKS)]
    NetworkPreset = Literal[tuple(dict.fromkeys(preset for spec in NETWORKS.values() for preset in spec.presets))]


def making(preset: str, network_settings: NetworkSettings) -> tuple[Callable[..., None], ...]:
    """Return `demo`, `run`, `refine`, `train` and `predict`; the arguments are those of `commands`."""
    settings_of_preset = PRESETS[preset]()

    def run(
        data: Path,
        out: Path,
        labels: Path | None = None,
        split: str | None = None,
        classes: Path | None = None,
        saliency: Path | None = None,
        regions: Path | None = None,
        cams: Path | None = None,
        cam_classes: str | None = None,
        cam_family: str | None = None,
        missing_cams: Missing = "error",
        store: str | None = None,
        networks: Path | None = None,
        skip_bad: bool = False,
        go_on: bool = False,
        train: tuple[NetworkName, ...] = (),
        val: str | None = None,
        workers: int | None = None,
        time_limit: float | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        cluster: str | None = None,
        preset: Literal["quick", "voc12"] = preset if preset in ("quick", "voc12") else "quick",  # pyright: ignore
        json: bool = False,
        verbose: Verbose = False,
        settings_file: SettingsFile = None,
        settings: Settings = settings_of_preset,
    ) -> None:
        """From images with image-level labels to semantic and instance labels.

        Args:
            data: Folder of the data set.
            out: Folder of the results.
            labels: Image-level labels: CSV, JSON lines, COCO JSON, a folder of XML or label maps.
            split: A list of images: a file, or the name of a list of the set.
            classes: File with the name of a class a line.
            saliency: What scores are weighted by: a folder of maps, ID.png or ID.npy, or the .onnx file of a network.
            regions: Folder of a segmenter's regions that labels follow: ID.json of SAM, ID.png of ids, folders ID.
            cams: Folder of class attention maps of another method, in place of the classifier: ID.npy, .npz or .pt.
            cam_classes: The table of their classes: voc20, coco80, coco91, or a file with a name per line.
            cam_family: Their form, such as irn or clip-es; by default it is told by the files and the tags.
            missing_cams: Labelled images without a map: an error, skip them, or take the map for empty (background).
            store: Folder of the artifacts, or s3://bucket/prefix and the like; by default `store` beside the results.
            networks: An earlier run whose networks are used; nothing is trained.
            skip_bad: Set bad images aside, and list them in the report.
            go_on: Go on where a stage has failed: a classifier at chance, no confident pixel, empty labels.
            train: Networks to train on the labels.
            val: A list of images with ground truth to evaluate these on.
            workers: Worker processes; by default one a core.
            time_limit: Hours after which it is stopped; what is finished is kept.
            device: Where networks run; auto takes a GPU where there is one.
            cluster: Dask workers for all artifacts: local, local:N, or tcp://host:port of a scheduler.
            preset: Where all settings below start from.
            json: Print one JSON object on standard output.
            verbose: More log lines, and tracebacks.
            settings_file: JSON of settings over the preset's, such as best.json of tune; options go before it.
            settings: The settings of all stages.
        """
        from flows.commands.run import run_pipeline, show_results

        request = RunRequest(
            data=data.absolute(),
            out=out,
            labels=labels and labels.absolute(),
            split=list_or_file(split),
            classes=classes and classes.absolute(),
            saliency=saliency and saliency.absolute(),
            regions=regions and regions.absolute(),
            cams=cams and cams.absolute(),
            cam_classes=list_or_file(cam_classes),
            cam_family=cam_family,
            missing_cams=missing_cams,
            store=store,
            networks=networks,
            skip_bad=skip_bad,
            go_on=go_on,
            train=train,
            val=list_or_file(val),
            workers=workers,
            time_limit=time_limit,
            device=device,
            cluster=cluster,
            preset=preset,
            settings=settings,
            settings_file=settings_file,
        )
        answer(run_pipeline(request), show_results, json)

    def refine(
        data: Path,
        cams: Path,
        boundary: Path,
        out: Path,
        labels: Path | None = None,
        split: str | None = None,
        classes: Path | None = None,
        cam_classes: str | None = None,
        cam_family: str | None = None,
        missing_cams: Missing = "error",
        background_threshold: float | None = None,
        radius_px: int = 5,
        beta: float = 10.0,
        steps: int = 256,
        crf_iterations: int = 5,
        min_area: float = 0.01,
        long_side: tuple[int, int] | None = None,
        workers: int | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        json: bool = False,
        verbose: Verbose = False,
    ) -> None:
        """Walk, CRF and labels for attention maps of any method, without training.

        Args:
            data: Folder of the data set.
            cams: Folder of class attention maps: ID.npy, .npz or .pt.
            boundary: Folder of maps of boundaries, ID.png or ID.npy, or a run, whose network finds them.
            out: Folder of the labels.
            labels: Image-level labels: CSV, JSON lines, COCO JSON, a folder of XML or label maps.
            split: A list of images: a file, or the name of a list of the set.
            classes: File with the name of a class a line.
            cam_classes: The table of the maps' classes: voc20, coco80, coco91, or a file with a name per line.
            cam_family: Their form, such as irn or clip-es; by default it is told by the files and the tags.
            missing_cams: Labelled images without a map: an error, skip them, or take the map for empty (background).
            background_threshold: Scores under this are background; by default that of the maps' family.
            radius_px: Largest distance of a step of the walk, in pixels of the stride-4 grid.
            beta: Power of the affinities.
            steps: Steps of the walk.
            crf_iterations: Of the dense CRF that moves borders to the image's edges; 0 leaves it out.
            min_area: Instances under this share of the image are dropped.
            long_side: Range of the long side in pixels at which images are worked on; by default that of the run.
            workers: Threads; by default one a core.
            device: Where the network and the walk run; auto takes a GPU where there is one.
            json: Print one JSON object on standard output.
            verbose: More log lines, and tracebacks.
        """
        from flows.commands.refine import RefineRequest, show_refined
        from flows.commands.refine import refine as refine_maps

        request = RefineRequest(
            data=data.absolute(),
            cams=cams.absolute(),
            boundary=boundary,
            out=out,
            labels=labels and labels.absolute(),
            split=list_or_file(split),
            classes=classes and classes.absolute(),
            cam_classes=list_or_file(cam_classes),
            cam_family=cam_family,
            missing_cams=missing_cams,
            background_threshold=background_threshold,
            radius_px=radius_px,
            beta=beta,
            steps=steps,
            crf_iterations=crf_iterations,
            min_area=min_area,
            long_side=long_side,
            workers=workers,
            device=device,
        )
        answer(refine_maps(request), show_refined, json)

    def demo(
        out: Path = Path("runs/demo"),
        images: int = 256,
        data_seed: int = 0,
        train: tuple[NetworkName, ...] = (),
        store: str | None = None,
        workers: int | None = None,
        time_limit: float | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        cluster: str | None = None,
        json: bool = False,
        verbose: Verbose = False,
        settings: Settings = settings_of_preset,
    ) -> None:
        """The whole pipeline on a synthetic set, with its report.

        Args:
            out: Folder of the results; the set is written into its `data`.
            images: Images of the set.
            data_seed: Seed of the set.
            train: Networks to train on the labels, and to evaluate on images that were held out.
            store: Folder of the artifacts, or s3://bucket/prefix and the like; by default `store` beside the results.
            workers: Worker processes; by default one a core.
            time_limit: Hours after which it is stopped; what is finished is kept.
            device: Where networks run; auto takes a GPU where there is one.
            cluster: Dask workers for all artifacts: local, local:N, or tcp://host:port of a scheduler.
            json: Print one JSON object on standard output.
            verbose: More log lines, and tracebacks.
            settings: The settings of all stages.
        """
        from flows.commands.report import make_report
        from flows.commands.run import run_pipeline, show_results, write_demo_set
        from flows.engine.collect import writing

        data = out.absolute() / "data"
        request = RunRequest(
            data=data,
            out=out,
            split="train",
            store=store,
            train=train,
            val="val",
            workers=workers,
            time_limit=time_limit,
            device=device,
            cluster=cluster,
            preset="demo",
            settings=settings,
        )
        with writing(request, "run"):
            write_demo_set(data, images, data_seed)
            result = run_pipeline(request)
        make_report(out)
        answer(result, show_results, json)

    def train(
        network: Positional[TrainedNetwork],
        out: Path,
        data: Path | None = None,
        labels: Path | None = None,
        split: str | None = None,
        val: str | None = None,
        classes: Path | None = None,
        saliency: tuple[Path, ...] = (),
        saliency_split: tuple[str, ...] = (),
        store: str | None = None,
        skip_bad: bool = False,
        workers: int | None = None,
        time_limit: float | None = None,
        processes: int = 1,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        cluster: str | None = None,
        preset: NetworkPreset = preset,  # pyright: ignore[reportArgumentType]
        json: bool = False,
        verbose: Verbose = False,
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
            saliency: Folder of a set with masks of salient objects, for saliency-deeplabv3plus.
            saliency_split: A list of images of each of these sets, in their order.
            store: Folder of the artifacts, or s3://bucket/prefix and the like; by default `store` beside the results.
            skip_bad: Set bad images aside.
            workers: Worker processes; by default one a core.
            time_limit: Hours after which it is stopped; what is finished is kept.
            processes: Processes that train together, by GPU where there are any.
            device: Where the network runs; auto takes a GPU where there is one.
            cluster: Dask workers for all artifacts: local, local:N, or tcp://host:port of a scheduler.
            preset: Where all settings below start from.
            json: Print one JSON object on standard output.
            verbose: More log lines, and tracebacks.
            settings: The settings of the network; its weights may also be a run, whose classifier is taken.
        """
        from flows.commands.train import show_training, train_network

        if settings.network != network:
            raise DatasetError(f"the options are those of {settings.network}: write pseudomask train {network} first")
        request = TrainRequest(
            data=data and data.absolute(),
            labels=labels and labels.absolute(),
            split=list_or_file(split),
            val=list_or_file(val),
            classes=classes and classes.absolute(),
            saliency=tuple(folder.absolute() for folder in saliency),
            saliency_split=tuple(list_or_file(split) or split for split in saliency_split),
            out=out,
            store=store,
            skip_bad=skip_bad,
            workers=workers,
            time_limit=time_limit,
            processes=processes,
            device=device,
            cluster=cluster,
            preset=preset,
            settings=settings,
        )
        answer(train_network(request), show_training, json)

    # Which settings there are depends on the network.
    train.__annotations__["settings"] = Annotated[type(network_settings), arg(name="")]

    def predict(
        network: Positional[Path],
        data: Path,
        out: Path,
        split: str | None = None,
        store: str | None = None,
        skip_bad: bool = False,
        evaluate: bool = False,
        workers: int | None = None,
        time_limit: float | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        cluster: str | None = None,
        json: bool = False,
    ) -> None:
        """The labels of images, from a trained network: palette PNGs, and COCO JSON of instances.

        Args:
            network: Folder of a training.
            data: Folder of images, or of a data set.
            out: Folder of the labels.
            split: A list of the images: a file, or the name of a list of the set.
            store: Folder of the artifacts, or s3://bucket/prefix and the like; by default `store` beside the results.
            skip_bad: Set bad images aside.
            evaluate: Score the labels against the images' ground truth.
            workers: Worker processes; by default one a core.
            time_limit: Hours after which it is stopped; what is finished is kept.
            device: Where the network runs; auto takes a GPU where there is one.
            cluster: Dask workers for all artifacts: local, local:N, or tcp://host:port of a scheduler.
            json: Print one JSON object on standard output.
        """
        from flows.commands.train import predict_images, show_prediction

        request = PredictRequest(
            network=network.absolute(),
            data=data.absolute(),
            out=out,
            split=list_or_file(split),
            store=store,
            skip_bad=skip_bad,
            evaluate=evaluate,
            workers=workers,
            time_limit=time_limit,
            device=device,
            cluster=cluster,
        )
        answer(predict_images(request), show_prediction, json)

    return demo, run, refine, train, predict
