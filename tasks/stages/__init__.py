"""The stages of the pipeline, as data: what each runs, over what, and what it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from tasks.source import source_digest


@dataclass(frozen=True)
class Stage:
    """One row of the table in `docs/architecture.md`.

    Attributes:
        name: Also the folder of its artifacts in the store.
        function: "module:name" of a `tasks.job.StageFunction`; a name, so that planning does not load torch.
        needs: The stages whose artifacts it reads.
        sharded: Runs over shards side by side, one thread each; otherwise over the whole set on all cores.
        settings: Its section in `PipelineConfig`, or None.
        seeded: Draws random numbers, so the seed is part of its key.
        uses_pretrained: Starts from the backbone and its ImageNet weights, so they are part of its key.
        reads_ground_truth: Runs over the samples that have any, whose ground truth is part of its key.
        reads_saliency: The saliency of its samples is part of its key; where none has any, the stage is not there.
        reads_cams: The files of its samples' maps, which another method made, are part of its key; its settings are
            what the set says of them.
        on_device: Computes on the GPU where the run has one.
        chooses: Chooses what its settings leave "auto"; where they leave nothing, the stage is not there.
        switch: The setting that leaves the stage out where it is 0.
        model: "module:function" of the builder of its network, where one stage function serves several networks.
    """

    name: str
    function: str
    needs: tuple[str, ...] = ()
    sharded: bool = True
    settings: str | None = None
    seeded: bool = False
    uses_pretrained: bool = False
    reads_ground_truth: bool = False
    reads_saliency: bool = False
    reads_cams: bool = False
    on_device: bool = False
    chooses: bool = False
    switch: str | None = None
    model: str = ""

    @property
    def source(self) -> str:
        """Digest of the source that the stage uses, its network's among it."""
        digests = [source_digest(name) for name in (self.function, self.model) if name]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


training_stage = partial(Stage, sharded=False, seeded=True, uses_pretrained=True, on_device=True)
_choice = partial(Stage, sharded=False, chooses=True)
_pixels = partial(Stage, settings="pixels", on_device=True, switch="folds")

STAGES = (
    Stage("saliency", "tasks.stages.saliency_prior:find_saliency", settings="saliency", reads_saliency=True),
    training_stage("classifier", "tasks.stages.classifier:train_classifier", settings="classifier"),
    Stage("cams", "tasks.stages.cams:infer_cams", ("classifier",), settings="cams", on_device=True),
    _choice("thresholds", "tasks.stages.thresholds:choose_thresholds", ("cams", "saliency"), settings="relations"),
    Stage(
        "relations",
        "tasks.stages.relations:mine_relations",
        ("cams", "saliency", "thresholds"),
        settings="relations",
        on_device=True,
    ),
    training_stage("irnet", "tasks.stages.irnet:train_irnet", ("classifier", "relations"), settings="irnet"),
    Stage("fields", "tasks.stages.fields:infer_fields", ("irnet",), settings="fields", on_device=True),
    Stage("walk", "tasks.stages.walk:walk_scores", ("cams", "saliency", "fields"), settings="walk", on_device=True),
    _choice(
        "label-thresholds",
        "tasks.stages.thresholds:choose_label_thresholds",
        ("walk", "cams", "saliency", "thresholds"),
        settings="labels",
    ),
    _pixels(
        "pixel-classifier",
        "tasks.stages.pixels:train_pixels",
        ("irnet", "walk", "saliency", "label-thresholds"),
        sharded=False,
        seeded=True,
    ),
    _pixels("pixel-scores", "tasks.stages.pixels:infer_pixels", ("irnet", "pixel-classifier")),
    Stage(
        "labels",
        "tasks.stages.labels:synthesize_labels",
        ("walk", "saliency", "label-thresholds", "pixel-scores"),
        settings="labels",
    ),
    Stage(
        "scores",
        "tasks.stages.scores:score_shard",
        ("cams", "saliency", "walk", "pixel-scores", "labels"),
        settings="scores",
        reads_ground_truth=True,
    ),
    Stage("metrics", "tasks.stages.metrics:summarize", ("scores",), sharded=False, reads_ground_truth=True),
)
RESULTS = ("labels", "metrics")


def with_external_cams(stages: Sequence[Stage]) -> list[Stage]:
    """Return the table for class attention maps of another method: `cams` reads files, and there is no classifier."""
    files = Stage("cams", "tasks.stages.external_cams:read_external_cams", reads_cams=True)
    others = (replace(each, needs=tuple(need for need in each.needs if need != "classifier")) for each in stages)
    return [files if each.name == "cams" else each for each in others if each.name != "classifier"]
