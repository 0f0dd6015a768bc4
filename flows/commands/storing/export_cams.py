"""The class attention maps of a run, in a form that needs neither pickle nor torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors import SafetensorError, safe_open

from data.readers.beside.cams import CLASSES_FILE
from data.store import ArtifactError, open_store
from flows.commands.storing.export_labels import write_export
from tasks.engine.run_record import RunRecord, read_run


def export_cams(run: Path, out: Path) -> dict[str, Any]:
    """Write `<id>.npz` for every image with labels, and `classes.txt`; `run --cams` reads such a folder.

    A file holds "scores", float16 [K, h, w] in [0, 1] at stride 4 of the size that the run worked at, and "classes",
    int64 [K], the line of each in `classes.txt`, counted from 0.

    Returns:
        "out", "format" ("cams") and "images", the number of files.

    Raises:
        ArtifactError: The folder holds no run with maps, its store no longer has them, or `out` holds something else
            than an earlier export.
    """
    record = read_run(run)
    if "cams" not in record.stages:
        raise ArtifactError(f"{run}: expected a run with class attention maps, found none")

    def write(folder: Path) -> dict[str, Any]:
        names = record.classes.real_names
        (folder / CLASSES_FILE).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        return {"format": "cams", "images": _write_maps(record, folder)}

    return write_export({"run": str(record.folder.resolve())}, record.root, out, write)


def show_cams(result: dict[str, Any], console: Console) -> None:
    """Print what was written, and where."""
    text = f"class attention maps of {result['images']} images: {result['out']}"
    console.print(text, highlight=False, soft_wrap=True)


def _write_maps(record: RunRecord, folder: Path) -> int:
    store, count = open_store(record.store), 0
    labels = {sample.id: _numbers(record, sample.labels) for sample in record.dataset.samples}
    for key in record.stages["cams"].keys.values():
        file = store.fetch("cams", key) / "cams.safetensors"
        try:
            with safe_open(file, framework="np") as maps:
                for id in maps.keys():  # noqa: SIM118 (no mapping)
                    if id not in labels:
                        # Nor has it been checked as a name of a file.
                        raise ArtifactError(f"{file}: expected maps of the run's images, found those of {id!r}")
                    target = folder / f"{id}.npz"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    np.savez_compressed(target, allow_pickle=False, scores=maps.get_tensor(id), classes=labels[id])
                    count += 1
        except SafetensorError as error:
            message = f"{file}: cannot be read ({error}); the command of the run makes it again"
            raise ArtifactError(message) from None
    return count


def _numbers(record: RunRecord, labels: tuple[int, ...]) -> np.ndarray:
    """Return classes by their lines in `classes.txt`, which has none for the value of void."""
    names, lines = record.classes.names, record.classes.real_names
    return np.array([lines.index(names[label]) for label in labels], np.int64)
