"""Where labels are exported from: a run, or a version of published labels, with the digests of what was exported."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.concurrency import map_in_threads
from data.dataset import ClassTable, Sample
from data.exchange import Labels
from data.files import explain_os_errors, file_digest
from data.formats.label_folder import KINDS, value_names
from data.store import ArtifactError
from data.store.publication import HELD, LATEST, RECORD, Publication, name_of
from tasks.engine.image_list import read_images
from tasks.engine.run_record import FILE_NAME, RunRecord, read_run
from tasks.publishing.runs import images_of, runs_of

LIST = "images.csv"
COLUMNS = ("image", "path", "photograph", "labels")


@dataclass(frozen=True)
class Source:
    """Labels, and what they are labels of.

    Attributes:
        labels: The labels themselves.
        photographs: SHA-256 of each image's photograph, by its id.
        stamp: What an export says of where it is from: "run", or "publication" and "version".
        root: Folder of the data set.
    """

    labels: Labels
    photographs: dict[str, str]
    stamp: dict[str, Any]
    root: Path


def open_source(folder: Path) -> Source:
    """Return the labels of a folder: that of a run, of published labels (then the latest version), or of a version.

    Raises:
        ArtifactError: It is none of these, or a record in it is damaged.
    """
    if (folder / FILE_NAME).exists():
        return _of_run(read_run(folder))
    if (folder / LATEST).is_symlink():
        number = Publication(folder).latest
        assert number is not None
        return version_source(Publication(folder), number)
    real = folder.resolve()
    if (real / RECORD).is_file():
        root = real.parent.parent if real.parent.name == HELD else real.parent
        publication = Publication(root)
        number = next((n for n in (*publication.published, *publication.held) if publication.folder(n) == real), None)
        if number is not None:
            return version_source(publication, number)
    message = "expected the folder of a run, of published labels, or of one of their versions"
    raise ArtifactError(f"{folder}: {message}, found no {FILE_NAME}, {LATEST} or {RECORD}")


def _of_run(record: RunRecord) -> Source:
    if "network" in record.settings:
        message = "a training has no labels; its network is exported by --format onnx or torchscript"
        raise ArtifactError(f"{record.folder}: {message}")
    listed = list(read_images(record.folder, record.images, record.root))
    labels = Labels(record.folder / "labels", record.dataset.samples, record.classes)
    photographs = {sample.id: digest.image for sample, digest in listed}
    return Source(labels, photographs, {"run": str(record.folder.resolve())}, record.root)


def version_source(publication: Publication, number: int) -> Source:
    """Return the labels of a published version.

    Raises:
        ArtifactError: There is no such version, its record is damaged, or the run of an image is gone.
    """
    folder = publication.folder(number)
    record, files = _photographs(publication, number)
    _, *names = value_names(folder) or [""]
    index = {name: place for place, name in enumerate(names)}
    samples, photographs = [], {}
    for entry in publication.entries(number):
        if entry.id not in files:
            runs = publication.root / "runs"
            raise ArtifactError(f"{runs}: expected the run that labelled {entry.id!r}, found none")
        tags = sorted(index[name] for name in entry.labels if name in index)
        samples.append(Sample(entry.id, files[entry.id], tuple(tags)))
        photographs[entry.id] = entry.image
    classes = _classes(names, record.classes)
    stamp = {"publication": str(publication.root), "version": number}
    return Source(Labels(folder, tuple(samples), classes), photographs, stamp, record.root)


def _classes(names: list[str], table: ClassTable) -> ClassTable:
    """Return the table of a version's classes, with the category ids of the run that has all of them."""
    ids = table.category_ids if list(table.names) == names else ()
    return ClassTable(tuple(names), ids)


def _photographs(publication: Publication, number: int) -> tuple[RunRecord, dict[str, Path]]:
    """Return the newest run of a version, and where the photographs are, by the images' ids."""
    runs = [run for run in runs_of(publication) if run.folder.name <= name_of(number)]
    if not runs:
        raise ArtifactError(f"{publication.root}: expected the run of version {number}, found none")
    return runs[-1], {sample.id: sample.image for run in runs for sample, _ in images_of(run)}


def write_list(file: Path, source: Source) -> str:
    """Write where each photograph is, and the digests of photograph and labels; return the digest of all labels."""
    state = hashlib.sha256()
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for sample, digest in labels_digests(source.labels):
            writer.writerow((sample.id, sample.image.resolve(), source.photographs[sample.id], digest))
            state.update(f"{digest} {sample.id}\n".encode())
    return state.hexdigest()


def labels_digests(labels: Labels) -> Iterator[tuple[Sample, str]]:
    """Yield each image with a digest of its label maps' bytes.

    Raises:
        DatasetError: Lists every label map that is missing.
        ArtifactError: One cannot be read.
    """
    labels.refuse_missing(*KINDS)
    with explain_os_errors(labels.folder):
        yield from map_in_threads(lambda sample: (sample, labels_digest(labels, sample)), labels.samples, 2)


def labels_digest(labels: Labels, sample: Sample) -> str:
    """Return a digest of the bytes of an image's label maps.

    Raises:
        OSError: One cannot be read.
    """
    both = "".join(file_digest(labels.file(kind, sample)) for kind in KINDS)
    return hashlib.sha256(both.encode()).hexdigest()
