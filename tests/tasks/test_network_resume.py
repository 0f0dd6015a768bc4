"""A training of a network that was killed in mid-epoch ends with the weights of one that was not, bit for bit."""

import importlib
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from data.dataset import Dataset
from data.readers import open_dataset
from tasks.config import Config
from tasks.engine.job import Job
from tasks.networks import NETWORKS
from tasks.networks.cooperative import CooperativeConfig
from tasks.networks.maskrcnn import DetectorConfig
from tasks.networks.saliency import SaliencyConfig
from tasks.networks.segnet import SceneConfig
from tasks.networks.stages.saliency_targets import as_saliency_samples
from tasks.networks.trainer import SegmenterConfig
from tasks.training import checkpoint

CONFIGS: dict[str, Config] = {
    "deeplabv2": SegmenterConfig(crop_size=64, batch_size=2, epochs=3, ema_decay=0.9, photometric=0.2, keep="best"),
    "segnet-basic": SceneConfig(image_size=(32, 48), batch_size=2, epochs=3, mirror=True, validate_epochs=1),
    "saliency-deeplabv3plus": SaliencyConfig(image_size=(32, 48), crop_size=(32, 48), batch_size=2, epochs=3),
    "cooperative-danet": CooperativeConfig(crop_size=48, batch_size=2, epochs=3),
    "maskrcnn": DetectorConfig(
        batch_size=2,
        epochs=3,
        learning_rate=1e-3,
        crop_size=64,
        rescale=(0.8, 1.2),
        min_size=64,
        max_size=80,
        channels=16,
        num_proposals=40,
        num_sampled=16,
    ),
}


def slow(network: str) -> Any:
    """Return a parameter whose test takes long."""
    return pytest.param(network, marks=pytest.mark.slow)


def train_and_die(network: str, root: str, folder: str, kill_at: str) -> None:
    """Train, saving after every step, and kill this process without warning when a step is done; never at step 0."""
    checkpoint.SECONDS_BETWEEN, checkpoint.SHARE = 0, math.inf

    def progress(done: int, total: int, note: str = "") -> None:
        if done == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    dataset, _ = open_dataset(Path(root), split="train")
    scenes = [sample for sample in dataset.samples if sample.semantic]
    objects = []
    if network.startswith("saliency"):
        # A set of its own, from which each step draws: what is bright in a photograph is salient.
        objects = [replace(sample, semantic=sample.image, coding="saliency") for sample in scenes]
    job = Job(
        (*scenes, *as_saliency_samples(objects)),
        dataset.classes,
        CONFIGS[network],
        Path(folder, "out"),
        Path(folder, "scratch"),
        stage=network,
        model=NETWORKS[network].model,
        backbone="resnet18",
        validation=tuple(scenes[:2]),
        progress=progress,
    )
    module, _, function = NETWORKS[network].pipeline[0].function.partition(":")
    getattr(importlib.import_module(module), function)(job)


def train(network: str, dataset: Dataset, folder: Path, kill_at: int = 0) -> int:
    """Train in a process of its own, and return its exit code."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    here = Path(__file__)
    code = f"import sys; from {here.stem} import train_and_die; train_and_die(*sys.argv[1:])"
    paths = os.pathsep.join((str(here.parents[2]), str(here.parent)))
    words = [sys.executable, "-c", code, network, str(dataset.root), str(folder), str(kill_at)]
    return subprocess.run(words, env=os.environ | {"PYTHONPATH": paths}, check=False, timeout=600).returncode


@pytest.mark.parametrize(
    "network",
    ["deeplabv2", slow("segnet-basic"), slow("saliency-deeplabv3plus"), slow("cooperative-danet"), slow("maskrcnn")],
)
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    tiny_set: Dataset, tmp_path: Path, network: str
) -> None:
    assert train(network, tiny_set, tmp_path / "undisturbed") == 0
    # Three steps an epoch: in the first, and in the second one of its middle.
    for step in (1, 5):
        assert train(network, tiny_set, tmp_path / "killed", kill_at=step) == -signal.SIGKILL
        assert not (tmp_path / "killed/out/network.safetensors").exists()
    assert train(network, tiny_set, tmp_path / "killed") == 0
    files = [tmp_path / name / "out/network.safetensors" for name in ("undisturbed", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(load_file(files[0])) >= 50
    histories = [file.with_name("history.json").read_text() for file in files]
    assert histories[0] == histories[1]
