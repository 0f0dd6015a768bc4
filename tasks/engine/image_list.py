"""`images-<hash>.jsonl`, beside `run.json`: the images of a run with the digests of their files, a line each.

The first line has what many lines would repeat. A list's name is the hash of its content, so that a record that was
replaced never goes with the list of another.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired

from pydantic import AfterValidator, Field, NonNegativeInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from data.dataset import CocoSource, Sample, SampleWithMore, with_more
from data.files import ArtifactError, refuse_special, temporary_beside
from data.names import is_unsafe
from tasks.config import Config, fault_of
from tasks.engine.artifact import ImageSet, SampleDigest, doubts_of

LISTS = "images-*.jsonl"
NEW, GONE, CHANGED, RELABELLED, OTHER_TRUTH = "new", "gone", "changed", "relabelled", "with other ground truth"
OTHER_SALIENCY, OTHER_CAMS = "with other saliency", "with other attention maps"
OTHER_REGIONS, OTHER_HINTS = "with other regions", "with other hints"
Source = tuple[Path, tuple[int, ...]]


class Head(TypedDict):
    """The first line: each COCO file with the ids of its categories."""

    coco: list[tuple[str, list[int]]]


class Line(TypedDict):
    """An image: files relative to the set or absolute, digests as SHA-256.

    Attributes:
        truth: Digest of its ground truth.
        saliency, cams, regions, hints: File or folder, and digest.
        boxes: Those of the hints, where a file has them of many images.
        unknown, certainty: As of `data.dataset.SampleWithMore`.
        coco: Number of the file in the head, and the image's id in it.
    """

    id: str
    labels: tuple[NonNegativeInt, ...]
    file: str
    sha256: str
    truth: NotRequired[str]
    semantic: NotRequired[str]
    coding: NotRequired[str]
    instances: NotRequired[str]
    confidence: NotRequired[str]
    saliency: NotRequired[tuple[str, str | None]]
    cams: NotRequired[tuple[str, str | None]]
    regions: NotRequired[tuple[str, str | None]]
    hints: NotRequired[tuple[str, str | None]]
    boxes: NotRequired[tuple[tuple[str, float, float, float, float], ...]]
    unknown: NotRequired[tuple[NonNegativeInt, ...]]
    certainty: NotRequired[tuple[Annotated[float, Field(gt=0, le=1)], ...]]
    coco: NotRequired[tuple[NonNegativeInt, int]]


_HEAD, _LINE = TypeAdapter(Head), TypeAdapter(Line)


def is_list_name(name: str) -> bool:
    """Tell whether a file's name is that of a list of images."""
    return re.fullmatch(r"images-[0-9a-f]{16}\.jsonl", name) is not None


def _check_list_name(name: str) -> str:
    if not is_list_name(name):
        raise ValueError(f"expected the name of a list beside the record, {LISTS}, found {name!r}")
    return name


class ImageList(Config):
    """A list of images in the folder of a run.

    Attributes:
        file: Its name; None where there are no images.
        count: How many images it has.
    """

    file: Annotated[str, AfterValidator(_check_list_name)] | None = None
    count: int = 0


def write_images(folder: Path, images: ImageSet, root: Path) -> ImageList:
    """Write a list of images into a folder; it appears whole or not at all.

    Args:
        root: The set's folder; files below it are named relative to it.
    """
    if not images.samples:
        return ImageList()
    state = hashlib.sha256()
    # The list's name has its digest, which is known at its end.
    with temporary_beside(folder / "images") as temporary:
        with temporary.open("wb") as stream:
            for record in _records(images, root):
                line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
                state.update(line)
                stream.write(line)
        name = LISTS.replace("*", state.hexdigest()[:16])
        temporary.replace(folder / name)
    return ImageList(file=name, count=len(images.samples))


def read_images(folder: Path, images: ImageList, root: Path) -> Iterator[tuple[Sample, SampleDigest]]:
    """Yield the images of a list, in order.

    Raises:
        ArtifactError: The list is gone or damaged.
    """
    if images.file is None:
        return
    file, number = folder / images.file, 1
    try:
        refuse_special(file)
        with file.open("rb") as lines:
            head = _HEAD.validate_json(next(lines, b""), strict=True)
            sources = [(root / name, tuple(categories)) for name, categories in head["coco"]]
            for line in lines:
                number += 1
                yield _read(_LINE.validate_json(line, strict=True), root, sources)
    except (OSError, ValueError, IndexError) as error:
        fault = fault_of(error, f"line {number}") if isinstance(error, ValidationError) else error
        message = f"{file}: cannot be read ({fault}); the run's own command writes it again"
        raise ArtifactError(message) from None


def _records(images: ImageSet, root: Path) -> Iterator[dict[str, Any]]:
    """Yield what the lines say."""
    cocos = (sample.coco for sample in images.samples if sample.coco)
    sources = {source: number for number, source in enumerate(dict.fromkeys((c.file, c.category_ids) for c in cocos))}
    below = f"{root}{os.sep}"

    def name(file: Path) -> str:
        text = str(file)
        return text.removeprefix(below) if text.startswith(below) else str(file.absolute())

    yield {"coco": [(name(file), categories) for file, categories in sources]}
    for sample in images.samples:
        digest, coco = images.digests[sample.id], sample.coco
        record: dict[str, Any] = {"id": sample.id, "labels": sample.labels, "file": name(sample.image)}
        record["sha256"] = digest.image
        if digest.truth:
            record["truth"] = digest.truth
        if sample.semantic:
            record["semantic"] = name(sample.semantic)
        if sample.coding:
            record["coding"] = sample.coding
        if sample.instances:
            record["instances"] = name(sample.instances)
        if sample.confidence:
            record["confidence"] = name(sample.confidence)
        if sample.saliency:
            record["saliency"] = (name(sample.saliency), digest.saliency)
        if sample.cams:
            record["cams"] = (name(sample.cams), digest.cams)
        if isinstance(sample, SampleWithMore):
            if sample.regions:
                record["regions"] = (name(sample.regions), digest.regions)
            if sample.hints:
                record["hints"] = (name(sample.hints), digest.hints)
            if sample.boxes:
                record["boxes"] = sample.boxes
            record |= doubts_of(sample)
        if coco:
            record["coco"] = (sources[coco.file, coco.category_ids], coco.image_id)
        yield record


def _read(record: Line, root: Path, sources: list[Source]) -> tuple[Sample, SampleDigest]:
    if is_unsafe(record["id"]):
        raise ValueError(f"expected an image's id inside its folder, found {record['id']!r}")
    semantic, instances, coco = record.get("semantic"), record.get("instances"), record.get("coco")
    saliency, saliency_digest = record.get("saliency", (None, None))
    cams, cams_digest = record.get("cams", (None, None))
    regions, regions_digest = record.get("regions", (None, None))
    hints, hints_digest = record.get("hints", (None, None))
    confidence = record.get("confidence")
    sample = Sample(
        record["id"],
        root / record["file"],
        record["labels"],
        root / semantic if semantic else None,
        root / instances if instances else None,
        CocoSource(sources[coco[0]][0], coco[1], sources[coco[0]][1]) if coco else None,
        record.get("coding"),
        root / saliency if saliency else None,
        root / cams if cams else None,
        root / confidence if confidence else None,
    )
    more: dict[str, Any] = {what: root / file for what, file in (("regions", regions), ("hints", hints)) if file}
    doubts = {each: record.get(each) for each in ("boxes", "unknown", "certainty")}
    if more := more | {what: value for what, value in doubts.items() if value}:
        sample = with_more(sample, **more)
    digests = saliency_digest, cams_digest, regions_digest, hints_digest
    return sample, SampleDigest(record["sha256"], record.get("truth"), *digests)


class Change(NamedTuple):
    """An image that is not as it was: what happened to it, and whether it has ground truth, or had any."""

    id: str
    kind: str
    truth: bool


def compare_images(before: Iterable[tuple[Sample, SampleDigest]], now: ImageSet) -> list[Change]:
    """Return what became of the images of a list, those in the list first, in its order."""
    labels = {sample.id: (sample.labels, doubts_of(sample)) for sample in now.samples}
    found = []
    for sample, old in before:
        new = now.digests[sample.id] if sample.id in labels else None
        for kind in _kinds(sample, old, labels.pop(sample.id, None), new):
            found.append(Change(sample.id, kind, bool(old.truth or (new and new.truth))))
    return found + [Change(id, NEW, bool(now.digests[id].truth)) for id in labels]


def _kinds(sample: Sample, old: SampleDigest, labels: Any, new: SampleDigest | None) -> list[str]:
    """Return what became of an image: one thing for all stages, or what only those see that read it."""
    if new is None:
        return [GONE]
    if new.image != old.image:
        return [CHANGED]
    if labels != (sample.labels, doubts_of(sample)):
        return [RELABELLED]
    beside = (
        (OTHER_TRUTH, new.truth != old.truth),
        (OTHER_SALIENCY, new.saliency != old.saliency),
        (OTHER_CAMS, new.cams != old.cams),
        (OTHER_REGIONS, new.regions != old.regions),
        (OTHER_HINTS, new.hints != old.hints),
    )
    return [kind for kind, differs in beside if differs]
