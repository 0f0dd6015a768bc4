"""Stage `relations`: confident pixels, refined by dense CRF, from which IRNet learns (Sec. 4.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from data.dataset import VOID, Sample, unknown_classes, value_type
from data.formats.label_maps import write_label_map
from kernels.crf import refine_batch
from tasks.engine.job import Job
from tasks.pipeline.score_maps import MapReader, saliency_factors, strongest, upsample
from tasks.pipeline.seeds.hints import hints_of, keep_known
from tasks.pipeline.settings import RelationsConfig
from tasks.pipeline.thresholds import relation_thresholds
from tasks.training.inference import batches
from tasks.training.working_size import file_working_size


def mine_relations(job: Job) -> dict[str, Any]:
    """Write the confident label map of every image. One without labels is background throughout.

    Summary: "confident_share" of the pixels; "tags", "tags_found" and "tags_area", class number -> images that have the
    tag, those of them that have confident pixels of it, and the sum of these pixels' shares of the images.
    """
    config = job.config
    assert isinstance(config, RelationsConfig)
    if "thresholds" in job.inputs:
        config = relation_thresholds(config, job.input("thresholds"))
    label_type = value_type(len(job.classes.values))
    done, confident, total = 0, 0, 0
    tags, found, area = Counter(), Counter(), Counter()
    with MapReader(job.input("cams") / "cams.safetensors", saliency_factors(job)) as maps:
        for sample in job.samples:
            if sample.id not in maps:
                labels = np.full(file_working_size(sample.image, job.long_side), background_of(sample), label_type)
                write_label_map(job.out / f"{sample.id}.png", labels)
                done, confident, total = done + 1, confident + labels.size, total + labels.size
        labelled = [sample for sample in job.samples if sample.id in maps]
        for batch, pixels in batches(labelled, torch.tensor, job.device, job.long_side):
            images = [image.to(job.device) for image in pixels]
            cams = [maps[sample.id].to(job.device) for sample in batch]
            mined = confident_labels(images, cams, [sample.labels for sample in batch], config)
            for sample, each in zip(batch, mined, strict=True):
                labels = each.cpu().numpy()
                labels[labels == 0] = background_of(sample)
                labels = keep_known(labels, sample, hints_of(sample, job.classes))
                write_label_map(job.out / f"{sample.id}.png", labels.astype(label_type))
                confident, total = confident + int((labels != VOID).sum()), total + labels.size
                present = np.bincount(labels.ravel(), minlength=len(job.classes.values))
                tags.update(sample.labels)
                found.update(c for c in sample.labels if present[c + 1])
                area.update({c: float(present[c + 1]) / labels.size for c in sample.labels})
            done += len(batch)
            job.progress(done, len(job.samples))
    counts = {"tags": dict(tags), "tags_found": dict(found), "tags_area": dict(area)}
    return {"confident_share": round(confident / total, 4), **counts}


def background_of(sample: Sample) -> int:
    """Return the value of what is surely none of an image's classes: void where it may be one that nobody has named."""
    return VOID if unknown_classes(sample) else 0


def confident_labels(
    images: Sequence[UInt8[Tensor, "h w 3"]],
    cams: Sequence[Float[Tensor, "k h4 w4"]],
    labels: Sequence[tuple[int, ...]],
    config: RelationsConfig,
) -> list[Int[Tensor, "h w"]]:
    """Return each image's class values: the class where foreground is sure, 0 where background is, 255 elsewhere.

    Background is 255 too in an image that has a class without any sure pixel, unless the settings say otherwise.

    Args:
        images: RGB, of any sizes, on one device.
        cams: Each image's maps at stride 4, values in [0, 1].
        labels: The class of each map.
        config: Thresholds, which must be numbers, and the CRF's settings.
    """
    thresholds = (float(config.foreground_threshold), float(config.background_threshold))
    decided = []
    for image, maps in zip(images, cams, strict=True):
        full = upsample(maps, (image.shape[0], image.shape[1]))
        decided.append([strongest(full, threshold)[0] for threshold in thresholds])
    refined = refine_batch(
        images,
        decided,
        [[len(classes) + 1] * len(thresholds) for classes in labels],
        iterations=config.crf_iterations,
        confidence=config.crf_confidence,
    )
    mined = []
    for (foreground, background), classes in zip(refined, labels, strict=True):
        values = torch.tensor([VOID, *(c + 1 for c in classes)], dtype=torch.int32, device=foreground.device)
        # A tag without any pixel lies somewhere in what would be background.
        all_seen = len(torch.unique(foreground[foreground > 0])) == len(classes)
        nothing = 0 if all_seen or config.unseen_tags == "background" else VOID
        mined.append(torch.where((foreground == 0) & (background == 0), nothing, values[foreground]))
    return mined
