"""The commands that publish labels, version by version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from data.readers.cams import Missing
from flows.arguments.answers import CommandFailed, Settings, SettingsFile, Verbose, answer, list_or_file
from flows.labels.presets import PRESETS
from flows.publishing.request import RegenerateRequest
from tasks.publishing.decide import Gate, Retrain


def publishing(preset: str) -> tuple[Callable[..., None], ...]:
    """Return `regenerate` and the commands on versions; the argument is that of `commands`."""
    settings_of_preset = PRESETS[preset]()

    def regenerate(
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
        skip_bad: bool = False,
        retrain: Retrain = "auto",
        retrain_share: float = 0.3,
        dry_run: bool = False,
        schedule: str | None = None,
        time_limit: float | None = None,
        workers: int | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        cluster: str | None = None,
        preset: Literal["quick", "voc12", "demo"] = preset,  # pyright: ignore[reportArgumentType]
        json: bool = False,
        verbose: Verbose = False,
        gate: Gate = Gate(),  # noqa: B008 (frozen)
        settings_file: SettingsFile = None,
        settings: Settings = settings_of_preset,
    ) -> None:
        """Bring published labels up to a data set: only what changed gets new labels, as the next version.

        Args:
            data: Folder of the data set.
            out: Folder of the published versions.
            labels: Image-level labels: CSV, JSON lines, COCO JSON, a folder of XML or label maps.
            split: A list of images: a file, or the name of a list of the set.
            classes: File with the name of a class a line.
            saliency: What scores are weighted by: a folder of maps, ID.png or ID.npy, or the .onnx file of a network.
            regions: Folder of a segmenter's regions that labels follow: ID.json of SAM, ID.png of ids, folders ID.
            cams: Folder of class attention maps of another method, in place of the classifier: ID.npy, .npz or .pt.
            cam_classes: The table of their classes: voc20, coco80, coco91, or a file with a name per line.
            cam_family: Their form, such as irn or clip-es; by default it is told by the files and the tags.
            missing_cams: Labelled images without a map: an error, skip them, or take the map for empty (background).
            store: Folder of the artifacts, or s3://bucket/prefix and the like; by default `store` beside the versions.
            skip_bad: Leave bad images out.
            retrain: Train the networks never, always, or for new classes, settings and many new images.
            retrain_share: The share of new images above which auto trains.
            dry_run: Only say what would be done, and why.
            schedule: Have the deployed flow do it at these times (cron, UTC) and when images land; "off" ends that.
            time_limit: Hours after which it is stopped; what is finished is kept.
            workers: Worker processes; by default one a core.
            device: Where networks run; auto takes a GPU where there is one.
            cluster: Dask workers for all artifacts: local, local:N, or tcp://host:port of a scheduler.
            preset: Where all settings below start from.
            json: Print one JSON object on standard output.
            verbose: More log lines, and tracebacks.
            gate: The bounds of a version's statistics; one that leaves them is held for review.
            settings_file: JSON of settings over the preset's, such as best.json of tune; options go before it.
            settings: The settings of all stages.
        """
        from flows.commands.regenerate import regenerate_published, show_regeneration

        request = RegenerateRequest(
            data=data.absolute(),
            out=out.absolute(),
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
            skip_bad=skip_bad,
            retrain=retrain,
            retrain_share=retrain_share,
            workers=workers,
            time_limit=time_limit,
            device=device,
            cluster=cluster,
            preset=preset,
            gate=gate,
            settings=settings,
            settings_file=settings_file,
        )
        if schedule is not None:
            from flows.commands.production import show_schedule
            from flows.publishing.schedule import schedule as set_schedule

            answer(set_schedule(request, schedule), show_schedule, json)
            return
        result = regenerate_published(request, dry_run=dry_run)
        answer(result, show_regeneration, json)
        if result["held"]:
            raise CommandFailed

    def versions(published: Positional[Path], json: bool = False) -> None:
        """The versions of published labels: when, why, from how many images, and which is the latest.

        Args:
            published: Folder of the versions.
            json: Print one JSON object on standard output.
        """
        from flows.commands.versions import list_versions, show_versions

        answer(list_versions(published), show_versions, json)

    def approve(published: Positional[Path], version: Positional[int], json: bool = False) -> None:
        """Make a version that was held for review the latest.

        Args:
            published: Folder of the versions.
            version: Its number.
            json: Print one JSON object on standard output.
        """
        from flows.commands.versions import approve_version, show_latest

        answer(approve_version(published, version), show_latest, json)

    def rollback(
        published: Positional[Path],
        to: int | None = None,
        json: bool = False,
    ) -> None:
        """Make an earlier version the latest.

        Args:
            published: Folder of the versions.
            to: Number of the version; by default the one before the latest.
            json: Print one JSON object on standard output.
        """
        from flows.commands.versions import roll_back, show_latest

        answer(roll_back(published, to), show_latest, json)

    def lineage(image: Positional[str], published: Path, version: int | None = None, json: bool = False) -> None:
        """What the published labels of an image were made from: bytes, networks, weights, settings, code.

        Args:
            image: Its id: the file's path in the set, without suffix.
            published: Folder of the versions.
            version: Number of the version; by default the latest.
            json: Print one JSON object on standard output.
        """
        from flows.commands.lineage import show_lineage, trace

        answer(trace(image, published, version), show_lineage, json)

    return regenerate, versions, approve, rollback, lineage
