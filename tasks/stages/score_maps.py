"""Score maps between stages: stored at stride 4 in half precision, used at the image's size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Integer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F


def save_maps(path: Path, maps: Mapping[str, Tensor]) -> None:
    """Write maps of values as float16, by sample id."""
    save_file({key: value.half().cpu().contiguous() for key, value in maps.items()}, path)


class MapReader:
    """Maps of a shard, read one at a time.

    Use as `with MapReader(path) as maps: maps["sample"]`, where `"sample" in maps`.
    """

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="pt")

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
        return self._open.get_tensor(sample_id).float()


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
