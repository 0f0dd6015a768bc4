"""A deployed run's page in Prefect's UI: how far each stage is, its scores, pictures, and where all lies."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.runtime import flow_run

from data.dataset import Dataset
from data.formats.images import read_image
from data.formats.label_maps import read_label_map
from flows.deployment.liveness import deployed
from flows.deployment.names import artifact_key
from flows.engine.progress import Watch
from tasks.reporting.pictures import data_uri, fit_height, overlay_labels

log = logging.getLogger(__name__)
MOST_PICTURES = 3
PICTURE_HEIGHT = 160
UPDATE_SECONDS = 2.0


def watch_stages(stages: Sequence[str]) -> Watch | None:
    """Put a bar a stage on the run's page, and return what moves them: `watch(stage, done, total)`, from any thread.

    Returns None where no run of a deployment is under way.
    """
    if not deployed():
        return None
    bars = {
        stage: create_progress_artifact(0.0, key=own_key(f"progress-{stage}"), description=stage) for stage in stages
    }
    lock, told = threading.Lock(), dict.fromkeys(stages, (0.0, 0.0))

    def watch(stage: str, done: int, total: int) -> None:
        percent = 100.0 * done / total if total else 100.0
        with lock:
            before, moment = told[stage]
            now = time.monotonic()
            if percent <= before or (percent < 100 and now - moment < UPDATE_SECONDS):
                return
            told[stage] = (percent, now)
        update_progress_artifact(cast(UUID, bars[stage]), percent, description=f"{stage}: {done} of {total}")

    return watch


def show_scores(out: Path) -> None:
    """Put what a run's `metrics.json` holds on its page, as tables, and where its results lie."""
    if not deployed():
        return
    metrics = json.loads((out / "metrics.json").read_text())
    rows = [
        {"of": f"{kind} {name}", **{key: value for key, value in scores.items() if isinstance(value, (int, float))}}
        for kind in ("semantic", "instances")
        for name, scores in metrics.get(kind, {}).items()
        if isinstance(scores, dict)
    ]
    if "validation" in metrics:
        rows += [{"of": name, "value": value} for name, value in _numbers(metrics["validation"])]
    if rows:
        create_table_artifact(rows, key=own_key("scores"), description="Scores against ground truth")
    seconds = [{"stage": stage, "seconds of work": value} for stage, value in metrics["seconds"].items()]
    create_table_artifact(seconds, key=own_key("work"), description="What each stage took")
    lines = [f"- {path.name}: `{path}`" for path in sorted(out.absolute().iterdir()) if not path.name.startswith(".")]
    text = f"{metrics['images']} images\n\n" + "\n".join(lines) + f"\n\nnext: `pseudomask report {out.absolute()}`"
    create_markdown_artifact(text, key=own_key("results"), description="Where the results lie")


@contextlib.contextmanager
def showing(what: str) -> Iterator[None]:
    """Log what goes wrong in the block, and go on: what is made does not fail over what is only shown of it."""
    try:
        yield
    except Exception as error:
        log.warning("%s could not be shown: %s", what, error)


def show_labels(dataset: Dataset, labels: Path) -> None:
    """Put the first few photographs with their labels on the run's page.

    Args:
        labels: Folder of the label maps, `<id>.png`.
    """
    if not deployed():
        return
    chosen = [sample for sample in dataset.samples if (labels / f"{sample.id}.png").is_file()][:MOST_PICTURES]
    for number, sample in enumerate(chosen, start=1):
        photo = fit_height(read_image(sample.image), PICTURE_HEIGHT)
        values = read_label_map(labels / f"{sample.id}.png")
        painted = overlay_labels(photo, values, background=dataset.classes.has_background)
        both = np.concatenate((photo, painted), axis=1)
        create_image_artifact(data_uri(both), key=own_key(f"labels-{number}"), description=sample.id)


def own_key(what: str) -> str:
    """Return the key of an artifact of the run under way, in which its folder has a history."""
    return artifact_key(what, flow_run.parameters["request"].out)


def _numbers(scores: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    """Yield (name, value) of every number in nested scores."""
    for name, value in scores.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name} ")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", value
