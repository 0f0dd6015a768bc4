"""`pseudomask status`: which artifacts of a run are there and why others would be made again, or a store's runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data.store import ArtifactError, Store, open_store
from data.store.publication import HELD, RECORD, RUNS
from data.validation import set_aside
from flows.commands.command import POSITIONAL, Command, CommandEnded, Output, answer
from flows.engine.exit_codes import WORK_TO_DO
from flows.labels.request import RunRequest, open_set, replan
from flows.training.request import TrainRequest, open_training_sets, replan_training, settings_of
from tasks.config import Config
from tasks.engine.artifact import Artifact, ImageSet, shard_of
from tasks.engine.image_list import (
    OTHER_CAMS,
    OTHER_HINTS,
    OTHER_REGIONS,
    OTHER_SALIENCY,
    OTHER_TRUTH,
    Change,
    compare_images,
    read_images,
)
from tasks.engine.plan import Plan
from tasks.engine.run_record import FILE_NAME, RunRecord, read_run
from tasks.pipeline.plan import pipeline_settings

MOST_REASONS = 3


def status_of(run: Path) -> dict[str, Any]:
    """Plan the run again with its own settings, today's source and today's data, and look what the store has.

    Returns:
        "stages": name -> {"state", "cached", "total", "reasons"}; the state is "cached", "stale", "damaged" or
        "missing".

    Raises:
        ArtifactError: The folder holds no run.
        DatasetError: The data set cannot be read any more.
    """
    record = read_run(run)
    plan = _plan_of_training(record) if "network" in record.settings else _plan_of_labels(record)
    stages = compare_with_store(plan, record, open_store(record.store))
    return {"run": str(run), "store": record.store, "stages": stages}


def compare_with_store(plan: Plan, record: RunRecord, store: Store) -> dict[str, Any]:
    """Return the "stages" of `status_of`: what a store has of a plan, and how the rest differs from a run's record."""
    known = _Known(record, plan)
    stages: dict[str, Any] = {}
    for stage in plan.stages:
        artifacts = plan.of(stage)
        reasons = {artifact.label: _reason(artifact, known, store) for artifact in artifacts}
        bad = {label: reason for label, reason in reasons.items() if reason}
        stages[stage] = {
            "state": _state(list(bad.values())),
            "cached": len(artifacts) - len(bad),
            "total": len(artifacts),
            "reasons": {label: text for label, (_, text) in bad.items()},
        }
    return stages


def runs_of(store: str | Path) -> dict[str, Any]:
    """Return what is known of every run that was made from a store's artifacts, the newest first.

    Whether artifacts are there is told by the store's list of them; `status_of` a run looks at every byte.

    Returns:
        "runs": each with "run", "what" ("labels" or the network that was trained), "began" (ISO time), "images",
        "stages": name -> {"cached", "total"}, and "finished": its results were collected or published. A run whose
        folder is gone, or cannot be read, has "problem" in place of these.

    Raises:
        ArtifactError: There is no such store, or no run was made from it.
    """
    artifacts = open_store(store)
    users = artifacts.users() if artifacts.exists() else []
    if not users:
        raise ArtifactError(f"{store}: expected the folder of a run, or of a store that runs were made from")
    # At an address a machine's own copies would tell of its own runs alone.
    there = set(artifacts.artifacts())
    runs = sorted((_summary(run, there) for run in users), key=lambda entry: entry.get("began", ""), reverse=True)
    return {"store": artifacts.address, "runs": runs}


def _summary(run: Path, there: Container[tuple[str, str]]) -> dict[str, Any]:
    try:
        record = read_run(run)
        began = (run / FILE_NAME).stat().st_mtime
    except (ArtifactError, OSError) as error:
        return {"run": str(run), "problem": str(error)}
    return {
        "run": str(run),
        "what": record.settings.get("network", "labels"),
        "began": datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
        "images": record.images.count,
        "stages": {
            name: {
                "cached": sum((name, key) in there for key in stage.keys.values()),
                "total": len(stage.keys),
            }
            for name, stage in record.stages.items()
        },
        "finished": (run / "metrics.json").is_file() or _is_published(run),
    }


def _is_published(run: Path) -> bool:
    """Tell whether a run is that of a version, published or held: PUBLISHED/runs/vNNNNN."""
    published = run.parents[1]
    places = (published / run.name, published / HELD / run.name)
    return run.parent.name == RUNS and any((place / RECORD).is_file() for place in places)


def _plan_of_labels(record: RunRecord) -> Plan:
    request = record.request_as(RunRequest, pipeline_settings(record))
    dataset, _ = open_set(request)
    if record.problems:
        dataset = set_aside(dataset, list(record.problems))
    return replan(request, dataset)


def _plan_of_training(record: RunRecord) -> Plan:
    request = record.request_as(TrainRequest, settings_of(record))
    training, validation = open_training_sets(request)
    bad = {problem.sample for problem in record.problems}
    sets = (replace(each, samples=tuple(s for s in each.samples if s.id not in bad)) for each in (training, validation))
    return replan_training(request, *sets)


def _state(reasons: list[tuple[str, str]]) -> str:
    for state in ("damaged", "stale", "missing"):
        if any(kind == state for kind, _ in reasons):
            return state
    return "cached"


def _reason(artifact: Artifact, known: _Known, store: Store) -> tuple[str, str] | None:
    """Return (kind, text) for an artifact that a run would make, None for one that is there."""
    stage = artifact.stage.name
    problem = store.verify(stage, artifact.key)
    if problem is None:
        return None
    if problem != "missing":
        return "damaged", problem
    if (stage, artifact.key) in known.artifacts:
        return "missing", "its folder is gone from the store"
    if stage not in known.record.stages:
        return "missing", "not made yet"
    return "stale", "; ".join(_differences(artifact, known)) or "recorded by another version"


def _differences(artifact: Artifact, known: _Known) -> list[str]:
    """Say what differs between an artifact's recipe and that of the run."""
    recorded = known.record.stages[artifact.stage.name]
    new, old = artifact.common or {}, recorded.common or {}
    prefix = artifact.stage.settings or artifact.stage.name
    found = _changed(prefix, old.get("settings", {}), new.get("settings", {}))
    if new.get("source") != old.get("source"):
        found.append("its source changed")
    num_shards = artifact.shard and artifact.shard.of
    if num_shards != recorded.num_shards:
        found.append(f"the images are dealt into {num_shards} shards instead of {recorded.num_shards}")
    found += known.image_changes(artifact)
    names = ("classes", "seed", "backbone", "weights", "validation")
    found += [f"{name} changed" for name in names if new.get(name) != old.get(name)]
    if new.get("backbone_source") != old.get("backbone_source"):
        found.append("the source of the backbone changed")
    read = {stage: {(stage, key) for key in keys} for stage, keys in artifact.inputs.items()}
    again = [stage for stage, needed in read.items() if not needed <= known.artifacts]
    return [*found, f"{' and '.join(again)} would be made again"] if again else found


def _changed(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say which settings of a stage have other values, are new, or are gone in this version."""
    found = [f"{prefix}.{name} {old[name]} -> {new[name]}" for name in new if name in old and old[name] != new[name]]
    added = [f"{prefix}.{name} is new: {new[name]}" for name in new if name not in old]
    return [*found, *added, *(f"{prefix}.{name} is gone" for name in old if name not in new)]


class _Known:
    """What the record of a run says, ready to be looked up for every artifact of its plan today."""

    def __init__(self, record: RunRecord, plan: Plan) -> None:
        self.record = record
        self.artifacts = set(record.artifacts)
        self._images = plan.images
        self._changes: dict[ImageSet, list[Change]] = {}
        self._by_shard: dict[tuple[ImageSet, int], dict[int, list[Change]]] = {}

    def image_changes(self, artifact: Artifact) -> list[str]:
        """Say which images of an artifact are not as they were."""
        number, count = (artifact.shard.number, artifact.shard.of or 1) if artifact.shard else (0, 1)
        if (artifact.images, count) not in self._by_shard:
            by_shard = self._by_shard[artifact.images, count] = defaultdict(list)
            for change in self._changes_of(artifact.images):
                by_shard[shard_of(change.id, count)].append(change)
        kinds: dict[str, list[str]] = {}
        for change in self._by_shard[artifact.images, count].get(number, ()):
            # A stage that reads ground truth sees the images that have any, the others see no ground truth.
            seen = change.truth if artifact.stage.reads_ground_truth else change.kind != OTHER_TRUTH
            reads = {OTHER_SALIENCY: artifact.stage.reads_saliency, OTHER_CAMS: artifact.stage.reads_cams}
            reads |= {OTHER_REGIONS: artifact.stage.reads_regions, OTHER_HINTS: artifact.stage.reads_hints}
            if seen and reads.get(change.kind, True):
                kinds.setdefault(change.kind, []).append(change.id)
        return [
            f"{len(ids)} image{'s' * (len(ids) > 1)} {kind}: {', '.join(ids[:3])}{' ...' * (len(ids) > 3)}"
            for kind, ids in kinds.items()
        ]

    def _changes_of(self, images: ImageSet) -> list[Change]:
        if images not in self._changes:
            listed = self.record.images if images is self._images else self.record.validation
            before = read_images(self.record.folder, listed, self.record.root)
            self._changes[images] = compare_images(before, images)
        return self._changes[images]


def show_runs(result: dict[str, Any], console: Console) -> None:
    """Print a row a run, and the next command."""
    table = Table(title=f"runs of the store {result['store']}", title_justify="left")
    for column in ("run", "makes", "began", "images", "artifacts", "state"):
        table.add_column(column, overflow="fold")
    for entry in result["runs"]:
        if "problem" in entry:
            table.add_row(entry["run"], "", "", "", "", entry["problem"])
            continue
        cached, total = (sum(stage[name] for stage in entry["stages"].values()) for name in ("cached", "total"))
        missing = "artifacts cleared" if entry["finished"] else "not all made, or cleared"
        state = "finished" if cached == total else missing
        began = entry["began"].partition("+")[0].replace("T", " ")
        table.add_row(entry["run"], entry["what"], began, str(entry["images"]), f"{cached}/{total}", state)
    console.print(table)
    console.print("next: pseudomask status RUN", highlight=False)


def show_status(result: dict[str, Any], console: Console) -> None:
    """Print a row a stage, and the next command."""
    table = Table(title=f"{result['run']} (store {result['store']})", title_justify="left")
    for column in ("stage", "state", "cached", "why"):
        table.add_column(column, overflow="fold")
    for stage, entry in result["stages"].items():
        by_text: dict[str, list[str]] = {}
        for label, text in entry["reasons"].items():
            by_text.setdefault(text, []).append(label)
        lines = [f"{', '.join(labels[:3])}{' ...' * (len(labels) > 3)}: {text}" for text, labels in by_text.items()]
        if len(lines) > MOST_REASONS:
            lines = [*lines[:MOST_REASONS], f"and {len(lines) - MOST_REASONS} more"]
        table.add_row(stage, entry["state"], f"{entry['cached']}/{entry['total']}", "\n".join(lines))
    console.print(table)
    if any(entry["state"] != "cached" for entry in result["stages"].values()):
        console.print("next: the run's own command again makes what is not cached", highlight=False)


class StatusRequest(Config):
    """What is looked at.

    Attributes:
        run: Folder of the run, or of a store; or the address of a store.
    """

    run: str


class StatusOptions(Output):
    """Options beside what is looked at.

    Attributes:
        exit_code: End with exit code 3 where a stage of the run is not cached; without, to have looked is 0.
    """

    exit_code: bool = False


def _carry_out(request: StatusRequest, options: StatusOptions) -> None:
    run, folder = request.run, Path(request.run)
    if "://" in run or ((folder / ".users").is_dir() and not (folder / FILE_NAME).exists()):
        answer(runs_of(run), show_runs, options.as_json)
    else:
        status = status_of(folder)
        answer(status, show_status, options.as_json)
        if options.exit_code and any(entry["state"] != "cached" for entry in status["stages"].values()):
            raise CommandEnded(WORK_TO_DO)


COMMAND = Command(
    name="status",
    help="Each stage of a run: cached, stale and why, damaged, missing. Of a store, all runs made from it.",
    request=StatusRequest,
    carry_out=_carry_out,
    options=StatusOptions,
    written={"run": POSITIONAL},
)
