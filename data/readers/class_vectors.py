"""Labels of a class at a time: VOC's class lists, and the vectors that successors of IRNet pass around."""

from __future__ import annotations

import io
import pickle
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import DatasetError, Problem
from data.readers.entry import Entry, Reading
from data.readers.image_names import ImageNames
from data.readers.text import read_bytes, read_text, text_lines

_LINE = re.compile(r"(.*\S)\s+(-1|0|1)")
LISTS = ("trainval", "train", "val", "test")


def class_lists(folder: Path) -> dict[Path, str]:
    """Return VOC's class lists in a folder, `cat_train.txt`, and their classes."""
    found = {}
    for file in sorted(folder.glob("*_*.txt")):
        name, _, part = file.stem.rpartition("_")
        if name and (part in LISTS or (folder / f"{part}.txt").is_file()) and is_class_list(file):
            found[file] = name
    return found


def is_class_list(file: Path) -> bool:
    """Tell whether each line of a file is the name of an image and 1, 0 or -1."""
    try:
        lines = [line for line in text_lines(read_text(file)) if line.strip()]
    except DatasetError:
        return False
    return bool(lines) and all(_LINE.fullmatch(line.strip()) for line in lines)


def read_class_lists(files: dict[Path, str], folder: Path) -> Reading:
    """Read the lists of all classes. 0 is VOC's mark of difficult objects, which count, as in annotations."""
    labels: dict[str, set[str]] = defaultdict(set)
    places: dict[str, tuple[Path, int]] = {}
    for file, name in files.items():
        for number, line in enumerate(text_lines(read_text(file)), start=1):
            if line.strip() and (found := _LINE.fullmatch(line.strip())):
                places.setdefault(found[1], (file, number))
                if found[2] != "-1":
                    labels[found[1]].add(name)
                else:
                    labels[found[1]].update()
    entries = [
        Entry(image, frozenset(names), places[image][0], f"line {places[image][1]}") for image, names in labels.items()
    ]
    return Reading(f"VOC's class lists, {len(files)} in all", entries)


def read_vectors(file: Path, classes: tuple[str, ...], names: ImageNames) -> Reading:
    """Read a NumPy file of a dictionary: name of an image -> a vector with 1 for each class that it has.

    Such a dictionary is pickled. What is read of it is text, numbers and arrays; no code in it is run.

    Args:
        file: The `.npy` file.
        classes: The names of the vector's places.
        names: The images.

    Raises:
        DatasetError: The file holds something else, or vectors of another length.
    """
    expected = "expected a dictionary of image names and vectors of 0 and 1 (cls_labels.npy)"
    content = read_bytes(file, "NumPy's array")
    try:
        vectors = _dictionary(content)
        found = Reading("vectors of classes in NumPy's form")
        for key, value in vectors.items():
            vector = _vector(value)
            if len(vector) != len(classes):
                counts = f"{len(vector)} numbers for {str(key)!r}, and {len(classes)} classes"
                message = f"{expected}, found {counts}: name them in classes.txt"
                raise DatasetError([Problem(file, message)])
            if not set(np.unique(vector).tolist()) <= {0, 1}:
                found.problems.append(
                    Problem(file, f"{str(key)!r}: {expected}, found other numbers", names.find(str(key)))
                )
                continue
            labels = frozenset(classes[place] for place in np.flatnonzero(vector))
            found.entries.append(Entry(str(key), labels, file, f"field {str(key)!r}"))
    except DatasetError:
        raise
    except Exception as error:  # Unpickling raises whatever the bytes ask for.
        raise DatasetError([Problem(file, f"{expected}, but {error or type(error).__name__}")]) from error
    return found


class _Array:
    """What a pickled array consists of, kept as it is."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, tuple) else (state,)


class _Dtype(_Array):
    def __init__(self, *names: Any) -> None:
        self.name = str(names[0]) if names else ""


class _Unpickler(pickle.Unpickler):
    """Reads plain data and arrays; the latter's parts are not given to NumPy."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            if name == "_reconstruct":
                return lambda *_: _Array()
            if name == "scalar":
                return lambda dtype, raw: _number(dtype, raw)
        if module == "numpy":
            if name == "dtype":
                return _Dtype
            if name == "ndarray":
                return _Array
        if (module, name) == ("_codecs", "encode"):
            # A function of its own, for a pickle may set attributes of what it looks up.
            return lambda text, *_: str(text).encode("latin1")
        raise ValueError(f"it names {module}.{name}, which is not looked up")


def _dictionary(content: bytes) -> dict[Any, Any]:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if not dtype.hasobject:
        raise ValueError(f"it is an array of {dtype}, {list(shape)}, without names of images")
    if shape != ():
        raise ValueError(f"it is a list of {list(shape)} things")
    root = _Unpickler(stream, encoding="latin1").load()
    held = root.state[-1] if isinstance(root, _Array) and root.state else root
    held = held[0] if isinstance(held, list) and len(held) == 1 else held
    if not isinstance(held, dict):
        raise ValueError(f"it holds {type(held).__name__}")
    return held


def _vector(value: Any) -> np.ndarray:
    if isinstance(value, _Array):
        _, shape, dtype, _, raw = value.state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        kind = np.dtype(_kind(dtype))
        return np.frombuffer(raw, kind).reshape(-1) if len(shape) == 1 else np.empty(0)
    return np.asarray([float(number) for number in value])


def _number(dtype: Any, raw: Any) -> float:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return float(np.frombuffer(raw, np.dtype(_kind(dtype)))[0])


def _kind(dtype: Any) -> str:
    """Return a number's type, with the order of its bytes."""
    if not isinstance(dtype, _Dtype) or not re.fullmatch(r"[biuf][1248]", dtype.name):
        raise ValueError("it has arrays of other things than numbers")
    order = str(dtype.state[1]) if len(dtype.state) > 1 else "|"
    return dtype.name if order not in "<>" else order + dtype.name
