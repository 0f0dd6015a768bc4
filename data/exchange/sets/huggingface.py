"""Hugging Face datasets: Parquet with photographs, masks and instances as images, and a card that says so.

Needs pyarrow: `pip install 'pseudomask[huggingface]'`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.dataset import DatasetError, Problem, Sample, value_type
from data.exchange.maps.png import names_by_value, renamed
from data.exchange.pixels import Pixels, size_text, without_void
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.files import read_regular, visible

CARD, FOLDER = "README.md", "data"
MOST_BYTES, GROUP_BYTES = 400_000_000, 32_000_000
"""Of a file, and of a group of rows, which is in memory at a time."""
IMAGES = ("image", "mask", "instances")
NEEDED, READ = ("id", "mask"), ("id", "mask", "instances")


def write_huggingface(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `data/train-*.parquet` and the card, `README.md`; return the number of "files".

    Raises:
        DatasetError: pyarrow is not installed, a photograph cannot be read, or label maps are missing or damaged.
    """
    arrow, parquet = _arrow(folder)
    image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns = [("id", arrow.string()), *((name, image) for name in IMAGES), ("tags", arrow.list_(arrow.string()))]
    schema = arrow.schema(columns).with_metadata({"huggingface": json.dumps({"info": {"features": _features()}})})
    (folder / FOLDER).mkdir()
    writer, files, rows, size, written = None, 0, [], 0, 0
    for sample, pixels in labels.images():
        rows.append(_row(labels, sample, pixels))
        size += sum(len(rows[-1][name]["bytes"]) for name in IMAGES)
        if size < GROUP_BYTES and sample is not labels.samples[-1]:
            continue
        if writer is None:
            writer = parquet.ParquetWriter(folder / FOLDER / f"train-{files:05d}.parquet", schema)
            files += 1
        writer.write_table(arrow.Table.from_pylist(rows, schema))
        written, size, rows = written + size, 0, []
        if written > MOST_BYTES or sample is labels.samples[-1]:
            writer.close()
            writer, written = None, 0
    (folder / CARD).write_text(_card(labels), encoding="utf-8")
    return {"files": files}


def _row(labels: Labels, sample: Sample, pixels: Pixels) -> dict[str, Any]:
    try:
        photograph = read_regular(sample.image)
    except OSError as error:
        message = f"expected the photograph, which the format contains, but {error.strerror}"
        raise DatasetError([Problem(sample.image, message, sample.id)]) from None
    assert pixels.objects is not None
    objects = pixels.objects.astype(value_type(int(pixels.objects.max(initial=0)) + 1))
    return {
        "id": sample.id,
        "image": {"bytes": photograph, "path": f"{sample.id}{sample.image.suffix}"},
        "mask": {"bytes": _png(pixels.semantic), "path": f"{sample.id}.png"},
        "instances": {"bytes": _png(objects), "path": f"{sample.id}.png"},
        "tags": [labels.classes.names[index] for index in sample.labels],
    }


def _png(values: NDArray[np.integer]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(stream, format="PNG")
    return stream.getvalue()


def _features() -> dict[str, Any]:
    text = {"dtype": "string", "_type": "Value"}
    return {"id": text, **{name: {"_type": "Image"} for name in IMAGES}, "tags": {"feature": text, "_type": "List"}}


def _card(labels: Labels) -> str:
    """Return the card: its head says where the files are, its text what the values of a mask mean."""
    head = ["configs:", "- config_name: default", "  data_files:", "  - split: train"]
    head += [f"    path: {FOLDER}/train-*.parquet", "task_categories:", "- image-segmentation"]
    rows = [f"| {value} | {labels.name(value).replace('|', chr(92) + '|')} |" for value in labels.named_values]
    table = ["| value | name |", "|---|---|", *rows]
    text = (
        f"# Labels of {len(labels.samples)} images\n\nMade by pseudomask from image-level labels. Columns: `id`, "
        "`image`, `mask` (class values), `instances` (ids of objects, 0 for none), `tags`.\n"
    )
    # For our own reader: names may hold what a table cannot.
    names = json.dumps({str(value): labels.name(value) for value in labels.named_values})
    return "\n".join(["---", *head, "---", "", text, *table, "", f"<!-- values: {names} -->", ""])


def read_huggingface(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield the rows of the Parquet files in `data/`; the values of masks are those of the card.

    Without the column `instances` nothing is said of instances.
    """
    arrow, parquet = _arrow(folder)
    names = _names(folder / CARD)
    files = visible(folder / FOLDER, "*.parquet")
    if not files:
        raise DatasetError([Problem(folder / FOLDER, "expected Parquet files, found none")])
    for file in files:
        try:
            table = parquet.ParquetFile(file)
            if missing := [name for name in NEEDED if name not in table.schema_arrow.names]:
                raise DatasetError([Problem(file, f"expected the columns id and mask, found no {missing[0]}")])
            for batch in table.iter_batches(32, columns=[name for name in READ if name in table.schema_arrow.names]):
                for row in batch.to_pylist():
                    yield Edited(str(row["id"]), file, partial(_read, row, names, labels))
        except (arrow.ArrowException, OSError) as error:
            raise DatasetError([Problem(file, f"expected Parquet with id and mask, but {error}")]) from None


def _read(row: dict[str, Any], names: list[str], labels: Labels, sample: Sample) -> Pixels:
    shape = labels.size(sample)
    semantic = renamed(_values(row["mask"], "mask", shape), names, labels)
    instances = row.get("instances")
    objects = None if instances is None else _values(instances, "instances", shape)
    return without_void(Pixels(semantic, objects))


def _values(cell: Any, name: str, shape: tuple[int, int]) -> NDArray[np.integer]:
    try:
        with Image.open(io.BytesIO(cell["bytes"]), formats=("PNG",)) as image:
            # Before anything of that size is made.
            if (image.height, image.width) != shape:
                found = size_text((image.height, image.width))
                raise ValueError(f"expected a PNG of {size_text(shape)} as {name}, found {found}")
            values = np.asarray(image)
    except (OSError, SyntaxError, TypeError, KeyError, Image.DecompressionBombError) as error:
        raise ValueError(f"expected a PNG as {name}, but {error}") from None
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"expected a grey PNG as {name}, found {values.dtype} {list(values.shape)}")
    return values


def _names(card: Path) -> list[str]:
    try:
        text = read_regular(card).decode().rpartition("<!-- values: ")[2].partition(" -->\n")[0]
        return names_by_value(json.loads(text))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError([Problem(card, f"expected the card of an export with its values, but {error}")]) from None


def _arrow(folder: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        message = "the format needs pyarrow, which is not installed: pip install 'pseudomask[huggingface]'"
        raise DatasetError([Problem(folder, message)]) from None
    return pyarrow, pyarrow.parquet


HUGGINGFACE = ExchangeFormat("huggingface", "a Hugging Face dataset", write_huggingface, read_huggingface)
