"""From image-level labels to masks: the stages, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from tasks.engine.stage import Stage, training_stage

_choice = partial(Stage, sharded=False, chooses=True)
_pixels = partial(Stage, settings="pixels", on_device=True, switch="folds")

STAGES = (
    Stage("saliency", "tasks.pipeline.seeds.saliency_prior:find_saliency", settings="saliency", reads_saliency=True),
    training_stage("classifier", "tasks.pipeline.seeds.classifier:train_classifier", settings="classifier"),
    Stage("cams", "tasks.pipeline.seeds.cams:infer_cams", ("classifier",), settings="cams", on_device=True),
    _choice("thresholds", "tasks.pipeline.thresholds:choose_thresholds", ("cams", "saliency"), settings="relations"),
    Stage(
        "relations",
        "tasks.pipeline.relations:mine_relations",
        ("cams", "saliency", "thresholds"),
        settings="relations",
        on_device=True,
    ),
    training_stage("irnet", "tasks.pipeline.irnet:train_irnet", ("classifier", "relations"), settings="irnet"),
    Stage("fields", "tasks.pipeline.fields:infer_fields", ("irnet",), settings="fields", on_device=True),
    Stage("walk", "tasks.pipeline.walk:walk_scores", ("cams", "saliency", "fields"), settings="walk", on_device=True),
    _choice(
        "label-thresholds",
        "tasks.pipeline.thresholds:choose_label_thresholds",
        ("walk", "cams", "saliency", "thresholds"),
        settings="labels",
    ),
    _pixels(
        "pixel-classifier",
        "tasks.pipeline.pixels:train_pixels",
        ("irnet", "walk", "saliency", "label-thresholds"),
        sharded=False,
        seeded=True,
    ),
    _pixels("pixel-scores", "tasks.pipeline.pixels:infer_pixels", ("irnet", "pixel-classifier")),
    Stage(
        "labels",
        "tasks.pipeline.labels:synthesize_labels",
        ("walk", "saliency", "label-thresholds", "pixel-scores", "cams", "thresholds"),
        settings="labels",
    ),
    Stage(
        "quality",
        "tasks.pipeline.confidence.quality:measure_quality",
        ("cams", "saliency", "labels"),
        settings="quality",
    ),
    Stage(
        "scores",
        "tasks.pipeline.scores:score_shard",
        ("cams", "saliency", "walk", "pixel-scores", "labels"),
        settings="scores",
        reads_ground_truth=True,
    ),
    Stage("metrics", "tasks.pipeline.metrics:summarize", ("scores",), sharded=False, reads_ground_truth=True),
)
RESULTS = ("labels", "quality", "metrics")
_AFFINITY_STAGES = {
    "relations": Stage(
        "relations",
        "tasks.pipeline.refiners.affinity_relations:mine_affinity_relations",
        ("cams", "saliency", "thresholds"),
        settings="affinity_relations",
        on_device=True,
    ),
    "irnet": training_stage(
        "affinitynet",
        "tasks.pipeline.refiners.affinitynet:train_affinitynet",
        ("classifier", "relations"),
        settings="affinitynet",
    ),
    "fields": Stage(
        "affinities",
        "tasks.pipeline.refiners.affinities:infer_affinities",
        ("affinitynet",),
        settings="affinities",
        on_device=True,
    ),
    "walk": Stage(
        "walk",
        "tasks.pipeline.refiners.affinity_walk:walk_by_affinities",
        ("cams", "saliency", "thresholds", "affinities"),
        settings="affinity_walk",
        on_device=True,
    ),
    "pixel-classifier": _pixels(
        "pixel-classifier",
        "tasks.pipeline.refiners.affinity_pixels:train_affinity_pixels",
        ("affinitynet", "walk", "saliency", "label-thresholds"),
        sharded=False,
        seeded=True,
    ),
    "pixel-scores": _pixels(
        "pixel-scores",
        "tasks.pipeline.refiners.affinity_pixels:infer_affinity_pixels",
        ("affinitynet", "pixel-classifier"),
    ),
}
# A stage of None is not there.
_UNREFINED_STAGES = {
    "relations": None,
    "irnet": None,
    "fields": None,
    "walk": Stage("walk", "tasks.pipeline.refiners.unrefined:pass_cams", ("cams",)),
    "pixel-classifier": None,
    "pixel-scores": None,
}
_REFINERS: Mapping[str, Mapping[str, Stage | None]] = {
    "irnet": {},
    "affinitynet": _AFFINITY_STAGES,
    "none": _UNREFINED_STAGES,
}


def stages_of(refiner: str) -> list[Stage]:
    """Return the table of a run with a refiner: its stages take the places of IRNet's."""
    others = _REFINERS[refiner]
    return [stage for each in STAGES if (stage := others.get(each.name, each)) is not None]


def trained_stages(refiner: str) -> tuple[str, ...]:
    """Return the names of the stages that train the networks of a run with a refiner, in their order."""
    return tuple(stage.name for stage in stages_of(refiner) if stage.uses_pretrained)


UNREFINED = "labels-before-regions"


def with_external_cams(stages: Sequence[Stage]) -> list[Stage]:
    """Return the table for class attention maps of another method: `cams` reads files, and there is no classifier."""
    files = Stage("cams", "tasks.pipeline.seeds.external_cams:read_external_cams", reads_cams=True)
    others = (replace(each, needs=tuple(need for need in each.needs if need != "classifier")) for each in stages)
    return [files if each.name == "cams" else each for each in others if each.name != "classifier"]


def with_regions(stages: Sequence[Stage]) -> list[Stage]:
    """Return the table for regions of a segmenter: what was `labels` comes before, and `labels` refines it by them."""
    function, needs = "tasks.pipeline.regions.labels:refine_labels", (UNREFINED, "walk")
    refined = Stage("labels", function, needs, settings="regions", reads_regions=True)
    found: list[Stage] = []
    for each in stages:
        found += [replace(each, name=UNREFINED), refined] if each.name == "labels" else [each]
    return found


HINTED = ("cams", "relations", "pixel-classifier", "labels", UNREFINED)
"""The stages that hints change: see `tasks.pipeline.seeds.hints`."""


def with_hints(stages: Sequence[Stage]) -> list[Stage]:
    """Return the table for a set of whose pixels a person said something."""
    names = {each.name for each in stages}
    found = [replace(each, reads_hints=each.name in HINTED) for each in stages]
    maker = UNREFINED if UNREFINED in names else "labels"
    # What a person said of a pixel grows as far as the boundaries let it.
    grows = {maker} if "fields" in names else set()
    return [replace(each, needs=(*each.needs, "fields")) if each.name in grows else each for each in found]


EVERY_STAGE = (*with_regions(STAGES), *_AFFINITY_STAGES.values())
"""All that runs may have, of every refiner; several have one name."""


def groups_without_a_stage(refiner: str, *, cams: bool = False, networks: bool = False) -> list[str]:
    """Return the sections of `PipelineConfig` that are of stages which a run does not have.

    Args:
        refiner: Of the run.
        cams: The attention maps are another method's, so there is no classifier.
        networks: Those of an earlier run are used, so nothing is trained.
    """
    stages = stages_of(refiner)
    if cams:
        stages = with_external_cams(stages)
    if networks:
        stages = [each for each in stages if not each.uses_pretrained]
    groups = {each.settings for each in stages}
    every = (*STAGES, *_AFFINITY_STAGES.values())
    return list(dict.fromkeys(each.settings for each in every if each.settings and each.settings not in groups))
