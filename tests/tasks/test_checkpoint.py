"""Checkpoints: whole, or set aside."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from tasks.training.checkpoint import Checkpoint, Progress


def save(folder: Path) -> nn.Module:
    torch.manual_seed(1)
    net = nn.Linear(20, 20)
    checkpoint = Checkpoint(folder, {"net": net})
    checkpoint.save_best(net)
    checkpoint.save(Progress(step=7, best=0.5))
    return net


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    net, other = save(tmp_path), nn.Linear(20, 20)
    assert Checkpoint(tmp_path, {"net": other}).load() == Progress(step=7, best=0.5)
    assert torch.equal(other.weight, net.weight)


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_place_of_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, set[str]]] = []

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, {file.name for file in tmp_path.glob("*.pt")}))

    monkeypatch.setattr(os, "fsync", sync)
    save(tmp_path)
    for name in ("checkpoint.pt", "best.pt"):
        size = (tmp_path / name).stat().st_size
        assert any(size == each and name not in there for each, there in synced)


@pytest.mark.parametrize("name", ["checkpoint.pt", "best.pt"])
@pytest.mark.parametrize("damage", ["zeros", "half", "empty", "text", "end"])
def test_a_torn_checkpoint_is_set_aside_and_training_starts_anew(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path)
    content = (tmp_path / name).read_bytes()
    torn = {
        "zeros": bytes(1000),
        "half": content[: len(content) // 2],
        "empty": b"",
        "text": b"hello",
        "end": content[:-10],
    }[damage]
    (tmp_path / name).write_bytes(torn)
    net = nn.Linear(20, 20)
    weight = net.weight.clone()
    with caplog.at_level("WARNING"):
        assert Checkpoint(tmp_path, {"net": net}).load() == Progress()
    assert f"{tmp_path / name}: cannot be read" in caplog.text
    assert torch.equal(net.weight, weight)
    assert (tmp_path / name).with_suffix(".damaged").read_bytes() == torn
    # It heals: what is saved from here on is loaded.
    save(tmp_path)
    assert Checkpoint(tmp_path, {"net": net}).load().step == 7


def test_a_best_network_that_is_gone_starts_training_anew(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "best.pt").unlink()
    assert Checkpoint(tmp_path, {"net": nn.Linear(20, 20)}).load() == Progress()
