"""`run.json`: what a run was made from, and where its artifacts are; read by the commands that come after it."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.dataset import Dataset, Problem, Sample
from data.store import ArtifactError
from tasks.config import Config

FILE_NAME = "run.json"


class ArtifactRecord(Config):
    """One artifact of a run.

    Attributes:
        label: What people call it: "walk 03/16", or "irnet".
        samples: The ids of the images that it was made over.
        inputs: Stage -> keys of the artifacts that it was made from.
        recipe: All that its key is the hash of; None for one that was taken from an earlier run.
    """

    stage: str
    label: str
    key: str
    samples: tuple[str, ...]
    inputs: dict[str, tuple[str, ...]]
    recipe: dict[str, Any] | None = None


class RunRecord(Config):
    """What `run.json` holds.

    Attributes:
        preset: The settings that the options were put on top of.
        settings: All settings, as `PipelineConfig` gives them in JSON: of a version that may be older than this.
        request: What else the run was asked for: paths and choices, as `flows.request.RunRequest` gives them in JSON.
        store: The folder of the artifacts.
        artifacts: Each after those that it was made from.
        problems: What `--skip-bad` set aside.
        validation: The images with ground truth that a training is watched and tested on.
    """

    preset: str
    settings: dict[str, Any]
    request: dict[str, Any]
    dataset: Dataset
    store: Path
    artifacts: tuple[ArtifactRecord, ...]
    problems: tuple[Problem, ...] = ()
    validation: tuple[Sample, ...] = ()

    def of(self, stage: str) -> list[ArtifactRecord]:
        """Return the artifacts of a stage, in the order of its shards."""
        return [artifact for artifact in self.artifacts if artifact.stage == stage]

    def write(self, run: Path) -> None:
        """Write `run.json` into the run's folder; it appears whole or not at all."""
        temporary = run / f".{FILE_NAME}.{secrets.token_hex(4)}"
        temporary.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        temporary.replace(run / FILE_NAME)


def read_run(run: Path) -> RunRecord:
    """Read the record of a run's folder.

    Raises:
        ArtifactError: It is not the folder of a run, or its record is damaged.
    """
    file = run / FILE_NAME
    try:
        return RunRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{run}: expected the folder of a run, found no {FILE_NAME} ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ArtifactError(f"{file}: not the record of a run ({where}: {first['msg']})") from None
