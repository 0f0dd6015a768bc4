"""The folder of a flow's results: who writes there, and what is brought there from the store."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data.concurrency import map_in_threads
from data.dataset import Dataset
from data.files import atomic_write, file_digest, replacing
from data.formats.coco import Detection, read_detections
from data.formats.label_folder import DETECTIONS, MAPS, image_info, index_files
from data.ownership import Output, lies_in, old_labels, own, refuse_nesting
from data.store import ArtifactError, Store, explain_os_errors, open_store
from flows.engine.request import PlannedRun, Request
from tasks.engine.artifact import Artifact
from tasks.engine.plan import Plan
from tasks.engine.run_record import FILE_NAME, read_run, write_run

log = logging.getLogger(__name__)
LISTED = "images.txt"


@contextlib.contextmanager
def writing(request: Request, command: str) -> Iterator[Output]:
    """Be the only writer of a request's folder of results, which is empty or the command's own.

    Raises:
        ArtifactError: The folder holds something else, or a label map that was changed by hand, another process writes
            there, or results, store and data set lie in one another.
    """
    store, data = open_store(request.store_address).root, _data_of(request)
    refuse_nesting(request.out, store, data, folders_beside(request))
    old = None
    network = getattr(request, "network", None)
    if command == "predict" and network is not None and lies_in(request.out.parent, network):
        # The tests of a comparison lie in the folder of their training, and were not marked once.
        old = old_labels(request.out)
    # A list of images in the folder is the caller's: a regeneration writes it first.
    besides = [store, *([data] if data else []), request.out / LISTED]
    with own(request.out, command, besides=besides, old=old) as output:
        if not output.is_checked:
            # Before the work; once more when its results are brought together.
            output.refuse_changed()
            output.is_checked = True
        yield output


def _data_of(request: Request) -> Path | None:
    """Return the folder of a request's data set: by default that of the run whose labels are learned."""
    data, labels = getattr(request, "data", None), getattr(request, "labels", None)
    if data is None and labels is not None:
        # What is wrong with the run is said where its labels are read.
        with contextlib.suppress(ArtifactError):
            return read_run(labels).root
    return data


def folders_beside(request: Request) -> Iterator[Path]:
    """Yield the folders that a request reads beside its data set: labels, maps, hints, regions, other sets; no runs."""
    for name in ("labels", "cams", "saliency", "hints", "regions"):
        value = getattr(request, name, None) or ()
        for folder in (value,) if isinstance(value, Path) else value:
            if folder.is_dir() and not (folder / FILE_NAME).is_file():
                yield folder


def collect_labels(output: Output, part: str, artifacts: Sequence[Artifact], store: Store, dataset: Dataset) -> None:
    """Bring the label maps and detections of a stage's artifacts together in one folder, with the class table.

    Files that are there already with the right bytes stay; label maps of images that are gone are removed. Nothing is
    done where a file was changed by hand since it was written.

    Args:
        part: Folder of `output` that gets the label maps of each kind and, where there are detections,
            `instances.json`; "" is the folder itself.
        artifacts: Of one stage.
        dataset: Whose root the file names in `instances.json` are relative to.

    Raises:
        ArtifactError: A file that would be replaced or removed was changed since it was written.
    """
    kinds = tuple(f"{kind}/" for kind in MAPS)
    target = output.folder / part
    detections: list[Detection] | None = None
    wanted: dict[str, tuple[Path, dict[str, Any]]] = {}
    for artifact in artifacts:
        folder = store.fetch(artifact.stage.name, artifact.key)
        for name, entry in store.read_manifest(artifact.stage.name, artifact.key)["files"].items():
            if name.startswith(kinds):
                wanted[name] = folder / name, entry
            elif name == DETECTIONS:
                detections = detections or []
                detections += read_detections(folder / name)
    samples = [sample for artifact in artifacts for sample in artifact.samples] if detections is not None else []
    infos = [image_info(sample, dataset) for sample in samples]
    index = index_files(infos, detections, dataset.classes)
    prefix = f"{part}/" if part else ""
    names = {f"{prefix}{name}" for name in (*wanted, *index)}
    maps = tuple(f"{prefix}{kind}" for kind in kinds)
    stale = {name for name in output.below(part) if name.startswith(maps)} - names
    digests = {f"{prefix}{name}": entry["sha256"] for name, (_, entry) in wanted.items()}
    digests |= {f"{prefix}{name}": hashlib.sha256(text.encode()).hexdigest() for name, text in index.items()}
    output.refuse_changed(names | stale, digests)
    output.claim(names, digests)
    output.remove(stale)
    for name, (source, entry) in wanted.items():
        copy_file(source, target / name, entry)
    for name, text in index.items():
        atomic_write(target / name, text)
    output.settle(digests)


def write_run_record(request: Request, prepared: PlannedRun, command: str) -> None:
    """Write `run.json`, before anything runs: a run that was stopped can be looked at, too.

    Args:
        command: Owner of the folder of results.

    Raises:
        ArtifactError: The run's folder cannot be written.
    """
    with writing(request, command) as output, explain_os_errors(request.out):
        output.claim(["run.json"])
        write_run(
            request.out,
            prepared.plan,
            prepared.store.address,
            preset=request.preset,
            request=request.model_dump(mode="json", exclude={"settings"}),
            problems=prepared.problems,
        )
    if prepared.store.read_only:
        log.info("%s may only be read: its gc does not know that %s needs it", prepared.store.address, request.out)
    else:
        prepared.store.register(request.out)


def copy_file(source: Path, target: Path, entry: dict[str, Any]) -> None:
    """Copy a file of an artifact, unless it is there with the bytes of its manifest entry; it appears whole."""
    if target.is_file() and target.stat().st_size == entry["size"] and file_digest(target) == entry["sha256"]:
        return
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def read_work(plan: Plan, store: Store) -> dict[str, Any]:
    """Return "seconds": stage -> seconds of work, and "training": stage -> summary of what it trained.

    What was taken from an earlier run was no work.
    """
    seconds: dict[str, float] = defaultdict(float)
    training = {}
    manifests = map_in_threads(lambda artifact: store.read_manifest(artifact.stage.name, artifact.key), plan.artifacts)
    for artifact, manifest in zip(plan.artifacts, manifests, strict=True):
        if artifact.origin is None:
            seconds[artifact.stage.name] += manifest["seconds"]
        if artifact.stage.seeded:
            training[artifact.stage.name] = manifest["summary"]
    return {"seconds": {stage: round(value, 2) for stage, value in seconds.items()}, "training": training}
