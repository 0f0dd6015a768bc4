"""Stage `relations`: confident pixels, refined by dense CRF, from which IRNet learns (Sec. 4.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from data.images import read_image
from data.label_maps import write_label_map
from kernels.crf import refine_many
from tasks.job import Job
from tasks.settings import RelationsConfig
from tasks.stages.score_maps import MapReader, strongest, upsample

IGNORE = 255


def mine_relations(job: Job) -> dict[str, Any]:
    """Write the confident label map of every image. One without labels is background throughout."""
    config = job.config
    assert isinstance(config, RelationsConfig)
    confident, total = 0, 0
    with MapReader(job.input("cams") / "cams.safetensors") as maps:
        for done, sample in enumerate(job.samples, start=1):
            image = read_image(sample.image)
            cams = maps[sample.id]
            if cams is None:
                labels = np.zeros(image.shape[:2], np.uint8)
            else:
                labels = confident_labels(image, cams, sample.labels, config)
            write_label_map(job.out / f"{sample.id}.png", labels)
            confident, total = confident + int((labels != IGNORE).sum()), total + labels.size
            job.progress(done, len(job.samples))
    return {"confident_share": round(confident / total, 4)}


def confident_labels(
    image: NDArray[np.uint8], cams: Float[Tensor, "k h w"], labels: tuple[int, ...], config: RelationsConfig
) -> NDArray[np.uint8]:
    """Return class values [H, W]: the class where foreground is sure, 0 where background is, 255 elsewhere.

    Args:
        image: RGB, [H, W, 3].
        cams: The image's maps at stride 4, values in [0, 1].
        labels: The class of each map.
        config: Thresholds and the CRF's settings.
    """
    full = upsample(cams, (image.shape[0], image.shape[1]))

    thresholds = (config.foreground_threshold, config.background_threshold)
    foreground, background = refine_many(
        image,
        [strongest(full, threshold)[0].numpy() for threshold in thresholds],
        [len(labels) + 1] * len(thresholds),
        iterations=config.crf_iterations,
        confidence=config.crf_confidence,
    )
    values = np.array([IGNORE, *(c + 1 for c in labels)], np.uint8)
    mined = values[foreground]
    mined[(foreground == 0) & (background == 0)] = 0
    return mined
