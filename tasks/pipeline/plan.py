"""The plan of a run that makes labels, and its settings from its record."""

from __future__ import annotations

from collections.abc import Mapping

from data.dataset import Dataset, SampleWithMore
from tasks.config import changed_values
from tasks.engine.artifact import SampleDigest
from tasks.engine.plan import Networks, Plan, make_plan
from tasks.engine.run_record import RunRecord
from tasks.pipeline import (
    EVERY_STAGE,
    RESULTS,
    groups_without_a_stage,
    stages_of,
    with_external_cams,
    with_hints,
    with_regions,
)
from tasks.pipeline.settings import PipelineConfig


def plan_labels(
    dataset: Dataset,
    config: PipelineConfig,
    digests: Mapping[str, SampleDigest],
    *,
    weights: str | None = None,
    networks: Networks | None = None,
) -> Plan:
    """Lay out all artifacts of a run that makes labels; the arguments are those of `make_plan`."""
    stages = stages_of(config.refiner)
    if dataset.cams:
        stages = with_external_cams(stages)
    more = [sample for sample in dataset.samples if isinstance(sample, SampleWithMore)]
    if any(sample.regions for sample in more):
        stages = with_regions(stages)
    if any(sample.hints for sample in more):
        stages = with_hints(stages)
    return make_plan(dataset, config, digests, stages, RESULTS, weights=weights, networks=networks)


def without_effect(
    config: PipelineConfig, preset: PipelineConfig, *, cams: bool = False, networks: bool = False
) -> list[str]:
    """Return the names of settings that are not the preset's, and of stages that a run does not have.

    To leave out what is not there (`pixels.folds` 0) is not among them.

    Args:
        cams: The attention maps are another method's, so there is no classifier.
        networks: Those of an earlier run are used, so nothing is trained.
    """
    changed = changed_values(config.model_dump(), preset.model_dump())
    left_out = {(stage.settings, stage.switch, 0) for stage in EVERY_STAGE if stage.switch}
    return [
        f"{group}.{name}"
        for group in groups_without_a_stage(config.refiner, cams=cams, networks=networks)
        for name, value in changed.get(group, {}).items()
        if (group, name, value) not in left_out
    ]


def pipeline_settings(record: RunRecord) -> PipelineConfig:
    """Return the settings of a run that made labels.

    Raises:
        ArtifactError: Those of its record are not settings of this version.
    """
    return record.settings_as(PipelineConfig)
