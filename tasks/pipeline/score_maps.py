"""Score maps between stages: stored at stride 4 in half precision, used at the image's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Integer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from tasks.engine.job import Job
from tasks.pipeline.settings import SaliencyPriorConfig

SALIENCY_MAPS, SALIENCY_SETTINGS = "saliency.safetensors", "settings.json"
PIXEL_SCORES, OBJECT_SCORES = "pixels.safetensors", "objects.safetensors"
Factors = Callable[[str], Float[Tensor, "k h w"]]
"""Sample id -> what its score maps are multiplied by."""


def save_maps(path: Path, maps: Mapping[str, Tensor]) -> None:
    """Write maps of values as float16, by sample id."""
    save_file({key: value.half().cpu().contiguous() for key, value in maps.items()}, path)


class MapReader:
    """Maps of a shard, read one at a time.

    Use as `with MapReader(path) as maps: maps["sample"]`, where `"sample" in maps`.

    Args:
        path: The file.
        factors: What maps are multiplied by as they are read; None for nothing.
    """

    def __init__(self, path: Path, factors: Factors | None = None) -> None:
        self._file = safe_open(path, framework="pt")
        self._factors = factors

    def __enter__(self) -> MapReader:
        self._open = self._file.__enter__()
        self._keys = set(self._open.keys())
        return self

    @property
    def names(self) -> list[str]:
        """The sample ids, ascending."""
        return sorted(self._keys)

    def __exit__(self, *exception: object) -> None:
        self._file.__exit__(*exception)

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._keys

    def __getitem__(self, sample_id: str) -> Float[Tensor, ...]:
        maps = self._open.get_tensor(sample_id).float()
        return maps if self._factors is None else maps * self._factors(sample_id)


NEUTRAL = 0.25
"""Saliency that says nothing: what networks of saliency find salient of a photograph, about a quarter."""


class SaliencyPrior:
    """The saliency that a job reads, and what it makes of the scores of each sample's classes.

    Args:
        job: Has the input `saliency`.
    """

    def __init__(self, job: Job) -> None:
        folders = job.inputs["saliency"]
        config = SaliencyPriorConfig.model_validate_json((folders[0] / SALIENCY_SETTINGS).read_text())
        self.floor = config.floor
        salient = [name not in config.non_salient for name in job.classes.names]
        self._salient = {sample.id: [salient[c] for c in sample.labels] for sample in job.samples}
        self._files: dict[str, Path] = {}
        for folder in folders:
            with MapReader(folder / SALIENCY_MAPS) as maps:
                self._files |= dict.fromkeys(maps.names, folder / SALIENCY_MAPS)

    def saliency(self, sample_id: str) -> Float[Tensor, "k h w"]:
        """Return the saliency of each of a sample's classes, in [0, 1]: 1 everywhere for those that are not salient."""
        with MapReader(self._files[sample_id]) as maps:
            saliency = maps[sample_id]
        return torch.where(self.is_salient(sample_id), saliency, 1.0)

    def factors(self, sample_id: str) -> Float[Tensor, "k h w"]:
        """Return floor + (1 - floor) * saliency, in [0, 1]."""
        return self.floor + (1 - self.floor) * self.saliency(sample_id)

    def evidence(self, sample_id: str) -> Float[Tensor, "k h w"]:
        """Return what saliency s multiplies the odds of each class against background by: o(s) / o(`NEUTRAL`).

        o(s) = (f + (1 - f) s) / (1 - (1 - f) s) are its own odds, with the floor f. A map's odds before anything is
        seen are those of the share of an image that is salient; what it says beyond is evidence. Classes that are not
        salient get 1 everywhere.
        """
        found = self._odds(self.saliency(sample_id)) / self._odds(torch.tensor(NEUTRAL))
        return torch.where(self.is_salient(sample_id), found, 1.0)

    def _odds(self, saliency: Tensor) -> Tensor:
        salient = (1 - self.floor) * saliency
        return (self.floor + salient) / (1 - salient).clamp(min=1e-9)

    def is_salient(self, sample_id: str) -> Bool[Tensor, "k 1 1"]:
        """Return of which of a sample's classes saliency says anything."""
        return torch.tensor(self._salient[sample_id])[:, None, None]


def saliency_prior(job: Job) -> SaliencyPrior | None:
    """Return the saliency that a job reads, None in a run without it."""
    return SaliencyPrior(job) if "saliency" in job.inputs else None


def saliency_factors(job: Job) -> Factors | None:
    """Return what a job's score maps are multiplied by, a map for each class of a sample; None without saliency."""
    prior = saliency_prior(job)
    return None if prior is None else prior.factors


def grid_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the stride-4 grid (h, w) of an image (H, W)."""
    return -(-image_size[0] // 4), -(-image_size[1] // 4)


def upsample(maps: Float[Tensor, "n h w"], image_size: tuple[int, int]) -> Float[Tensor, "n H W"]:
    """Return stride-4 maps at the image's size, bilinear, cropped where the size is no multiple of 4."""
    if maps.shape[0] == 0:
        return maps.new_zeros(0, *image_size)
    full = F.interpolate(maps[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    return full[:, : image_size[0], : image_size[1]]


def strongest(maps: Float[Tensor, "n h w"], threshold: float) -> tuple[Integer[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Return, for each pixel, 1 + the row of the highest score and that score; row 0 is a constant background.

    A pixel is background where no score exceeds `threshold`.
    """
    if maps.shape[0] == 0:
        empty = maps.new_zeros(maps.shape[1:])
        return empty.long(), empty
    scores, rows = maps.max(dim=0)
    return torch.where(scores > threshold, rows + 1, 0), scores
