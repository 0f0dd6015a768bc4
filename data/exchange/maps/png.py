"""Plain PNG: grey maps of class values and of instances, and a list of names, a line per value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import VOID, DatasetError, Problem, Sample, value_type
from data.exchange.json_fields import is_number_below
from data.exchange.pixels import Pixels, size_text, without_void
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.files import files_below, read_regular
from data.formats.label_maps import MAX_VALUE, palette_problems, read_label_map, write_label_map
from data.names import clean_name, is_background

MASKS, INSTANCES, NAMES = "masks", "instances", "values.txt"


def write_png(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `masks/<id>.png`, `instances/<id>.png` and `values.txt`; return the number of masks."""
    write_values(labels, folder)
    for sample, pixels in labels.images():
        assert pixels.objects is not None
        write_label_map(folder / MASKS / f"{sample.id}.png", pixels.semantic, grey=True)
        objects = pixels.objects.astype(value_type(int(pixels.objects.max(initial=0))))
        write_label_map(folder / INSTANCES / f"{sample.id}.png", objects, grey=True)
    return {"masks": len(labels.samples)}


def write_values(labels: Labels, folder: Path) -> None:
    """Write `values.txt`, the name of a value per line, from 0."""
    (folder / NAMES).write_text("".join(f"{name}\n" for name in labels.classes.values), encoding="utf-8")


def read_png(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield what lies in `masks/`, with the instances beside it; without them nothing is said of instances."""
    names = read_class_lines(folder / NAMES)
    refuse_lost_background(names, labels, folder / NAMES)
    for file in map_files(folder / MASKS):
        name = file.relative_to(folder / MASKS).as_posix()
        yield Edited(name, file, partial(read_pair, file, folder / INSTANCES / name, names, labels))


def read_pair(file: Path, instances: Path, names: list[str], labels: Labels, _: Sample) -> Pixels:
    """Read a map whose values are places in a list of names, and that of the instances where there is one."""
    objects = read_label_map(instances) if instances.is_file() else None
    semantic = renamed(read_label_map(file), names, labels)
    if objects is not None and objects.shape != semantic.shape:
        raise ValueError(f"expected instances of {size_text(semantic.shape)}, found {size_text(objects.shape)}")
    return without_void(Pixels(semantic, objects))


def png_files(folder: Path) -> list[Path]:
    """Return the PNGs below a folder, by name.

    Raises:
        DatasetError: There are none.
    """
    files = files_below(folder, {".png"})
    if not files:
        raise DatasetError([Problem(folder, "expected PNGs of label maps, found none")])
    return files


def map_files(folder: Path, usual: bytes = b"") -> list[Path]:
    """Return the PNGs of class values below a folder, by name.

    Args:
        folder: Of the maps.
        usual: The palette that indexed ones have where nobody put it in another order.

    Raises:
        DatasetError: There are none, or some have palettes in another order.
    """
    files = png_files(folder)
    if problems := palette_problems({file.as_posix(): file for file in files}, usual=usual):
        raise DatasetError([Problem(problem.file, problem.message) for problem in problems])
    return files


def read_class_lines(file: Path) -> list[str]:
    """Return the names of a list, a line per value.

    Raises:
        DatasetError: It cannot be read, has a line without a name between others, or a name twice.
    """
    names = [clean_name(line) for line in read_names(file)]
    while names and not names[-1]:
        names.pop()
    problems = [
        Problem(file, f"line {number}: expected a name, found none, so the values of those below are unclear")
        for number, name in enumerate(names, start=1)
        if not name
    ]
    counts = Counter(filter(None, names))
    problems += [
        Problem(file, f"expected each name once, found {name!r:.80} twice") for name in counts if counts[name] > 1
    ]
    if problems:
        raise DatasetError(problems)
    return names


def read_names(file: Path) -> list[str]:
    """Return the lines of a list of names.

    Raises:
        DatasetError: It cannot be read.
    """
    try:
        return read_regular(file).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError([Problem(file, f"expected a list of names, but {error}")]) from None


def refuse_lost_background(names: list[str], labels: Labels, file: Path) -> None:
    """See that names of values begin with the background's, where the labels have one.

    Raises:
        DatasetError: They do not, so that every value would stand for another class.
    """
    first = names[0] if names else ""
    if labels.classes.has_background and not is_background(first):
        message = f"expected the name of value 0 first, {labels.name(0)!r}, found {first!r:.80}"
        raise DatasetError([Problem(file, message)])


def names_by_value(named: Any) -> list[str]:
    """Return the names of a JSON object, value -> name, by their values; "" for those that have none.

    Raises:
        ValueError: It is no such object, or has a value that no label map has.
    """
    if not isinstance(named, dict) or not named:
        raise ValueError(f"expected names by their values, found {type(named).__name__}")
    for value in named:
        if not is_number_below(value, MAX_VALUE + 1):
            raise ValueError(f"expected values from 0 to {MAX_VALUE}, found {value!r:.80}")
    names = [""] * (max(map(int, named)) + 1)
    for value, name in named.items():
        if names[int(value)]:
            raise ValueError(f"expected a name for each value, found {int(value)} twice")
        names[int(value)] = str(name)
    if twice := [name for name, count in Counter(filter(None, names)).items() if count > 1]:
        raise ValueError(f"expected a name for each value, found {twice[0]!r:.80} twice")
    return names


def renamed(values: np.ndarray, names: list[str], labels: Labels) -> np.ndarray:
    """Return a map whose values are places in a list of names with the labels' values instead; void stays.

    Raises:
        ValueError: A value has no name, or a name is no class of the labels.
    """
    table = np.zeros(int(values.max(initial=0)) + 1, np.int64)
    for value in np.flatnonzero(np.bincount(values.ravel())).tolist():
        if value == VOID:
            table[value] = VOID
        elif value < len(names):
            table[value] = labels.value(names[value])
        else:
            raise ValueError(f"expected values of {len(names)} names, found {value}")
    return table[values]


PNG = ExchangeFormat("png", "grey PNGs", write_png, read_png)
