"""Ground truth of scenes as their sets store it: every pixel has a class, or none is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, DatasetError, Problem
from data.formats.images import decodable, opened

CAMVID_CLASSES = (
    "sky",
    "building",
    "column-pole",
    "road",
    "sidewalk",
    "tree",
    "sign-symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
# The 32 classes of the colour-coded frames that are among the 11, by colour; what is not here is void.
CAMVID_COLOURS = {
    "sky": [(128, 128, 128)],
    # Building, archway, bridge, tunnel, wall.
    "building": [(128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)],
    # Column or pole, traffic cone.
    "column-pole": [(192, 192, 128), (0, 0, 64)],
    # Road, lane markings of two kinds.
    "road": [(128, 64, 128), (128, 0, 192), (192, 0, 64)],
    # Sidewalk, parking block, road shoulder.
    "sidewalk": [(0, 0, 192), (64, 192, 128), (128, 128, 192)],
    # Tree, other vegetation.
    "tree": [(128, 128, 0), (192, 192, 0)],
    # Sign or symbol, other text, traffic light.
    "sign-symbol": [(192, 128, 128), (128, 128, 64), (0, 64, 64)],
    "fence": [(64, 64, 128)],
    # Car, SUV or pickup truck, truck or bus, train, whatever else moves.
    "car": [(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],
    # Pedestrian, child, cart or pram, animal.
    "pedestrian": [(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)],
    # Bicyclist, motorcycle or scooter.
    "bicyclist": [(0, 128, 192), (192, 0, 192)],
}
SUNRGBD_CLASSES = (
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "blinds",
    "desk",
    "shelves",
    "curtain",
    "dresser",
    "pillow",
    "mirror",
    "floor mat",
    "clothes",
    "ceiling",
    "books",
    "fridge",
    "tv",
    "paper",
    "towel",
    "shower curtain",
    "box",
    "whiteboard",
    "person",
    "night stand",
    "toilet",
    "sink",
    "lamp",
    "bathtub",
    "bag",
)
# The 19 classes that are evaluated, by the ids of `*_labelIds.png`; what is not here is void.
CITYSCAPES_IDS = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
SALIENT = ("salient",)


@dataclass(frozen=True)
class LabelCoding:
    """How the label maps of a set are stored.

    Attributes:
        classes: Class `c` has the value `c` in a label map that was read; `c + 1` with a background.
        decode: From what the file has, [H, W] or [H, W, 3], to uint8 [H, W] with 255 where no class is known.
        modes: Of the files, as Pillow names them.
        has_background: See `data.dataset.ClassTable`.
        convert: The mode that files are brought to before they are decoded; None for as they are.
    """

    classes: tuple[str, ...]
    decode: Callable[[NDArray], NDArray[np.uint8]]
    modes: tuple[str, ...]
    has_background: bool = False
    convert: str | None = None


def _camvid_values(values: NDArray) -> NDArray[np.uint8]:
    # 11 is void; what lies above is no class, and the check of the set says so.
    return np.where(values == len(CAMVID_CLASSES), VOID, values).astype(np.uint8)


def _camvid_colours(colours: NDArray) -> NDArray[np.uint8]:
    # Every level of a class's colour is a multiple of 64.
    red, green, blue = np.moveaxis(colours >> 6, 2, 0)
    values = _CAMVID_TABLE[red << 4 | green << 2 | blue]
    return np.where((colours & 63).any(axis=2), np.uint8(VOID), values)


def _sunrgbd_values(values: NDArray) -> NDArray[np.uint8]:
    # 0 is void, and classes count from 1.
    return np.where((values == 0) | (values > VOID), VOID, values.astype(np.int64) - 1).astype(np.uint8)


def _camvid_table() -> NDArray[np.uint8]:
    table = np.full(64, VOID, np.uint8)
    for value, name in enumerate(CAMVID_CLASSES):
        for red, green, blue in CAMVID_COLOURS[name]:
            table[red >> 2 | green >> 4 | blue >> 6] = value
    return table


def _cityscapes_ids(values: NDArray) -> NDArray[np.uint8]:
    return _CITYSCAPES_TABLE[values]


def _cityscapes_table() -> NDArray[np.uint8]:
    table = np.full(256, VOID, np.uint8)
    table[list(CITYSCAPES_IDS)] = np.arange(len(CITYSCAPES_IDS))
    return table


def _salient(values: NDArray) -> NDArray[np.uint8]:
    # Masks are black and white or of another colour, with grey edges where they were stored as JPEG or scaled; some
    # have 1 for 255.
    brightest = values.max(axis=2)
    return (brightest >= (1 if brightest.max(initial=0) == 1 else 128)).astype(np.uint8)


_CAMVID_TABLE = _camvid_table()
_CITYSCAPES_TABLE = _cityscapes_table()
LABEL_CODINGS = {
    "camvid-values": LabelCoding(CAMVID_CLASSES, _camvid_values, ("L", "P")),
    "camvid-colours": LabelCoding(CAMVID_CLASSES, _camvid_colours, ("RGB",)),
    "cityscapes-ids": LabelCoding(tuple(CITYSCAPES_IDS.values()), _cityscapes_ids, ("L", "P")),
    "saliency": LabelCoding(
        SALIENT, _salient, ("1", "L", "LA", "P", "RGB", "RGBA"), has_background=True, convert="RGB"
    ),
    "sunrgbd-values": LabelCoding(SUNRGBD_CLASSES, _sunrgbd_values, ("L", "P", "I", "I;16")),
}
"""Name, as a `Sample` has it -> coding."""


def read_coded(path: Path, coding: str) -> NDArray[np.uint8]:
    """Read a label map of a coding as uint8 [H, W] of class values, 255 where no class is known.

    Raises:
        DatasetError: The file is missing, damaged, or of another kind than the coding's.
    """
    known = LABEL_CODINGS[coding]
    with opened(path, "a label map") as image, decodable(image, path):
        if image.mode not in known.modes:
            expected = " or ".join(known.modes)
            raise DatasetError([Problem(path, f"expected a label map of {expected} pixels, found {image.mode}")])
        return known.decode(np.asarray(image.convert(known.convert) if known.convert else image))
