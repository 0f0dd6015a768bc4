"""An artifact is made once, however many runs ask for it at the same time."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from data.dataset import ClassTable, CocoSource, Sample, SampleWithMore
from data.files import content_digest, file_digest
from data.store import Store
from tasks.config import Config, RunConfig
from tasks.engine.artifact import Artifact, ImageSet, SampleDigest
from tasks.engine.build import Machine, make
from tasks.engine.job import Job
from tasks.engine.plan import coco_digest
from tasks.engine.stage import Stage
from tasks.engine.workers import StageError, WorkerPool
from tasks.pipeline import STAGES


class Trainings:
    """Worker processes that hold each training up until it is let go."""

    def __init__(self) -> None:
        self.started: list[Path] = []
        self.under_way, self.let_go = threading.Event(), threading.Event()

    def run(self, function: str, job: Job, label: str, *, exclusive: bool) -> dict[str, Any]:
        self.started.append(job.scratch)
        (job.scratch / "checkpoint").write_text("step 1")
        self.under_way.set()
        assert self.let_go.wait(10)
        # What another run ended would have been deleted under this one's feet.
        assert (job.scratch / "checkpoint").read_text() == "step 1"
        (job.out / "network.safetensors").write_text("weights")
        return {"seconds": 1.0}


def artifact_of(stage: Stage, label: str, images: ImageSet, weights: tuple[Path, str] | None = None) -> Artifact:
    """Return an artifact with the key k1; of weights their file and what the recipe has for it."""
    return Artifact(
        stage=stage,
        key="k1",
        label=label,
        samples=images.samples,
        classes=ClassTable(("cat",)),
        config=Config(),
        run=RunConfig(weights=weights and weights[0]),
        common={"weights": weights and weights[1]},
        images=images,
    )


def stage_of(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def test_two_runs_that_want_the_same_network_train_it_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    classifier = artifact_of(stage_of("classifier"), "classifier", ImageSet())
    trainings = Trainings()
    machine = Machine(pool=cast(WorkerPool, trainings), device="cpu", num_threads=1)
    runs = [threading.Thread(target=make, args=(classifier, store, machine), daemon=True) for _ in range(2)]
    for run in runs:
        run.start()
    assert trainings.under_way.wait(10)
    trainings.let_go.set()
    for run in runs:
        run.join(10)
        assert not run.is_alive()
    assert len(trainings.started) == 1
    assert store.verify("classifier", "k1") is None


@pytest.mark.parametrize(
    "changed", ["image", "truth", "saliency", "regions", "coco", "weights", "gone", "put back", None]
)
def test_nothing_is_published_of_files_that_changed_meanwhile(tmp_path: Path, changed: str | None) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    image, truth, saliency = tmp_path / "a.jpg", tmp_path / "a.png", tmp_path / "a.npy"
    image.write_text("image")
    truth.write_text("truth")
    saliency.write_text("saliency")
    regions = tmp_path / "regions" / "a.png"
    regions.parent.mkdir()
    regions.write_text("regions")
    coco, weights = tmp_path / "b.json", tmp_path / "b.pth"
    coco.write_text("coco")
    weights.write_text("weights")
    source = CocoSource(coco, 7, (1, 2))
    digests = {
        "a": SampleDigest(
            file_digest(image),
            file_digest(truth),
            saliency=file_digest(saliency),
            regions=content_digest(regions.parent),
        ),
        "b": SampleDigest(file_digest(image), coco_digest(source, file_digest(coco))),
    }

    class Worker:
        def run(self, function: str, job: Job, label: str, *, exclusive: bool) -> dict[str, Any]:
            if changed == "gone":
                image.unlink()
            elif changed == "put back":
                image.write_text("other")
                image.write_text("image")
            elif changed:
                files = {"image": image, "truth": truth, "saliency": saliency, "coco": coco, "weights": weights}
                files["regions"] = regions
                files[changed].write_text("other")
            (job.out / "file").write_text("content")
            return {"seconds": 1.0}

    sample = SampleWithMore("a", image, (0,), truth, saliency=saliency, regions=regions.parent)
    stage = replace(stage_of("cams"), reads_ground_truth=True, reads_saliency=True, reads_regions=True)
    images = ImageSet((sample, Sample("b", image, (0,), coco=source)), digests)
    cams = artifact_of(stage, "cams 1/1", images, (weights, f"{file_digest(weights)} imagenet"))
    machine = Machine(pool=cast(WorkerPool, Worker()), device="cpu", num_threads=1)
    if changed:
        with pytest.raises(StageError, match=r"cams 1/1: .*([ab]\.(jpg|png|npy|json|pth)|regions) changed while"):
            make(cams, store, machine)
        assert store.verify("cams", "k1") == "missing"
    else:
        make(cams, store, machine)
        assert store.verify("cams", "k1") is None
