"""Published labels, made up: a version of a fabricated run's labels, as `regenerate` would have made it."""

import json
import shutil
from pathlib import Path

import torch
from fabricated_run import make_run

from data.formats.label_folder import DETECTIONS, KINDS
from data.formats.label_maps import read_label_map
from data.formats.quality import QUALITY, ImageQuality, quality_text
from data.ownership import mark_place
from data.store import Store
from data.store.publication import Entry, Publication, provenance_file
from flows.labels.presets import PRESETS
from models.backbones.base import build_backbone
from models.irnet import IRNet
from tasks.engine.plan import digest_samples
from tasks.engine.run_record import StageRecord, read_run
from tasks.publishing.decide import label_names, statistics
from tasks.training.saving import save_network


def make_publication(folder: Path, *, num_images: int = 5) -> Path:
    """Write a data set, a store and published labels of one version below `folder`; return the labels' folder.

    Of the quality of its labels, that of the second image is the lowest.
    """
    run = make_run(folder, num_images=num_images, with_truth=False)
    store, publication = Store(folder / "store"), Publication(folder / "labels")
    record = read_run(run)
    stages = {**record.stages, "quality": StageRecord(keys={0: "q"})}
    settings = PRESETS["quick"]().model_dump(mode="json")
    record = record.model_copy(update={"stages": stages, "settings": settings})
    samples, digests = record.dataset.samples, digest_samples(record.dataset)
    with store.create("quality", "q") as draft:
        rows = [
            ImageQuality(s.id, 0.9 - 0.5 * (i == 1), 0.9, 0.1 * i, 0.8, 0.3, 1, i, 0) for i, s in enumerate(samples)
        ]
        (draft.folder / QUALITY).write_text(quality_text(rows))
    with publication.lock(), publication.draft() as draft:
        networks = publication.root / "runs/v00001"
        networks.mkdir(parents=True)
        shutil.copytree(run / "labels", draft, dirs_exist_ok=True)
        for file in run.glob("images-*.jsonl"):
            shutil.copy(file, networks)
        record.write(networks)
        manifest = {"stage": "labels", "key": "d", "device": "cpu", "versions": {}, "finished": "2026-01-01T00:00:00"}
        manifest["recipe"] = {"settings": {}, "source": "s", "inputs": {}, "samples": {}}
        (draft / provenance_file("labels", "d")).parent.mkdir()
        (draft / provenance_file("labels", "d")).write_text(json.dumps(manifest))
        entries = []
        for sample in samples:
            maps = (read_label_map(draft / kind / f"{sample.id}.png") for kind in KINDS)
            names = label_names(record.dataset, sample.labels)
            entries.append(Entry(sample.id, digests[sample.id].image, names, "d", **statistics(*maps)))
        facts = {"created": "2026-01-01T00:00:00+00:00", "base": None, "reasons": ["made up"], "held": []}
        facts |= {"networks": "runs/v00001", "run": "runs/v00001", "store": str(store.root), "settings": settings}
        facts |= {"means": {}, "changes": {}, "trained": True}
        publication.publish(draft, facts, entries)
    mark_place(publication.root, "regenerate")
    assert (publication.root / "latest" / DETECTIONS).is_file()
    return publication.root


def add_network(folder: Path) -> None:
    """Put an IRNet of random values into the store of `make_publication`."""
    torch.manual_seed(0)
    save_network(IRNet(build_backbone("resnet18")), Store(folder / "store").path("irnet", "i"))
