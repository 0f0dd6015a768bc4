"""A set of photographs that changes from night to night, and its published labels: `benchmarks.nights`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from benchmarks.kills import GATE, ROOT, TINY
from data.files import file_digest
from data.store.corrections import FOLDER, Corrections
from data.store.publication import Publication
from data.synthetic.dataset import write_synthetic

POOL_IMAGES = 52
SIZE = (64, 80)
SETTINGS = (*TINY, *GATE, "--gate.agreement", "0", "--pixels.steps", "10", "--workers", "1")
SETTINGS += ("--labels.background-threshold", "0.2")
Known = dict[str, tuple[str, tuple[str, ...]]]
"""Image -> digest of its file, and its tags."""


@dataclass(frozen=True)
class Expected:
    """What has to come of a night.

    Attributes:
        state: Name of the run's state; "Failed" where it must fail.
        message: A part of its message, or of the error.
        code: Exit code of the command.
        version: That is made, published or held.
        latest: The version that readers take afterwards.
        trained: Networks are trained.
        inferred: Ids of the images that get new labels.
        changes: Kind of change, as the page of the night names it -> ids.
        corrected: Images that people corrected.
    """

    state: str
    message: str = ""
    code: int = 0
    version: int | None = None
    latest: int | None = None
    trained: bool = False
    inferred: frozenset[str] = frozenset()
    changes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    corrected: int = 0


@dataclass
class Said:
    """What a night answered: its exit code, state and message; and the faults that were seen on the way."""

    code: int
    state: str
    message: str
    faults: list[str] = field(default_factory=list)


class World:
    """A set of photographs with tags alone, its publication and its store.

    Args:
        folder: Of the set.
        disk: Of what is made.
        pool: Photographs from which the set grows.
        environment: Of commands.
        skip: Photographs of the pool that are another's.
    """

    def __init__(self, folder: Path, disk: Path, pool: Path, environment: Mapping[str, str], skip: int = 0) -> None:
        self.folder, self.disk, self.environment = folder, disk, dict(environment)
        self.set, self.tags_file, self._pool = folder / "set", folder / "set" / "tags.csv", pool
        self.out, self.store = disk / "published", disk / "store"
        self.publication = Publication(self.out)
        self.set.mkdir(parents=True)
        self.disk.mkdir(parents=True, exist_ok=True)
        with (pool / "labels.csv").open() as rows:
            fresh = [(row["image"], tuple(filter(None, row["labels"].split(";")))) for row in csv.DictReader(rows)]
        self._fresh = fresh[skip:]
        self.tags: dict[str, tuple[str, ...]] = {}
        self.versions: dict[int, Known] = {}

    def add(self, count: int, tags: tuple[str, ...] | None = None) -> frozenset[str]:
        """Add photographs, with their own tags or others; return their ids."""
        new, self._fresh = self._fresh[:count], self._fresh[count:]
        assert len(new) == count, "the pool has no more photographs"
        for id, own in new:
            shutil.copy(self._pool / "JPEGImages" / f"{id}.jpg", self.set)
            self.tags[id] = own if tags is None else tags
        self._write_tags()
        return frozenset(id for id, _ in new)

    def remove(self, *ids: str) -> frozenset[str]:
        """Delete photographs and their tags; return their ids."""
        for id in ids:
            (self.set / f"{id}.jpg").unlink()
            del self.tags[id]
        self._write_tags()
        return frozenset(ids)

    def tag(self, id: str, *tags: str) -> frozenset[str]:
        """Give a photograph other tags; return its id."""
        self.tags[id] = tags
        self._write_tags()
        return frozenset((id,))

    def turn(self, id: str) -> frozenset[str]:
        """Replace a photograph by itself upside down; return its id."""
        file = str(self.set / f"{id}.jpg")
        photograph = cv2.imread(file)
        assert photograph is not None
        assert cv2.imwrite(file, cv2.flip(photograph, 0))
        return frozenset((id,))

    def _write_tags(self) -> None:
        with self.tags_file.open("w", newline="") as file:
            rows = [(f"{id}.jpg", ";".join(tags)) for id, tags in sorted(self.tags.items())]
            csv.writer(file, lineterminator="\n").writerows([("image", "labels"), *rows])

    @property
    def ids(self) -> list[str]:
        """The photographs of the set, ascending."""
        return sorted(self.tags)

    @property
    def corrections(self) -> Corrections:
        """What people corrected."""
        return Corrections(self.out / FOLDER)

    def known(self) -> Known:
        """Return the set as it is now."""
        return {
            id: (file_digest(self.set / f"{id}.jpg"), tuple(sorted(set(tags))))
            for id, tags in sorted(self.tags.items())
        }

    def words(self, *more: str) -> list[str]:
        """Return the command of a night; a later option stands for an earlier one."""
        own = ["--data", str(self.set), "--labels", str(self.tags_file), "--out", str(self.out)]
        return ["regenerate", *own, "--store", str(self.store), *SETTINGS, *more]

    def start(self, *more: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Begin a night as a command, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows", *self.words(*more), "--json"],
            cwd=ROOT,
            env=self.environment if environment is None else dict(environment),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *more: str, environment: Mapping[str, str] | None = None) -> Said:
        """Have a night as a command, and return what it said."""
        process = self.start(*more, environment=environment)
        try:
            out, errors = process.communicate()
        finally:
            # After Ctrl-C it would go on.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        said = " ".join(errors.split())
        faults = [f"the command printed a traceback: {said[-500:]}"] if "Traceback" in errors else []
        try:
            answer = json.loads(out)
        except ValueError:
            return Said(process.returncode, "Failed", said, faults)
        return Said(process.returncode, answer["outcome"], answer["message"], faults)

    def other(self, *words: str) -> list[str]:
        """Run another command of the product; return its fault, if it failed."""
        command = [sys.executable, "-m", "flows", *words, "--json"]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        return [] if done.returncode == 0 else [f"{words[0]}: exit code {done.returncode}: {done.stderr[-300:]}"]


def make_pool(folder: Path) -> Path:
    """Write the photographs from which sets grow; a few have no object, and so no tag."""
    write_synthetic(folder, num_images=POOL_IMAGES, seed=3, size=SIZE)
    return folder
