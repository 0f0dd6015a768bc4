"""Stage `cams`: class attention maps over several scales and the mirror image (Sec. 3, Eq. 1)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from data.images import read_image
from models.backbones import fold_norms
from models.cam import CAMNet
from tasks.augment import resize
from tasks.job import Job
from tasks.networks import load_classifier
from tasks.settings import CamConfig
from tasks.stages.score_maps import grid_size, save_maps
from tasks.training import autocast


def infer_cams(job: Job) -> dict[str, Any]:
    """Write the maps of every image that has labels."""
    config = job.config
    assert isinstance(config, CamConfig)
    net = fold_norms(load_classifier(job.input("classifier"), job.device)).to(memory_format=torch.channels_last)
    maps = {}
    for done, sample in enumerate(job.samples, start=1):
        if sample.labels:
            maps[sample.id] = class_attention(net, read_image(sample.image), sample.labels, config, job.device)
        job.progress(done, len(job.samples))
    save_maps(job.out / "cams.safetensors", maps)
    return {}


@torch.no_grad()
def class_attention(
    net: CAMNet, image: NDArray[np.uint8], labels: tuple[int, ...], config: CamConfig, device: str
) -> Float[Tensor, "k h w"]:
    """Return the maps of an image's classes at stride 4, each divided by its own maximum: values in [0, 1].

    Every scale's map is brought to the grid of the image padded to a multiple of 16, so that cells lie where
    the network saw them, and cut to ceil(size / 4). The reference keeps a second, full-size copy made in the same
    way; here that one is upsampled from this.
    """
    height, width = image.shape[:2]
    padded = (-(-height // 16) * 4, -(-width // 16) * 4)
    total = torch.zeros(len(labels), *padded, device=device)
    for scale in config.scales:
        pixels = torch.from_numpy(resize(image, scale, cv2.INTER_CUBIC)).permute(2, 0, 1)[None].to(device)
        x = net.backbone.normalize(pixels)
        views = torch.cat([x, x.flip(-1)]) if config.mirror else x
        with autocast(device):
            activations = net.activations(views.contiguous(memory_format=torch.channels_last))
        chosen = activations[:, list(labels)].float()
        folded = chosen[:1] + chosen[1:].flip(-1) if config.mirror else chosen
        total += F.interpolate(folded, padded, mode="bilinear", align_corners=False)[0]
    rows, columns = grid_size((height, width))
    total = total[:, :rows, :columns]
    return (total / (total.amax(dim=(1, 2), keepdim=True) + 1e-5)).cpu()
