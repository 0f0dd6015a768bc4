"""The plan of a run that makes labels, and its settings from its record."""

from __future__ import annotations

from collections.abc import Mapping

from data.dataset import Dataset, SampleWithRegions
from tasks.engine.artifact import SampleDigest
from tasks.engine.plan import Networks, Plan, make_plan
from tasks.engine.run_record import RunRecord
from tasks.pipeline import RESULTS, stages_of, with_external_cams, with_regions
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
    if any(isinstance(sample, SampleWithRegions) for sample in dataset.samples):
        stages = with_regions(stages)
    return make_plan(dataset, config, digests, stages, RESULTS, weights=weights, networks=networks)


def pipeline_settings(record: RunRecord) -> PipelineConfig:
    """Return the settings of a run that made labels.

    Raises:
        ArtifactError: Those of its record are not settings of this version.
    """
    return record.settings_as(PipelineConfig)
