"""`pseudomask import corrections`: labels that people corrected in a tool of theirs, taken over as corrections."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import PositiveInt
from rich.console import Console
from rich.progress import Progress

from data.dataset import DatasetError, Problem, Sample
from data.exchange import FORMATS, ExchangeFormat
from data.exchange.changes import Change, find_change
from data.exchange.spec import Edited
from data.files import dangling_links, refuse_special
from data.ownership import read_export
from data.store import ArtifactError
from data.store.corrections import FOLDER, UNCHANGED, Correction, Corrections
from data.store.publication import Publication
from data.user import user_name
from flows.commands.command import POSITIONAL, Command, answering
from flows.commands.storing.export_source import LIST, Source, labels_digest, open_source, version_source
from tasks.config import Config

LISTED = 20


class ImportRequest(Config):
    """A folder of labels that people edited.

    Attributes:
        what: What is taken over: corrections of published labels.
        folder: An export that was edited where it lay, or what the tool wrote.
        to: Folder of the published labels.
        format: What the folder holds.
        version: The version that was exported; by default the one that the folder's export.json names.
        author: Who made the corrections; by default the name of the user.
        dry_run: List what would be taken, and take nothing.
    """

    what: Literal["corrections"]
    folder: Path
    to: Path
    format: Literal[(*FORMATS,)]  # pyright: ignore
    version: PositiveInt | None = None
    author: str = ""
    dry_run: bool = False


class Found(NamedTuple):
    """An image that differs from what was exported."""

    edited: Edited
    sample: Sample


def import_corrections(request: ImportRequest) -> dict[str, Any]:
    """Take over what differs from the version that was exported, as corrections of the published labels.

    Returns:
        "publication", "version" (None of a run's labels), "author", "images" in the folder, "taken" (each with "image",
        the number of "pixels" with another class, and of new "instances"), "already" there, and "dry_run".

    Raises:
        DatasetError: Images of the folder do not fit the labels, each named; nothing was taken.
        ArtifactError: There is no such version, or it is not known which one was exported.
    """
    format = FORMATS[request.format]
    publication = Publication(request.to)
    if links := dangling_links(request.folder):
        message = "expected a file that the tool wrote, found a link to"
        raise DatasetError([Problem(link, f"{message} {link.readlink()}, where nothing is") for link in links[:LISTED]])
    source = _exported(request, publication)
    images, found = _find(format, request.folder, source)
    _refuse_others(found, request.folder, source)
    corrections = Corrections(publication.root / FOLDER)
    author, version = request.author or user_name("--author"), source.stamp.get("version")
    taken, already = [], 0
    for edited, sample in found:
        change, digest = _change(format, edited, sample, source), source.photographs[sample.id]
        assert change is not None
        last = _last(corrections, sample.id, digest)
        if last is not None and _same(change, last):
            already += 1
            continue
        if not request.dry_run:
            corrections.add(sample.id, digest, author=author, made_on=version, **change._asdict())
        taken.append({"image": sample.id, **_counts(change)})
    return {
        "publication": str(publication.root),
        "version": version,
        "author": author,
        "images": images,
        "taken": taken,
        "already": already,
        "dry_run": request.dry_run,
    }


def _exported(request: ImportRequest, publication: Publication) -> Source:
    """Return the labels that were exported.

    Raises:
        ArtifactError: They are not known, or there are no published labels.
    """
    latest = publication.latest
    if not request.folder.exists():
        raise ArtifactError(f"{request.folder}: expected what a tool wrote, found nothing")
    if latest is None:
        raise ArtifactError(f"{request.to}: expected the folder of published labels, found no version in it")
    if request.version is not None:
        return version_source(publication, request.version)
    stamp = read_export(request.folder) or {}
    if isinstance(stamp.get("version"), int):
        return version_source(publication, stamp["version"])
    if not isinstance(stamp.get("run"), str):
        known = ", ".join(map(str, publication.published))
        message = "it is not known which version was exported, since there is no export.json of labels"
        raise ArtifactError(f"{request.folder}: {message}; say it: --version NUMBER (there are: {known})")
    source = open_source(Path(stamp["run"]))
    published = {entry.id: entry.image for entry in publication.entries(latest)}
    if other := [id for id, digest in source.photographs.items() if published.get(id) != digest]:
        message = f"its image {other[0]!r} is not, or not with these bytes, in version {latest} of {request.to}"
        raise ArtifactError(f"{stamp['run']}: {message}")
    return source


def _find(format: ExchangeFormat, folder: Path, source: Source) -> tuple[int, list[Found]]:
    """Return how many images a folder has, and those that differ from what was exported.

    Raises:
        DatasetError: Names each that does not fit.
    """
    seen: dict[str, Edited] = {}
    problems: list[Problem] = []
    found: list[Found] = []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("compare", total=len(source.labels.samples))
        for edited in format.read(folder, source.labels):
            try:
                sample = source.labels.find(edited.name)
                first = seen.setdefault(sample.id, edited)
                if first is not edited:
                    raise ValueError(
                        f"expected each image once, found {sample.id!r} again: {first.name} in {first.file}"
                    )
                if _change(format, edited, sample, source) is not None:
                    found.append(Found(edited, sample))
            except (ValueError, OSError) as error:
                problems.append(Problem(edited.file, f"{edited.name}: {error}"))
            except DatasetError as error:
                problems += error.problems
            bar.advance(task)
    if problems:
        more = [Problem(folder, f"and {len(problems) - LISTED} more")] if len(problems) > LISTED else []
        raise DatasetError([*problems[:LISTED], *more])
    return len(seen), found


def _change(format: ExchangeFormat, edited: Edited, sample: Sample, source: Source) -> Change | None:
    return find_change(format.kept(source.labels, sample), edited.read(sample), source.labels.name)


def _refuse_others(found: list[Found], folder: Path, source: Source) -> None:
    """Refuse images whose labels are not those that the export's list says were exported.

    Raises:
        DatasetError: Names each.
    """
    listed = dict(_listed(folder / LIST))
    problems = [
        Problem(edited.file, f"{sample.id!r} was exported with other labels than {source.labels.folder} has")
        for edited, sample in found
        if sample.id in listed and labels_digest(source.labels, sample) != listed[sample.id]
    ]
    if problems:
        raise DatasetError(problems[:LISTED])


def _listed(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each image of an export's list with the digest of its labels; nothing where there is no list."""
    if not file.exists():
        return
    try:
        refuse_special(file)
        with file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                yield row["image"], row["labels"]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DatasetError([Problem(file, f"expected the list of an export, but {error}")]) from None


def _last(corrections: Corrections, image: str, digest: str) -> Correction | None:
    """Return the last correction that changed pixels: what it says lies over what the earlier ones say."""
    masked = [each for each in corrections.of(image, digest) if each.semantic is not None or each.instances is not None]
    return masked[-1] if masked else None


def _same(change: Change, given: Correction) -> bool:
    """Tell whether a correction says the same as a change."""
    names = change.classes if change.semantic is not None else ()
    pairs = (change.semantic, given.semantic), (change.instances, given.instances)
    alike = all(a is b is None or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)
    return alike and names == given.record.classes


def _counts(change: Change) -> dict[str, int]:
    semantic, instances = change.semantic, change.instances
    pixels = 0 if semantic is None else int((semantic != UNCHANGED).sum())
    return {"pixels": pixels, "instances": 0 if instances is None else max(int(instances.max()) - 1, 0)}


def show_import(result: dict[str, Any], console: Console) -> None:
    """Print what was taken, and what to do next."""
    for each in result["taken"]:
        said = f"{each['pixels']} pixels of another class, {each['instances']} new instances"
        console.print(f"{each['image']}: {said}", highlight=False, soft_wrap=True)
    verb = "would be taken" if result["dry_run"] else "taken"
    count, version = len(result["taken"]), result["version"]
    rest = result["images"] - count - result["already"]
    of = "a run's labels" if version is None else f"version {version}"
    told = f"{count} corrections {verb}, {result['already']} were there, {rest} images are those of {of}"
    console.print(told if count else f"nothing to do: {told}", highlight=False, soft_wrap=True)
    if count and not result["dry_run"]:
        console.print(f"next: pseudomask regenerate --out {result['publication']} ...", highlight=False, soft_wrap=True)


COMMAND = Command(
    name="import",
    help="Take over what people corrected of published labels in CVAT, Label Studio, labelme and other tools.",
    request=ImportRequest,
    carry_out=answering(import_corrections, show_import),
    written={"what": POSITIONAL, "folder": POSITIONAL},
)
