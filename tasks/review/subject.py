"""What is reviewed: the labels of a run, or the latest version of published labels, and what they were made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float

from data.dataset import DatasetError, Problem, Sample
from data.files import current_digest
from data.formats.label_folder import AUTOMATIC, SEMANTIC, value_names
from data.formats.quality import QUALITY, ImageQuality, read_quality
from data.store import ArtifactError, open_store
from data.store.corrections import FOLDER, Corrections
from data.store.publication import RECORD, Entry, Publication
from tasks.engine.run_record import RunRecord, read_run
from tasks.pipeline.score_maps import MapReader
from tasks.publishing.runs import images_of, runs_of
from tasks.reporting.review import rank

NOT_RANKED = "nothing is known of its labels"


@dataclass(frozen=True)
class Evidence:
    """What a run has kept of how it made an image's labels; each map is None where it is gone.

    Attributes:
        record: Of the run.
        sample: The image in it.
    """

    record: RunRecord
    sample: Sample

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that the run knew the image to have, in the order of `cams`."""
        return tuple(self.record.classes.names[index] for index in self.sample.labels)

    def boundary(self) -> Float[torch.Tensor, "h w"] | None:
        """Return the probability of a class boundary, in [0, 1]."""
        return self._read("fields", "boundary.safetensors")

    def cams(self) -> Float[torch.Tensor, "k h w"] | None:
        """Return the class attention maps, in [0, 1]."""
        return self._read("cams", "cams.safetensors")

    def _read(self, stage: str, name: str) -> torch.Tensor | None:
        key = self.record.stages[stage].key_of(self.sample.id) if stage in self.record.stages else None
        if key is None:
            return None
        try:
            file = open_store(self.record.store).fetch(stage, key) / name
        except ArtifactError:
            return None
        if not file.is_file():
            return None
        with MapReader(file) as maps:
            if self.sample.id not in maps:
                return None
            return maps[self.sample.id]


@dataclass(frozen=True)
class ReviewImage:
    """One image with its labels.

    Attributes:
        digest: SHA-256 of the bytes that the labels were made of.
        tags: Names of its image-level labels.
        folder: Has its automatic label maps.
        before: Folder of the version before, where that has the image.
        evidence: What the labels were made from, where a run says so.
        quality: Of the labels, in [0, 1]; None where it is not known.
        unsure: Share of the pixels that are unsure, where the quality is known.
        why: What is wrong with them, as a phrase.
    """

    id: str
    file: Path
    digest: str
    tags: tuple[str, ...]
    folder: Path
    before: Path | None = None
    evidence: Evidence | None = None
    quality: float | None = None
    unsure: float | None = None
    why: str = NOT_RANKED


@dataclass(frozen=True)
class Subject:
    """Labels that can be reviewed.

    Attributes:
        name: For people.
        version: The number of the version, None of a run's labels.
        names: What the values of the label maps are called, from 0.
        images: By id, the one to look at first first.
        proposed: Whether these are images that were chosen among more.
    """

    name: str
    folder: Path
    version: int | None
    names: tuple[str, ...]
    corrections: Corrections
    images: dict[str, ReviewImage]
    proposed: bool = False


def open_subject(folder: Path) -> Subject:
    """Open the labels of a run, or the latest version of published ones.

    Raises:
        ArtifactError: The folder is neither, or something in it cannot be read.
        DatasetError: The file of the labels' quality cannot be read.
    """
    publication = Publication(folder)
    if publication.published or publication.held:
        return _published(publication)
    if not folder.exists():
        raise ArtifactError(f"{folder}: expected published labels or the folder of a run, found nothing")
    if (folder / RECORD).is_file():
        message = (
            "expected published labels, found one version of them; corrections are of all: give the folder above it"
        )
        raise ArtifactError(f"{folder}: {message}")
    record = read_run(folder)
    labels = folder / "labels"
    if "network" in record.settings or not (labels / SEMANTIC).is_dir():
        raise ArtifactError(f"{folder}: expected published labels, or a finished run that made labels")
    rows = read_quality(folder / QUALITY) if (folder / QUALITY).is_file() else []
    images = [
        ReviewImage(
            sample.id,
            sample.image,
            digest.image,
            tuple(record.classes.names[index] for index in sample.labels),
            labels,
            evidence=Evidence(record, sample),
        )
        for sample, digest in images_of(record)
    ]
    corrections = Corrections(folder / FOLDER)
    return Subject(folder.name, folder, None, tuple(value_names(labels)), corrections, _in_order(images, rows))


def check_photograph(image: ReviewImage) -> None:
    """Refuse a photograph that is not what its labels were made of.

    Raises:
        DatasetError: It has changed since, or cannot be read.
    """
    try:
        if current_digest(image.file) == image.digest:
            return
        fault = "has changed since its labels were made: pseudomask regenerate, or the run again, comes first"
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    raise DatasetError([Problem(image.file, fault, image.id)])


def _published(publication: Publication) -> Subject:
    number = publication.latest
    if number is None:
        raise ArtifactError(f"{publication.root}: no version is published yet; pseudomask approve one first")
    folder = publication.folder(number)
    earlier = [each for each in publication.published if each < number]
    before = publication.folder(earlier[-1]) if earlier else None
    records = runs_of(publication)
    evidence = {(key, sample.id): Evidence(record, sample) for record, key, sample in _made(records)}
    files = {sample.id: sample.image for record in records for sample, _ in images_of(record)}
    corrections, images = Corrections(publication.root / FOLDER), []
    for entry, place in _entries(publication, number, corrections):
        had = before is not None and (before / SEMANTIC / f"{entry.id}.png").is_file()
        images.append(
            ReviewImage(
                entry.id,
                files.get(entry.id, Path(entry.id)),
                entry.image,
                entry.labels,
                place if entry.corrections is None else place / AUTOMATIC,
                before if had else None,
                evidence.get((entry.artifact, entry.id)),
            )
        )
    names, rows = tuple(value_names(folder)), _published_quality(records, images)
    name = f"{publication.root.name}, version {number}"
    return Subject(name, publication.root, number, names, corrections, _in_order(images, rows))


def _entries(publication: Publication, number: int, corrections: Corrections) -> Iterator[tuple[Entry, Path]]:
    """Yield the images of a version with its folder, and those that were rejected with the last version that has them:
    who rejected one may accept it again."""
    seen = set()
    for entry in publication.entries(number):
        seen.add(entry.id)
        yield entry, publication.folder(number)
    missing = set(corrections.images) - seen
    for earlier in reversed([each for each in publication.published if each < number] if missing else []):
        for entry in publication.entries(earlier):
            if entry.id in missing and corrections.rejection(entry.id, entry.image):
                missing.discard(entry.id)
                yield entry, publication.folder(earlier)


def _made(records: list[RunRecord]) -> Iterator[tuple[RunRecord, str | None, Sample]]:
    """Yield run, key of the labels and image of all that runs have made."""
    for record in records:
        stage = record.stages.get("labels")
        for sample, _ in images_of(record):
            yield record, stage and stage.key_of(sample.id), sample


def _published_quality(records: list[RunRecord], images: list[ReviewImage]) -> list[ImageQuality]:
    """Return the quality of those images whose labels' run still has it."""
    wanted = {image.id: image.evidence.record.folder for image in images if image.evidence}
    rows = []
    for record in records:
        stage, store = record.stages.get("quality"), open_store(record.store)
        for key in stage.keys.values() if stage else ():
            if store.has("quality", key):
                found = read_quality(store.fetch("quality", key) / QUALITY)
                rows += [row for row in found if wanted.get(row.image) == record.folder]
    return rows


def _in_order(images: list[ReviewImage], rows: list[ImageQuality]) -> dict[str, ReviewImage]:
    """Return images by id, the least sure first, those of which nothing is known last."""
    by_id = {image.id: image for image in images}
    ranked = [each for each in rank(rows) if each.image in by_id]
    unsure = {row.image: row.unsure for row in rows}
    first = {
        each.image: replace(by_id[each.image], quality=each.quality, unsure=unsure[each.image], why=each.why)
        for each in ranked
    }
    return first | {image.id: image for image in images if image.id not in first}
