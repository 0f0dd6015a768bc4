"""`pseudomask lineage`: what the published labels of an image were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data.publication import Publication
from data.store import ArtifactError, Store, file_digest

FIRST, KIND = "labels", "SegmentationClass"


def trace(image: str, published: Path, version: int | None = None) -> dict[str, Any]:
    """Return an image's entry in a version, and the artifacts that its labels came from, last first.

    Returns:
        "stages": each with "stage", "key", "settings", "source" (of the code), "seed", "backbone" and "weights"
        where it has them, "device", "versions", "finished", and "images" that it was made over.

    Raises:
        ArtifactError: There is no such version or image, or the store no longer has an artifact.
    """
    publication = Publication(published)
    number = publication.latest if version is None else version
    if number is None:
        raise ArtifactError(f"{published}: expected the folder of published labels, found no latest version in it")
    record = publication.record(number)
    entry = next((entry for entry in publication.entries(number) if entry.id == image), None)
    if entry is None:
        raise ArtifactError(f"{publication.folder(number)}: version {number} has no image {image!r}")
    store = Store(Path(record["store"]))
    stages: dict[tuple[str, str], dict[str, Any]] = {}
    pending = [(FIRST, entry.artifact)]
    while pending:
        stage, key = pending.pop(0)
        if (stage, key) in stages:
            continue
        manifest = store.read_manifest(stage, key)
        recipe = manifest["recipe"]
        stages[stage, key] = {
            "stage": stage,
            "key": key,
            "settings": recipe["settings"],
            "source": recipe["source"],
            **{name: recipe[name] for name in ("seed", "backbone", "weights") if name in recipe},
            **{name: manifest[name] for name in ("device", "versions", "finished")},
            "images": len(recipe["samples"]),
            "image": recipe["samples"].get(image),
        }
        for name, keys in recipe["inputs"].items():
            # A training reads the shards of all images; those of others are not this image's history.
            pending += [(name, each) for each in keys] if len(keys) == 1 else []
    return {
        "image": image,
        "version": number,
        "labels": list(entry.labels),
        "sha256": entry.image,
        "label_map": {
            "file": str(publication.folder(number) / KIND / f"{image}.png"),
            "sha256": file_digest(publication.folder(number) / KIND / f"{image}.png"),
        },
        "store": str(store.root),
        "stages": list(stages.values()),
    }


def show_lineage(result: dict[str, Any], console: Console) -> None:
    """Print the image, and a row an artifact."""
    table = Table(title=f"{result['image']} in version {result['version']}", title_justify="left")
    for column in ("stage", "artifact", "made", "images", "code", "settings"):
        table.add_column(column, overflow="fold")
    for stage in result["stages"]:
        pretrained = {name: stage[name] for name in ("seed", "backbone", "weights") if stage.get(name) is not None}
        settings = ", ".join(f"{name} {value}" for name, value in {**pretrained, **stage["settings"]}.items())
        table.add_row(
            stage["stage"],
            stage["key"],
            stage["finished"].partition("+")[0].replace("T", " "),
            str(stage["images"]),
            stage["source"][:12],
            settings,
        )
    console.print(table)
    for title, value in (
        ("image", f"SHA-256 {result['sha256']}, labels {', '.join(result['labels']) or 'none'}"),
        ("labels", f"{result['label_map']['file']}, SHA-256 {result['label_map']['sha256']}"),
        ("store", result["store"]),
    ):
        console.print(f"{title:<8} {value}", highlight=False, soft_wrap=True, markup=False)
