"""One set of class attention maps in the files of every method: what each writer's code leaves on disk.

`python tests/support/cam_writers.py DIR` writes a synthetic set into DIR/set, and beside it a folder per form.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_CLASSES = 20
Maps = Mapping[int, NDArray[np.float32]]
"""Class, from 0 -> map on the stride-4 grid of an image, in [0, 1], its highest value 1."""


def draw_maps(labels: tuple[int, ...], size: tuple[int, int], seed: int = 0) -> dict[int, NDArray[np.float32]]:
    """Return maps of an image (H, W), a peak per class, whose values half precision holds exactly."""
    rng, grid = np.random.default_rng(seed), np.array([-(-size[0] // 4), -(-size[1] // 4)])
    places, maps = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1), {}
    for c in labels:
        peak = rng.integers(0, grid)
        away = np.linalg.norm((places - peak) / grid, axis=-1)
        maps[c] = (np.maximum(0, 64 - np.round(100 * away)) / 64).astype(np.float32)
    return maps


def full(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return stride-4 maps [..., h, w] at the image's size (H, W): each cell is 4 x 4 pixels."""
    return maps.repeat(4, -2).repeat(4, -1)[..., : size[0], : size[1]]


def _rows(maps: Maps) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return np.array(list(maps), np.int64), np.stack(list(maps.values()))


def _tensor(values: NDArray[Any]) -> Any:
    # Only what is pickled by torch waits for it.
    import torch

    return torch.from_numpy(values.copy())


def _odds(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return m / (1 - m), for a background of 1 beside it; 1 becomes 0.9995."""
    clipped = np.minimum(maps.astype(np.float64), 0.9995)
    return clipped / (1 - clipped)


def irn(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    return {"keys": _tensor(keys), "cam": _tensor(cam), "high_res": full(cam, size)}


def lpcam(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    cam = np.where(cam > 0, cam, np.float32(-0.125))
    return {"keys": keys, "cam": _tensor(cam), "high_res": _tensor(full(cam, size))}


def amn(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    cam = np.concatenate([1 - cam.max(axis=0, keepdims=True), cam])
    return {"keys": keys, "cam": _tensor(cam), "high_res": full(cam, size)}


def puzzlecam(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    return {"keys": np.array([0, *(keys + 1)]), "cam": _tensor(cam), "hr_cam": full(cam, size)}


def puzzlecam_walk(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    return {"keys": np.array([0, *(keys + 1)]), "rw": full(cam, size)}


def clip_es(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    return {"keys": keys, "attn_highres": full(cam, size).astype(np.float16)}


def psa(maps: Maps, size: tuple[int, int]) -> Any:
    return {c: full(each, size) for c, each in maps.items()}


def psa_crf(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    odds = full(_odds(cam).astype(np.float32), size)
    total = 1 + odds.sum(axis=0)
    return {0: 1 / total} | {int(c) + 1: each / total for c, each in zip(keys, odds, strict=True)}


def mctformer(maps: Maps, size: tuple[int, int]) -> Any:
    return {c: full(each, size).astype(np.float16) for c, each in maps.items()}


def cosa(maps: Maps, size: tuple[int, int]) -> Any:
    return {c: full(each, size) * np.float32(7.3) for c, each in maps.items()}


def _with_row(maps: Maps, size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    keys, cam = _rows(maps)
    rows = np.concatenate([np.ones((1, *cam.shape[1:])), _odds(cam) ** (1 / 1.5)])
    return np.array([0, *(keys + 1)]), full((rows / rows.max()).astype(np.float32), size)


def sipe(maps: Maps, size: tuple[int, int]) -> Any:
    keys, rows = _with_row(maps, size)
    return {"keys": keys, "IS_CAM": rows}


def sfc(maps: Maps, size: tuple[int, int]) -> Any:
    keys, rows = _with_row(maps, size)
    return {"keys": keys, "IS_CAM": rows[:, ::-1].copy(), "IS_CAM1": rows}


def toco(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    return {"keys": keys, "high_res": full(cam, size)}


def afa(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    return {"keys": keys, "cam": full(cam, size)}


def more(maps: Maps, size: tuple[int, int], field: str = "valid_lam") -> Any:
    keys, cam = _rows(maps)
    # A class that the network predicts and that is no tag.
    other = next(c for c in range(NUM_CLASSES) if c not in maps)
    rows = np.concatenate([full(cam, size), np.full((1, *size), 0.5, np.float32)])
    return {field: rows, "keys": np.array([*keys, other]), "keys_gt": keys}


def more_cam(maps: Maps, size: tuple[int, int]) -> Any:
    return more(maps, size, "valid_cam")


def fma(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    return {"cam": cam, "fg_cls": keys, "fg_logit": np.ones(len(keys), np.float32), "all_logit": np.ones(NUM_CLASSES)}


def _every_class(maps: Maps, size: tuple[int, int]) -> NDArray[np.float32]:
    values = np.zeros((NUM_CLASSES, *size), np.float32)
    for c, each in maps.items():
        values[c] = full(each, size)
    return values


def sam3(maps: Maps, size: tuple[int, int]) -> Any:
    return {"cams": _every_class(maps, size).astype(np.float16), "class_ids": np.arange(NUM_CLASSES)}


def array(maps: Maps, size: tuple[int, int]) -> Any:
    return _every_class(maps, size)


def pseudomask(maps: Maps, size: tuple[int, int]) -> Any:
    keys, cam = _rows(maps)
    return {"scores": cam.astype(np.float16), "classes": keys}


FORMS: dict[str, tuple[Callable[[Maps, tuple[int, int]], Any], str]] = {
    "irn": (irn, ".npy"),
    "irn-pt": (irn, ".pt"),
    "lpcam": (lpcam, ".npy"),
    "amn": (amn, ".npy"),
    "puzzlecam": (puzzlecam, ".npy"),
    "puzzlecam-walk": (puzzlecam_walk, ".npy"),
    "clip-es": (clip_es, ".npy"),
    "psa": (psa, ".npy"),
    "psa-crf": (psa_crf, ".npy"),
    "mctformer": (mctformer, ".npy"),
    "cosa": (cosa, ".npy"),
    "sipe": (sipe, ".npy"),
    "sfc": (sfc, ".npy"),
    "toco": (toco, ".npy"),
    "afa": (afa, ".npy"),
    "more": (more, ".npy"),
    "more-cam": (more_cam, ".npy"),
    "fma": (fma, ".npz"),
    "sam3": (sam3, ".npz"),
    "array": (array, ".npy"),
    "pseudomask": (pseudomask, ".npz"),
}
"""Form -> what it makes of an image's maps, and the suffix of its files."""


def write_maps(folder: Path, form: str, id: str, maps: Maps, size: tuple[int, int]) -> Path:
    """Write the file of an image (H, W), as `np.save`, `np.savez` or `torch.save` of the form's code would."""
    make, suffix = FORMS[form]
    file, content = folder / f"{id}{suffix}", make(maps, size)
    file.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".npz":
        np.savez(file, **content)
    elif suffix == ".pt":
        import torch

        torch.save(content, file)
    else:
        np.save(file, content)
    return file


def main(folder: Path) -> None:
    """Write a synthetic set, and its maps in every form."""
    from data.formats.images import image_size
    from data.readers import open_dataset
    from data.synthetic.dataset import write_synthetic

    write_synthetic(folder / "set", num_images=8, seed=0, size=(64, 80))
    dataset, _ = open_dataset(folder / "set")
    for form in FORMS:
        for number, sample in enumerate(dataset.samples):
            if sample.labels:
                size = image_size(sample.image)
                write_maps(folder / form, form, sample.id, draw_maps(sample.labels, size, number), size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
