"""`run.json`: what a run was made from, and where its artifacts are; read by the commands that come after it.

Its images are listed in a file beside it (`tasks/image_list.py`), which only what looks at images reads.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from data.collector import paused_collector
from data.dataset import ClassTable, Dataset, Problem, Sample
from data.names import is_plain
from data.store import ArtifactError
from tasks.config import Config, StoreAddress
from tasks.image_list import LISTS, ImageList, is_list_name, read_images, write_images
from tasks.plan import Plan, shard_of

FILE_NAME = "run.json"
VERSION = 2


def _check_plain(name: str) -> str:
    if not is_plain(name):
        raise ValueError(f"expected letters and digits, found {name!r}")
    return name


PlainName = Annotated[str, AfterValidator(_check_plain)]
"""A stage or a key: it becomes part of a path."""


class StageRecord(Config):
    """The artifacts of a stage.

    Attributes:
        keys: Those of its shards by their numbers, ascending; that of a stage over the whole set has number 0.
        num_shards: How many shards its images were dealt into; None for a stage over the whole set.
        common: What the recipes of its artifacts have in common; None where they are those of an earlier run.
        on_validation: Whether it was made over the validation images, not those of the data set.
    """

    keys: dict[int, PlainName]
    num_shards: int | None = None
    common: dict[str, Any] | None = None
    on_validation: bool = False

    def key_of(self, sample: str) -> str | None:
        """Return the key of the artifact that covers an image, or None where there is none."""
        return self.keys.get(shard_of(sample, self.num_shards or 1))


class RunRecord(Config):
    """What `run.json` holds.

    Attributes:
        version: Of the format.
        preset: The settings that the options were put on top of.
        settings: All settings, as `PipelineConfig` gives them in JSON: of a version that may be older than this.
        request: What else the run was asked for: paths and choices, as `flows.request.RunRequest` gives them in JSON.
        root: The folder of the data set.
        classes: Its class table.
        images: The list of its images.
        validation: The list of the images with ground truth that a training is watched and tested on.
        store: The address of the artifacts' store: a folder, or `protocol://...`.
        stages: Each after those that it was made from.
        problems: What `--skip-bad` set aside.
        folder: Where the record is; not part of it.
    """

    version: Literal[2]
    preset: str
    settings: dict[str, Any]
    request: dict[str, Any]
    root: Path
    classes: ClassTable
    images: ImageList
    validation: ImageList
    store: StoreAddress
    stages: dict[PlainName, StageRecord]
    problems: tuple[Problem, ...] = ()
    folder: Path = Field(default=Path(), exclude=True)

    @cached_property
    def dataset(self) -> Dataset:
        """The data set as it was.

        Raises:
            ArtifactError: The list of its images cannot be read.
        """
        return Dataset(self.root, self.classes, self._samples(self.images))

    @cached_property
    def validation_samples(self) -> tuple[Sample, ...]:
        """The validation images.

        Raises:
            ArtifactError: Their list cannot be read.
        """
        return self._samples(self.validation)

    @property
    def artifacts(self) -> Iterator[tuple[str, str]]:
        """Stage and key of every artifact."""
        return ((name, key) for name, stage in self.stages.items() for key in stage.keys.values())

    def network(self, stage: str) -> str | None:
        """Return the key of a stage over the whole set, or None where the run does not have it."""
        return self.stages[stage].keys[0] if stage in self.stages else None

    def write(self, run: Path) -> None:
        """Write `run.json` into the run's folder, where its lists are; it appears whole or not at all."""
        temporary = run / f".{FILE_NAME}.{secrets.token_hex(4)}"
        temporary.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        temporary.replace(run / FILE_NAME)
        for file in run.glob(LISTS):
            if is_list_name(file.name) and file.name not in (self.images.file, self.validation.file):
                file.unlink(missing_ok=True)

    @paused_collector()
    def _samples(self, images: ImageList) -> tuple[Sample, ...]:
        return tuple(sample for sample, _ in read_images(self.folder, images, self.root))


def write_run(
    run: Path,
    plan: Plan,
    store: str,
    *,
    preset: str,
    request: dict[str, Any],
    problems: tuple[Problem, ...] = (),
) -> None:
    """Write the record of a plan into the run's folder."""
    stages: dict[str, StageRecord] = {}
    for name in plan.stages:
        nodes = plan.of(name)
        first = nodes[0]
        stages[name] = StageRecord(
            keys={node.shard.number if node.shard else 0: node.key for node in nodes},
            num_shards=first.shard.of if first.shard else None,
            common=None if first.common is None else dict(first.common),
            on_validation=first.images is not plan.images,
        )
    root = plan.dataset.root
    RunRecord(
        version=VERSION,
        preset=preset,
        settings=plan.config.model_dump(mode="json"),
        request=request,
        root=root,
        classes=plan.dataset.classes,
        images=write_images(run, plan.images, root),
        validation=write_images(run, plan.validation, root),
        store=store,
        stages=stages,
        problems=problems,
    ).write(run)


def read_run(run: Path) -> RunRecord:
    """Read the record of a run's folder.

    Raises:
        ArtifactError: It is not the folder of a run, or its record is damaged or of another version.
    """
    file = run / FILE_NAME
    try:
        record = RunRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{run}: expected the folder of a run, found no {FILE_NAME} ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        hint = "; another version of pseudomask wrote it" if where == "version" else ""
        raise ArtifactError(f"{file}: not the record of a run ({where}: {first['msg']}){hint}") from None
    return record.model_copy(update={"folder": run})
