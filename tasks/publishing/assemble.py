"""Bringing the files of a version of published labels together, from the version before and from new artifacts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from data.dataset import VOID, ClassTable, Dataset
from data.files import read_regular
from data.formats.coco import Detection, ImageInfo, read_detections
from data.formats.label_folder import AUTOMATIC, DETECTIONS, KINDS, SEMANTIC, image_info, index_files, value_names
from data.formats.label_maps import read_label_map
from data.store import ArtifactError, Store
from data.store.publication import Entry, Publication, link_file, provenance, provenance_file
from tasks.config import fault_of
from tasks.engine.artifact import SampleDigest
from tasks.engine.plan import Plan
from tasks.publishing.decide import doubts_in_words, label_names, statistics


@dataclass(frozen=True)
class Part:
    """Images of a version, with all that it says of them.

    Attributes:
        classes: The class table of their labels.
        read_manifest: Gives the manifest of an artifact, by stage and key, that their labels came from.
    """

    classes: ClassTable
    read_manifest: Callable[[str, str], dict[str, Any]]
    entries: list[Entry]
    infos: list[ImageInfo]
    detections: list[Detection]


class _Image(TypedDict):
    id: int
    file_name: str
    height: int
    width: int


class _Category(TypedDict):
    id: int
    name: str


class _Mask(TypedDict):
    size: list[int]
    counts: str


class _Found(TypedDict):
    image_id: int
    category_id: int
    score: float
    segmentation: _Mask


class _Index(TypedDict):
    """`instances.json` of a version, as far as it is taken over."""

    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Found]


_INDEX = TypeAdapter(_Index)


def _read_index(file: Path, num_images: int) -> dict[str, Any]:
    """Read a version's list of instances.

    Raises:
        ArtifactError: It cannot be read, has another form, or is of other images.
    """
    try:
        content = json.loads(read_regular(file))
        _INDEX.validate_python(content, strict=True)
        if (found := len(content["images"])) != num_images:
            raise ValueError(f"images: expected {num_images}, found {found}")
        images, categories = ({each["id"] for each in content[name]} for name in ("images", "categories"))
        used = content["annotations"]
        if not ({each["image_id"] for each in used} <= images and {each["category_id"] for each in used} <= categories):
            raise ValueError("annotations: expected those of its images and categories")
    except (OSError, ValueError, RecursionError) as error:
        fault = fault_of(error) if isinstance(error, ValidationError) else error
        raise ArtifactError(f"{file}: unreadable ({fault}); make all labels anew: --retrain always") from None
    return content


def keep_labels(publication: Publication, base: int, gone: Collection[str], draft: Path) -> Part:
    """Take over the labels that version `base` has of its images, but for those in `gone`.

    Of images that a person corrected it is the automatic labels: what corrections there are is laid over them again.
    """
    folder = publication.folder(base)
    entries = list(publication.entries(base))
    content = _read_index(folder / DETECTIONS, len(entries))
    # The images of the file are in the order of the entries.
    ids = {image["id"]: entry.id for image, entry in zip(content["images"], entries, strict=True)}
    categories = content["categories"]
    table = ClassTable(tuple(each["name"] for each in categories), tuple(each["id"] for each in categories))
    classes = {category: index for index, category in enumerate(table.category_ids)}
    kept: list[Entry] = []
    before: list[Detection] = []
    for entry in entries:
        if entry.id in gone:
            continue
        source = folder if entry.corrections is None else folder / AUTOMATIC
        for kind in KINDS:
            link_file(source / kind / f"{entry.id}.png", draft / kind / f"{entry.id}.png")
        if entry.corrections is not None:
            maps = (read_label_map(source / kind / f"{entry.id}.png") for kind in KINDS)
            entry = replace(entry, corrections=None, unfit=None, **statistics(*maps))
            before += read_detections(source / DETECTIONS / f"{entry.id}.json")
        kept.append(entry)
    corrected = {entry.id for entry in entries if entry.corrections is not None}
    detections: list[Detection] = [
        {
            "image": ids[found["image_id"]],
            "class": classes[found["category_id"]],
            "score": found["score"],
            "segmentation": found["segmentation"],
        }
        for found in content["annotations"]
        if ids[found["image_id"]] not in corrected.union(gone)
    ]
    return Part(
        table,
        partial(publication.manifest, base),
        kept,
        [
            ImageInfo(ids[image["id"]], image["file_name"], image["height"], image["width"])
            for image in content["images"]
            if ids[image["id"]] not in gone
        ],
        detections + before,
    )


def new_labels(plan: Plan, store: Store, dataset: Dataset, digests: Mapping[str, SampleDigest], draft: Path) -> Part:
    """Copy the labels that a plan made out of the store, and look at them.

    Args:
        dataset: The images with the labels that their owner gave them; the networks may know fewer.
        digests: Of its files.
    """
    names = {sample.id: label_names(dataset, sample.labels) for sample in dataset.samples}
    doubts = {sample.id: doubts_in_words(dataset, sample) for sample in dataset.samples}
    part = Part(plan.dataset.classes, store.read_manifest, [], [], [])
    for artifact in plan.of("labels"):
        folder = store.fetch("labels", artifact.key)
        part.detections.extend(read_detections(folder / DETECTIONS))
        for sample in artifact.samples:
            maps = []
            for kind in KINDS:
                target = draft / kind / f"{sample.id}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / kind / f"{sample.id}.png", target)
                maps.append(read_label_map(target))
            found = statistics(*maps)
            digest = digests[sample.id]
            kept = names[sample.id], artifact.key
            entry = Entry(
                sample.id,
                digest.image,
                *kept,
                **found,
                saliency=digest.saliency,
                cams=digest.cams,
                regions=digest.regions,
                hints=digest.hints,
                doubts=doubts[sample.id],
            )
            part.entries.append(entry)
            part.infos.append(image_info(sample, dataset))
    return part


def write_index(parts: Sequence[Part], draft: Path) -> list[Entry]:
    """Write what a version has beside its label maps, and return its entries."""
    infos = [info for part in parts for info in part.infos]
    detections = [found for part in parts for found in part.detections]
    for name, text in index_files(infos, detections, parts[-1].classes).items():
        (draft / name).write_text(text, encoding="utf-8")
    for part in parts:
        _write_provenance(part, draft)
    return [entry for part in parts for entry in part.entries]


def _write_provenance(part: Part, draft: Path) -> None:
    """Keep the manifests of all that the labels came from with them: the store forgets what nobody needs."""
    for manifest in provenance(sorted({entry.artifact for entry in part.entries}), part.read_manifest):
        file = draft / provenance_file(manifest["stage"], manifest["key"])
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(manifest), encoding="utf-8")


def agreement_with(publication: Publication, base: int, draft: Path, new: Sequence[Entry]) -> float | None:
    """Return the share of pixels with the class of version `base`, mean over the images that both have, or None.

    Classes are compared by their names: a value may mean another class in the other's table.
    """
    before = publication.folder(base) / SEMANTIC
    now_called = new_values(publication.folder(base), draft)
    shares = []
    for entry in new:
        name = f"{entry.id}.png"
        if (before / name).is_file():
            old, now = read_label_map(before / name), read_label_map(draft / SEMANTIC / name)
            shares.append(float((now_called[old] == now).mean()) if old.shape == now.shape else 0.0)
    return round(float(np.mean(shares)), 4) if shares else None


def new_values(before: Path, now: Path) -> NDArray[np.int64]:
    """Return by value of one folder's label maps that of the same class in another's; -1 where that has no such."""
    new = {name: value for value, name in enumerate(value_names(now))}
    values = np.arange(1 << 16)
    for value, name in enumerate(value_names(before)):
        if value != VOID:
            values[value] = new.get(name, -1)
    return values
