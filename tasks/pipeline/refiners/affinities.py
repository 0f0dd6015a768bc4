"""Stage `affinities`: AffinityNet's affinities of every image, at its own size."""

from __future__ import annotations

from typing import Any

import torch

from models.inference import prepare_inference
from tasks.engine.job import Job
from tasks.pipeline.score_maps import save_maps
from tasks.pipeline.settings import AffinitiesConfig
from tasks.training import TrainingError, autocast
from tasks.training.inference import batches
from tasks.training.saving import load_affinitynet

AFFINITIES = "affinities.safetensors"


def infer_affinities(job: Job) -> dict[str, Any]:
    """Write `affinities.safetensors`: id -> float16 [K, h8, w8] of every image that has labels.

    K are the pairs of `kernels.affinity.offsets` at the radius of the settings.

    Raises:
        TrainingError: Those of an image are not finite.
    """
    config = job.config
    assert isinstance(config, AffinitiesConfig)
    net = prepare_inference(load_affinitynet(job.input("affinitynet"), job.device))
    labelled = [sample for sample in job.samples if sample.labels]
    done, found = len(job.samples) - len(labelled), {}
    as_tensor = lambda image: torch.tensor(image).permute(2, 0, 1)  # noqa: E731
    for batch, images in batches(labelled, as_tensor, job.device, job.long_side):
        with autocast(job.device, config.precision):
            pixels = net.backbone.normalize(torch.stack(images).to(job.device))
            affinities = net.infer(pixels, config.radius_px)
        for sample, affinity in zip(batch, affinities, strict=True):
            if not affinity.isfinite().all():
                raise TrainingError(
                    f"{sample.id}: affinities are not finite: the training of AffinityNet has diverged; lower "
                    "--affinitynet.learning-rate"
                )
            found[sample.id] = affinity.half().cpu()
        done += len(batch)
        job.progress(done, len(job.samples))
    save_maps(job.out / AFFINITIES, found)
    return {}
