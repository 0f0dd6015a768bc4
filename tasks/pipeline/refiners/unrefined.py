"""Stage `walk` of a run without a refiner: the class attention maps as they are."""

from __future__ import annotations

import json
from typing import Any

from tasks.engine.job import Job
from tasks.pipeline.score_maps import MapReader, save_maps


def pass_cams(job: Job) -> dict[str, Any]:
    """Write the CAMs in the place of walked maps, of classes and of instances: a class is one.

    Summary: "instances".
    """
    with MapReader(job.input("cams") / "cams.safetensors") as cams:
        maps = {sample.id: cams[sample.id] for sample in job.samples if sample.id in cams}
    rows_of = {name: list(range(len(each))) for name, each in maps.items()}
    save_maps(job.out / "semantic.safetensors", maps)
    save_maps(job.out / "instances.safetensors", maps)
    (job.out / "instances.json").write_text(json.dumps(rows_of))
    return {"instances": sum(map(len, rows_of.values()))}
