"""Stage `relations` of AffinityNet: sure pixels by two backgrounds and dense CRF (Ahn and Kwak 2018, Sec. 3.2.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from data.dataset import VOID, value_type
from data.formats.label_maps import write_label_map
from kernels.crf import refine_probabilities
from tasks.engine.job import Job
from tasks.pipeline.refiners.background import chosen_power, with_background
from tasks.pipeline.relations import background_of
from tasks.pipeline.score_maps import MapReader, saliency_factors, upsample
from tasks.pipeline.seeds.hints import hints_of, keep_known
from tasks.pipeline.settings import AffinityRelationsConfig
from tasks.training.working_size import file_working_size, read_working_image


def mine_affinity_relations(job: Job) -> dict[str, Any]:
    """Write the confident label map of every image. One without labels is background throughout.

    Summary: as of `tasks.pipeline.relations.mine_relations`.
    """
    config = job.config
    assert isinstance(config, AffinityRelationsConfig)
    folder = job.input("thresholds") if "thresholds" in job.inputs else None
    powers = (
        chosen_power(config.foreground_power, folder, "foreground"),
        chosen_power(config.background_power, folder, "background"),
    )
    label_type = value_type(len(job.classes.values))
    confident, total = 0, 0
    tags, found, area = Counter(), Counter(), Counter()
    with MapReader(job.input("cams") / "cams.safetensors", saliency_factors(job)) as maps:
        for done, sample in enumerate(job.samples, start=1):
            if sample.id in maps:
                image = torch.tensor(read_working_image(sample.image, job.long_side), device=job.device)
                mined = affinity_labels(image, maps[sample.id].to(job.device), sample.labels, powers, config)
                labels = mined.cpu().numpy()
                labels[labels == 0] = background_of(sample)
                labels = keep_known(labels, sample, hints_of(sample, job.classes))
            else:
                labels = np.full(file_working_size(sample.image, job.long_side), background_of(sample), np.int64)
            write_label_map(job.out / f"{sample.id}.png", labels.astype(label_type))
            confident, total = confident + int((labels != VOID).sum()), total + labels.size
            if sample.id in maps:
                present = np.bincount(labels.ravel(), minlength=len(job.classes.values))
                tags.update(sample.labels)
                found.update(c for c in sample.labels if present[c + 1])
                area.update({c: float(present[c + 1]) / labels.size for c in sample.labels})
            job.progress(done, len(job.samples))
    counts = {"tags": dict(tags), "tags_found": dict(found), "tags_area": dict(area)}
    return {"confident_share": round(confident / total, 4), **counts}


def affinity_labels(
    image: UInt8[Tensor, "h w 3"],
    cams: Float[Tensor, "k h4 w4"],
    classes: Sequence[int],
    powers: tuple[float, float],
    config: AffinityRelationsConfig,
) -> Int[Tensor, "h w"]:
    """Return each pixel's class value: the class where foreground is sure, 0 where background is, 255 elsewhere.

    The CAMs compete twice with a background, (1 - max) ** power, in a dense CRF whose unary terms are the scores'
    logarithms. Where a class wins against the first background, the stronger one, the pixel is of the class; where the
    second wins, it is background, also there. Background is 255 too in an image that has a class without any
    sure pixel, unless the settings say otherwise.

    Args:
        image: RGB, of any size.
        cams: Its maps at stride 4, values in [0, 1].
        classes: The class of each map.
        powers: Of the backgrounds against which foreground and background are taken.
        config: The CRF's settings.
    """
    full = upsample(cams, (image.shape[0], image.shape[1])).clamp(0, 1)
    foreground, background = (
        refine_probabilities(image, with_background(full, power), iterations=config.crf_iterations).max(0).indices
        for power in powers
    )
    values = torch.tensor([VOID, *(c + 1 for c in classes)], device=foreground.device)
    labels = torch.where(background == 0, 0, values[foreground])
    all_seen = all(bool((labels == c + 1).any()) for c in classes)
    nothing = 0 if all_seen or config.unseen_tags == "background" else VOID
    return torch.where(labels == 0, nothing, labels)
