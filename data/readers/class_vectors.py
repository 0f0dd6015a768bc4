"""Labels of a class at a time: VOC's class lists, and the vectors that successors of IRNet pass around."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import DatasetError, Problem
from data.files import visible
from data.pickles import PickleError, read_npy
from data.readers.entry import Entry, Reading
from data.readers.image_names import ImageNames
from data.readers.text import read_bytes, read_text, text_lines

_LINE = re.compile(r"(.*\S)\s+(-1|0|1)")
LISTS = ("trainval", "train", "val", "test")


def class_lists(folder: Path) -> dict[Path, str]:
    """Return VOC's class lists in a folder, `cat_train.txt`, and their classes.

    Raises:
        DatasetError: A file that is called like one cannot be read, or is one in part only.
    """
    found = {}
    for file in visible(folder, "*_*.txt"):
        name, _, part = file.stem.rpartition("_")
        if name and (part in LISTS or (folder / f"{part}.txt").is_file()) and is_class_list(file):
            found[file] = name
    return found


def is_class_list(file: Path) -> bool:
    """Tell whether the lines of a file are the name of an image and 1, 0 or -1.

    Raises:
        DatasetError: Most are, and some are not; or it cannot be read.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text_lines(read_text(file)), start=1) if line.strip()]
    others = [(number, line) for number, line in lines if not _LINE.fullmatch(line)]
    if others and 2 * len(others) < len(lines):
        number, line = others[0]
        raise DatasetError([Problem(file, f"line {number}: expected an image and 1, 0 or -1, found {line[:80]!r}")])
    return bool(lines) and not others


def read_class_lists(files: dict[Path, str]) -> Reading:
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
        vectors = read_npy(content)
        if isinstance(vectors, np.ndarray):
            raise PickleError(f"it is an array of {vectors.dtype}, {list(vectors.shape)}, without names of images")
        if not isinstance(vectors, dict):
            raise PickleError(f"it holds {type(vectors).__name__}")
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


def _vector(value: Any) -> np.ndarray:
    vector = np.asarray(value, np.float64)
    return vector if vector.ndim == 1 else np.empty(0)
