"""The runs that made the labels of published versions."""

from __future__ import annotations

from collections.abc import Iterator

from data.dataset import Sample
from data.store.publication import RUNS, Publication
from tasks.engine.artifact import SampleDigest
from tasks.engine.image_list import read_images
from tasks.engine.run_record import FILE_NAME, RunRecord, read_run


def runs_of(publication: Publication) -> list[RunRecord]:
    """Read the runs that made a publication's labels, the oldest first; their folders are called like the versions.

    An image that did not change keeps the labels of an old run, also where that run's version was deleted.

    Raises:
        ArtifactError: A record is damaged.
    """
    return [read_run(file.parent) for file in sorted((publication.root / RUNS).glob(f"v*/{FILE_NAME}"))]


def images_of(run: RunRecord) -> Iterator[tuple[Sample, SampleDigest]]:
    """Yield the images of a run.

    Raises:
        ArtifactError: Their list cannot be read.
    """
    return read_images(run.folder, run.images, run.root)


def label_artifacts(run: RunRecord) -> frozenset[str]:
    """Return the keys of the artifacts that have a run's labels, as the entries of versions name them."""
    stage = run.stages.get("labels")
    return frozenset(stage.keys.values() if stage else ())
