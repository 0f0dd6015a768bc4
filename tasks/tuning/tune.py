"""A search of the settings after the networks: by ground truth of some images, or without any."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Int64

from data.dataset import DatasetError, Problem, Sample
from data.files import atomic_write
from data.names import shortened
from data.readers.ids import read_split
from data.readers.image_names import ImageNames
from tasks.config import changed_values
from tasks.pipeline.settings import PipelineConfig
from tasks.tuning.artifacts import RunArtifacts
from tasks.tuning.choose import Candidate, best_of, make_candidate, uncertainty
from tasks.tuning.curves import CRITERIA
from tasks.tuning.instances import InstanceTrials
from tasks.tuning.picture import draw_scores
from tasks.tuning.search import STUDY, search
from tasks.tuning.space import BACKGROUND, INSTANCES, Criterion, Space, Values, make_space, value_of
from tasks.tuning.tables import Searched, Tables

log = logging.getLogger(__name__)
RESULT, TABLE, PICTURE, BEST = FILES = ("tune.json", "candidates.csv", "score.png", "best.json")
TABLES = "tables"
NO_TRUTH = "none"
FEW = 10
"""Names of images that a remark tells."""


@dataclass(frozen=True)
class TuneOptions:
    """What a search is asked for.

    Attributes:
        run: Folder of a finished run.
        out: Folder of the results.
        gt: The images whose ground truth decides: a list, "none" for no ground truth, None for all that have any.
        asked: Dotted name of a setting -> the values to try; thresholds and iterations of the CRF where nothing is.
        trials: Candidates at most.
        images: Images that are looked at, at most, at even distances in the set.
        criterion: What decides where ground truth does not.
        workers: Threads and processes.
        device: Where walks are made.
    """

    run: Path
    out: Path
    gt: str | None
    asked: Mapping[str, Sequence[float]]
    trials: int
    images: int
    criterion: Criterion
    workers: int
    device: str


def tune(options: TuneOptions) -> dict[str, Any]:
    """Search, and write `tune.json`, `candidates.csv`, `score.png` and `best.json`.

    Returns:
        What `tune.json` holds: "run", "out"; "by", what decided ("ground truth" or a criterion), and "images"; "space",
        setting -> values; "candidates", how many were tried of how many ("of"); "default", "chosen" and, where ground
        truth did not decide and is there, "oracle": settings with "miou" and criteria; "uncertainty" of a choice by
        ground truth; "instances", the same for settings of theirs; "best", the content of `best.json`; "seconds".

    Raises:
        ArtifactError: The run cannot be used, or results cannot be written.
        DatasetError: The list names no images with ground truth of the run, or a file cannot be read or has changed.
        StageError: A walk could not be made.
        ValueError: Settings that cannot be searched.
    """
    begun = perf_counter()
    artifacts = RunArtifacts(options.run)
    samples, by_truth, remarks = choose_samples(artifacts, options)
    artifacts.refuse_changed(samples)
    base = artifacts.numbered
    with_instances = {sample.id: sample for sample in samples.values() if sample.instances or sample.coco}
    space = make_space(
        base, options.asked, second_round=artifacts.second_round, instances=by_truth and bool(with_instances)
    )
    semantic = space.part([name for name in space.values if name not in INSTANCES])
    searched = Searched(
        artifacts, samples, semantic, options.out / TABLES, not by_truth, options.workers, options.device
    )
    criterion = None if by_truth else options.criterion
    found, best = _search_semantic(searched, criterion, options)
    if names := [name for name in space.values if name in INSTANCES]:
        of_instances = replace(searched, samples=with_instances)
        found["instances"], best = _search_instances(of_instances, Space(best, space.part(names).values), options)
    result = {
        "run": str(options.run),
        "out": str(options.out),
        "by": "ground truth" if by_truth else options.criterion,
        "images": len(samples),
        "space": {name: list(values) for name, values in space.values.items()},
        **found,
        "remarks": [*remarks, *found.get("remarks", ())],
        "best": best_values(artifacts, best),
        "seconds": round(perf_counter() - begun, 1),
    }
    atomic_write(options.out / BEST, json.dumps(result["best"], indent=1) + "\n")
    atomic_write(options.out / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def best_values(artifacts: RunArtifacts, best: PipelineConfig) -> dict[str, Any]:
    """Return what a command with the run's settings needs besides to have `best`: the content of `best.json`."""
    base = artifacts.numbered
    found = changed_values(best.model_dump(mode="json"), base.model_dump(mode="json"))
    if "sure_thresholds" in found.get("labels", {}) and artifacts.settings.pixels.taught_thresholds == "auto":
        # The command has "auto" there, which takes thresholds that are chosen on the set: there are none then.
        found["pixels"] = found.get("pixels", {}) | {"taught_thresholds": best.pixels.taught_thresholds}
    return found


def _remarks(searched: Searched, candidates: Sequence[Candidate], criterion: Criterion | None) -> list[str]:
    """Return what is to be known of the search of semantic labels before its choice is taken."""
    remarks = []
    if len(candidates) > 1 and len({candidate.judged_by(criterion) for candidate in candidates}) == 1:
        remarks.append("all candidates score the same: what was tried changes nothing on these images")
    if searched.artifacts.second_round:
        before = [name for name in searched.space.values if name.startswith("walk.") or name == BACKGROUND]
        if before:
            remarks.append(
                f"{', '.join(before)}: what the walk teaches the pixel classifier was not taught again, so a run may "
                "gain or lose more; start one with the settings to know"
            )
    return remarks


def choose_samples(artifacts: RunArtifacts, options: TuneOptions) -> tuple[dict[str, Sample], bool, list[str]]:
    """Return the images that a search looks at, whether their ground truth decides, and remarks on them.

    Raises:
        DatasetError: There is no ground truth that could decide, or no image with tags; or the list names images that
            the run does not have, or one twice.
    """
    remarks = []
    record = artifacts.record
    known = {sample.id: sample for sample in artifacts.samples}
    with_truth = {id: sample for id, sample in known.items() if sample.semantic or sample.coco}
    if options.gt == NO_TRUTH or (options.gt is None and not with_truth):
        tagged = [sample for sample in known.values() if sample.labels]
        if not tagged:
            raise DatasetError([Problem(record.root, "expected images with tags to choose settings by, found none")])
        return _spread(tagged, options.images), False, remarks
    if options.gt is not None:
        split = read_split(record.root, options.gt, ImageNames(dict.fromkeys(known)))
        if not split.ids:
            raise DatasetError([Problem(split.file, f"expected images of the run {options.run}, found none")])
        unknown = f"expected images of the run {options.run}, found"
        if problems := [*split.problems, *(Problem(split.file, f"{unknown} {name!r}") for name in split.missing)]:
            raise DatasetError(problems)
        if without := [id for id in split.ids if id not in with_truth]:
            remarks.append(f"{split.file}: left out for want of ground truth: {shortened(without, FEW)}")
        with_truth = {id: with_truth[id] for id in split.ids if id in with_truth}
    if not with_truth:
        raise DatasetError(
            [Problem(record.root, "expected images with ground truth to choose settings by, found none")]
        )
    return _spread(list(with_truth.values()), options.images), True, remarks


def _search_semantic(
    searched: Searched, criterion: Criterion | None, options: TuneOptions
) -> tuple[dict[str, Any], PipelineConfig]:
    """Return what is said of the search of semantic labels, and the settings that it chose."""
    tables, space = Tables(searched), searched.space
    if not space.values:
        return {}, space.base
    name = _study_name(searched, criterion or NO_TRUTH)
    tried = search(
        space,
        lambda values: _look(tables, values)[0].judged_by(criterion),
        options.out / STUDY,
        name,
        trials=options.trials,
        seed=space.base.seed,
    )
    looked = [_look(tables, values) for values in tried]
    own = {name: value_of(space.base, name) for name in space.values}
    if own not in tried:
        # The run's own settings need not be among those that were to be tried.
        looked.append(_look(Tables(_single(searched, own)), own))
    candidates, counts = [each[0] for each in looked], [each[1] for each in looked]
    rows = {"default": next(row for row, each in enumerate(candidates) if each.values == own)}
    rows["chosen"] = best_of(candidates, criterion, rows["default"])
    if criterion is not None and candidates[0].score is not None:
        rows["oracle"] = best_of(candidates, None, rows["default"])
    found: dict[str, Any] = {"candidates": len(tried), "of": space.size}
    found["remarks"] = _remarks(searched, candidates, criterion)
    found |= {name: candidates[row].as_row() for name, row in rows.items()}
    if criterion is None:
        found["uncertainty"] = uncertainty(counts, candidates, rows["chosen"], rows["default"])
    _write_table(options.out / TABLE, candidates)
    atomic_write(options.out / PICTURE, draw_scores(candidates, rows, _picture_axis(searched), criterion))
    is_own = rows["chosen"] == rows["default"]
    return found, space.base if is_own else space.settings(candidates[rows["chosen"]].values)


def _look(tables: Tables, values: Values) -> tuple[Candidate, Int64[np.ndarray, "3 n v"]]:
    """Return a candidate, and its pixels by image and value."""
    table, row = tables.at(values)
    counts = table.counts(row)
    return make_candidate(values, counts, table.merits[:, row]), counts


def _single(searched: Searched, own: Values) -> Searched:
    """Return a search whose space is the run's own settings alone."""
    return replace(searched, space=Space(searched.space.base, {name: (value,) for name, value in own.items()}))


def _search_instances(searched: Searched, space: Space, options: TuneOptions) -> tuple[dict[str, Any], PipelineConfig]:
    """Return what is said of the search of instances, and the settings that it chose."""
    trials = InstanceTrials(searched, space)
    name = _study_name(replace(searched, space=space), "instances")
    figures: dict[tuple[float, ...], float] = {}

    def ap50(values: Values) -> float:
        key = tuple(values.values())
        if key not in figures:
            figures[key] = trials.ap50(values)
        return figures[key]

    tried = search(space, ap50, options.out / STUDY, name, trials=options.trials, seed=space.base.seed)
    own = {name: value_of(space.base, name) for name in space.values}
    usable = all(value is not None for value in own.values())
    # Of equals the run's own settings stay.
    best = max([own, *tried] if usable else tried, key=ap50)
    found = {
        "candidates": len(tried),
        "of": space.size,
        "images": len(searched.samples),
        "default": {**own, "ap50": ap50(own) if usable else None},
        "chosen": {**best, "ap50": ap50(best)},
    }
    return found, space.settings(best)


def _picture_axis(searched: Searched) -> str:
    values = searched.space.values
    return searched.axis if searched.axis in values else max(values, key=lambda name: len(values[name]))


def _study_name(searched: Searched, by: str) -> str:
    """Return a name for all that a search depends on, so that only the same one goes on with its trials."""
    parts = [
        by,
        searched.artifacts.record.images.file,
        sorted(searched.samples),
        {name: list(values) for name, values in searched.space.values.items()},
        searched.space.base.model_dump(mode="json"),
        sorted(searched.artifacts.record.artifacts),
    ]
    return f"{by} {hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def _write_table(file: Path, candidates: Sequence[Candidate]) -> None:
    stream = io.StringIO()
    names = [*candidates[0].values, "miou", *CRITERIA]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(candidate.as_row() for candidate in candidates)
    atomic_write(file, stream.getvalue())


def _spread(samples: list[Sample], most: int) -> dict[str, Sample]:
    rows = np.unique(np.linspace(0, len(samples) - 1, most).round().astype(int))
    return {samples[row].id: samples[row] for row in rows}
