"""Stage `walk`: instance-wise CAMs propagated by random walk (Sec. 5, Eq. 11 to 13)."""

from __future__ import annotations

import json
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.displacement import instance_map
from kernels.random_walk import propagate
from tasks.job import Job
from tasks.settings import WalkConfig
from tasks.stages.score_maps import MapReader, save_maps


def walk_scores(job: Job) -> dict[str, Any]:
    """Write the walked maps of every image's classes and instances."""
    config = job.config
    assert isinstance(config, WalkConfig)
    semantic, instances, rows_of = {}, {}, {}
    fields = job.input("fields")
    with (
        MapReader(job.input("cams") / "cams.safetensors") as cams,
        MapReader(fields / "boundary.safetensors") as boundaries,
        MapReader(fields / "displacement.safetensors") as displacements,
    ):
        for done, sample in enumerate(job.samples, start=1):
            maps = cams[sample.id]
            if maps is not None:
                boundary, displacement = boundaries[sample.id], displacements[sample.id]
                assert boundary is not None
                assert displacement is not None
                walked, rows = walk_instances(maps, boundary, displacement, config)
                semantic[sample.id] = sum_rows(walked, rows, len(maps))
                instances[sample.id], rows_of[sample.id] = walked, rows
            job.progress(done, len(job.samples))
    save_maps(job.out / "semantic.safetensors", semantic)
    save_maps(job.out / "instances.safetensors", instances)
    (job.out / "instances.json").write_text(json.dumps(rows_of))
    return {"instances": sum(map(len, rows_of.values()))}


def walk_instances(
    cams: Float[Tensor, "k h w"],
    boundary: Float[Tensor, "h w"],
    displacement: Float[Tensor, "2 h w"],
    config: WalkConfig,
) -> tuple[Float[Tensor, "n h w"], list[int]]:
    """Return the walked map of every (class, instance) that has any score, and the class row of each.

    Eq. 11: a class's CAM is cut along the class-agnostic instance map; Eq. 13: each piece walks on its own.
    """
    owners = instance_map(displacement, threshold=config.centroid_threshold_px, iterations=config.refine_iterations)
    pieces, rows = [], []
    for row, cam in enumerate(cams):
        for owner in torch.unique(owners[cam > 0]).tolist():
            pieces.append(torch.where(owners == owner, cam, 0))
            rows.append(row)
    if not pieces:
        return cams.new_zeros(0, *cams.shape[1:]), []
    walked = propagate(
        torch.stack(pieces),
        boundary,
        radius=config.radius_px,
        beta=config.beta,
        steps=config.steps,
        tolerance=config.tolerance,
    )
    return walked, rows


def sum_rows(walked: Float[Tensor, "n h w"], rows: list[int], num_rows: int) -> Float[Tensor, "k h w"]:
    """Return the classes' walked maps: the walk is linear, so a class's is the sum of its instances'."""
    total = walked.new_zeros(num_rows, *walked.shape[1:])
    return total.index_add_(0, torch.tensor(rows, dtype=torch.long), walked)
