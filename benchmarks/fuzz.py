"""Random bytes for every reader: python -m benchmarks.fuzz [--minutes 30] [--readers labels.csv ..] [--seed 0].

Each reader gets files that it knows, damaged at random: bytes changed, cut out, repeated, put in from other files and
from a list of what has broken readers before. It may return, or raise a `DatasetError` or `ArtifactError` that names a
file; anything else is a fault, and so are the end of the process and more memory than the bound. An input that shows a
fault is kept.

A reader has a process of its own, which writes each input to a file first; so what kills it is known as well.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from PIL import Image
from rich.console import Console

from benchmarks.machine import describe_machine, results_file, write_results
from data.dataset import ClassTable, DatasetError, SampleWithMore
from data.files import file_digest
from data.formats.coco import read_coco, read_results
from data.formats.hints import read_hints
from data.formats.images import read_image
from data.formats.label_maps import read_ground_truth, read_label_map
from data.formats.quality import ImageQuality, quality_text, read_quality
from data.formats.unit_maps import read_unit_map
from data.readers import open_dataset
from data.readers.beside.cams import with_cams
from data.readers.beside.hints import with_hints
from data.store import ArtifactError
from data.store.corrections import Corrections
from data.store.publication import Publication
from data.validation import check_images
from flows.commands.publishing.versions import list_versions, show_versions
from tasks.engine.image_list import ImageList, read_images
from tasks.engine.run_record import read_run
from tasks.pipeline.plan import pipeline_settings
from tasks.pipeline.settings import PipelineConfig
from tasks.reporting.figures import read_history, read_run_metrics
from tasks.reporting.page import shown_settings
from tasks.reporting.report import instance_tables, semantic_tables, tag_tables

logger = logging.getLogger(__name__)
BOUND_MB = 2000
"""More than a process of these readers has with any input of a megabyte."""
MOST_BYTES = 2**20
DRAGONS = [
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x80", b"\r", b"\n", b'"', b"\\", b"[" * 5000, b'{"a":' * 5000),
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 40, b"null", b"true", b'"\\ud800"', b"../../a", b"C:\\a", b"%00"),
    *(b"<object>", b"</object>", b"&x;", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"),
    *(b'"segmentation":[]', b'"counts":[-1]', b'"size":[1e9,1e9]', b",,,,", b";;", b"\t", b"\x1b]0;a\x07"),
]


@dataclass(frozen=True)
class Target:
    """A reader, and the file of its set that is damaged.

    Attributes:
        file: Below the set's folder.
        seeds: Contents that it reads.
        read: Called with the set's folder and the file.
    """

    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path, Path], Any]


def main(
    minutes: float = 30,
    readers: tuple[str, ...] = (),
    seed: int = 0,
    json_file: Path | None = None,
    keep: Path | None = None,
) -> int:
    """Damage files for so long, each reader its share after the other, and print what came of it.

    Args:
        minutes: For each reader.
        readers: The files of `TARGETS`; all by default.
        seed: Of the damage.
        json_file: Results; benchmarks/results/fuzz-<machine>.json if not said.
        keep: Folder for the inputs that show faults; ./fuzz-faults if not said.
    """
    machine, found = describe_machine(), {}
    for name in readers or tuple(TARGETS):
        found[name] = _try(name, minutes * 60, seed, keep or Path("fuzz-faults"))
        logger.info("%s: %s", name, found[name])
        write_results({"machine": machine, "readers": found}, json_file or results_file(machine, "fuzz"))
    print(json.dumps(found, indent=1))
    return int(any(result["faults"] for result in found.values()))


def _try(name: str, seconds: float, seed: int, keep: Path) -> dict[str, Any]:
    """Damage one reader's file in other processes until the time is over; a process that dies is replaced."""
    end, faults = time.monotonic() + seconds, []
    total = {"inputs": 0, "read": 0, "refused": 0, "peak_mb": 0.0}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        context = multiprocessing.get_context("spawn")
        while (left := end - time.monotonic()) > 0:
            seed += 1
            says, hears = context.Pipe(duplex=False)
            child = context.Process(target=_work, args=(name, Path(folder), left, seed, hears))
            child.start()
            hears.close()
            result = None
            with contextlib.suppress(EOFError):  # The process has died.
                result = says.recv()
            child.join()
            said = f"exit code {child.exitcode}" if result is None else result.pop("fault")
            for key, value in (result or {}).items():
                total[key] = max(total[key], value) if key == "peak_mb" else total[key] + value
            if said:
                faults.append(said)
                keep.mkdir(parents=True, exist_ok=True)
                source = Path(folder) / TARGETS[name].file
                shutil.copyfile(source, keep / f"{seed}-{source.name}")
    return {**total, "faults": faults}


def _work(name: str, folder: Path, seconds: float, seed: int, channel: Any) -> None:
    """Damage and read until the time is over or a fault is found, and send the counts."""
    target, rng = TARGETS[name], random.Random(seed)
    for image in ("a.png", "b.png"):
        _image(folder / image)
    file = folder / target.file
    file.parent.mkdir(parents=True, exist_ok=True)
    counts: dict[str, Any] = {"inputs": 0, "read": 0, "refused": 0, "peak_mb": 0.0, "fault": ""}
    end = time.monotonic() + seconds
    while time.monotonic() < end and not counts["fault"]:
        file.write_bytes(damage(rng.choice(target.seeds), target.seeds, rng))
        counts["inputs"] += 1
        try:
            target.read(folder, file)
            counts["read"] += 1
        except DatasetError as error:
            counts["refused"] += 1
            if not any(str(problem.file) for problem in error.problems):
                counts["fault"] = f"a DatasetError without a file: {error}"
        except ArtifactError as error:
            counts["refused"] += 1
            if file.name not in str(error) or "\n" in str(error):
                counts["fault"] = f"an ArtifactError without the file: {error}"
        except Exception as error:  # What is looked for.
            counts["fault"] = f"{type(error).__name__}: {str(error)[:200]}"
        counts["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if counts["peak_mb"] > BOUND_MB:
            counts["fault"] = counts["fault"] or f"{counts['peak_mb']:.0f} MB of memory"
    channel.send(counts)


def damage(content: bytes, others: tuple[bytes, ...], rng: random.Random) -> bytes:
    """Return content with one to eight faults."""
    damaged = bytearray(content)
    for _ in range(rng.randrange(1, 9)):
        at = rng.randrange(len(damaged) + 1)
        length = rng.choice((1, 1, 2, 4, 16, 200))
        match rng.randrange(6):
            case 0:
                damaged[at : at + length] = rng.randbytes(length)
            case 1:
                del damaged[at : at + length]
            case 2:
                damaged[at:at] = damaged[at : at + length] * rng.choice((1, 2, 50))
            case 3:
                damaged[at:at] = rng.choice(DRAGONS)
            case 4:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                damaged[at : at + length] = other[start : start + 200]
            case 5 if at < len(damaged):
                damaged[at] ^= 1 << rng.randrange(8)
    return bytes(damaged[:MOST_BYTES])


def _image(file: Path) -> None:
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(file)


def _encoded(mode: str, suffix: str) -> bytes:
    stream = BytesIO()
    values = np.arange(64).reshape(8, 8) % 3
    kinds = {"L": np.uint8, "I;16": np.uint16}
    array = np.repeat(values[..., None], 3, 2).astype(np.uint8) if mode == "RGB" else values.astype(kinds[mode])
    Image.fromarray(array).save(stream, suffix)
    return stream.getvalue()


def _deep(suffix: str) -> bytes:
    """Return an image with colours of 12 bits in 16."""
    values = np.arange(192, dtype=np.uint16).reshape(8, 8, 3) * 21
    return cv2.imencode(f".{suffix}", values)[1].tobytes()


def _arrays(**arrays: np.ndarray) -> bytes:
    """Return a `.npz` file, or of one array alone a `.npy` file."""
    stream = BytesIO()
    if len(arrays) == 1:
        np.save(stream, *arrays.values(), allow_pickle=False)
    else:
        np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _pickled(value: object) -> bytes:
    stream = BytesIO()
    np.save(stream, np.array(value, object))
    return stream.getvalue()


def _open(folder: Path, file: Path) -> None:
    dataset, _ = open_dataset(folder, labels=file, skip_bad=True)
    check_images(dataset, 1)


def _open_xml(folder: Path, file: Path) -> None:
    _open(folder, file.parent)


def _open_classes(folder: Path, file: Path) -> None:
    (folder / "labels.csv").write_text("a,cat\nb,dog\n")
    open_dataset(folder, classes=file, skip_bad=True)


def _open_list(folder: Path, file: Path) -> None:
    (folder / "labels.csv").write_text("a,cat\nb,dog\n")
    open_dataset(folder, split=file, skip_bad=True)


def _open_coco(folder: Path, file: Path) -> None:
    dataset, _ = open_dataset(folder, labels=file, skip_bad=True)
    for sample in dataset.samples:
        read_ground_truth(sample)


def _open_vectors(folder: Path, file: Path) -> None:
    (folder / "classes.txt").write_text("cat\ndog\n")
    _open(folder, file)


def _open_results(folder: Path, file: Path) -> None:
    truth = folder / "truth.json"
    truth.write_text(json.dumps(_COCO))
    read_results(file, read_coco(truth))


def _open_maps(folder: Path, file: Path) -> None:
    (folder / "labels.csv").write_text("a,cat\nb,dog\n")
    dataset, _ = open_dataset(folder)
    check_images(with_cams(dataset, file.parent, missing="background")[0], 1)


def _read_hints(folder: Path, file: Path) -> None:
    sample = SampleWithMore("a", folder / "a.png", (0, 1), hints=file)
    hints = read_hints(sample, ClassTable(("cat", "dog")))
    hints.at_size((5, 4)).truth([1, 2])


def _open_boxes(folder: Path, file: Path) -> None:
    (folder / "labels.csv").write_text("a,cat;dog\nb,dog\n")
    (file.parent / "classes.txt").write_text("cat\ndog\n")
    dataset, _ = with_hints(open_dataset(folder)[0], file.parent)
    check_images(dataset, 1)


def _look_at_run(_: Path, file: Path) -> None:
    record = read_run(file.parent)
    pipeline_settings(record)
    for stage in record.stages:
        record.network(stage)
    if shown_settings(record) and record.asked("data", needed=True):
        str(record.root)


def _look_at_list(folder: Path, file: Path) -> None:
    for sample, _ in read_images(file.parent, ImageList(file=file.name, count=2), folder):
        str(sample)


def _look_at_versions(_: Path, file: Path) -> None:
    # Readers of versions hold that folder's name for its number.
    if file.name == "version.json":
        show_versions(list_versions(file.parents[1]), Console(file=StringIO()))
        return
    (file.parent / "version.json").write_text('{"number": 1}')
    list(Publication(file.parents[1]).entries(1))


def _render(metrics: dict[str, Any]) -> None:
    tables = semantic_tables(metrics.get("semantic", {})) | instance_tables(metrics.get("instances", {}))
    for table in (tables | tag_tables(metrics)).values():
        for row in table.rows.values():
            for score in filter(None, row):
                format(score, ".1f")


_SCORE = {"miou": 0.4, "accuracy": 0.7, "iou": {"background": 0.7, "cat": None}, "threshold": 0.2}
_PRECISION = {"ap50": 0.3, "ap70": None, "per_class": {"cat": {"ap50": 0.3, "ap70": 0.1, "gt": 3}}}
_METRICS = {
    "semantic": {"cam": _SCORE, "labels": _SCORE},
    "instances": {"labels": _PRECISION, "touching": {"labels": _PRECISION}},
    "tags": {"classifier": {"ap": {"cat": 0.5}, "measured_on": "folds"}, "labels": {"tags_without_a_pixel": {}}},
    "classes": {"images": {"cat": 3}},
    "seconds": {"cams": 1.5},
    "warnings": [],
}
_RUN = {
    "version": 2,
    "preset": "quick",
    "settings": PipelineConfig().model_dump(mode="json"),
    "request": {"data": "set", "out": "run"},
    "root": "set",
    "classes": {"names": ["cat", "dog"], "category_ids": [1, 2], "has_background": True},
    "images": {"file": "images-0123456789abcdef.jsonl", "count": 2},
    "validation": {"file": None, "count": 0},
    "store": "store",
    "stages": {"cams": {"keys": {"0": "ab"}, "num_shards": 1, "common": {"settings": {"scales": [1]}}}},
}
_LIST = (
    b'{"coco":[["c.json",[1,2]]]}\n{"id":"a","labels":[0,1],"file":"a.png","sha256":"ab","truth":"cd","coco":[0,1]}\n'
    b'{"id":"b","labels":[],"file":"b.png","sha256":"ab","semantic":"m/b.png","saliency":["s/b.png","ef"]}\n'
)
_ENTRY = (
    b'{"id":"a","image":"ab","labels":["cat"],"artifact":"key","background":0.5,"classes":1,"instances":1}\n'
    b'{"id":"b","image":"ab","labels":[],"artifact":"key","background":1,"classes":0,"instances":0}\n'
)
_VERSION = {"number": 1, "images": 2, "created": "2026", "reasons": ["new"], "held": [], "means": {"version": {}}}
_COCO = {
    "images": [{"id": i, "file_name": f"{n}.png", "height": 8, "width": 8} for i, n in ((1, "a"), (2, "b"))],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6, 1, 6]], "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 2, "segmentation": {"size": [8, 8], "counts": [10, 20, 34]}},
        {
            "id": 3,
            "image_id": 2,
            "category_id": 1,
            "segmentation": {"size": [8, 8], "counts": "1000k0"},
            "bbox": [1, 1, 2, 2],
        },
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}
_RESULTS = [{**annotation, "score": 0.5} for annotation in _COCO["annotations"]]
_XML = (
    b"<annotation><filename>a.png</filename><size><width>8</width><height>8</height></size>"
    b"<object><name>cat</name><difficult>0</difficult><part><name>head</name></part></object></annotation>"
)
_BOXES = (
    b"<annotation><size><width>8</width><height>8</height></size><object><name>cat</name>"
    b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>8</ymax></bndbox></object></annotation>"
)
_COCO_BOXES = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1.5, 1]},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [0, 0, 2, 2], "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}
_SHAPES = {
    "shapes": [
        {"label": "cat", "shape_type": "rectangle", "points": [[1, 1], [5, 6]]},
        {"label": "dog", "shape_type": "polygon", "points": [[1, 1], [5, 6.5], [0, 7]]},
        {"label": "background", "shape_type": "linestrip", "points": [[0, 0], [7, 0]]},
        {"label": "cat", "shape_type": "circle", "points": [[2, 2], [3, 3]]},
    ],
    "imageHeight": 8,
    "imageWidth": 8,
}
_CORRECTION = json.dumps(
    {
        **{"image": "a", "digest": "0" * 64, "author": "Ada", "created": "2026-01-01T00:00:00+00:00", "made_on": 1},
        **{"verdict": "accepted", "tags": ["cat"], "classes": ["cat"], "semantic": None, "instances": None},
        **{"back_to": None, "format": 1},
    }
).encode()


def _read_correction(_: Path, file: Path) -> object:
    corrections = Corrections(file.parents[1])
    corrections.of_other_bytes("a", "1" * 64)
    return list(corrections.of("a", "0" * 64)), corrections.tags("a", "0" * 64), corrections.rejection("a", "0" * 64)


def _read_correction_mask(_: Path, file: Path) -> object:
    record = {**json.loads(_CORRECTION), "semantic": file_digest(file)}
    (file.parent / "c00001.json").write_text(json.dumps(record))
    return list(Corrections(file.parents[1]).of("a", "0" * 64))


TARGETS = {
    "labels.csv": Target(
        "labels.csv",
        (
            b"image,labels\na,cat;dog\nb.png,dog\n",
            b"a,cat;?;-dog\nb,dog:0.8\n",
            b"a\tcat\nb\tdog\n",
            b"file,cat,dog\na.png,0,1\nb.png,1,0\n",
        ),
        _open,
    ),
    "labels.jsonl": Target(
        "labels.jsonl",
        (
            b'{"image": "a", "labels": ["cat", "dog"]}\n{"image": "b", "labels": []}\n',
            b'{"file_name":"a","label":"cat"}',
        ),
        _open,
    ),
    "coco": Target("instances.json", (json.dumps(_COCO).encode(), json.dumps(_COCO, indent=1).encode()), _open_coco),
    "xml": Target("Annotations/a.xml", (_XML, b"<?xml version='1.0' encoding='gbk'?>" + _XML), _open_xml),
    "classes.txt": Target(
        "classes.txt", (b"cat\ndog\n", b"0 cat\n1 dog\n", b"_background_\ncat\ndog\n"), _open_classes
    ),
    "list": Target("list.txt", (b"a\nb\n", b"a.png 1\nb.png -1\n"), _open_list),
    "label map": Target(
        "maps/a.png",
        (_encoded("L", "png"), _encoded("I;16", "png"), _encoded("RGB", "png")),
        lambda _, file: read_label_map(file),
    ),
    "run.json": Target("run/run.json", (json.dumps(_RUN).encode(), json.dumps(_RUN, indent=1).encode()), _look_at_run),
    "list of images": Target("run/images-0123456789abcdef.jsonl", (_LIST,), _look_at_list),
    "metrics.json": Target(
        "run/metrics.json",
        (json.dumps(_METRICS).encode(), json.dumps(_METRICS, indent=1).encode()),
        lambda _, file: _render(read_run_metrics(file.parent)),
    ),
    "history.json": Target(
        "net/network/history.json",
        (b'[{"loss": 1.5, "miou": 0.25}, {"loss": 1}]',),
        lambda _, file: read_history(file.parents[1]),
    ),
    "version.json": Target("published/v00001/version.json", (json.dumps(_VERSION).encode(),), _look_at_versions),
    "images.jsonl": Target("published/v00001/images.jsonl", (_ENTRY,), _look_at_versions),
    "results": Target("results.json", (json.dumps(_RESULTS).encode(),), _open_results),
    "vectors": Target("cls_labels.npy", (_pickled({"a": np.array([1.0, 0]), "b": np.array([0, 1])}),), _open_vectors),
    "attention maps": Target(
        "maps/a.npz",
        (
            _arrays(scores=np.full((1, 2, 2), 0.5, np.float16), classes=np.array([0])),
            _arrays(keys=np.array([0]), cam=np.ones((1, 2, 2)), high_res=np.ones((1, 8, 8))),
        ),
        _open_maps,
    ),
    "saliency": Target(
        "saliency/a.npy",
        (_arrays(map=np.full((2, 2), 0.5)), _arrays(map=np.full((1, 8, 8), 200, np.uint8))),
        lambda folder, file: read_unit_map(file, folder / "a.png", "a map of saliency"),
    ),
    "hints of labelme": Target("hints/a.json", (json.dumps(_SHAPES).encode(),), _read_hints),
    "hints of voc": Target("hints/a.xml", (_BOXES,), _read_hints),
    "hints as a map": Target("hints/a.png", (_encoded("L", "png"), _encoded("I;16", "png")), _read_hints),
    "hints as coco's boxes": Target("boxes/instances.json", (json.dumps(_COCO_BOXES).encode(),), _open_boxes),
    "hints as yolo's boxes": Target(
        "boxes/a.txt", (b"0 0.5 0.5 1 1\n1 0.25 0.5 0.5 0.5\n", b"1\t.5 .5 .1 .1\r\n\r\n"), _open_boxes
    ),
    "correction": Target("corrections/a/c00001.json", (_CORRECTION,), _read_correction),
    "mask of a correction": Target("corrections/a/c00001-semantic.png", (_encoded("L", "png"),), _read_correction_mask),
    "quality.csv": Target(
        "run/quality.csv",
        (quality_text([ImageQuality("a", 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1, 0)]).encode(),),
        lambda _, file: read_quality(file),
    ),
    "image": Target(
        "more/a.jpg",
        (
            _encoded("RGB", "jpeg"),
            _encoded("RGB", "png"),
            _encoded("RGB", "tiff"),
            _encoded("I;16", "png"),
            _encoded("RGB", "webp"),
            _deep("png"),
            _deep("tif"),
        ),
        lambda _, file: read_image(file),
    ),
}

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(tyro.cli(main, description=__doc__))
