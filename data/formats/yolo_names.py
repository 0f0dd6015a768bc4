"""`data.yaml` of YOLO's data sets, as far as the names of its classes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from data.dataset import DatasetError, Problem
from data.files import read_regular

FILE = "data.yaml"


def write_yolo_names(folder: Path, names: Sequence[str], **more: str) -> None:
    """Write `data.yaml` with the names of the classes, counted from 0."""
    # A JSON string is YAML.
    fields = {"path": ".", "train": "images", "val": "images", **more}
    head = "".join(f"{name}: {value}\n" for name, value in fields.items())
    lines = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
    (folder / FILE).write_text(f"{head}names:\n{lines}", encoding="utf-8")


def read_yolo_names(folder: Path) -> list[str]:
    """Return the names of the classes of `data.yaml`: a list, or a table by number.

    Raises:
        DatasetError: The file is missing, no YAML, or has no such names.
    """
    file = folder / FILE
    try:
        names = (yaml.load(read_regular(file).decode(), _Loader) or {}).get("names")
    except (OSError, ValueError, yaml.YAMLError, AttributeError, RecursionError) as error:
        raise DatasetError([Problem(file, f"expected YAML with the names of the classes, but {error}")]) from None
    found = [names.get(number) for number in range(len(names))] if isinstance(names, dict) else names
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise DatasetError([Problem(file, f"expected names by numbers from 0, found {type(names).__name__}")])
    if twice := [name for name, count in Counter(found).items() if count > 1]:
        raise DatasetError([Problem(file, f"expected a name for each number, found {twice[0]!r:.80} twice")])
    return [str(name) for name in found]


class _Loader(yaml.SafeLoader):
    """Reads YAML in which no field comes twice: the last one would count, without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<")
        if twice := [key for key, count in keys.items() if count > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"the field {twice[0]!r:.80} comes twice")
        return super().construct_mapping(node, deep)
