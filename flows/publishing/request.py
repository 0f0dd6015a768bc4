"""What a regeneration is asked to do, and what there is to do."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.dataset import ClassTable, Dataset, DatasetError, Problem
from data.formats.class_tables import extended, in_table
from data.ownership import refuse_foreign, refuse_nesting
from data.store import ArtifactError, open_store
from data.store.corrections import FOLDER, Corrections
from data.store.publication import RUNS, Publication, name_of
from data.validation import can_be_set_aside
from flows.engine.collect import folders_beside
from flows.engine.request import WholePath
from flows.labels.request import LabelsRequest, RunRequest, check_files, open_set
from tasks.config import Fraction, PositiveInt
from tasks.engine.artifact import SampleDigest
from tasks.engine.plan import digest_samples
from tasks.engine.run_record import read_run
from tasks.publishing.corrected import taught_by, with_corrected_tags, without_rejected
from tasks.publishing.decide import Changes, Decision, Gate, Retrain, compare, decide, doubtful_classes, unchanged

HINTS = "hints"
"""The folder of a run with what its networks learnt of people's corrections."""
# How a class table begins to say where it comes from that has the tags of the images alone.
TAGS_ALONE = "the tags of the set"


class RegenerateRequest(LabelsRequest):
    """Bring published labels up to a data set. The parameters of the flow `regenerate-labels`.

    Attributes:
        out: Folder of the published versions.
        retrain: Train never, always, or for new classes, changed settings, many images.
        retrain_share: The share of new images above which auto trains.
        gate: The bounds in which a version is published; others are held for review.
        new_class_images: Least images of a new class that tags alone name for auto to train.
    """

    out: WholePath
    retrain: Retrain = "auto"
    retrain_share: Fraction = 0.3
    gate: Gate = Gate()
    new_class_images: PositiveInt = 3


@dataclass(frozen=True)
class Work:
    """What a regeneration has to do.

    Attributes:
        dataset: The set as it is now, without what was left out.
        digests: Of its files.
        problems: What was left out.
        base: The version that it starts from; None for the first.
        changes: Of the set since then.
        decision: What is to be done.
        same: A newer version than `base` that holds just this already: it awaits review, or was rolled back.
        doubts: What a person has to look at before anything is trained.
    """

    dataset: Dataset
    digests: dict[str, SampleDigest]
    problems: tuple[Problem, ...]
    base: int | None
    changes: Changes
    decision: Decision
    same: int | None = None
    doubts: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether a new version would be the one before."""
        return self.same is not None or not (self.decision.train or self.decision.images or self.changes)

    @property
    def waits(self) -> bool:
        """Whether nothing is made: there is nothing to do, or a person has to look first."""
        return self.nothing or bool(self.doubts)


def check_place(request: RegenerateRequest) -> None:
    """Refuse a folder of versions that holds something else, or lies in the data set or the store.

    Raises:
        ArtifactError: Says what is in the way.
    """
    store = open_store(request.store_address).root
    refuse_nesting(request.out, store, request.data, folders_beside(request))
    refuse_foreign(request.out, "regenerate", besides=[store])


def find_work(request: RegenerateRequest, publication: Publication) -> Work:
    """Compare the data set with the latest version, byte for byte, and decide what to do.

    Raises:
        DatasetError: The set cannot be used; every problem is listed. Images that keep their labels are not decoded.
        ArtifactError: The latest version cannot be read.
    """
    dataset, problems = open_set(request)
    named = not dataset.classes.origin.startswith(TAGS_ALONE)
    dataset = _in_published_table(dataset, publication)
    digests = digest_samples(dataset)
    dataset = with_corrected_tags(dataset, corrections_of(publication), digests)
    dataset, rejected = without_rejected(dataset, corrections_of(publication), digests)
    problems = [*problems, *rejected]
    work = _compare(request, publication, dataset, digests)
    if not named:
        work = replace(work, doubts=_doubts(request, publication, work))
    wanted = set() if work.waits else set(work.decision.images)
    suspects = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.id in wanted))
    found = check_files(request, suspects) if wanted else []
    if found and not request.skip_bad:
        raise DatasetError(found, of_images=can_be_set_aside(dataset, found))
    if found:
        bad = {problem.sample for problem in found}
        good = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.id not in bad))
        work = replace(_compare(request, publication, good, digests), doubts=work.doubts)
    return replace(work, problems=(*problems, *found))


def corrections_of(publication: Publication) -> Corrections:
    """Return what people corrected of a publication's labels."""
    return Corrections(publication.root / FOLDER)


def corrections_taught(publication: Publication, number: int | None) -> dict[str, str]:
    """Return which corrections a version's networks have learnt from, by image; none in versions without a record."""
    record = {} if number is None else publication.record(number)
    return record.get("taught", {})


def run_request(request: RegenerateRequest, publication: Publication, work: Work) -> RunRequest:
    """Return the run that makes the new labels, in a folder of its own among the publication's."""
    run = publication.root / RUNS / name_of(publication.next)
    networks = None if work.decision.train or work.base is None else networks_of(publication, work.base)
    return RunRequest(
        out=run,
        **request.where,
        data=request.data,
        labels=request.labels,
        split=request.split if networks is None else str(run / "images.txt"),
        classes=request.classes,
        saliency=request.saliency,
        regions=request.regions,
        hints=request.hints,
        cams=request.cams,
        cam_classes=request.cam_classes,
        cam_family=request.cam_family,
        missing_cams=request.missing_cams,
        networks=networks,
        skip_bad=request.skip_bad,
        settings=request.settings,
    )


def describe_work(
    publication: Publication, work: Work, version: int | None = None, held: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what is said of a regeneration: its work, the version that it made, and why that is held."""
    waiting = held or work.doubts
    if work.same is not None and work.same in publication.held:
        waiting = publication.record(work.same, "held")["held"]
    return {
        "publication": str(publication.root),
        "version": version,
        "held": list(waiting),
        "latest": publication.latest,
        "same": work.same,
        "train": work.decision.train,
        "images": len(work.decision.images),
        "changes": work.changes.counts(),
        "reasons": list(work.decision.reasons),
        "left_out": [str(problem) for problem in work.problems],
    }


def networks_of(publication: Publication, number: int) -> Path:
    """Return the folder of the run that trained a version's networks."""
    return publication.root / publication.record(number, "networks")["networks"]


def _in_published_table(dataset: Dataset, publication: Publication) -> Dataset:
    """Return the set with the class table of what was published, and its new classes at the end: values keep theirs.

    Raises:
        DatasetError: The set has label maps, in which a published class has another value.
    """
    if publication.latest is None:
        return dataset
    table, own = _published_table(publication), dataset.classes
    if table == own or table.has_background != own.has_background:
        return dataset
    table = replace(extended(table, own), origin="those of the published version")
    return in_table(dataset, table)


def _published_table(publication: Publication) -> ClassTable:
    """Return the longest class table that readers have seen: that of `latest`, or of one rolled back that goes on."""
    latest = publication.latest or 0
    table = read_run(networks_of(publication, latest)).classes
    for number in publication.published:
        if number > latest:
            with contextlib.suppress(ArtifactError):
                later = read_run(networks_of(publication, number)).classes
                if later.names[: len(table)] == table.names:
                    table = later
    return table


def _doubts(request: RegenerateRequest, publication: Publication, work: Work) -> tuple[str, ...]:
    """Return what is odd about new classes that tags alone name: most likely slips of the pen."""
    if work.base is None or work.nothing or request.retrain != "auto":
        return ()
    trained_on = read_run(networks_of(publication, work.base)).dataset
    return doubtful_classes(work.dataset, trained_on, request.new_class_images)


def _compare(
    request: RegenerateRequest, publication: Publication, dataset: Dataset, digests: dict[str, SampleDigest]
) -> Work:
    base = publication.latest
    if base is None:
        changes = compare(dataset, digests, ())
        before, trained_on = None, None
    else:
        changes = compare(dataset, digests, publication.entries(base), corrections_of(publication))
        before, trained_on = (
            publication.record(base, "settings")["settings"],
            read_run(networks_of(publication, base)).dataset,
        )
    # What a person corrected since teaches as much as a new image.
    known = corrections_taught(publication, base)
    corrected = taught_by(dataset, corrections_of(publication), digests)
    others = {id for id, state in corrected.items() if known.get(id) != state}
    retrain = request.retrain, request.retrain_share
    decision = decide(dataset, changes, request.settings, before, trained_on, *retrain, corrected=others)
    work = Work(dataset, digests, (), base, changes, decision)
    if request.retrain == "always":
        return work
    for number in sorted((n for n in (*publication.published, *publication.held) if n > (base or 0)), reverse=True):
        settings = publication.record(number, "settings")["settings"]
        if unchanged(settings, request.settings, request.retrain) and not compare(
            dataset, digests, publication.entries(number), corrections_of(publication)
        ):
            return replace(work, same=number)
    return work
