"""The parts of a run on a cluster, without one."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from data.dataset import ClassTable, Sample
from data.store import ArtifactError, Store
from flows.engine.dask import OnWorker, _artifact_of, _Future, _gpus, _is_here, _local_cluster
from flows.engine.request import Request
from tasks.config import Config, RunConfig
from tasks.engine.artifact import Artifact, ImageSet, SampleDigest
from tasks.engine.source import source_digest
from tasks.engine.workers import StageError, WorkerLost
from tasks.pipeline import STAGES


@pytest.fixture
def on_worker(tmp_path: Path) -> OnWorker:
    stage = next(stage for stage in STAGES if stage.name == "labels")
    samples = tuple(Sample(f"{number}", Path(f"{number}.png"), (0,)) for number in range(10_000))
    artifact = Artifact(
        stage=stage,
        key="k1",
        label="labels 01/01",
        samples=samples[:1],
        classes=ClassTable(("cat",)),
        config=Config(),
        run=RunConfig(),
        common={"source": source_digest(stage.function)},
        inputs={"walk": ("k0",)},
        images=ImageSet(samples, {sample.id: SampleDigest(f"bytes of {sample.id}") for sample in samples}),
    )
    store = Store(tmp_path / "store")
    store.prepare()
    return OnWorker(artifact.alone(), store, Request(out=Path(), workers=3, device="cpu"), 1, None)


def test_what_is_sent_to_a_worker_is_small(on_worker: OnWorker) -> None:
    assert len(pickle.dumps(on_worker)) < 4000
    sent = copy.deepcopy(on_worker).artifact
    assert sent.samples == on_worker.artifact.samples
    assert sent.recipe == on_worker.artifact.recipe
    assert (sent.recipe or {})["samples"] == {"0": {"image": "bytes of 0", "labels": [0]}}


def test_a_worker_of_another_version_or_without_the_store_refuses(on_worker: OnWorker, tmp_path: Path) -> None:
    other = dataclasses.replace(on_worker.artifact, common={"source": "other"})
    with pytest.raises(StageError, match=r"labels 01/01: the worker on .* another source"):
        dataclasses.replace(on_worker, artifact=other)("labels", "k1")
    with pytest.raises(ArtifactError, match=r"elsewhere: not seen from the worker on .*--store s3"):
        dataclasses.replace(on_worker, store=Store(tmp_path / "elsewhere"))("labels", "k1")


def test_weights_that_are_an_artifact_are_found_in_the_workers_own_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert _artifact_of(store, f"{store.root}/classifier/k/network.safetensors") == (
        "classifier",
        "k",
        "network.safetensors",
    )
    for other in (None, "imagenet", f"{tmp_path}/weights/of/mine.pth", f"{store.root}/mine.pth"):
        assert _artifact_of(store, other) is None


def test_an_artifact_whose_workers_all_died_fails_by_name() -> None:
    class Lost:
        status = "error"

        def result(self, timeout: float | None = None) -> Any:
            raise RuntimeError

        def exception(self) -> Exception:
            return RuntimeError("attempted on 4 workers")

    future = _Future(uuid4(), Lost(), "walk 01/02")
    future.wait()
    assert future.state.is_failed()
    with pytest.raises(WorkerLost, match=r"^walk 01/02: lost by the cluster \(attempted on 4 workers\)$"):
        future.state.result()


def test_workers_of_one_machine_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("flows.engine.dask.SpecCluster", lambda workers, **_: made.append(workers))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert _gpus() == ["2", "5"]
    request = Request(out=Path(), device="cuda", workers=7, cluster="local")
    _local_cluster(request)
    _local_cluster(request.model_copy(update={"cluster": "local:3"}))
    _local_cluster(request.model_copy(update={"device": "cpu"}))
    seen = [[worker["options"]["env"].get("CUDA_VISIBLE_DEVICES") for worker in workers.values()] for workers in made]
    assert seen == [["2", "5"], ["2", "5", "2"], [None] * 7]


def test_an_address_is_known_to_be_this_machines() -> None:
    assert _is_here("127.0.0.1")
    assert not _is_here("192.0.2.1")


@pytest.mark.parametrize("cluster", ["everywhere", "local:0", "local:", "tcp://host", "127.0.0.1:8786"])
def test_a_cluster_that_is_none_is_refused(cluster: str) -> None:
    with pytest.raises(ValueError, match="cluster"):
        Request(out=Path(), cluster=cluster)
