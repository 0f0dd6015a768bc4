"""Corrections of people in a version of published labels: laid over the automatic labels, which are kept beside."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.dataset import (
    VOID,
    ClassTable,
    Dataset,
    DatasetError,
    LabelMap,
    Problem,
    Sample,
    SampleWithMore,
    relabelled,
    value_type,
    with_more,
)
from data.formats.class_tables import extended
from data.formats.coco import Detection, as_detections, write_detections
from data.formats.coco_records import read_mask
from data.formats.hints import read_hints
from data.formats.images import image_size
from data.formats.label_folder import AUTOMATIC, DETECTIONS, KINDS
from data.formats.label_maps import read_label_map, write_label_map
from data.names import alike
from data.store import ArtifactError
from data.store.corrections import UNCHANGED, Corrections, Record, apply_corrections
from data.store.publication import Entry, link_file
from tasks.engine.artifact import SampleDigest
from tasks.publishing.assemble import Part
from tasks.publishing.decide import statistics

SAME_OBJECT = 0.5
"""An instance keeps the score of an automatic one that it has this intersection over union with."""


def correct(part: Part, classes: ClassTable, corrections: Corrections, draft: Path) -> tuple[Part, list[Problem]]:
    """Lay the corrections of a part's images over their labels in a draft.

    What the labels were goes below `AUTOMATIC`, so that the next version starts from it.

    Args:
        part: Its files lie in the draft.
        classes: The version's table, of which the part's is the beginning.
        corrections: Of the publication.
        draft: The version's folder.

    Returns:
        The part with the statistics and detections of the corrected labels, and the corrections that fit no more: of a
        class that the table lacks, of another size, or of other bytes of the image. Those images keep their automatic
        labels.
    """
    found: dict[str, list[Detection]] = defaultdict(list)
    for detection in part.detections:
        found[detection["image"]].append(detection)
    values = {name: index + 1 for index, name in enumerate(classes.names)}
    entries, problems, images = [], [], set(corrections.images)
    for entry in part.entries:
        state = corrections.state(entry.id, entry.image) if entry.id in images else None
        if entry.id in images and (stale := corrections.of_other_bytes(entry.id, entry.image)):
            problems.append(Problem(corrections.root / entry.id, told_of_other_bytes(stale), entry.id))
        if state is None:
            entries.append(entry)
            continue
        _set_aside(entry, found[entry.id], draft)
        before, objects_before = (read_label_map(draft / kind / f"{entry.id}.png") for kind in KINDS)
        try:
            given = corrections.of(entry.id, entry.image)
            labels, objects = apply_corrections(before, objects_before, given, values)
        except ValueError as error:
            problems.append(Problem(corrections.root / entry.id, f"not applied: {error}", entry.id))
            # Which they are must be known, so that they make no version every night.
            entries.append(replace(entry, corrections=state, unfit=str(error)))
            continue
        for kind, corrected in zip(KINDS, (labels, objects), strict=True):
            file = draft / kind / f"{entry.id}.png"
            # It may be one file with that of an earlier version.
            file.unlink()
            write_label_map(file, corrected)
        found[entry.id] = _detections(entry.id, labels, objects, found[entry.id])
        entries.append(replace(entry, **statistics(labels, objects), corrections=state))
    detections = [detection for entry in entries for detection in found[entry.id]]
    return replace(part, entries=entries, detections=detections), problems


def told_of_other_bytes(records: Sequence[Record]) -> str:
    """Return the sentence on corrections of an image that were made on other bytes than it has now."""
    authors = ", ".join(dict.fromkeys(record.author for record in records))
    return (
        f"not applied: {len(records)} correction{'s' * (len(records) > 1)} by {authors} on other bytes of the image; "
        "they count again where the file is as it was, else correct it anew (pseudomask review)"
    )


def with_corrected_tags(dataset: Dataset, corrections: Corrections, digests: Mapping[str, SampleDigest]) -> Dataset:
    """Return a set whose images have the tags that people gave them; new classes come at the end of the table.

    Raises:
        DatasetError: A tag differs from a class in case alone, or a correction cannot be read.
    """
    given, images = {}, set(corrections.images)
    for sample in dataset.samples:
        tags = corrections.tags(sample.id, digests[sample.id].image) if sample.id in images else None
        if tags is not None:
            given[sample.id] = tags
    if not given:
        return dataset
    new = {name for tags in given.values() for name in tags}.difference(dataset.classes.names)
    if groups := alike({*dataset.classes.names, *new}):
        found = "; ".join(" and ".join(map(repr, group)) for group in groups)
        raise DatasetError([Problem(corrections.root, f"expected tags that differ in more than case, found {found}")])
    table = extended(dataset.classes, ClassTable(tuple(sorted(new))))
    index = {name: number for number, name in enumerate(table.names)}
    numbers = {id: tuple(sorted(index[name] for name in names)) for id, names in given.items()}
    samples = tuple(
        _as_tagged(sample, numbers[sample.id], table) if sample.id in given else sample for sample in dataset.samples
    )
    return replace(dataset, classes=table, samples=samples)


def _as_tagged(sample: Sample, labels: tuple[int, ...], classes: ClassTable) -> Sample:
    """Return an image with all the labels that a person gave it: nothing of them is left open, and hints that speak of
    others are older."""
    found = relabelled(sample, labels)
    if not isinstance(found, SampleWithMore):
        return found
    found = with_more(found, unknown=(), certainty=())
    if found.hints and not read_hints(found, classes).values <= {label + 1 for label in labels}:
        found = with_more(found, hints=None, boxes=())
    return found


def without_rejected(
    dataset: Dataset, corrections: Corrections, digests: Mapping[str, SampleDigest]
) -> tuple[Dataset, list[Problem]]:
    """Return a set without the images that people rejected, and who rejected each.

    Raises:
        DatasetError: All of them are.
    """
    images, left, rejected = set(corrections.images), [], []
    for sample in dataset.samples:
        record = corrections.rejection(sample.id, digests[sample.id].image) if sample.id in images else None
        if record is None:
            left.append(sample)
        else:
            message = f"rejected by {record.author}, {record.created}"
            rejected.append(Problem(corrections.root / sample.id, message, sample.id))
    if rejected and not left:
        raise DatasetError([*rejected, Problem(dataset.root, "expected images that nobody rejected, found none")])
    return (replace(dataset, samples=tuple(left)) if rejected else dataset), rejected


def taught_by(dataset: Dataset, corrections: Corrections, digests: Mapping[str, SampleDigest]) -> dict[str, str]:
    """Return sample id -> which corrections of it there are (`Corrections.state`), of images with corrected classes."""
    images, found = set(corrections.images), {}
    for sample in dataset.samples:
        digest = digests[sample.id].image
        if sample.id in images and any(record.semantic for record in corrections.counting(sample.id, digest)):
            found[sample.id] = str(corrections.state(sample.id, digest))
    return found


def with_corrected_pixels(
    dataset: Dataset, corrections: Corrections, digests: Mapping[str, SampleDigest], folder: Path
) -> tuple[Dataset, dict[str, str]]:
    """Return a set whose images have what people corrected of their pixels as hints, and the tags that this implies;
    and which corrections these are, as of `taught_by`.

    Args:
        dataset: The set.
        corrections: Of the publication.
        digests: Of its files.
        folder: Gets a copy of the hints that images have already, and a map for each corrected image in their place:
            what is said stays as it is, whoever corrects while networks learn. What lay there is gone.
    """
    shutil.rmtree(folder, ignore_errors=True)
    corrected = taught_by(dataset, corrections, digests)
    samples = []
    for sample in dataset.samples:
        known = (
            _known_pixels(sample, corrections, digests[sample.id].image, dataset.classes)
            if sample.id in corrected
            else None
        )
        given = getattr(sample, "hints", None)
        if known is not None:
            file = folder / f"{sample.id}.png"
            write_label_map(file, known)
            seen = {int(value) - 1 for value in np.unique(known) if value not in (0, VOID)}
            sample = with_more(relabelled(sample, tuple(sorted({*sample.labels, *seen}))), hints=file, boxes=())
        elif given and not getattr(sample, "boxes", ()):
            file = folder / f"{sample.id}{given.suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(given, file)
            sample = with_more(sample, hints=file)
        samples.append(sample)
    return replace(dataset, samples=tuple(samples)), corrected


def _known_pixels(sample: Sample, corrections: Corrections, digest: str, classes: ClassTable) -> LabelMap | None:
    """Return the class values [H, W] that people gave an image's pixels, void elsewhere; None where they do not fit."""
    values = {name: index + 1 for index, name in enumerate(classes.names)}
    known = np.full(image_size(sample.image), VOID, value_type(len(classes.values)))
    for correction in corrections.of(sample.id, digest):
        said, names = correction.semantic, correction.record.classes
        if said is None:
            continue
        if said.shape != known.shape or not values.keys() >= set(names):
            return None
        lookup = np.array([0, 0, VOID, *(values[name] for name in names)], known.dtype)
        known = np.where(said == UNCHANGED, known, lookup[said])
    return known if (known != VOID).any() else None


def _set_aside(entry: Entry, detections: Sequence[Detection], draft: Path) -> None:
    for kind in KINDS:
        link_file(draft / kind / f"{entry.id}.png", draft / AUTOMATIC / kind / f"{entry.id}.png")
    file = draft / AUTOMATIC / DETECTIONS / f"{entry.id}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_detections(file, detections)


def _detections(image: str, labels: LabelMap, objects: LabelMap, before: Sequence[Detection]) -> list[Detection]:
    """Return the records of a corrected map's instances: each of the class that most of its pixels have.

    Raises:
        ArtifactError: Masks of the instances before are damaged.
    """
    masks, classes, scores = [], [], []
    try:
        old = [(found["class"], float(found["score"]), read_mask(found, *labels.shape)) for found in before]
    except ValueError as error:
        message = f"the published instances of {image} are unreadable ({error}); make all labels anew: --retrain always"
        raise ArtifactError(message) from None
    for id in np.unique(objects[(objects != 0) & (objects != VOID)]):
        mask = objects == id
        counts = np.bincount(labels[mask])
        counts[[value for value in (0, VOID) if value < len(counts)]] = 0
        if not counts.any():
            continue
        classes.append(int(counts.argmax()) - 1)
        masks.append(mask)
        scores.append(max((s for c, s, m in old if c == classes[-1] and _iou(m, mask) > SAME_OBJECT), default=1.0))
    return as_detections(image, masks, classes, scores)


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))
