"""One row of the table of stages: what it runs, over what, and what it reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

from data.dataset import CamSource
from tasks.config import Config
from tasks.engine.source import source_digest


@dataclass(frozen=True)
class Stage:
    """One row of the table in `docs/architecture.md`.

    Attributes:
        name: Also the folder of its artifacts in the store.
        function: "module:name" of a `tasks.engine.job.StageFunction`; a name, so that planning does not load torch.
        needs: The stages whose artifacts it reads.
        sharded: Runs over shards side by side, one thread each; otherwise over the whole set on all cores.
        settings: Its section in `PipelineConfig`, or None.
        seeded: Draws random numbers, so the seed is part of its key.
        uses_pretrained: Starts from the backbone and its ImageNet weights, so they are part of its key.
        reads_ground_truth: Runs over the samples that have any, whose ground truth is part of its key.
        reads_saliency: The saliency of its samples is part of its key; where none has any, the stage is not there.
        reads_regions: The regions of its samples are part of its key.
        reads_hints: What a person said of their pixels is part of its key.
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
    reads_regions: bool = False
    reads_hints: bool = False
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


class ExternalCamConfig(Config):
    """What class attention maps of another method are: settings of stage `cams` that follow from their folder.

    Attributes:
        family, names, missing: As of `data.dataset.CamSource`.
    """

    family: str
    names: tuple[str, ...]
    missing: str = "error"

    @property
    def source(self) -> CamSource:
        """The same for `data.cam_maps.read_cams`."""
        return CamSource(self.family, self.names, self.missing)
