"""Label Studio: tasks in JSON with brush masks as predictions, and the labelling interface that goes with them.

The id of a region says which object it is of, `object-3-1`, or that it is of none, `stuff-2`: an object with pixels of
two classes stays one. Regions that a person drew have other ids, and each is an object of its own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from data.dataset import DatasetError, Problem, Sample
from data.exchange.json_fields import checked, field, points
from data.exchange.outlines import fill
from data.exchange.pixels import Canvas, Pixels, regions, size_text
from data.exchange.shapes.brush_rle import decode_brush, encode_brush
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.files import visible
from data.formats.coco_records import read_json
from data.formats.label_maps import VOC_PALETTE

TASKS, INTERFACE = "tasks.json", "interface.xml"
OURS = re.compile(r"(?:object-(\d+)|stuff)-\d+")
BRUSH, POLYGON = "brushlabels", "polygonlabels"


def write_label_studio(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `tasks.json`, a task per line, and `interface.xml`; return the number of "regions".

    A photograph is named as Label Studio's local storage does, by its path from the folder that all lie in.
    """
    files = [sample.image.absolute() for sample in labels.samples]
    root = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
    count = 0
    with (folder / TASKS).open("w", encoding="utf-8") as stream:
        stream.write("[")
        for number, (sample, pixels) in enumerate(labels.images()):
            results = list(_results(labels, pixels))
            count += len(results)
            place = sample.image.absolute().relative_to(root).as_posix()
            task = {
                "data": {"image": f"/data/local-files/?d={quote(place)}", "id": sample.id},
                "predictions": [{"model_version": "pseudomask", "result": results}],
            }
            stream.write(f"{',' if number else ''}\n{json.dumps(task, separators=(',', ':'))}")
        stream.write("\n]\n")
    (folder / INTERFACE).write_text(_interface(labels), encoding="utf-8")
    return {"regions": count}


def _results(labels: Labels, pixels: Pixels) -> Iterator[dict[str, Any]]:
    height, width = shape = pixels.semantic.shape
    for number, region in enumerate(regions(pixels), start=1):
        owner = f"object-{region.object}" if region.object else "stuff"
        rle = encode_brush(region.whole(shape))
        yield {
            "id": f"{owner}-{number}",
            "type": BRUSH,
            "from_name": "brush",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": rle, BRUSH: [labels.name(region.value)]},
        }


def _interface(labels: Labels) -> str:
    """Return the labelling interface: brushes and polygons of every class."""
    lines = ["<View>", '  <Image name="image" value="$image" zoom="true"/>']
    for tag, name in (("BrushLabels", "brush"), ("PolygonLabels", "polygon")):
        lines.append(f'  <{tag} name="{name}" toName="image">')
        for value in labels.named_values:
            colour = "#{:02x}{:02x}{:02x}".format(*VOC_PALETTE[value % 256].tolist())
            lines.append(f'    <Label value={quoteattr(labels.name(value))} background="{colour}"/>')
        lines.append(f"  </{tag}>")
    return "\n".join([*lines, "</View>", ""])


def read_label_studio(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield the tasks of every JSON in a folder, by the id that we gave them, else by the photograph's name.

    A task's newest annotation that was not cancelled counts. Predictions count in files without any annotation alone.
    """
    files = [file for file in visible(folder, "*.json") if file.name != "export.json"]
    if not files:
        raise DatasetError([Problem(folder, "expected JSON that Label Studio exported, found none")])
    for file in files:
        try:
            tasks = checked(read_json(file, "Label Studio's JSON"), "tasks", list)
            annotated = any(_annotations(task) for task in tasks)
            given = _annotations if annotated else _predictions
            found = [(_name(task), sorted(given(task), key=_time)) for task in tasks]
        except ValueError as error:
            raise DatasetError([Problem(file, f"expected tasks of Label Studio, but {error}")]) from None
        for name, results in found:
            if results:
                yield Edited(name, file, partial(_read, results[-1], labels))


def _name(task: Any) -> str:
    data = field(task, "data", dict)
    if "id" in data:
        return field(data, "id", str)
    address = unquote(field(data, "image", str))
    return address.partition("?d=")[2] or address


def _annotations(task: Any) -> list[Any]:
    found = checked(task, "task", dict).get("annotations") or []
    found = [checked(each, "annotation", dict) for each in checked(found, "annotations", list)]
    return [each for each in found if not each.get("was_cancelled")]


def _predictions(task: Any) -> list[Any]:
    found = checked(task.get("predictions") or [], "predictions", list)
    return [checked(each, "prediction", dict) for each in found]


def _time(annotation: Any) -> float:
    """Return when it was changed last, in seconds; 0 where that is not said, so that the order of the list counts."""
    said = annotation.get("updated_at")
    if said is None:
        return 0
    found = datetime.fromisoformat(checked(said, "updated_at", str))
    # Label Studio's times are in UTC.
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _read(annotation: Any, labels: Labels, sample: Sample) -> Pixels:
    canvas = Canvas(labels.size(sample))
    for result in field(annotation, "result", list):
        kind = field(result, "type", str)
        if kind not in (BRUSH, POLYGON):
            raise ValueError(f"expected results of brush or polygons, found {kind!r}")
        value = field(result, "value", dict)
        names = field(value, kind, list)
        if len(names) != 1:
            raise ValueError(f"expected one label of a region, found {names!r:.80}")
        number = labels.value(checked(names[0], kind, str))
        ours = OURS.fullmatch(str(result.get("id")))
        owner = None if ours is None else checked(int(ours[1] or 0), "id", int)
        canvas.paint(_mask(kind, result, value, canvas.shape), number, owner)
    return canvas.pixels


def _mask(kind: str, result: Any, value: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    said = field(result, "original_height", int), field(result, "original_width", int)
    if said != shape:
        raise ValueError(f"expected an image of {size_text(shape)}, found {size_text(said)}")
    if result.get("image_rotation"):
        raise ValueError(f"expected images as they are stored, found one turned by {result['image_rotation']} degrees")
    if kind == BRUSH:
        return decode_brush(field(value, "rle", list), shape)
    # Its coordinates are percentages.
    scale = np.array([shape[1], shape[0]]) / 100
    return fill(np.array(points(value.get("points"), "points"), float).reshape(-1, 2) * scale, shape)


LABEL_STUDIO = ExchangeFormat("label-studio", "Label Studio tasks", write_label_studio, read_label_studio)
