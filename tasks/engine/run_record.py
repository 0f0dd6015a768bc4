"""`run.json`: what a run was made from, and where its artifacts are; read by the commands that come after it.

Its images are listed in a file beside it (`tasks/engine/image_list.py`), which only what looks at images reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, ValidationError

from data.concurrency import gc_paused
from data.dataset import ClassTable, Dataset, Problem, Sample
from data.files import ArtifactError, atomic_write, read_regular
from data.names import is_plain
from tasks.config import Config, Model, StoreAddress, fault_of, read_recorded
from tasks.engine.artifact import shard_of
from tasks.engine.image_list import LISTS, ImageList, is_list_name, read_images, write_images
from tasks.engine.plan import Plan

FILE_NAME = "run.json"
VERSION = 2


def _check_plain(name: str) -> str:
    if not is_plain(name):
        raise ValueError(f"expected letters and digits, found {name!r}")
    return name


PlainName = Annotated[str, AfterValidator(_check_plain)]
"""A stage or a key: it becomes part of a path."""


def _check_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(recipe.get("settings", {}), dict):
        raise ValueError(f"expected settings by their names, found {recipe['settings']!r:.80}")
    return recipe


def _check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(settings.get("network", ""), str):
        raise ValueError(f"expected the name of a network, found {settings['network']!r:.80}")
    return settings


def _check_classes(classes: ClassTable) -> ClassTable:
    if len(classes.names) != len(classes.category_ids):
        raise ValueError(f"expected an id per class, found {len(classes.category_ids)} for {len(classes.names)}")
    return classes


class StageRecord(Config):
    """The artifacts of a stage.

    Attributes:
        keys: Those of its shards by their numbers, ascending; that of a stage over the whole set has number 0.
        num_shards: How many shards its images were dealt into; None for a stage over the whole set.
        common: What the recipes of its artifacts have in common; None where they are those of an earlier run.
        on_validation: Whether it was made over the validation images, not those of the data set.
    """

    keys: dict[NonNegativeInt, PlainName]
    num_shards: PositiveInt | None = None
    common: Annotated[dict[str, Any], AfterValidator(_check_recipe)] | None = None
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
        request: What else the run was asked for: paths and choices, as
            `flows.labels.request.RunRequest` gives them in JSON.
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
    settings: Annotated[dict[str, Any], AfterValidator(_check_settings)]
    request: dict[str, Any]
    root: Path
    classes: Annotated[ClassTable, AfterValidator(_check_classes)]
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
        return self.stages[stage].keys.get(0) if stage in self.stages else None

    def settings_as(self, model: type[Model]) -> Model:
        """Return the run's settings; those that this version no longer has are left out.

        Raises:
            ArtifactError: They are not such settings; the file is named.
        """
        with self._explained("settings"):
            return read_recorded(model, self.settings)

    def request_as(self, model: type[Model], settings: Config) -> Model:
        """Return what was asked for, with some settings; what this version no longer asks for is left out.

        Raises:
            ArtifactError: It is no such request; the file is named.
        """
        with self._explained("request"):
            return read_recorded(model, {**self.request, "settings": settings})

    @contextlib.contextmanager
    def _explained(self, part: str) -> Iterator[None]:
        """Turn what pydantic finds wrong with a part of the record into an `ArtifactError` that names the file."""
        try:
            yield
        except ValidationError as error:
            raise self._refuse(fault_of(error, part)) from None

    def asked(self, name: str, *, needed: bool = False) -> Path | None:
        """Return a path of the request by its name, None where the run was not asked for it.

        Raises:
            ArtifactError: It is no path, or there is none though it is needed.
        """
        value = self.request.get(name)
        if (value is not None or needed) and not isinstance(value, str):
            raise self._refuse(f"request.{name}: expected a path, found {value!r:.80}")
        return Path(value) if value else None

    def _refuse(self, fault: str) -> ArtifactError:
        return ArtifactError(
            f"{self.folder / FILE_NAME}: not the record of a run ({fault}); the command of the run writes it again"
        )

    def write(self, run: Path) -> None:
        """Write `run.json` into the run's folder, where its lists are; it appears whole or not at all."""
        atomic_write(run / FILE_NAME, self.model_dump_json(indent=1))
        for file in run.glob(LISTS):
            if is_list_name(file.name) and file.name not in (self.images.file, self.validation.file):
                file.unlink(missing_ok=True)

    @gc_paused()
    def _samples(self, images: ImageList) -> tuple[Sample, ...]:
        samples = tuple(sample for sample, _ in read_images(self.folder, images, self.root))
        count = len(self.classes)
        if other := next((s for s in samples if s.labels and max(s.labels) >= count), None):
            raise self._refuse(f"classes: expected one of each label, found {count} for {other.id!r} of {images.file}")
        return samples


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
        artifacts = plan.of(name)
        first = artifacts[0]
        stages[name] = StageRecord(
            keys={artifact.shard.number if artifact.shard else 0: artifact.key for artifact in artifacts},
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
        record = RunRecord.model_validate_json(read_regular(file))
    except OSError as error:
        raise ArtifactError(f"{run}: expected the folder of a run, found no {FILE_NAME} ({error.strerror})") from None
    except ValidationError as error:
        fault = fault_of(error)
        hint = "; another version of pseudomask wrote it" if fault.startswith("version:") else ""
        raise ArtifactError(f"{file}: not the record of a run ({fault}){hint}") from None
    return record.model_copy(update={"folder": run})
