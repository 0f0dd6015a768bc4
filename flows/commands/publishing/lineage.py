"""`pseudomask lineage`: what the published labels of an image were made from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data.files import file_digest
from data.formats.label_folder import SEMANTIC
from data.store import ArtifactError
from data.store.corrections import FOLDER, Corrections, Record
from data.store.publication import Entry, Publication, provenance
from flows.commands.command import POSITIONAL, Command, answering, spread
from tasks.config import Config

PRETRAINED = ("seed", "backbone", "weights")
CORRECTION = ("author", "created", "made_on", "verdict", "tags")


def trace(image: str, published: Path, version: int | None = None) -> dict[str, Any]:
    """Return an image's entry in a version, and the artifacts that its labels came from, last first.

    Returns:
        "stages": each with "stage", "key", "settings", "source" (of the code), "seed", "backbone" and "weights"
        where it has them, "device", "versions", "finished", and "images" that it was made over; "corrections": those
        that the version took up, the oldest first, each with "author", "created", "made_on", "verdict", "tags", whether
        it changes "pixels", and why these were "not_applied", or None.

    Raises:
        ArtifactError: There is no such version or image, or the version is damaged.
        DatasetError: A correction cannot be read.
    """
    publication = Publication(published)
    number = publication.latest if version is None else version
    if number is None:
        raise ArtifactError(f"{published}: expected the folder of published labels, found no latest version in it")
    record = publication.record(number, "store")
    entry = next((entry for entry in publication.entries(number) if entry.id == image), None)
    if entry is None:
        told = _rejection_of(image, Corrections(published / FOLDER))
        raise ArtifactError(f"{publication.folder(number)}: version {number} has no image {image!r}{told}")
    stages = [
        {
            "stage": manifest["stage"],
            "key": manifest["key"],
            "settings": manifest["recipe"]["settings"],
            "source": manifest["recipe"]["source"],
            **{name: manifest["recipe"][name] for name in PRETRAINED if name in manifest["recipe"]},
            **{name: manifest[name] for name in ("device", "versions", "finished")},
            "images": len(manifest["recipe"]["samples"]),
            "image": manifest["recipe"]["samples"].get(image),
        }
        for manifest in provenance([entry.artifact], partial(publication.manifest, number))
    ]
    return {
        "image": image,
        "version": number,
        "labels": list(entry.labels),
        "sha256": entry.image,
        "label_map": {
            "file": str(publication.folder(number) / SEMANTIC / f"{image}.png"),
            "sha256": file_digest(publication.folder(number) / SEMANTIC / f"{image}.png"),
        },
        "store": record["store"],
        "stages": stages,
        "corrections": [
            {
                **{name: getattr(record, name) for name in CORRECTION},
                "pixels": _has_pixels(record),
                "not_applied": _fault_of(record, entry),
            }
            for record in _corrections_of(entry, Corrections(published / FOLDER))
        ],
    }


def _rejection_of(image: str, corrections: Corrections) -> str:
    """Return ", which Ada rejected, 2026-01-01" of an image that a person rejected last, else nothing."""
    records = corrections.records(image) if image in corrections.images else []
    if not records or records[-1].verdict != "rejected":
        return ""
    return f", which {records[-1].author} rejected, {records[-1].created}"


def _corrections_of(entry: Entry, corrections: Corrections) -> list[Record]:
    """Return the corrections whose pixels a version laid over an image's labels, or that did not fit; the one that gave
    it its tags; the last verdict; and those of other bytes of the image."""
    if others := corrections.of_other_bytes(entry.id, entry.image):
        return others
    records = corrections.counting(entry.id, entry.image)
    behind = corrections.behind(entry.id, entry.image, entry.corrections)
    tagged = [record for record in records if record.tags is not None and {*record.tags} == {*entry.labels}][-1:]
    judged = [record for record in records if record.verdict is not None][-1:]
    return [record for record in records if record in behind or record in tagged or record in judged]


def _fault_of(record: Record, entry: Entry) -> str | None:
    """Return why a correction changed nothing of a version's labels."""
    if record.digest != entry.image:
        return "made on other bytes of the image"
    return entry.unfit if _has_pixels(record) else None


def _has_pixels(record: Record) -> bool:
    return bool(record.semantic or record.instances)


def show_lineage(result: dict[str, Any], console: Console) -> None:
    """Print the image, and a row an artifact."""
    table = Table(title=f"{result['image']} in version {result['version']}", title_justify="left")
    for column in ("stage", "artifact", "made", "images", "code", "settings"):
        table.add_column(column, overflow="fold")
    for stage in result["stages"]:
        pretrained = {name: stage[name] for name in PRETRAINED if stage.get(name) is not None}
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
    corrections = [_words_of(each) for each in result["corrections"]]
    for title, value in (
        *(("by hand", text) for text in corrections),
        ("image", f"SHA-256 {result['sha256']}, labels {', '.join(result['labels']) or 'none'}"),
        ("labels", f"{result['label_map']['file']}, SHA-256 {result['label_map']['sha256']}"),
        ("store", result["store"]),
    ):
        console.print(f"{title:<8} {value}", highlight=False, soft_wrap=True, markup=False)


def _words_of(correction: dict[str, Any]) -> str:
    tags = correction["tags"]
    fault = correction["not_applied"]
    changed = [
        *(["pixels"] if correction["pixels"] else []),
        *([f"tags {', '.join(tags) or 'none'}"] if tags is not None else []),
        *([correction["verdict"]] if correction["verdict"] else []),
    ]
    words = "; ".join(changed) or "nothing changed"
    return f"{correction['author']}, {correction['created']}: {words}{f', not applied: {fault}' if fault else ''}"


class LineageRequest(Config):
    """An image of published labels.

    Attributes:
        image: Its id: the file's path in the set, without suffix.
        published: Folder of the versions.
        version: Number of the version; by default the latest.
    """

    image: str
    published: Path
    version: int | None = None


COMMAND = Command(
    name="lineage",
    help="What the published labels of an image were made from: bytes, networks, weights, settings, code.",
    request=LineageRequest,
    carry_out=answering(spread(trace), show_lineage),
    written={"image": POSITIONAL},
)
