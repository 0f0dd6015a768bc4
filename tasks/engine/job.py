"""What a stage function gets to do its work: everything it may read, and where it may write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.dataset import ClassTable, Sample
from tasks.config import Config


def _no_progress(done: int, total: int, note: str = "") -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class Job:
    """One unit of work of one stage: a shard of images, or the whole set for a training.

    A stage function has the signature `(job: Job) -> dict`; what it returns (a small JSON object) is stored
    as `summary` in the artifact's manifest. It writes its files below `out` and nowhere else.

    Attributes:
        samples: The images of this shard.
        classes: The class table of the set.
        config: The stage's own settings.
        inputs: Stage name -> folders of the artifacts this one is made from (one folder, or one a shard).
        out: An empty folder; published as the artifact once the function returns.
        scratch: A folder that outlives a kill under the same key: a training keeps its checkpoints here.
        stage: Name of the stage; where one function trains several networks, of the network.
        model: "module:function" of the network's builder, where one function serves several networks.
        backbone: Name in `models.backbones.BACKBONES`, or "timm:NAME".
        weights: File of ImageNet weights, one of `models.pretrained.ImageNetWeights` for torchvision's download, or
            None for random weights.
        device: "cpu", "cuda", "cuda:1".
        num_threads: Threads that the function may use on the CPU.
        num_processes: Processes that a training may use, each with its share of the threads or a GPU of its own.
        validation: Images with ground truth that a training is watched on.
        long_side: Range of the images' long side in pixels at which the stage works; see `tasks.training.working_size`.
        seed: Everything random derives from it.
        progress: Called as `progress(done, total, note)` now and then.
    """

    samples: tuple[Sample, ...]
    classes: ClassTable
    config: Config
    out: Path
    scratch: Path
    inputs: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    stage: str = ""
    model: str = ""
    backbone: str = "resnet50"
    weights: str | None = None
    device: str = "cpu"
    num_threads: int = 1
    num_processes: int = 1
    validation: tuple[Sample, ...] = ()
    long_side: tuple[int, int] | None = None
    seed: int = 0
    progress: Callable[..., None] = _no_progress

    def input(self, stage: str) -> Path:
        """Return the only artifact folder of an input stage."""
        (folder,) = self.inputs[stage]
        return folder


StageFunction = Callable[[Job], dict[str, Any]]
