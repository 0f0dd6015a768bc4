"""Stage `walk` of AffinityNet: CAMs and their background spread by its affinities (Ahn and Kwak 2018, Sec. 3.3)."""

from __future__ import annotations

import json
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kernels.affinity import offsets
from kernels.random_walk import propagate_affinities
from tasks.engine.job import Job
from tasks.pipeline.refiners.affinities import AFFINITIES
from tasks.pipeline.refiners.background import chosen_power, with_background
from tasks.pipeline.score_maps import MapReader, saliency_prior, save_maps
from tasks.pipeline.settings import AffinityWalkConfig
from tasks.pipeline.walk import compare_with_saliency

MAX_RADIUS = 64


def walk_by_affinities(job: Job) -> dict[str, Any]:
    """Write the walked maps of every image's classes, as those of its instances too: a class is one.

    Summary: as of `tasks.pipeline.walk.walk_scores`.
    """
    config = job.config
    assert isinstance(config, AffinityWalkConfig)
    folder = job.input("thresholds") if "thresholds" in job.inputs else None
    power = chosen_power(config.background_power, folder, "threshold")
    prior = saliency_prior(job)
    walked, rows_of = {}, {}
    with (
        MapReader(job.input("cams") / "cams.safetensors", prior and prior.factors) as cams,
        MapReader(job.input("affinities") / AFFINITIES) as affinities,
    ):
        for done, sample in enumerate(job.samples, start=1):
            if sample.id in cams:
                maps, pairs = (reader[sample.id].to(job.device) for reader in (cams, affinities))
                walked[sample.id] = stretch(walk_with_background(maps, pairs, power, config))
                rows_of[sample.id] = list(range(len(maps)))
            job.progress(done, len(job.samples))
    save_maps(job.out / "semantic.safetensors", walked)
    save_maps(job.out / "instances.safetensors", walked)
    (job.out / "instances.json").write_text(json.dumps(rows_of))
    return {"instances": sum(map(len, rows_of.values())), **(compare_with_saliency(job, prior) if prior else {})}


def walk_with_background(
    cams: Float[Tensor, "k h w"], affinity: Float[Tensor, "p h8 w8"], power: float, config: AffinityWalkConfig
) -> Float[Tensor, "k h w"]:
    """Return each class's share of its walked score and the background's, in [0, 1].

    Eq. 2: the background is (1 - max) ** power; Eq. 11 and 12: all maps walk, on the grid of stride 8, where a cell is
    the mean of those that it covers. A pixel is of the strongest class where that one's share exceeds 0.5.

    Args:
        cams: Maps at stride 4, values in [0, 1].
        affinity: As of `kernels.feature_affinity`.
        power: Of the background.
        config: Of the walk.
    """
    small = F.avg_pool2d(with_background(cams, power)[None], 2, ceil_mode=True)[0]
    walked = propagate_affinities(
        small,
        affinity,
        radius=radius_of(len(affinity)),
        beta=config.beta,
        steps=config.steps,
        tolerance=config.tolerance,
    )
    full = F.interpolate(walked[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    full = full[:, : cams.shape[1], : cams.shape[2]].clamp(min=0)
    background, classes = full[:1], full[1:]
    return classes / (classes + background).clamp(min=1e-12)


def stretch(shares: Float[Tensor, "k h w"]) -> Float[Tensor, "k h w"]:
    """Return shares of which the image's highest is 1, where any exceeds 0.5; those up to 0.5 stay.

    Scores are read relative to an image's highest; so 0.5 remains where a class and the background are even.
    """
    highest = shares.max() if len(shares) else shares.new_zeros(())
    if highest <= 0.5:
        return shares
    return torch.where(shares > 0.5, 0.5 + 0.5 * (shares - 0.5) / (highest - 0.5), shares)


def radius_of(num_pairs: int) -> int:
    """Return the radius of so many pairs a pixel.

    Raises:
        ValueError: No radius has so many.
    """
    for radius in range(2, MAX_RADIUS):
        if len(offsets(radius)) == num_pairs:
            return radius
    raise ValueError(f"no radius has {num_pairs} pairs a pixel")
