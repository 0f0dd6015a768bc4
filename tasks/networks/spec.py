"""The record of a network: its settings, presets and builder, and all that commands and deployments derive from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from models.backbones import BACKBONES
from tasks.config import RunConfig
from tasks.engine.stage import Stage, training_stage

if TYPE_CHECKING:
    # Planning reads this module and loads no torch.
    from torch import nn

    from models.segmenter import BackboneFactory


# Any: each network narrows these fields, which pyright allows of no other type.
class NetworkSettings(RunConfig):
    """Base of every network's settings.

    Attributes:
        network: Name of the network, a literal: the settings are told apart by it.
        training: Settings of the stage that trains.
        testing: Settings of the stage that predicts.
    """

    network: Any
    training: Any
    testing: Any

    def with_training(self, **changes: Any) -> Self:
        """Return the settings with other values of the training; they are not checked."""
        return self.model_copy(update={"training": self.training.model_copy(update=changes)})


Presets = Mapping[str, Callable[[], NetworkSettings]]


@dataclass(frozen=True)
class Paper:
    """What a paper states of a network.

    Attributes:
        num_classes: Number of classes that the figures are for.
        figures: Name in `models.profile.Profile` -> value.
        size: (H, W) of the image that "gmacs" is for.
    """

    num_classes: int
    figures: Mapping[str, float]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Row:
    """Row of `pseudomask models`, which has one per backbone.

    Attributes:
        name: Name of the row, before that of the backbone.
        options: Keywords of the builder.
        papers: Backbone -> what a paper states; "" for a network with an encoder of its own.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    papers: Mapping[str, Paper] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkSpec:
    """Record of a network. `docs/how-to/add_a_network.md` says how to write one.

    Attributes:
        name: Name on the command line, of the stage that trains, and in records.
        title: Name in texts.
        settings: Class of its settings.
        presets: Name -> function that returns settings; "quick" is one of them.
        model: "module:function" of the builder: `(backbone, num_classes, **options) -> nn.Module`.
        stages: Module with `train` and `predict`.
        scores: Module with `score_shard` and `summarize`.
        learns: Label maps ("semantic") or instances with masks.
        deployment: Name of the Prefect flow and deployment, which the networks of one settings class share.
        follows_run: `pseudomask run --train` offers it: it learns a run's labels without other images.
        takes_weights: It can start from ImageNet weights.
        background: Its rows in `pseudomask models` count one class more, for the background.
        rows: Those rows; by default one.
    """

    name: str
    title: str
    settings: type[NetworkSettings]
    presets: Presets
    model: str
    stages: str = "tasks.networks.stages.segmentation"
    scores: str = "tasks.networks.stages.segmentation_scores"
    learns: Literal["semantic", "instances"] = "semantic"
    deployment: str = ""
    follows_run: bool = False
    takes_weights: bool = True
    background: bool = False
    rows: Sequence[Row] = ()

    @property
    def flow(self) -> str:
        """Name of the Prefect flow and deployment."""
        return self.deployment or self.name

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names in the registry of the backbones that it can be built on; none where its encoder is its own."""
        kinds = get_args(self.settings.model_fields["backbone"].annotation)
        return tuple(name for kind in kinds for name in get_args(kind) if name in BACKBONES)

    @property
    def pipeline(self) -> tuple[Stage, ...]:
        """Stages that train the network, apply it, and score it: NAME, NAME-predictions, NAME-scores, NAME-metrics."""
        predictions, scores, metrics = (f"{self.name}-{what}" for what in ("predictions", "scores", "metrics"))
        return (
            training_stage(
                self.name, f"{self.stages}:train", settings="training", reads_ground_truth=True, model=self.model
            ),
            Stage(
                predictions,
                f"{self.stages}:predict",
                (self.name,),
                settings="testing",
                on_device=True,
                model=self.model,
            ),
            Stage(scores, f"{self.scores}:score_shard", (predictions,), reads_ground_truth=True),
            Stage(metrics, f"{self.scores}:summarize", (scores,), sharded=False, reads_ground_truth=True),
        )

    def build(self, num_classes: int, backbone: BackboneFactory, options: Mapping[str, Any] | None = None) -> nn.Module:
        """Build the network.

        Args:
            num_classes: Values of a label map.
            backbone: Such as a `models.backbones.base.BackboneChoice`.
            options: Keywords of the builder.
        """
        from models.segmenter import build_network

        return build_network(self.model, self.name, num_classes, backbone, options or {})
