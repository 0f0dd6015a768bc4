"""Several processes train what one would have."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_trainings
from torch import nn

from data.dataset import ClassTable, Sample
from tasks.config import Config
from tasks.engine.job import Job
from tasks.training import Recipe, TrainingError
from tasks.training.group import Group
from tasks.training.launch import run_in_processes
from tasks.training.loop import _batches
from tasks.training.norms import SharedBatchNorm, synchronize_norms


def _job(folder: Path, num_samples: int, kind: str, progress: Callable[..., None] = Job.progress) -> Job:
    (folder / "out").mkdir(parents=True)
    samples = tuple(Sample(f"s{i}", Path(f"s{i}.jpg"), ()) for i in range(num_samples))
    return Job(
        samples,
        ClassTable(("a",)),
        Config(),
        folder / "out",
        folder / "scratch",
        backbone=kind,
        num_threads=2,
        seed=3,
        progress=progress,
    )


def _losses(summary: dict) -> list[float]:
    return [epoch["loss"] for epoch in summary["history"]]


@pytest.mark.parametrize("kind", ["plain", "with norm"])
def test_two_processes_have_the_losses_of_one(tmp_path: Path, kind: str) -> None:
    said: list[tuple] = []
    one = run_in_processes(toy_trainings.train, _job(tmp_path / "one", 7, kind), 1)
    job = _job(tmp_path / "two", 7, kind, lambda *words: said.append(words))
    two = run_in_processes(toy_trainings.train, job, 2)
    assert len(_losses(one)) == 20
    assert _losses(two) == pytest.approx(_losses(one), abs=1e-5)
    states = [torch.load(tmp_path / name / "out/net.pt", weights_only=True) for name in ("one", "two")]
    for name, value in states[0].items():
        assert torch.allclose(value.float(), states[1][name].float(), atol=1e-4), name
    assert [done for done, *_ in said] == list(range(1, 21))


def test_a_batch_in_parts_has_the_loss_of_the_whole(tmp_path: Path) -> None:
    whole = run_in_processes(toy_trainings.train, _job(tmp_path / "whole", 7, "plain"), 1)
    parts = run_in_processes(toy_trainings.train_in_parts, _job(tmp_path / "parts", 7, "plain"), 1)
    assert _losses(parts) == pytest.approx(_losses(whole), abs=1e-5)
    assert _losses(parts) != _losses(whole)


def test_parts_of_two_processes_with_one_image_less_have_the_loss_of_the_whole(tmp_path: Path) -> None:
    whole = run_in_processes(toy_trainings.train, _job(tmp_path / "whole", 1, "plain"), 1)
    parts = run_in_processes(toy_trainings.train_in_parts, _job(tmp_path / "parts", 1, "plain"), 2)
    assert _losses(parts) == pytest.approx(_losses(whole), abs=1e-5)


@pytest.mark.slow
def test_norms_count_each_image_once_where_a_process_has_none(tmp_path: Path) -> None:
    # Of two images the third process has none: what it computes beside them counts for nothing.
    one = run_in_processes(toy_trainings.train, _job(tmp_path / "one", 2, "with norm"), 1)
    three = run_in_processes(toy_trainings.train, _job(tmp_path / "three", 2, "with norm"), 3)
    assert _losses(three) == pytest.approx(_losses(one), abs=1e-5)


@pytest.mark.parametrize("num_parts", [1, 2, 3])
@pytest.mark.parametrize("num_processes", [2, 3, 4])
def test_norms_that_count_every_image_are_taken_where_no_process_is_ever_idle(
    num_processes: int, num_parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    found = set()
    for num_samples in range(1, 20):
        idle = False
        for rank in range(num_processes):
            group = Group(rank, num_processes, "cpu")
            samples = _job(tmp_path / f"{num_samples}-{rank}", num_samples, "plain")
            recipe = Recipe(lambda index, _: index, lambda *_: None, None, 8, 1, parts=num_parts)  # pyright: ignore
            steps = recipe.num_steps(num_samples)
            idle |= any(batch.num_own < len(batch.parts) for batch in _batches(recipe, samples, group, 0, steps))
        busy = Group(0, num_processes, "cuda").is_always_busy(num_samples, 8, num_parts)
        assert busy is not idle, num_samples
        net = synchronize_norms(toy_trainings.network(with_norm=True), "cuda", always_busy=busy)
        found |= {(idle, type(layer)) for layer in net.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)}
    assert found == {(True, SharedBatchNorm), (False, nn.SyncBatchNorm)}


def test_parts_of_processes_with_unequally_many_images_wait_for_one_another(tmp_path: Path) -> None:
    # Of three images the first process computes two parts, and the second one.
    parts = run_in_processes(toy_trainings.train_in_parts, _job(tmp_path, 3, "with norm"), 2)
    assert len(_losses(parts)) == 20
    assert np.isfinite(_losses(parts)).all()


def test_what_is_validated_is_the_network_that_is_saved_where_each_process_has_its_own_norms(tmp_path: Path) -> None:
    two = run_in_processes(toy_trainings.train_with_own_norms, _job(tmp_path, 7, "with own norm"), 2)
    net = toy_trainings.network(with_norm=True)
    net.load_state_dict(torch.load(tmp_path / "out/net.pt", weights_only=True))
    assert two["history"][-1]["mean"] == pytest.approx(toy_trainings.mean_output(net.eval()), abs=1e-6)


def test_what_fails_in_one_process_ends_all_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no such image: x7\.jpg"):
        run_in_processes(toy_trainings.fail, _job(tmp_path, 2, "plain"), 2)


def test_more_processes_than_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    job = _job(tmp_path, 2, "plain")
    object.__setattr__(job, "device", "cuda")
    with pytest.raises(ValueError, match="2 processes need a GPU each, found 1"):
        run_in_processes(toy_trainings.train, job, 2)
