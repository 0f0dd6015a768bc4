"""CVAT's "Segmentation mask 1.1": coloured PNGs of classes and objects, and `labelmap.txt` with the colours.

The colours are those of VOC's palette, which is continued for more than 256 values. A class's pixels without an
instance, and void, are shapes as well, since CVAT reads nothing but shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.dataset import VOID, DatasetError, Problem, Sample
from data.exchange.json_fields import is_number_below
from data.exchange.maps.png import map_files, read_names
from data.exchange.maps.voc import write_list
from data.exchange.pixels import Pixels, as_shapes, numbered, regions
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.files import replacing
from data.formats.images import LABEL_FORMATS, decodable, opened
from data.formats.label_folder import INSTANCES, SEMANTIC
from data.formats.label_maps import VOC_PALETTE, voc_colours, write_label_map

LABEL_MAP, CONSTRUCTOR = "labelmap.txt", "labels.json"


def write_cvat_mask(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write the maps, their list, `labelmap.txt`, and `labels.json` for CVAT's constructor of labels.

    Returns:
        The number of "masks": one per object.

    Raises:
        DatasetError: The name of a class cannot stand in `labelmap.txt`, or label maps are missing or damaged.
    """
    _refuse_names(labels)
    count = 0
    for sample, pixels in labels.images():
        objects = np.zeros(pixels.semantic.shape, np.int64)
        for number, region in enumerate((each for each in regions(pixels) if each.value), start=1):
            objects[region.rows, region.columns][region.mask] = number
            count += 1
        for kind, values in ((SEMANTIC, pixels.semantic), (INSTANCES, objects)):
            _write_coloured(folder / kind / f"{sample.id}.png", values)
    write_list(folder / "ImageSets" / "Segmentation" / "default.txt", labels)
    named = [(labels.name(value), voc_colours(np.array(value)).tolist()) for value in labels.named_values]
    lines = ["# label:color_rgb:parts:actions", *(f"{name}:{','.join(map(str, colour))}::" for name, colour in named)]
    (folder / LABEL_MAP).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    constructor = [
        {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*colour), "type": "mask", "attributes": []}
        for name, colour in named[1:]
    ]
    (folder / CONSTRUCTOR).write_text(json.dumps(constructor, indent=1), encoding="utf-8")
    return {"masks": count}


def _write_coloured(file: Path, values: NDArray[np.integer]) -> None:
    """Write a map in VOC's colours: by a palette, which is fast and small, or pixel by pixel where that has too few."""
    if (highest := int(values.max())) < len(VOC_PALETTE):
        write_label_map(file, values.astype(np.uint8))
        return
    with replacing(file) as temporary:
        Image.fromarray(voc_colours(np.arange(highest + 1))[values]).save(temporary, format="PNG")


def _refuse_names(labels: Labels) -> None:
    names = [name for name in labels.classes.real_names if ":" in name or name.startswith("#")]
    if names:
        message = f"CVAT's labelmap.txt takes no name with : or # at its start, found {', '.join(map(repr, names))}"
        raise DatasetError([Problem(labels.folder, f"{message}; choose another format, such as cvat-coco")])


def read_cvat_mask(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield what lies in `SegmentationClass`, with the objects beside it."""
    names = _read_label_map(folder / LABEL_MAP)
    for file in map_files(folder / SEMANTIC):
        name = file.relative_to(folder / SEMANTIC).as_posix()
        yield Edited(name, file, partial(_read, file, folder / INSTANCES / name, names, labels))


def _read(file: Path, instances: Path, names: dict[int, str], labels: Labels, sample: Sample) -> Pixels:
    codes = _codes(file)
    values, places = numbered(codes)
    table = np.zeros(len(values), np.int64)
    for place, code in enumerate(values.tolist()):
        if code not in names:
            colour = ", ".join(str(code >> shift & 255) for shift in (16, 8, 0))
            raise ValueError(f"expected colours of {LABEL_MAP}, found {colour}")
        table[place] = labels.value(names[code])
    semantic = table[places]
    if not instances.is_file():
        return Pixels(semantic, None)
    objects = _codes(instances)
    if objects.shape != semantic.shape:
        raise ValueError(f"expected objects of the size of the classes in {instances}")
    return Pixels(semantic, np.where((semantic == 0) | (semantic == VOID), 0, objects))


def _codes(file: Path) -> NDArray[np.int64]:
    """Return the colours of a PNG as numbers, red the highest byte."""
    with opened(file, "a coloured mask", LABEL_FORMATS) as image, decodable(image, file):
        return np.asarray(image.convert("RGB")).astype(np.int64) @ (65536, 256, 1)


def _read_label_map(file: Path) -> dict[int, str]:
    """Return colour -> name."""
    names = {}
    for number, line in enumerate(read_names(file), start=1):
        name, *rest = line.strip().split(":")
        if not name or name.startswith("#"):
            continue
        levels = rest[0].split(",") if rest else []
        if len(levels) != 3 or not all(is_number_below(level.strip(), 256) for level in levels):
            raise DatasetError([Problem(file, f"line {number}: expected NAME:R,G,B::, found {line!r:.80}")])
        red, green, blue = map(int, levels)
        other = names.setdefault(red << 16 | green << 8 | blue, name)
        if other != name:
            message = f"line {number}: expected a colour for each name, found {rest[0]} for {other!r} and {name!r}"
            raise DatasetError([Problem(file, message)])
    return names


def _kept(labels: Labels, sample: Sample) -> Pixels:
    return as_shapes(labels.pixels(sample))


CVAT_MASK = ExchangeFormat(
    "cvat-mask",
    "CVAT's Segmentation mask 1.1",
    write_cvat_mask,
    read_cvat_mask,
    _kept,
    "a class's pixels without an instance become one instance",
)
