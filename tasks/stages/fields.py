"""Stage `fields`: class boundary and displacement field of every image, at its own size."""

from __future__ import annotations

from typing import Any

import torch

from data.images import read_image
from models.backbones import fold_norms
from tasks.job import Job
from tasks.networks import load_irnet
from tasks.settings import FieldsConfig
from tasks.stages.score_maps import save_maps
from tasks.training import autocast


def infer_fields(job: Job) -> dict[str, Any]:
    """Write boundary probabilities and displacements (dy, dx in feature pixels) at stride 4."""
    config = job.config
    assert isinstance(config, FieldsConfig)
    net = fold_norms(load_irnet(job.input("irnet"), job.device)).to(memory_format=torch.channels_last)
    boundaries, displacements = {}, {}
    for done, sample in enumerate(job.samples, start=1):
        pixels = torch.tensor(read_image(sample.image)).permute(2, 0, 1)[None].to(job.device)
        with autocast(job.device):
            fields = net.infer(net.backbone.normalize(pixels), mirror=config.mirror)
        boundaries[sample.id], displacements[sample.id] = fields
        job.progress(done, len(job.samples))
    save_maps(job.out / "boundary.safetensors", boundaries)
    save_maps(job.out / "displacement.safetensors", displacements)
    return {}
