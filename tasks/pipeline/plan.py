"""The plan of a run that makes labels, and its settings from its record."""

from __future__ import annotations

from collections.abc import Mapping

from data.dataset import Dataset, SampleWithMore
from tasks.engine.artifact import SampleDigest
from tasks.engine.plan import Networks, Plan, make_plan
from tasks.engine.run_record import RunRecord
from tasks.pipeline import RESULTS, stages_of, with_external_cams, with_hints, with_regions
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


def pipeline_settings(record: RunRecord) -> PipelineConfig:
    """Return the settings of a run that made labels.

    Raises:
        ArtifactError: Those of its record are not settings of this version.
    """
    return record.settings_as(PipelineConfig)
