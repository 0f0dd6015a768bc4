"""The folder of a run: labels, metrics and the record of what they were made from."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.cam_families import family_of
from data.dataset import Dataset, Problem
from data.files import atomic_write
from data.formats.quality import QUALITY, quality_text, read_quality
from data.store import explain_os_errors, open_store
from data.validation import tag_warnings
from flows.engine.collect import collect_labels, read_work, write_run_record, writing
from flows.engine.made import is_whole, judge_stage, may_be_made, tell_made
from flows.engine.request import PlannedRun, left_out_of, read_summary
from flows.labels.request import RunRequest, replan
from tasks.evaluation.health import CHECKED, warn_of_refinement
from tasks.pipeline.settings import PipelineConfig

log = logging.getLogger(__name__)
LISTED = "images.txt"


def collect(request: RunRequest, prepared: PlannedRun) -> Path:
    """Bring a finished run's artifacts together in `request.out`, and return that folder.

    Files that are there already with the right bytes stay; label maps of images that are gone are removed.

    Raises:
        ArtifactError: The folder cannot be written.
    """
    run = request.out
    with writing(request, "run") as output, explain_os_errors(run):
        collect_labels(output, "labels", prepared.plan.of("labels"), prepared.store, prepared.plan.dataset)
        metrics = json.dumps(_metrics(prepared), indent=1)
        output.claim(["metrics.json", QUALITY])
        atomic_write(run / QUALITY, _quality(prepared))
        atomic_write(run / "metrics.json", metrics)
    return run


def collect_made(request: RunRequest, dataset: Dataset, left_out: Sequence[Problem]) -> bool:
    """Collect the same run again whose artifacts are all there, in seconds: Prefect has nothing to do for it.

    Args:
        dataset, left_out: What `open_set` returned.

    Returns:
        Whether it is one.

    Raises:
        StageError: It has learnt nothing, and is not to go on.
        ArtifactError: The folder cannot be written.
    """
    if request.train or request.skip_bad or not may_be_made(request):
        return False
    prepared = PlannedRun(replan(request, dataset), open_store(request.store_address), tuple(left_out))
    if not is_whole(prepared):
        return False
    prepared.ready_store()
    write_run_record(request, prepared, "run")
    tell_made(prepared, go_on=request.go_on)
    collect(request, prepared)
    return True


def _quality(prepared: PlannedRun) -> str:
    """Return the content of `quality.csv`: a line per image, in the order of their ids."""
    folders = (prepared.store.fetch("quality", artifact.key) for artifact in prepared.plan.of("quality"))
    return quality_text(sorted(row for folder in folders for row in read_quality(folder / QUALITY)))


def _metrics(prepared: PlannedRun) -> dict[str, Any]:
    """Return scores where there is ground truth, images that were left out, seconds of each stage, and warnings."""
    metrics: dict[str, Any] = {}
    for artifact in prepared.plan.of("metrics"):
        metrics = json.loads((prepared.store.fetch("metrics", artifact.key) / "metrics.json").read_text())
        if "labels" in metrics["semantic"]:
            for method, chosen in _thresholds(prepared).items():
                if method in metrics["semantic"]:
                    metrics["semantic"][method]["threshold"] = chosen["background"]
    understood, work = _understood(prepared), read_work(prepared.plan, prepared.store)
    assert isinstance(prepared.plan.config, PipelineConfig)
    refiner = prepared.plan.config.refiner
    understood["warnings"] += warn_of_refinement(metrics.get("semantic", {}), refiner)
    images = {"images": len(prepared.plan.dataset.samples), **left_out_of(prepared.problems)}
    return {**metrics, **images, **understood, **work}


def _thresholds(prepared: PlannedRun) -> dict[str, dict[str, Any]]:
    """Return the thresholds that relations and labels were made with, chosen for the set or set."""
    plan = prepared.plan
    assert isinstance(plan.config, PipelineConfig)
    found: dict[str, dict[str, Any]] = {}
    # Relations of AffinityNet have powers instead, unless these follow from thresholds.
    if plan.of("relations") and (plan.config.refiner == "irnet" or plan.of("thresholds")):
        relations = plan.config.relations
        found["relations"] = {
            "foreground": relations.foreground_threshold,
            "background": relations.background_threshold,
        }
        for artifact in plan.of("thresholds"):
            found["relations"] = read_summary(prepared, artifact)
    first, *_ = plan.of("labels")
    settings = json.loads((prepared.store.fetch("labels", first.key) / "settings.json").read_text())
    found["labels"] = {"background": settings["background_threshold"], "sure": settings["sure_thresholds"]}
    if plan.of("pixel-scores"):
        found["walk"] = found["labels"]
        found["labels"] = {"background": settings["pixel_threshold"], "sure": settings["sure_pixel_thresholds"]}
    return found


def _understood(prepared: PlannedRun) -> dict[str, Any]:
    """Return what is known of a run without ground truth.

    "classes": where their names come from, and how many images have each; "thresholds": those that were set or chosen;
    "cams": the maps of another method, where it made them; "displacement": what the field divides; "tags": what
    classifier, relations and labels found of them; "failures" and "warnings".
    """
    plan, facts, failures = prepared.plan, {}, []
    warnings = tag_warnings(prepared.plan.dataset)
    for stage in CHECKED:
        found = judge_stage(prepared, stage)
        facts |= found.facts
        failures += found.failures
        warnings += found.warnings
    counts = Counter(label for sample in plan.dataset.samples for label in sample.labels)
    names = plan.dataset.classes.names
    return {
        "classes": {
            "origin": plan.dataset.classes.origin,
            "images": {names[c]: counts[c] for c in sorted(counts)},
            "without_images": [name for c, name in enumerate(names) if c not in counts],
        },
        **_external_cams(prepared),
        **_displacement(prepared),
        "thresholds": _thresholds(prepared),
        "tags": facts,
        "failures": failures,
        "warnings": warnings,
    }


def _displacement(prepared: PlannedRun) -> dict[str, Any]:
    """Return "displacement" of a run that trained an IRNet: into how many instances its field divides the connected
    areas of sure foreground in some images, and how far it varies there, in feature pixels."""
    for artifact in prepared.plan.of("irnet"):
        found = {} if artifact.origin else read_summary(prepared, artifact)
        if "instances" in found:
            spread = {"spread_px": found["displacement_spread_px"]}
            return {"displacement": {name: found[name] for name in ("components", "instances")} | spread}
    return {}


def _external_cams(prepared: PlannedRun) -> dict[str, Any]:
    """Return "cams" of a run with maps of another method: what they are, and whether their own thresholds count."""
    plan = prepared.plan
    cams = plan.dataset.cams
    if cams is None:
        return {}
    assert isinstance(plan.config, PipelineConfig)
    presets, relations = family_of(cams.family).presets, plan.config.relations
    own = (relations.foreground_threshold, relations.background_threshold, plan.config.labels.background_threshold)
    facts = {"origin": cams.origin, "family": cams.family, "classes": sum(map(bool, cams.names))}
    facts |= {"files": sum(sample.cams is not None for sample in plan.dataset.samples)}
    facts |= {"presets": presets and presets._asdict(), "presets_used": presets is not None and own == presets}
    return {"cams": facts | {"classifier": "none was trained, so there is no AP of the tags"}}
