"""The stages of the pipeline, as data: what each runs, over what, and what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tasks.networks import NETWORK_SETTINGS


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
        on_device: Computes on the GPU where the run has one.
        chooses: Chooses what its settings leave "auto"; where they leave nothing, the stage is not there.
        switch: The setting that leaves the stage out where it is 0.
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
    on_device: bool = False
    chooses: bool = False
    switch: str | None = None


_training = partial(Stage, sharded=False, seeded=True, uses_pretrained=True, on_device=True)
_choice = partial(Stage, sharded=False, chooses=True)
_pixels = partial(Stage, settings="pixels", on_device=True, switch="folds")

STAGES = (
    Stage("saliency", "tasks.stages.saliency_prior:find_saliency", settings="saliency", reads_saliency=True),
    _training("classifier", "tasks.stages.classifier:train_classifier", settings="classifier"),
    Stage("cams", "tasks.stages.cams:infer_cams", ("classifier",), settings="cams", on_device=True),
    _choice("thresholds", "tasks.stages.thresholds:choose_thresholds", ("cams", "saliency"), settings="relations"),
    Stage(
        "relations",
        "tasks.stages.relations:mine_relations",
        ("cams", "saliency", "thresholds"),
        settings="relations",
        on_device=True,
    ),
    _training("irnet", "tasks.stages.irnet:train_irnet", ("classifier", "relations"), settings="irnet"),
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


def _network_stages(name: str, module: str, kind: str) -> tuple[Stage, ...]:
    """Return the stages that train a network, apply it, and score what it predicts.

    Args:
        module: Has `train` and `predict`.
        kind: Module with `score_shard` and `summarize`.
    """
    predictions, scores, metrics = (f"{name}-{what}" for what in ("predictions", "scores", "metrics"))
    return (
        _training(name, f"{module}:train", settings="training", reads_ground_truth=True),
        Stage(predictions, f"{module}:predict", (name,), settings="testing", on_device=True),
        Stage(scores, f"{kind}:score_shard", (predictions,), reads_ground_truth=True),
        Stage(metrics, f"{kind}:summarize", (scores,), sharded=False, reads_ground_truth=True),
    )


# Module with a network's stages, where it is not that of all networks that give pixels a class; and of its scores.
_MODULES = {
    "saliency-deeplabv3plus": ("tasks.stages.saliency", "tasks.stages.segmentation_scores"),
    "maskrcnn": ("tasks.stages.maskrcnn", "tasks.stages.detection_scores"),
}
_OF_PIXELS = ("tasks.stages.segmenter", "tasks.stages.segmentation_scores")

NETWORK_STAGES: dict[str, tuple[Stage, ...]] = {
    name: _network_stages(name, *_MODULES.get(name, _OF_PIXELS)) for name in NETWORK_SETTINGS
}
"""Network -> its stages, of the names NAME, NAME-predictions, NAME-scores and NAME-metrics."""
