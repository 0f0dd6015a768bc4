"""`pseudomask diff`: the images whose published labels changed between two versions, by how much, and to what."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field
from rich.console import Console
from rich.table import Table

from data.files import explain_os_errors, replacing
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import read_label_map
from data.ownership import lies_in, own, refuse_inside
from data.store import ArtifactError
from data.store.publication import Publication
from flows.commands.command import POSITIONAL, Command, answering, spread
from flows.commands.tables import percent
from flows.publishing.approval import open_published
from tasks.config import Config
from tasks.publishing.difference import Difference, compare_versions
from tasks.publishing.runs import runs_of
from tasks.reporting.pictures import paint_labels

MOST_ROWS = 20


def diff_versions(
    out: Path, before: int | None = None, after: int | None = None, pictures: Path | None = None, images: int = 12
) -> dict[str, Any]:
    """Compare two versions of published labels, by default the latest with the one that it was made from.

    Returns:
        "publication", "before", "after", "added", "removed", "changed": each with "image", "share", "gained", "lost";
        "same", "classes": name -> {"before", "gained", "lost"} in pixels of the images that changed, and "pictures".

    Raises:
        ArtifactError: There is no such version, none to compare with, or a picture cannot be written.
        DatasetError: A label map cannot be read.
    """
    publication = open_published(out)
    after = after or publication.latest
    if after is None:
        raise ArtifactError(f"{publication.root}: expected a latest version to compare, found none; give two numbers")
    base = before or publication.record(after).get("base")
    if base is None:
        raise ArtifactError(f"{publication.root}: version {after} was made from none; give two numbers")
    found = compare_versions(publication, base, after)
    written = [] if pictures is None else _write_pictures(publication, base, after, found, pictures, images)
    return {
        "publication": str(publication.root),
        "before": base,
        "after": after,
        "added": list(found.added),
        "removed": list(found.removed),
        "changed": [asdict(each) for each in found.changed],
        "same": found.same,
        "classes": found.classes(),
        "pictures": [str(file) for file in written],
    }


def _write_pictures(
    publication: Publication, before: int, after: int, found: Difference, out: Path, most: int
) -> list[Path]:
    """Write the label maps of the images that differ most side by side, before and after; return the files.

    Raises:
        ArtifactError: The folder holds something else, or lies in the publication or in a data set of it.
    """
    if lies_in(out, publication.root):
        raise ArtifactError(f"{out}: lies in the published labels {publication.root}; choose a folder outside")
    for run in runs_of(publication):
        refuse_inside(out, run.root)
    names = {f"{each.image}.png": each.image for each in found.changed[:most]}
    with own(out, "diff") as output:
        output.remove(output.files - names.keys())
        output.claim(names)
        return [_write_picture(publication, before, after, out / name, image) for name, image in names.items()]


def _write_picture(publication: Publication, before: int, after: int, file: Path, image: str) -> Path:
    """Write the label maps of an image side by side; return the file."""
    maps = [read_label_map(publication.folder(n) / SEMANTIC / f"{image}.png") for n in (before, after)]
    height = max(len(labels) for labels in maps)
    painted = [np.pad(paint_labels(labels), ((0, height - len(labels)), (0, 4), (0, 0))) for labels in maps]
    done, encoded = cv2.imencode(".png", cv2.cvtColor(np.concatenate(painted, axis=1), cv2.COLOR_RGB2BGR))
    assert done
    with explain_os_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_bytes(encoded.tobytes())
    return file


def show_diff(result: dict[str, Any], console: Console) -> None:
    """Print a row per image that changed, those that changed most first, and one per class."""
    counts = f"images: {len(result['added'])} added, {len(result['removed'])} removed, {result['same']} the same"
    title = f"{result['publication']}: version {result['before']} to {result['after']}"
    table = Table(title=title, title_justify="left")
    for column in ("image", "pixels changed, in percent", "more", "less"):
        table.add_column(column, overflow="fold")
    for each in result["changed"][:MOST_ROWS]:
        table.add_row(each["image"], percent(each["share"]), *(_largest(each[name]) for name in ("gained", "lost")))
    console.print(table)
    if (more := len(result["changed"]) - MOST_ROWS) > 0:
        console.print(f"and {more} more images (--json has them all)", soft_wrap=True)
    classes = Table(title="pixels of the images that changed", title_justify="left")
    for column in ("class", "before", "gained", "lost"):
        classes.add_column(column, justify="left" if column == "class" else "right")
    for name, row in result["classes"].items():
        classes.add_row(name, *(str(row[column]) for column in ("before", "gained", "lost")))
    console.print(classes)
    console.print(counts, soft_wrap=True)
    if result["pictures"]:
        console.print(f"pictures, before and after: {Path(result['pictures'][0]).parent}", soft_wrap=True)


def _largest(pixels: dict[str, int]) -> str:
    ordered = sorted(pixels.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered[:3])


class DiffRequest(Config):
    """Two versions of published labels.

    Attributes:
        out: Folder of the published versions.
        before: Number of the earlier version; by default what the other was made from.
        after: Number of the later version; by default the latest.
        pictures: Folder of pictures of the images that changed most, before and after; without one none are written.
        images: Pictures at most.
    """

    out: Path
    before: Annotated[int, Field(ge=1)] | None = None
    after: Annotated[int, Field(ge=1)] | None = None
    pictures: Path | None = None
    images: Annotated[int, Field(ge=1)] = 12


COMMAND = Command(
    name="diff",
    help="Images whose published labels changed between two versions, by how much, and between which classes.",
    request=DiffRequest,
    carry_out=answering(spread(diff_versions), show_diff),
    written={"out": POSITIONAL, "before": POSITIONAL, "after": POSITIONAL},
)
