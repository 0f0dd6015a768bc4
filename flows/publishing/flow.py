"""The flow `regenerate-labels`: from what changed in a data set to the next version of its published labels."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.states import Completed

from data.dataset import DatasetError, Problem
from data.formats.label_folder import SEMANTIC
from data.ownership import mark_place
from data.store import ArtifactError, explain_os_errors, open_store
from data.store.publication import RECORD, Publication
from flows.deployment.flow import deployable
from flows.deployment.queue import leave_to_newest
from flows.deployment.turn import make_in_turn
from flows.deployment.ui import show_labels, showing
from flows.engine.collect import write_run_record
from flows.engine.request import PlannedRun
from flows.labels.request import RunRequest, replan
from flows.publishing.assets import show_assets
from flows.publishing.outcome import Outcome, outcome_of
from flows.publishing.page import show_night
from flows.publishing.request import (
    HINTS,
    RegenerateRequest,
    Work,
    check_place,
    corrections_of,
    corrections_taught,
    describe_work,
    find_work,
    run_request,
)
from tasks.publishing.assemble import Part, agreement_with, keep_labels, new_labels, write_index
from tasks.publishing.corrected import correct, with_corrected_pixels
from tasks.publishing.decide import INFERENCE, TRAINING, means, objections
from tasks.publishing.difference import class_changes, compare_folders
from tasks.publishing.score import score_labels

log = logging.getLogger(__name__)


@deployable("regenerate-labels")
def regenerate_labels(request: RegenerateRequest) -> Any:
    """Give new labels to the images that changed, and publish them with the others' as the next version.

    Two of these at once take turns, and the second finds nothing left to do.

    Returns:
        The run's state: `Published`, `Unchanged`, `Held`, or `Skipped` where a newer run waits that asks for the same.
        Who calls the flow gets the state's data. "version": the number, or None where nothing changed; "held": why it
        awaits review; and what was done.

    Raises:
        DatasetError: The data set cannot be used; every problem is listed.
        StageError: The training or a shard failed; the others were finished.
        ArtifactError: The store, or the folder of the versions, cannot be read or written.
    """
    if skipped := leave_to_newest():
        return skipped
    answer, outcome = _regenerate(request)
    log.info("%s", outcome.message)
    return Completed(name=outcome.state, message=outcome.message, data=answer)


def _regenerate(request: RegenerateRequest) -> tuple[dict[str, Any], Outcome]:
    publication = Publication(request.out)
    check_place(request)
    with publication.lock():
        mark_place(publication.root, "regenerate")
        work = find_work(request, publication)
        if work.waits:
            made, answer = None, describe_work(publication, work)
        else:
            run = run_request(request, publication, work)
            made, taught = _make(publication, run, work)
            answer = _publish(request, publication, work, run, made, taught)
    outcome = outcome_of(answer)
    with showing("the page of the night"):
        show_night(publication, work, answer, outcome)
        if made and work.base is None:
            show_labels(made.plan.dataset, publication.folder(answer["version"]) / SEMANTIC)
    with showing("the assets of the night"):
        show_assets(publication, request, answer)
    return answer, outcome


def _make(publication: Publication, run: RunRequest, work: Work) -> tuple[PlannedRun | None, dict[str, str]]:
    """Make the new labels in the store; None where images only went. And which corrections their networks know."""
    taught = corrections_taught(publication, work.base)
    if not work.decision.images:
        return None, taught
    wanted = set(work.decision.images)
    subset = replace(work.dataset, samples=tuple(sample for sample in work.dataset.samples if sample.id in wanted))
    if run.networks:
        with explain_os_errors(run.out):
            run.out.mkdir(parents=True, exist_ok=True)
            Path(str(run.split)).write_text("".join(f"{sample.id}\n" for sample in subset.samples))
    else:
        # What people corrected teaches the networks.
        mark_place(run.out, "run")
        corrections, folder = corrections_of(publication), run.out / HINTS
        subset, taught = with_corrected_pixels(subset, corrections, work.digests, folder)
        run = run.model_copy(update={"hints": folder if folder.is_dir() else None})
    prepared = PlannedRun(replan(run, subset), open_store(run.store_address), work.problems)
    prepared.ready_store()
    write_run_record(run, prepared, "run")
    make_in_turn(run, prepared)
    return prepared, taught


def _publish(
    request: RegenerateRequest,
    publication: Publication,
    work: Work,
    run: RunRequest,
    made: PlannedRun | None,
    taught: dict[str, str],
) -> dict[str, Any]:
    """Bring old and new labels together in a version, and publish it or hold it."""
    with explain_os_errors(publication.root), publication.draft() as draft:
        parts = []
        if work.base is not None and not work.decision.train:
            gone = {*work.changes.removed, *work.decision.images}
            parts.append(keep_labels(publication, work.base, gone, draft))
        if made:
            parts.append(new_labels(made.plan, made.store, work.dataset, work.digests, draft))
        parts, unfit = _with_corrections(publication, parts, draft)
        entries = write_index(parts, draft)
        new = parts[-1].entries if made else []
        agreement = None if work.base is None else agreement_with(publication, work.base, draft, new)
        whole, enough = means(entries), means(new) if len(new) >= request.gate.min_images else None
        held = objections(request.gate, whole, enough, agreement)
        if held and work.base is not None:
            both = {entry.id for entry in new} & {entry.id for entry in publication.entries(work.base)}
            held += class_changes(compare_folders(publication.folder(work.base), draft, both))
        facts = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "base": work.base,
            "reasons": list(work.decision.reasons),
            "changes": work.changes.counts(),
            "trained": work.decision.train,
            "taught": taught,
            "run": _below(publication, run.out) if made else None,
            "networks": _below(publication, run.out if run.networks is None else run.networks),
            "store": run.store_address,
            "settings": _settings(request, publication, work),
            "means": {"version": whole, "new": means(new)},
            "agreement": agreement,
            "held": held,
            "scores": _scores(work, draft),
            "left_out": [str(problem) for problem in work.problems],
            "corrected": sum(entry.corrections is not None and entry.unfit is None for entry in entries),
            "not_applied": [str(problem) for problem in unfit],
        }
        number = publication.publish(draft, facts, entries, hold=bool(held))
    return describe_work(publication, work, number, held) | {name: facts[name] for name in ("corrected", "not_applied")}


def _with_corrections(publication: Publication, parts: list[Part], draft: Path) -> tuple[list[Part], list[Problem]]:
    """Lay what people corrected over the labels of a draft; return its parts, and the corrections that do not fit."""
    done, problems = [], []
    for part in parts:
        corrected, unfit = correct(part, parts[-1].classes, corrections_of(publication), draft)
        done.append(corrected)
        problems += unfit
    return done, problems


def _scores(work: Work, draft: Path) -> dict[str, Any]:
    """Return what the labels score against the set's ground truth; nothing where there is none that can be read."""
    try:
        return score_labels(work.dataset, draft) or {}
    except DatasetError as error:
        # The labels are good all the same.
        log.warning("the version has no score: %s", error)
        return {}


def _settings(request: RegenerateRequest, publication: Publication, work: Work) -> dict[str, Any]:
    """Return the settings that a version's labels have: those of training are the networks' own."""
    settings = request.settings.model_dump(mode="json")
    if work.base is None or work.decision.train:
        return settings
    before = publication.record(work.base, "settings")["settings"]
    if lacking := [name for name in TRAINING if name not in (*INFERENCE, *before)]:
        file = publication.folder(work.base) / RECORD
        raise ArtifactError(f"{file}: expected the settings of {', '.join(lacking)}, found none; --retrain always")
    return settings | {name: before[name] for name in TRAINING if name not in INFERENCE}


def _below(publication: Publication, folder: Path) -> str:
    return folder.relative_to(publication.root).as_posix()
