"""What all trainings of networks on label maps or instance masks have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.config import Config
from tasks.settings import Fraction, LearningRate, NonNegative, OptimizerName, Positive, PositiveInt, RateFactor, Steps


class TrainerConfig(Config):
    """What the trainer of every network can be told.

    Attributes:
        batch_size: Images of a step, of all processes together.
        batch_parts: A process's share of a step is computed in this many parts, which takes less memory. Batch norm
            that is trained is over a part's images.
        epochs: Passes over the set.
        steps: Least and largest number of steps, which bound those of the epochs: few images are seen more often, and a
            large set not as often. Figures and validation are then of a sixteenth of the steps. None for no bounds.
        optimizer: "sgd", "adam" or "adamw".
        learning_rate: Of the backbone.
        head_lr_factor: What is not the backbone learns this many times faster.
        momentum: Of SGD.
        power: Learning rates decay by (1 - step / steps) ** power.
        warmup_steps: Steps in which they grow from nothing first.
        clip_norm: Largest norm of the gradients; None for any.
        ema_decay: Decay of a moving average of the weights, which is then what is tested and kept; None for none.
        precision: Of the network's arithmetic; "auto" is bfloat16 on a GPU and float32 elsewhere. With float16 losses
            are scaled.
        freeze_norm: Keep batch norm at the statistics of the pretrained weights. Without such it is trained.
        sync_norm: Batch norm that is trained is over the images of all processes, as of one; without, over each
            process's share.
        validate_epochs: The network is tested on the validation images after this many epochs, at one scale.
        keep: The network that comes out: the "last", or the "best" on the validation images.
        log_steps: TensorBoard's logs get the mean of so many steps; 0 for no logs.
    """

    batch_size: PositiveInt = 10
    batch_parts: PositiveInt = 1
    epochs: PositiveInt = 19
    steps: Steps | None = None
    optimizer: OptimizerName = "sgd"
    learning_rate: LearningRate = 2.5e-4
    head_lr_factor: RateFactor = 10.0
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 5e-4
    power: NonNegative = 0.9
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Positive | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    freeze_norm: bool = True
    sync_norm: bool = True
    validate_epochs: PositiveInt = 1
    keep: Literal["last", "best"] = "last"
    log_steps: Annotated[int, Field(ge=0)] = 10
