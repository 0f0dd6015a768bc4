"""The page of a night in Prefect's UI: what changed for a person, in words, in numbers per class, and in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from data.formats.images import read_image
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import read_label_map
from data.store.publication import Publication
from flows.deployment.liveness import deployed
from flows.deployment.ui import PICTURE_HEIGHT, own_key
from flows.publishing.outcome import Outcome
from flows.publishing.request import Work
from tasks.publishing.difference import Difference, compare_versions
from tasks.reporting.history import draw_history, read_history
from tasks.reporting.pictures import data_uri, fit_height, overlay_labels

MOST_PICTURES = 12
MOST_NAMES = 10


def show_night(publication: Publication, work: Work, answer: dict[str, Any], outcome: Outcome) -> None:
    """Put on the run's page what became of a night: a summary, and against the version before classes and pictures.

    Elsewhere than in a deployed run it does nothing.
    """
    if not deployed():
        return
    number, base = answer["version"], work.base
    found = None if number is None or base is None else compare_versions(publication, base, number)
    text = summary(publication, work, answer, outcome, found)
    create_markdown_artifact(text, key=own_key("night"), description=outcome.message)
    if points := read_history(publication):
        plot = draw_history(points, publication.latest)
        told = f"Figures of versions {points[0].number} to {points[-1].number}"
        create_image_artifact(data_uri(plot, lossless=True), key=own_key("history"), description=told)
    if found is None or base is None or number is None:
        return
    if rows := [{"class": name, **row} for name, row in found.classes().items()]:
        create_table_artifact(
            rows, key=own_key("classes"), description=f"Pixels of the images that changed since version {base}"
        )
    for place, each in enumerate(found.changed[:MOST_PICTURES], start=1):
        picture = before_and_after(publication, work, (base, number), each.image)
        text = f"{each.image}: {each.share:.0%} of the pixels changed; photograph, version {base}, version {number}"
        create_image_artifact(data_uri(picture), key=own_key(f"change-{place}"), description=text)


def summary(
    publication: Publication, work: Work, answer: dict[str, Any], outcome: Outcome, found: Difference | None
) -> str:
    """Return what became of a night, in Markdown."""
    lines = [f"**{outcome.message}**", ""]
    lines += [f"- {objection}" for objection in answer["held"]]
    for name, ids in vars(work.changes).items():
        if ids:
            lines.append(f"- {name.replace('_', ' ')}: {_names(ids)}")
    lines += [f"- left out: {problem}" for problem in answer["left_out"]]
    lines += [f"- correction {fault}" for fault in answer.get("not_applied", ())]
    if found is not None:
        lines.append(f"- {len(found.changed)} images have other labels, {found.same} the same")
    waiting = answer["version"] or answer["same"]
    if answer["held"] and waiting:
        lines += ["", f"next: look at `{publication.folder(waiting)}`; then run this publication's deployment of"]
        lines += [f"`approve-labels`, or `pseudomask approve {publication.root} {waiting}`"]
    return "\n".join(lines)


def before_and_after(publication: Publication, work: Work, versions: tuple[int, int], image: str) -> Any:
    """Return a photograph, and beside it the label maps of two versions laid over it: uint8 [H, W, 3]."""
    [sample] = [sample for sample in work.dataset.samples if sample.id == image]
    photo = fit_height(read_image(sample.image), PICTURE_HEIGHT)
    maps = [read_label_map(publication.folder(number) / SEMANTIC / f"{image}.png") for number in versions]
    return np.concatenate([photo, *(overlay_labels(photo, labels) for labels in maps)], axis=1)


def _names(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMES} more" if len(ids) > MOST_NAMES else ""
    return f"{len(ids)} ({', '.join(f'`{id}`' for id in ids[:MOST_NAMES])}{more})"
