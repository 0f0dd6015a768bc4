"""Presets of later methods, as data: attention maps of others, refined with the settings of their authors' code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.cam_families import Presets, family_of
from flows.engine.presets import merged
from tasks.pipeline.settings import PipelineConfig


@dataclass(frozen=True)
class Successor:
    """Method whose attention maps a run takes. Its preset and the family of its maps have one name.

    Attributes:
        paper: Authors, venue and year.
        source: File of the authors' code that has the numbers.
        settings: What differs from preset voc12, besides the family's thresholds.
        lacks: What the authors' code does and this preset does not; "" for nothing.
    """

    paper: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    lacks: str = ""


SUCCESSORS: Mapping[str, Successor] = {
    "recam": Successor("Chen et al., CVPR 2022", "run_sample.py"),
    "advcam": Successor("Lee et al., CVPR 2021", "run_sample.py"),
    "amn": Successor("Lee et al., CVPR 2022", "run_sample.py"),
    "clims": Successor("Xie et al., CVPR 2022", "run_sample.py"),
    "clip-es": Successor(
        "Lin et al., CVPR 2023",
        "eval_cam_with_crf.py",
        settings={"refiner": "none", "labels": {"crf_iterations": 10}},
        lacks="its CRF starts from probabilities, has other widths, and leaves pixels void that it gives under 0.95",
    ),
    "sipe": Successor("Chen et al., CVPR 2022", "cam2ir.py, make_seg_labels.py"),
}
"""Name -> method."""


def with_thresholds(settings: PipelineConfig, thresholds: Presets) -> PipelineConfig:
    """Return settings with a method's thresholds of confident pixels and of the labels."""
    update = {"foreground_threshold": thresholds.foreground, "background_threshold": thresholds.background}
    relations = settings.relations.model_copy(update=update)
    labels = settings.labels.model_copy(update={"background_threshold": thresholds.labels})
    return settings.model_copy(update={"relations": relations, "labels": labels})


def successor_preset(name: str, base: Callable[[], PipelineConfig]) -> Callable[[], PipelineConfig]:
    """Return the preset of a method: `base` with the thresholds of its maps and with its settings."""
    method, family = SUCCESSORS[name], family_of(name)

    def preset() -> PipelineConfig:
        assert family.presets is not None
        settings = with_thresholds(base(), family.presets)
        return PipelineConfig.model_validate(merged(settings.model_dump(), dict(method.settings)))

    lacks = f" Not built: {method.lacks}." if method.lacks else ""
    preset.__doc__ = (
        f"Attention maps of {family.writer} on PASCAL VOC 2012 ({method.paper}). Numbers from its {method.source}.\n\n"
        f"Command: `pseudomask run --data VOC2012 --split train_aug --cams maps --preset {name} --out runs/{name}`\n"
        f"It was not run here.{lacks}"
    )
    return preset
