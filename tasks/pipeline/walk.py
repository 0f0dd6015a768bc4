"""Stage `walk`: instance-wise CAMs propagated by random walk (Sec. 5, Eq. 11 to 13)."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.displacement import instance_maps
from kernels.random_walk import propagate_batch
from tasks.engine.job import Job
from tasks.pipeline.score_maps import MapReader, SaliencyPrior, saliency_prior, save_maps
from tasks.pipeline.settings import WalkConfig

# Images that walk together: enough to fill a GPU.
BATCH = 32
# Saliency that leaves less of a class's CAM hides it.
HIDDEN = 0.2


def walk_scores(job: Job) -> dict[str, Any]:
    """Write the walked maps of every image's classes and instances.

    Summary: "instances", and with saliency what `compare_with_saliency` returns.
    """
    config = job.config
    assert isinstance(config, WalkConfig)
    prior = saliency_prior(job)
    semantic, instances, rows_of = {}, {}, {}
    fields = job.input("fields")
    with (
        MapReader(job.input("cams") / "cams.safetensors", prior and prior.factors) as cams,
        MapReader(fields / "boundary.safetensors") as boundaries,
        MapReader(fields / "displacement.safetensors") as displacements,
    ):
        for begin in range(0, len(job.samples), BATCH):
            batch = job.samples[begin : begin + BATCH]
            names = [sample.id for sample in batch if sample.id in cams]
            maps, walls, ways = (
                [reader[name].to(job.device) for name in names] for reader in (cams, boundaries, displacements)
            )
            for name, each, (walked, rows) in zip(names, maps, walk_batch(maps, walls, ways, config), strict=True):
                semantic[name] = sum_rows(walked, rows, len(each))
                instances[name], rows_of[name] = walked, rows
            job.progress(begin + len(batch), len(job.samples))
    save_maps(job.out / "semantic.safetensors", semantic)
    save_maps(job.out / "instances.safetensors", instances)
    (job.out / "instances.json").write_text(json.dumps(rows_of))
    return {"instances": sum(map(len, rows_of.values())), **(compare_with_saliency(job, prior) if prior else {})}


def compare_with_saliency(job: Job, prior: SaliencyPrior) -> dict[str, Any]:
    """Measure how much of the CAMs is salient: sum(CAM * saliency) / sum(CAM).

    Returns:
        Class number -> "tags", the images whose CAM of it is not empty; "salient", the sum of their shares; "hidden",
        those whose share is under `HIDDEN`.
    """
    tags, salient, hidden = Counter(), Counter(), Counter()
    with MapReader(job.input("cams") / "cams.safetensors") as cams:
        for sample in job.samples:
            if sample.id not in cams:
                continue
            maps = cams[sample.id]
            totals, parts = maps.sum((1, 2)), (maps * prior.saliency(sample.id)).sum((1, 2))
            for c, total, part in zip(sample.labels, totals.tolist(), parts.tolist(), strict=True):
                if total > 0:
                    tags[c] += 1
                    salient[c] += part / total
                    hidden[c] += part / total < HIDDEN
    return {"tags": dict(tags), "salient": dict(salient), "hidden": dict(hidden)}


def walk_instances(
    cams: Float[Tensor, "k h w"],
    boundary: Float[Tensor, "h w"],
    displacement: Float[Tensor, "2 h w"],
    config: WalkConfig,
) -> tuple[Float[Tensor, "n h w"], list[int]]:
    """Return the walked map of every (class, instance) that has any score, and the class row of each.

    Eq. 11: a class's CAM is cut along the class-agnostic instance map; Eq. 13: each piece walks on its own.
    """
    return walk_batch([cams], [boundary], [displacement], config)[0]


def walk_batch(
    cams: list[Float[Tensor, "k h w"]],
    boundaries: list[Float[Tensor, "h w"]],
    displacements: list[Float[Tensor, "2 h w"]],
    config: WalkConfig,
) -> list[tuple[Float[Tensor, "n h w"], list[int]]]:
    """Return what `walk_instances` returns, for each of several images of any sizes."""
    owner_maps = instance_maps(
        displacements, threshold=config.centroid_threshold_px, iterations=config.refine_iterations
    )
    pieces_of, rows_of = [], []
    for maps, owners in zip(cams, owner_maps, strict=True):
        pieces, rows = [maps.new_zeros(0, *maps.shape[1:])], []
        for row, cam in enumerate(maps):
            for owner in torch.unique(owners[cam > 0]).tolist():
                pieces.append(torch.where(owners == owner, cam, 0)[None])
                rows.append(row)
        pieces_of.append(torch.cat(pieces))
        rows_of.append(rows)
    walked = propagate_batch(
        pieces_of,
        boundaries,
        radius=config.radius_px,
        beta=config.beta,
        steps=config.steps,
        tolerance=config.tolerance,
    )
    return list(zip(walked, rows_of, strict=True))


def sum_rows(walked: Float[Tensor, "n h w"], rows: list[int], num_rows: int) -> Float[Tensor, "k h w"]:
    """Return the classes' walked maps: the walk is linear, so a class's is the sum of its instances'."""
    total = walked.new_zeros(num_rows, *walked.shape[1:])
    return total.index_add_(0, torch.tensor(rows, dtype=torch.long, device=walked.device), walked)
