"""The flow `regenerate-labels`: from what changed in a data set to the next version of its published labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow

from data.coco import Detection, ImageInfo, coco_json, read_detections
from data.dataset import ClassTable
from data.label_maps import read_label_map
from data.publication import Entry, Publication, link_file, provenance, provenance_file
from data.store import Store, explain_os_errors
from flows.execution import make_artifacts
from flows.regenerate_request import RegenerateRequest, Work, describe_work, find_work, run_request
from flows.request import Prepared, RunRequest, replan
from flows.results import CLASSES, DETECTIONS, LABEL_FOLDERS, image_info, record
from tasks.regeneration import INFERENCE, TRAINING, label_names, means, objections, statistics


@flow(name="regenerate-labels", flow_run_name="{request.out}")
def regenerate_labels(request: RegenerateRequest) -> dict[str, Any]:
    """Give new labels to the images that changed, and publish them with the others' as the next version.

    Two of these at once take turns, and the second finds nothing left to do.

    Returns:
        "version": the number, or None where nothing changed; "held": why it awaits review; and what was done.

    Raises:
        DatasetError: The data set cannot be used; every problem is listed.
        StageError: The training or a shard failed; the others were finished.
        ArtifactError: The store, or the folder of the versions, cannot be read or written.
    """
    publication = Publication(request.out)
    with publication.lock():
        work = find_work(request, publication)
        if work.nothing:
            return describe_work(publication, work)
        run = run_request(request, publication, work)
        made = _make(run, work)
        return _publish(request, publication, work, run, made)


def _make(run: RunRequest, work: Work) -> Prepared | None:
    """Make the new labels in the store; None where images only went."""
    if not work.decision.images:
        return None
    wanted = set(work.decision.images)
    subset = replace(work.dataset, samples=tuple(sample for sample in work.dataset.samples if sample.id in wanted))
    if run.networks:
        with explain_os_errors(run.out):
            run.out.mkdir(parents=True, exist_ok=True)
            Path(str(run.split)).write_text("".join(f"{sample.id}\n" for sample in subset.samples))
    store = Store(run.store_root)
    prepared = Prepared(replan(run, subset), store, work.problems)
    store.prepare()
    record(run, prepared)
    make_artifacts(prepared.plan, store, num_workers=run.num_workers, device=run.torch_device)
    return prepared


def _publish(
    request: RegenerateRequest, publication: Publication, work: Work, run: RunRequest, made: Prepared | None
) -> dict[str, Any]:
    """Bring old and new labels together in a version, and publish it or hold it."""
    with explain_os_errors(publication.root), publication.draft() as draft:
        parts = [] if work.base is None or work.decision.train else [_keep(publication, work, work.base, draft)]
        if made:
            parts.append(_add(work, made, draft))
        classes = parts[-1].classes
        infos = sorted((info for part in parts for info in part.infos), key=lambda info: info.id)
        detections = [found for part in parts for found in part.detections]
        (draft / DETECTIONS).write_text(json.dumps(coco_json(infos, detections, classes)), encoding="utf-8")
        for part in parts:
            _write_provenance(part, draft)
        (draft / CLASSES).write_text("".join(f"{name}\n" for name in classes.names), encoding="utf-8")
        entries = [entry for part in parts for entry in part.entries]
        new = parts[-1].entries if made else []
        agreement = _agreement(publication, work.base, draft, new)
        whole, enough = means(entries), means(new) if len(new) >= request.gate.min_images else None
        held = objections(request.gate, whole, enough, agreement)
        facts = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "base": work.base,
            "reasons": list(work.decision.reasons),
            "changes": work.changes.counts(),
            "trained": work.decision.train,
            "run": _below(publication, run.out) if made else None,
            "networks": _below(publication, run.out if run.networks is None else run.networks),
            "store": str(run.store_root.absolute()),
            "settings": _settings(request, publication, work),
            "means": {"version": whole, "new": means(new)},
            "agreement": agreement,
            "held": held,
            "left_out": [str(problem) for problem in work.problems],
        }
        number = publication.publish(draft, facts, entries, hold=bool(held))
    return describe_work(publication, work, number, held)


@dataclass(frozen=True)
class _Part:
    """Images of a version, with what it says of them, and the class table of their labels."""

    classes: ClassTable
    read_manifest: Callable[[str, str], dict[str, Any]]
    entries: list[Entry]
    infos: list[ImageInfo]
    detections: list[Detection]


def _keep(publication: Publication, work: Work, base: int, draft: Path) -> _Part:
    """Take over the labels of the images that stayed as they were."""
    folder = publication.folder(base)
    gone = {*work.changes.removed, *work.decision.images}
    entries = list(publication.entries(base))
    content = json.loads((folder / DETECTIONS).read_bytes())
    # The images of the file are in the order of the entries.
    ids = {image["id"]: entry.id for image, entry in zip(content["images"], entries, strict=True)}
    table = ClassTable(*zip(*((category["name"], category["id"]) for category in content["categories"]), strict=True))
    classes = {category: index for index, category in enumerate(table.category_ids)}
    kept = [entry for entry in entries if entry.id not in gone]
    for entry in kept:
        for kind in LABEL_FOLDERS:
            link_file(folder / kind / f"{entry.id}.png", draft / kind / f"{entry.id}.png")
    return _Part(
        table,
        partial(publication.manifest, base),
        kept,
        [
            ImageInfo(ids[image["id"]], image["file_name"], image["height"], image["width"])
            for image in content["images"]
            if ids[image["id"]] not in gone
        ],
        [
            {
                "image": ids[found["image_id"]],
                "class": classes[found["category_id"]],
                "score": found["score"],
                "segmentation": found["segmentation"],
            }
            for found in content["annotations"]
            if ids[found["image_id"]] not in gone
        ],
    )


def _add(work: Work, made: Prepared, draft: Path) -> _Part:
    """Copy the new labels out of the store, and look at them."""
    names = {sample.id: label_names(work.dataset, sample.labels) for sample in work.dataset.samples}
    part = _Part(made.plan.dataset.classes, made.store.read_manifest, [], [], [])
    for node in made.plan.of("labels"):
        folder = made.store.path("labels", node.key)
        part.detections.extend(read_detections(folder / DETECTIONS))
        for sample in node.samples:
            maps = []
            for kind in LABEL_FOLDERS:
                target = draft / kind / f"{sample.id}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / kind / f"{sample.id}.png", target)
                maps.append(read_label_map(target))
            found = statistics(*maps)
            digest = work.digests[sample.id].image
            part.entries.append(Entry(sample.id, digest, names[sample.id], node.key, **found))
            part.infos.append(image_info(sample, work.dataset))
    return part


def _write_provenance(part: _Part, draft: Path) -> None:
    """Keep the manifests of all that the labels came from with them: the store forgets what nobody needs."""
    for artifact in sorted({entry.artifact for entry in part.entries}):
        for (stage, key), manifest in provenance(artifact, part.read_manifest).items():
            file = draft / provenance_file(stage, key)
            if not file.exists():
                file.parent.mkdir(exist_ok=True)
                file.write_text(json.dumps(manifest), encoding="utf-8")


def _agreement(publication: Publication, base: int | None, draft: Path, new: Sequence[Entry]) -> float | None:
    """Return the share of pixels with the label of the version before, mean over the images that both have."""
    if base is None:
        return None
    before = publication.folder(base) / LABEL_FOLDERS[0]
    shares = []
    for entry in new:
        name = f"{entry.id}.png"
        if (before / name).is_file():
            old, now = read_label_map(before / name), read_label_map(draft / LABEL_FOLDERS[0] / name)
            shares.append(float((old == now).mean()) if old.shape == now.shape else 0.0)
    return round(float(np.mean(shares)), 4) if shares else None


def _settings(request: RegenerateRequest, publication: Publication, work: Work) -> dict[str, Any]:
    """Return the settings that a version's labels have: those of training are the networks' own."""
    settings = request.settings.model_dump(mode="json")
    if work.base is None or work.decision.train:
        return settings
    before = publication.record(work.base)["settings"]
    return settings | {name: before[name] for name in TRAINING if name not in INFERENCE}


def _below(publication: Publication, folder: Path) -> str:
    return folder.relative_to(publication.root).as_posix()
