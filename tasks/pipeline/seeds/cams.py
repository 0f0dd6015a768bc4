"""Stage `cams`: class attention maps over several scales and the mirror image (Sec. 3, Eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from models.cam import CAMNet
from models.inference import prepare_inference
from tasks.engine.job import Job
from tasks.pipeline.score_maps import grid_size, save_maps
from tasks.pipeline.seeds.hints import hint_cams, hints_of
from tasks.pipeline.settings import CamConfig
from tasks.training.inference import Pyramid, batches
from tasks.training.precision import Precision, autocast
from tasks.training.saving import load_classifier


def infer_cams(job: Job) -> dict[str, Any]:
    """Write the maps of every image that has labels."""
    config = job.config
    assert isinstance(config, CamConfig)
    net = prepare_inference(load_classifier(job.input("classifier"), job.device))
    labelled = [sample for sample in job.samples if sample.labels]
    done, maps = len(job.samples) - len(labelled), {}
    for batch, pyramids in batches(labelled, lambda image: Pyramid.of(image, config.scales), job.device, job.long_side):
        labels, options = [sample.labels for sample in batch], {"mirror": config.mirror, "precision": config.precision}
        found = class_attention(net, pyramids, labels, job.device, **options)
        for sample, each, pyramid in zip(batch, found, pyramids, strict=True):
            hints = hints_of(sample, job.classes)
            maps[sample.id] = hint_cams(each, sample.labels, hints, pyramid.size)
        done += len(batch)
        job.progress(done, len(job.samples))
    save_maps(job.out / "cams.safetensors", maps)
    return {}


@torch.no_grad()
def class_attention(
    net: CAMNet,
    pyramids: Sequence[Pyramid],
    labels: Sequence[tuple[int, ...]],
    device: str,
    *,
    mirror: bool = True,
    precision: Precision = "fastest",
) -> list[Float[Tensor, "k h w"]]:
    """Return, for each of several images of one size, the maps of its classes at stride 4, on the device.

    Each map is divided by its own maximum: values in [0, 1]. Every scale's map is brought to the grid of the image
    padded to a multiple of 16, so that cells lie where the network saw them, and cut to ceil(size / 4). The reference
    keeps a second, full-size copy made in the same way; here that one is upsampled from this.
    """
    height, width = pyramids[0].size
    padded = (-(-height // 16) * 4, -(-width // 16) * 4)
    owners = [image for image, classes in enumerate(labels) for _ in classes]
    wanted = [number for classes in labels for number in classes]
    total = torch.zeros(len(wanted), *padded, device=device)
    for views in zip(*(pyramid.scales for pyramid in pyramids), strict=True):
        x = net.backbone.normalize(torch.stack(views).to(device))
        x = (torch.cat([x, x.flip(-1)]) if mirror else x).contiguous(memory_format=torch.channels_last)
        with autocast(device, precision):
            activations = net.activations(x)
        maps = activations[owners, wanted].float()
        if mirror:
            maps = maps + activations[[len(views) + owner for owner in owners], wanted].float().flip(-1)
        total += F.interpolate(maps[None], padded, mode="bilinear", align_corners=False)[0]
    rows, columns = grid_size((height, width))
    total = total[:, :rows, :columns]
    total = total / (total.amax(dim=(1, 2), keepdim=True) + 1e-5)
    return list(total.split([len(classes) for classes in labels]))
