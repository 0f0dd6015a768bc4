"""What photographs show, as a run's own network sees it: one vector per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from data.store import ArtifactError, open_store
from data.store.publication import Publication
from models.backbones.base import Backbone
from models.inference import prepare_inference
from models.pixels import cell_features
from tasks.engine.run_record import RunRecord, read_run
from tasks.review.subject import ReviewImage, Subject, check_photograph
from tasks.training.saving import load_affinitynet, load_classifier, load_irnet
from tasks.training.working_size import read_working_image

SIDE_PX = 224
"""Long side at which photographs are compared."""
LOADERS: Mapping[str, Callable[[Path], Backbone]] = {
    "irnet": lambda folder: load_irnet(folder).backbone,
    "affinitynet": lambda folder: load_affinitynet(folder).backbone,
    "classifier": lambda folder: load_classifier(folder).backbone,
}
"""Stage -> the backbone of its network; a run's first of these is taken."""


@torch.no_grad()
def image_features(subject: Subject, images: Sequence[ReviewImage]) -> Float[np.ndarray, "n d"]:
    """Return for each image the mean over its cells of what the backbone of the run sees (`models.pixels`).

    Raises:
        ArtifactError: The store no longer has the network.
        DatasetError: A photograph cannot be read, or has changed since its labels were made.
    """
    backbone = prepare_inference(_backbone(_record(subject)))
    found = []
    for image in images:
        check_photograph(image)
        pixels = torch.tensor(read_working_image(image.file, (SIDE_PX, SIDE_PX))).permute(2, 0, 1)[None]
        found.append(cell_features(backbone, pixels)[0].mean(dim=(1, 2)).numpy())
    return np.stack(found) if found else np.zeros((0, 1), np.float32)


def _record(subject: Subject) -> RunRecord:
    """Return the run whose networks made the labels."""
    if subject.version is None:
        return read_run(subject.folder)
    version = Publication(subject.folder).record(subject.version, "networks")
    return read_run(subject.folder / version["networks"])


def _backbone(record: RunRecord) -> Backbone:
    for stage, load in LOADERS.items():
        key = record.network(stage)
        if key is not None:
            return load(open_store(record.store).fetch(stage, key))
    message = "expected a run with a network to compare photographs by, found none; review them without --budget"
    raise ArtifactError(f"{record.folder}: {message}")
