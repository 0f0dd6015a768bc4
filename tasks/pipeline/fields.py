"""Stage `fields`: class boundary and displacement field of every image, at its own size."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.backbones.base import OUTPUT_STRIDE
from models.inference import prepare_inference
from models.irnet import IRNet
from tasks.engine.job import Job
from tasks.pipeline.score_maps import save_maps
from tasks.pipeline.settings import FieldsConfig
from tasks.training import TrainingError, autocast
from tasks.training.inference import batches
from tasks.training.saving import load_irnet


def infer_fields(job: Job) -> dict[str, Any]:
    """Write boundary probabilities and displacements (dy, dx in feature pixels) at stride 4.

    Raises:
        TrainingError: Those of an image are not finite.
    """
    config = job.config
    assert isinstance(config, FieldsConfig)
    net = prepare_inference(load_irnet(job.input("irnet"), job.device))
    boundaries, displacements = {}, {}
    as_tensor = lambda image: torch.tensor(image).permute(2, 0, 1)  # noqa: E731
    for batch, images in batches(job.samples, as_tensor, job.device, job.long_side):
        for sample, (boundary, displacement) in zip(batch, infer_batch(net, images, config, job.device), strict=True):
            if not (boundary.isfinite().all() and displacement.isfinite().all()):
                raise TrainingError(
                    f"{sample.id}: boundary or displacement is not finite: the training of IRNet has diverged; lower "
                    "--irnet.learning-rate"
                )
            boundaries[sample.id], displacements[sample.id] = boundary, displacement
        job.progress(len(boundaries), len(job.samples))
    save_maps(job.out / "boundary.safetensors", boundaries)
    save_maps(job.out / "displacement.safetensors", displacements)
    return {}


def infer_batch(
    net: IRNet, images: list[Tensor], config: FieldsConfig, device: str
) -> list[tuple[Float[Tensor, "h w"], Float[Tensor, "2 h w"]]]:
    """Return boundary and displacement of images uint8 [3, H, W] of one size."""
    with autocast(device, config.precision):
        pixels = torch.stack(images).to(device)
        height, width = (
            -(-max(side, config.pad_to or 0) // OUTPUT_STRIDE) * OUTPUT_STRIDE for side in pixels.shape[2:]
        )
        found = net.infer(net.backbone.normalize(pixels), mirror=config.mirror, pad_to=(height, width))
    return list(zip(*found, strict=True))
