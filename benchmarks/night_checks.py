"""What must hold after a night: `latest` is whole and right, the record too, and no more was made than need be."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.kills import TINY
from benchmarks.night_world import SIZE, Expected, Said, World
from data.dataset import VOID
from data.files import file_digest
from data.formats.label_folder import KINDS, value_names
from data.formats.label_maps import read_label_map
from data.store.publication import Publication
from tasks.engine.run_record import read_run
from tasks.pipeline import trained_stages

SHARD = int(TINY[TINY.index("--shard-size") + 1])
ONCE = frozenset({*trained_stages("irnet"), "relations", "thresholds", "label-thresholds", "pixel-classifier"})
"""Stages of networks, and what was chosen with them: none is made where nothing is trained."""


@dataclass(frozen=True)
class Snapshot:
    """What was there before a night.

    Attributes:
        artifacts: As `artifacts` returns them.
        versions: Version -> file -> digest.
    """

    artifacts: dict[tuple[str, str], int]
    versions: dict[int, dict[str, str]]


@dataclass(frozen=True)
class Work:
    """What a night made, and what of its run it found made.

    Attributes:
        made: Stage -> artifacts.
        reused: Artifacts of the night's run that were there.
    """

    made: dict[str, int]
    reused: int


def look(world: World) -> Snapshot:
    """Return what is there."""
    publication = world.publication
    numbers = (*publication.published, *publication.held)
    return Snapshot(artifacts(world), {number: _digests(publication.folder(number)) for number in numbers})


def artifacts(world: World) -> dict[tuple[str, str], int]:
    """Return (stage, key) -> when its manifest was written, of all artifacts of the store."""
    files = world.store.glob("[!.]*/*/manifest.json")
    return {(file.parent.parent.name, file.parent.name): file.stat().st_mtime_ns for file in files}


def check_night(world: World, expected: Expected, said: Said, before: Snapshot) -> tuple[Work, list[str]]:
    """Return what a night made, and every fault of it."""
    faults = list(said.faults)
    if said.state != expected.state:
        faults.append(f"state {said.state} ({said.message[-300:]}), expected {expected.state}")
    if expected.message not in said.message:
        faults.append(f"the message is {said.message[-300:]!r}, expected {expected.message!r} in it")
    if said.code != expected.code:
        faults.append(f"exit code {said.code}, expected {expected.code}")
    publication = world.publication
    new = {*publication.published, *publication.held} - before.versions.keys()
    if new != ({expected.version} if expected.version else set()):
        faults.append(f"new versions {sorted(new)}, expected {expected.version}")
    for number in new:
        world.versions[number] = world.known()
    faults += _check_kept(publication, before)
    faults += check_latest(world, expected.latest)
    if expected.version in new:
        faults += _check_record(publication, expected)
    work, wrong = _check_work(world, expected, before)
    return work, faults + wrong + [f"left behind: {path}" for path in _leftovers(world)]


def check_latest(world: World, expected: int | None) -> list[str]:
    """Return what is wrong with `latest`: it must be whole, of just the set's images, and fit their tags."""
    publication = world.publication
    if publication.linked != expected:
        return [f"latest is version {publication.linked}, expected {expected}"]
    if expected is None:
        return []
    folder, record = publication.folder(expected), publication.record(expected)
    entries, wanted = {entry.id: entry for entry in publication.entries(expected)}, world.versions[expected]
    faults = _compared("images.jsonl", entries, wanted)
    if (record["number"], record["images"]) != (expected, len(wanted)):
        faults.append(f"the record says version {record['number']} of {record['images']} images")
    for kind in KINDS:
        faults += _compared(kind, (file.stem for file in (folder / kind).glob("*.png")), wanted)
    content = json.loads((folder / "instances.json").read_text())
    faults += _compared("instances.json", (Path(each["file_name"]).stem for each in content["images"]), wanted)
    values = value_names(folder)
    if list(values[1:]) != (folder / "classes.txt").read_text().split():
        faults.append(f"classes.txt has other classes than {values}")
    for id in entries.keys() & wanted.keys():
        entry, (digest, tags) = entries[id], wanted[id]
        if entry.image != digest or (entry.labels != tags and entry.corrections is None):
            faults.append(f"{id}: listed with the tags {entry.labels} or the bytes of another photograph")
        faults += _check_map(folder / KINDS[0] / f"{id}.png", None if entry.corrections else {*tags}, values)
    return faults


def check_page(text: str, expected: Expected) -> list[str]:
    """Return what the page of a night does not say."""
    faults = [] if expected.message in text else [f"the page does not say {expected.message!r}"]
    for kind, ids in expected.changes.items():
        lines = [line for line in text.splitlines() if line.startswith(f"- {kind}: {len(ids)} (")]
        if not lines or not all(f"`{id}`" in lines[0] for id in ids):
            faults.append(f"the page does not say which were {kind}")
    return faults


def _check_map(file: Path, tags: set[str] | None, values: list[str]) -> list[str]:
    """Check that a label map has the photograph's size, and pixels of its tags alone; None allows any class."""
    if not file.is_file():
        # What lacks is told already.
        return []
    labels = read_label_map(file)
    allowed = {0, VOID, *(value for value, name in enumerate(values) if tags is None or name in tags)}
    faults = [] if labels.shape == SIZE else [f"{file.stem}: a label map of {labels.shape}"]
    if odd := set(np.unique(labels).tolist()) - allowed:
        faults.append(f"{file.stem}: pixels of {sorted(odd)}, which is no tag of it")
    return faults


def _check_kept(publication: Publication, before: Snapshot) -> list[str]:
    """Return the versions of before that changed; one that is deleted is another command's word."""
    there = {*publication.published, *publication.held}
    kept = (number for number in before.versions if number in there)
    return [
        f"version {number} is not as it was"
        for number in kept
        if _digests(publication.folder(number)) != before.versions[number]
    ]


def _check_record(publication: Publication, expected: Expected) -> list[str]:
    assert expected.version is not None
    record = publication.record(expected.version)
    faults = []
    told = {kind.replace(" ", "_"): len(ids) for kind, ids in expected.changes.items()}
    if {kind: count for kind, count in record["changes"].items() if count} != told:
        faults.append(f"the record has the changes {record['changes']}, expected {told}")
    if record["trained"] != expected.trained:
        faults.append(f"the record says trained: {record['trained']}")
    if record["corrected"] != expected.corrected:
        faults.append(f"the record says {record['corrected']} corrected images, expected {expected.corrected}")
    if bool(record["held"]) != (expected.state == "Held"):
        faults.append(f"the record says held: {record['held']}")
    return faults


def _check_work(world: World, expected: Expected, before: Snapshot) -> tuple[Work, list[str]]:
    """Count what was made, by the record of the night's run, and say what of it need not have been."""
    now, faults = artifacts(world), []
    made = now.keys() - before.artifacts.keys()
    faults += [f"made again: {place}" for place, time in before.artifacts.items() if now.get(place, time) != time]
    planned: set[tuple[str, str]] = set()
    if expected.version and (expected.trained or expected.inferred):
        run = read_run(world.publication.root / str(world.publication.record(expected.version)["run"]))
        planned = {(name, key) for name, stage in run.stages.items() for key in stage.keys.values()}
        faults += _compared("labelled", (sample.id for sample in run.dataset.samples), expected.inferred)
        faults += [f"made, and in no plan: {place}" for place in made - planned]
    elif made and expected.state != "Failed":
        faults.append(f"made for nothing: {sorted(made)}")
    counts, shards = Counter(stage for stage, _ in made), math.ceil(len(expected.inferred) / SHARD)
    for stage, count in sorted(counts.items()):
        most = (1 if expected.trained else 0) if stage in ONCE - {"relations"} else shards
        if count > most or (stage in ONCE and not expected.trained):
            faults.append(f"{count} artifacts of {stage}, at most {most if expected.trained else 0} were called for")
    return Work(dict(sorted(counts.items())), len(planned - made)), faults


def _leftovers(world: World) -> list[str]:
    below = [world.store / ".tmp", world.store / ".scratch"]
    found = [path for root in below if root.is_dir() for path in root.glob("*/*")]
    return [str(path) for path in (*found, *world.out.glob(".draft-*"))]


def _digests(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}


def _compared(what: str, found: Iterable[str], wanted: Iterable[str]) -> list[str]:
    found, wanted = Counter(iter(found)), Counter(iter(wanted))
    lacking = [f"{what}: lacks {id}" for id in wanted - found]
    return lacking + [f"{what}: has {id}, which should not be there" for id in found - wanted]
